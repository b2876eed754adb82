"""What ``torch.compile`` makes of the lifter and of a training step; compiled while others run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch
import torch._inductor.config as inductor
from bench_lifter import LiteralNetwork
from torch import nn
from torch.nn import functional

from gpu.common import Job, recorded
from gridpose.lifting.network import NetworkConfig, build_network

BATCH, TRAINING_BATCH = 4096, 200
PREPARING = 40.0
"""Seconds after which nothing more is compiled."""


def prepare(job: Job) -> dict[str, tuple[Callable[[], object], int, float]]:
    """Name: call, poses in it, seconds that compiling took."""
    if not job.cuda:
        return {}
    os.nice(10)
    inductor.compile_threads = 4
    found: dict[str, tuple[Callable[[], object], int, float]] = {}
    begun = time.monotonic()
    for key, make in (
        (f"ours bf16 {BATCH}", lambda: (_inference(job, "ours"), BATCH)),
        (
            f"forward and backward bf16 {TRAINING_BATCH}",
            lambda: (_passes(job, True), TRAINING_BATCH),
        ),
        (
            f"forward and backward fp32 {TRAINING_BATCH}",
            lambda: (_passes(job, False), TRAINING_BATCH),
        ),
        (f"literal bf16 {BATCH}", lambda: (_inference(job, "literal"), BATCH)),
    ):
        if time.monotonic() - begun < PREPARING:
            _add(job, found, key, *make())
        else:
            job.put(key, {"skipped": "compiling the others took too long"})
    return found


def _inference(job: Job, which: str) -> Callable[[], object]:
    torch.manual_seed(0)
    config = NetworkConfig()
    ours = build_network(config).to(job.device).eval()
    network: nn.Module = ours
    if which == "literal":
        network = LiteralNetwork(config).to(job.device).eval()
        network.load_state_dict(ours.state_dict())
    else:
        ours.fuse(torch.bfloat16)
    compiled = torch.compile(network)
    grid = torch.randn(BATCH, 2, 5, 5, device=job.device)

    def infer() -> None:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            compiled(grid)

    return infer


def _passes(job: Job, half: bool) -> Callable[[], object]:
    trained = build_network(NetworkConfig()).to(job.device).train()
    compiled = torch.compile(trained)
    inputs = torch.randn(TRAINING_BATCH, 2, 5, 5, device=job.device)
    targets = torch.randn(TRAINING_BATCH, 3, 5, 5, device=job.device)

    def passes() -> None:
        for parameter in trained.parameters():
            parameter.grad = None
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            loss = functional.mse_loss(compiled(inputs), targets)
        loss.backward()

    return passes


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
