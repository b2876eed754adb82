"""What ``torch.compile`` makes of the lifter and of a training step; compiled while others run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch
import torch._inductor.config as inductor
from bench_lifter import LiteralNetwork
from torch.nn import functional

from gpu.common import Job, recorded
from gridpose.lifting.network import NetworkConfig, build_network

BATCH, TRAINING_BATCH = 4096, 200


def prepare(job: Job) -> dict[str, tuple[Callable[[], object], int, float]]:
    """Name: call, poses in it, seconds that compiling took."""
    if not job.cuda:
        return {}
    os.nice(10)
    inductor.compile_threads = 4
    torch.manual_seed(0)
    found: dict[str, tuple[Callable[[], object], int, float]] = {}
    config = NetworkConfig()
    ours = build_network(config).to(job.device).eval()
    literal = LiteralNetwork(config).to(job.device).eval()
    literal.load_state_dict(ours.state_dict())
    ours.freeze(torch.bfloat16)
    grid = torch.randn(BATCH, 2, 5, 5, device=job.device)
    for name, network in (("ours", ours), ("literal", literal)):
        compiled = torch.compile(network)

        def infer(compiled: Any = compiled) -> None:
            with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
                compiled(grid)

        _add(job, found, f"{name} bf16 {BATCH}", infer, BATCH)
    for precision in ("fp32", "bf16"):
        trained = build_network(config).to(job.device).train()
        inner = torch.compile(trained)
        inputs = torch.randn(TRAINING_BATCH, 2, 5, 5, device=job.device)
        targets = torch.randn(TRAINING_BATCH, 3, 5, 5, device=job.device)

        def passes(
            inner: Any = inner,
            trained: Any = trained,
            half: bool = precision == "bf16",
            inputs: Any = inputs,
            targets: Any = targets,
        ) -> None:
            for parameter in trained.parameters():
                parameter.grad = None
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                loss = functional.mse_loss(inner(inputs), targets)
            loss.backward()

        _add(
            job, found, f"forward and backward {precision} {TRAINING_BATCH}", passes, TRAINING_BATCH
        )
    return found


def _add(
    job: Job,
    found: dict[str, tuple[Callable[[], object], int, float]],
    key: str,
    call: Callable[[], object],
    poses: int,
) -> None:
    with job.guarded(key):
        begun = time.monotonic()
        call()
        job.sync()
        found[key] = call, poses, time.monotonic() - begun
        print(key, "compiled", flush=True)


def run(job: Job, prepared: dict[str, tuple[Callable[[], object], int, float]]) -> None:
    if not job.cuda:
        job.put("all", {"skipped": "no GPU"})
    for key, (call, poses, compiling) in prepared.items():
        for way in ("eager", "graph"):
            with job.guarded(f"{key} {way}"):
                seconds = job.seconds_per_call(recorded(call) if way == "graph" else call, 0.3)
                job.put(
                    f"{key} {way}",
                    {"us": 1e6 * seconds, "poses_s": poses / seconds, "compiling_s": compiling},
                )
