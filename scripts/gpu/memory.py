"""Memory over 2,000 batches of changing sizes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import torch
from pose_networks import random_model, small_config_file
from torch.nn import functional

from gpu.common import Job
from gpu.hrnet import W32, frames_and_boxes
from gridpose.detectors.hrnet.config import read_config
from gridpose.detectors.hrnet.network import TopDownNetwork
from gridpose.lifting.lifter import load_lifter
from gridpose.lifting.model.network import NetworkConfig, build_network
from gridpose.lifting.training.graph import Recorder


def _state(job: Job) -> dict[str, float]:
    job.sync()
    found = {"resident_MB": psutil.Process().memory_info().rss / 1e6}
    if job.cuda:
        found["allocated_MB"] = torch.cuda.memory_allocated() / 1e6
        found["reserved_MB"] = torch.cuda.memory_reserved() / 1e6
    return found


def _watch(job: Job, key: str, call: Callable[[int], object], seconds: float) -> None:
    """Memory after a tenth of the batches or of the time, and after all there is time for."""
    count = 20 if job.small else 2000
    with job.guarded(key):
        begun = time.monotonic()
        early: dict[str, float] = {}
        for done in range(1, count + 1):
            call(done)
            job.sync()
            spent = time.monotonic() - begun
            if not early and (done == count // 10 or spent > seconds / 10):
                early = {"batches": done, **_state(job)}
            if spent > seconds or done == count:
                job.put(key, {"early": early, "at the end": {"batches": done, **_state(job)}})
                return


def prepare(job: Job) -> None:
    pass


def run(job: Job, _: None) -> None:
    rng = np.random.default_rng(0)
    precisions: tuple[Any, Any] = ("bf16", "fp16") if job.cuda else ("fp32", "fp32")
    largest = 64 if job.small else 256
    lifter = load_lifter(device=str(job.device), precision=precisions[0])
    keypoints = rng.uniform(100, 900, (largest, 17, 2)).astype(np.float32)
    sizes = rng.integers(1, largest + 1, 4096)
    share = job.left() / 3
    _watch(job, "lifter", lambda n: lifter.lift(keypoints[: sizes[n]], (1000, 1000)), share)

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

    config = read_config(small_config_file(job.folder) if job.small else W32)
    model = random_model(config)
    hrnet = TopDownNetwork(config, model, job.device, precision=precisions[1])
    frames, index, boxes = frames_and_boxes(8, (320, 240) if job.small else (1280, 720))

    def look(number: int) -> None:
        few = 1 + number % 8
        hrnet.keypoints(frames, index[:few], boxes[:few])

    _watch(job, "HRNet", look, job.left() - 1)
