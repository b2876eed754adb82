"""Poses a second of the lifter, ours against the published formulation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from literal import literal_network, state_of
from torch import Tensor

from gpu.common import Job, profiled, recorded, tf32
from gridpose.devices import AUTOCAST
from gridpose.lifting.lifter import Lifter
from gridpose.lifting.model.network import LiftingNetwork, NetworkConfig, build_network
from gridpose.lifting.weights.checkpoint import Checkpoint

EACH = 0.12
"""Seconds for a row."""


def prepare(job: Job) -> LiftingNetwork:
    torch.manual_seed(0)
    return build_network(NetworkConfig(hidden=32 if job.small else 256)).to(job.device).eval()


def run(job: Job, ours: LiftingNetwork) -> None:
    literal = partial(literal_network, state=state_of(ours), config=ours.config)
    arithmetics = ("bf16", "fp32", "fp16", "tf32") if job.cuda else ("fp32",)
    for batch in [8] if job.small else [4096, 1, 1024, 256, 16]:
        grid = torch.randn(batch, 2, 5, 5, device=job.device)
        with torch.inference_mode(), tf32(False):
            exact = literal(grid)
        for arithmetic in arithmetics:
            ours.fuse(AUTOCAST.get(arithmetic, torch.float32))
            _rows(job, "gridpose", ours, grid, exact, arithmetic)
            if job.cuda and batch == 4096 and arithmetic in ("bf16", "fp32"):
                call = _call(ours, grid, arithmetic, [])
                with job.guarded(f"kernels {arithmetic}"):
                    job.put(f"kernels {arithmetic}", profiled(job, call))
        for arithmetic in arithmetics[:2]:
            _rows(job, "published", literal, grid, exact, arithmetic)
    _end_to_end(job, ours)


def _call(
    network: Callable[[Tensor], Tensor], grid: Tensor, arithmetic: str, answers: list[Tensor]
) -> Callable[[], object]:
    dtype = AUTOCAST.get(arithmetic)

    def infer() -> None:
        with (
            torch.inference_mode(),
            tf32(arithmetic == "tf32"),
            torch.autocast(grid.device.type, dtype, enabled=dtype is not None),
        ):
            answers[:] = [network(grid)]

    return infer


def _rows(
    job: Job,
    name: str,
    network: Callable[[Tensor], Tensor],
    grid: Tensor,
    exact: Tensor,
    arithmetic: str,
) -> None:
    """One arithmetic, each kernel launched by itself and as a CUDA graph."""
    answers: list[Tensor] = []
    call = _call(network, grid, arithmetic, answers)
    for way in ("launched", "graph") if job.cuda else ("launched",):
        key = f"{name} {arithmetic} {way} {len(grid)}"
        with job.guarded(key):
            if job.affords(key, 2 * EACH):
                timed = recorded(call) if way == "graph" else call
                seconds = job.seconds_per_call(timed, EACH)
                gap = (answers[0].float() - exact).norm() / exact.norm()
                rate = {"us": 1e6 * seconds, "poses_s": len(grid) / seconds}
                job.put(key, {**rate, "gap": float(gap)})


def _end_to_end(job: Job, network: LiftingNetwork) -> None:
    """NumPy in, NumPy out, with normalisation."""
    count = 200 if job.small else 65536
    keypoints = np.random.default_rng(0).uniform(100, 900, (count, 17, 2)).astype(np.float32)
    state = {name: value.cpu() for name, value in network.state_dict().items()}
    checkpoint = Checkpoint(network.config, state, normalisation="person")
    precisions: tuple[Any, ...] = ("fp16", "bf16", "fp32") if job.cuda else ("fp32",)
    for precision in precisions:
        key = f"Lifter.lift {precision}, {count} poses"
        with job.guarded(key):
            if job.affords(key, 1.5):
                lifter = Lifter(checkpoint, job.device, precision, batch_size=4096)
                call = partial(lifter.lift, keypoints, (1000, 1000))
                job.put(key, {"poses_s": count / job.seconds_per_call(call, 0.5)})
