"""Part 6: memory over 2,000 batches of changing sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pose_networks import random_model, small_config_file
from torch.nn import functional

from gpu.common import Job
from gpu.hrnet import W32, frames_and_boxes
from gridpose.detectors.pose_config import read_config
from gridpose.detectors.topdown import TopDownNetwork
from gridpose.lifting.lifter import load_lifter
from gridpose.lifting.network import NetworkConfig, build_network
from gridpose.lifting.training.graph import Recorder


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _state(job: Job) -> dict[str, float]:
    job.sync()
    found = {"resident_MB": _resident_mb()}
    if job.cuda:
        found["allocated_MB"] = torch.cuda.memory_allocated() / 1e6
        found["reserved_MB"] = torch.cuda.memory_reserved() / 1e6
    return found


def _watch(job: Job, key: str, call: Callable[[int], object], seconds: float) -> None:
    """Memory after a tenth of the batches and after all, as many as there is time for."""
    import time

    count = 20 if job.small else 2000
    with job.guarded(key):
        end = time.monotonic() + min(seconds, job.left())
        early: dict[str, float] = {}
        done = 0
        for done in range(1, count + 1):
            call(done)
            if done == count // 10:
                early = _state(job)
            if time.monotonic() > end and early:
                break
        job.put(key, {"batches": done, "after a tenth": early, "at the end": _state(job)})


def prepare(job: Job) -> dict[str, Any]:
    precision: Any = "bf16" if job.cuda else "fp32"
    lifter = load_lifter(device=str(job.device), precision=precision)
    config = read_config(small_config_file(job.folder) if job.small else W32)
    half: Any = "fp16" if job.cuda else "fp32"
    network = TopDownNetwork(config, random_model(config), job.device, precision=half)
    return {"lifter": lifter, "network": network}


def run(job: Job, given: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    largest = 64 if job.small else 1024
    keypoints = rng.uniform(100, 900, (largest, 17, 2)).astype(np.float32)
    sizes = rng.integers(1, largest + 1, 4096)
    share = job.left() / 3
    _watch(
        job, "lifter", lambda n: given["lifter"].lift(keypoints[: sizes[n]], (1000, 1000)), share
    )

    network = build_network(NetworkConfig(hidden=16 if job.small else 256)).to(job.device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=job.cuda)
    recorder = Recorder()

    def passes(inputs: Any, targets: Any) -> Any:
        loss = functional.mse_loss(network(inputs), targets)
        loss.backward()
        return loss.detach()

    def step(number: int) -> None:
        batch = 200 if number % 50 else 120  # an epoch's last batch is smaller
        inputs = torch.randn(batch, 2, 5, 5, device=job.device)
        targets = torch.randn(batch, 3, 5, 5, device=job.device)
        if job.cuda:
            recorder.run(batch, passes, network.parameters(), inputs, targets)
        else:
            passes(inputs, targets)
        optimizer.step()
        optimizer.zero_grad()

    _watch(job, "training", step, share)
    frames, index, boxes = frames_and_boxes(8, (320, 240) if job.small else (1280, 720))

    def look(number: int) -> None:
        few = 1 + number % 8
        given["network"].keypoints(frames, index[:few], boxes[:few])

    _watch(job, "HRNet", look, share)
