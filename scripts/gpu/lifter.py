"""Part 2: poses a second of the lifter, ours against the literal published formulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_lifter import LiteralNetwork
from torch import Tensor, nn

from gpu.common import Job, profiled, recorded, tf32
from gridpose.devices import AUTOCAST
from gridpose.lifting.checkpoint import Checkpoint
from gridpose.lifting.lifter import Lifter
from gridpose.lifting.network import LiftingNetwork, NetworkConfig, build_network

ARITHMETICS = ("bf16", "fp32", "fp16", "tf32")
EACH = 0.12
"""Seconds for a row."""


def _call(
    network: nn.Module, grid: Tensor, arithmetic: str, answers: list[Tensor]
) -> Callable[[], object]:
    dtype = AUTOCAST.get(arithmetic)

    def run() -> None:
        with (
            torch.inference_mode(),
            tf32(arithmetic == "tf32"),
            torch.autocast(grid.device.type, dtype, enabled=dtype is not None),
        ):
            answers[:] = [network(grid)]

    return run


def prepare(job: Job) -> tuple[LiftingNetwork, LiteralNetwork, dict[str, Any]]:
    torch.manual_seed(0)
    config = NetworkConfig(hidden=32 if job.small else 256)
    ours = build_network(config).to(job.device).eval()
    literal = LiteralNetwork(config).to(job.device).eval()
    literal.load_state_dict(ours.state_dict())
    for arithmetic in ARITHMETICS:  # kernels are loaded
        _fuse(ours, arithmetic)
        for network in (ours, literal):
            _call(network, torch.randn(128, 2, 5, 5, device=job.device), arithmetic, [])()
    job.sync()
    return ours, literal, {}


def _fuse(network: LiftingNetwork, arithmetic: str) -> None:
    network.fuse(AUTOCAST.get(arithmetic, torch.float32))


def run(job: Job, prepared: tuple[LiftingNetwork, LiteralNetwork, dict[str, Any]]) -> None:
    ours, literal, _ = prepared
    batches = [1, 8] if job.small else [4096, 1, 1024, 256, 16]
    arithmetics = ARITHMETICS if job.cuda else ("fp32",)
    for batch in batches:
        grid = torch.randn(batch, 2, 5, 5, device=job.device)
        with torch.inference_mode(), tf32(False):
            exact = literal(grid)
        for arithmetic in arithmetics:
            _fuse(ours, arithmetic)
            _rows(job, "ours", ours, grid, exact, arithmetic, graphs=job.cuda)
        if batch == batches[0]:
            if job.cuda:
                _kernels(job, ours, grid)
            _end_to_end(job, ours)
        for arithmetic in arithmetics:
            # Several hundred milliseconds a call at the largest batch: eager alone, in two types.
            if arithmetic in ("bf16", "fp32") or batch == 1:
                _rows(
                    job, "literal", literal, grid, exact, arithmetic, job.cuda and batch <= 256, 2.0
                )
        if job.cuda:
            torch.cuda.empty_cache()  # other parts prepare meanwhile


def _rows(
    job: Job,
    name: str,
    network: nn.Module,
    grid: Tensor,
    exact: Tensor,
    arithmetic: str,
    graphs: bool,
    needs: float = 2 * EACH,
) -> None:
    """One arithmetic, each launch by itself and as a CUDA graph."""
    batch, answers = len(grid), list[Tensor]()
    call = _call(network, grid, arithmetic, answers)
    for way in ("eager", "graph") if graphs else ("eager",):
        key = f"{name} {arithmetic} {way} {batch}"
        with job.guarded(key):
            if not job.affords(key, needs):
                continue
            seconds = job.seconds_per_call(call if way == "eager" else recorded(call), EACH)
            gap = (answers[0].float() - exact).norm() / exact.norm()
            job.put(key, {"us": 1e6 * seconds, "poses_s": batch / seconds, "gap": float(gap)})
        answers.clear()


def _kernels(job: Job, network: LiftingNetwork, grid: Tensor) -> None:
    """What the time goes to."""
    for arithmetic in ("bf16", "fp32"):
        key = f"kernels {arithmetic} {len(grid)}"
        with job.guarded(key):
            if job.affords(key, 1.5):
                _fuse(network, arithmetic)
                call = _call(network, grid, arithmetic, [])
                job.put(key, profiled(job, lambda call=call: [call() for _ in range(5)]))  # type: ignore[misc]


def _end_to_end(job: Job, network: LiftingNetwork) -> None:
    """NumPy in, NumPy out, with normalisation."""
    count = 200 if job.small else 65536
    keypoints = np.random.default_rng(0).uniform(100, 900, (count, 17, 2)).astype(np.float32)
    state = {name: value.cpu() for name, value in network.state_dict().items()}
    checkpoint = Checkpoint(network.config, state, normalisation="person")
    for precision in ("fp16", "bf16", "fp32") if job.cuda else ("fp32",):
        key = f"Lifter.lift {precision}, {count} poses"
        with job.guarded(key):
            if job.affords(key, 1.5):
                chosen: Any = precision
                lifter = Lifter(checkpoint, job.device, chosen, batch_size=4096)
                seconds = job.seconds_per_call(lambda: lifter.lift(keypoints, (1000, 1000)), 0.5)  # noqa: B023
                job.put(key, {"poses_s": count / seconds})
