#!/usr/bin/env python
"""Train the lifter that ships with gridpose, from motion capture and virtual cameras.

    torchrun --nproc-per-node 2 scripts/train_default_lifter.py --mocap DIR --out runs/default

DIR holds mocap_train.npz and extra_train.npz and, for the figures in the model card,
bench_test.npz. Without torchrun one process trains. The run can be interrupted at any time; the
same command goes on from the last checkpoint. At the end the averaged weights are written as
OUT/default.safetensors.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from gridpose.lifting.benchmark import measure, read_benchmark
from gridpose.lifting.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from gridpose.lifting.lifter import Lifter
from gridpose.lifting.network import LiftingNetwork, NetworkConfig, build_network
from gridpose.lifting.normalise import normalise
from gridpose.lifting.synthesis import PoseBank, Synthesiser, SynthesisOptions, SyntheticBatch
from gridpose.lifting.training.processes import processes, rank

EMA_DECAY = 0.998
WARM_UP_STEPS = 500
DECAY_SHARE = 0.5
"""Share of the steps, at the end, over which the learning rate falls to zero."""
TEMPERATURE_STEPS = 1000
"""Steps over which the attention's temperature falls from 30 to 1."""
SMALLEST_MATRIX = 16
"""Weights of fewer rows or columns are learnt by AdamW, not by Muon."""


def keep_freed_memory() -> None:
    """Keep glibc from handing large buffers back to the kernel: page faults were half the time."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    m_trim_threshold, m_mmap_max = -1, -4
    libc.mallopt(m_mmap_max, 0)
    libc.mallopt(m_trim_threshold, 2**31 - 1)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, constant, then linear to zero."""
    rise = (step + 1) / WARM_UP_STEPS
    fall = (steps - step) / max(1, DECAY_SHARE * steps)
    return peak * min(1.0, rise, fall)


class Optimizer:
    """Muon (Jordan et al., 2024) for weight matrices, AdamW for all else.

    After equally many steps Muon was 3 mm ahead of AdamW alone. A convolution's weights count as
    one matrix, a row for each output channel.
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        self._matrices: list[tuple[nn.Parameter, nn.Parameter]] = []
        others = []
        for name, weight in network.named_parameters():
            matrix = weight.detach().flatten(1) if weight.ndim > 1 else weight.detach()[:, None]
            # What the attention gives each tap and cell is no mixture of one another.
            if min(matrix.shape) >= SMALLEST_MATRIX and "position_fc" not in name:
                self._matrices.append((weight, nn.Parameter(matrix)))
            else:
                others.append(weight)
        self._optimizers = (
            torch.optim.Muon(
                [matrix for _, matrix in self._matrices],
                lr=rate,
                weight_decay=1e-4,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(others, lr=rate, weight_decay=1e-4),
        )

    def step(self, rate: float) -> None:
        for weight, matrix in self._matrices:
            assert weight.grad is not None
            matrix.grad = weight.grad.flatten(1)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def state_dict(self) -> list[dict[str, object]]:
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dict(self, states: Iterable[dict[str, object]]) -> None:
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def share_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes."""
    if not torch.distributed.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def evaluate(checkpoint: Checkpoint, bench: Path) -> dict[str, float]:
    """MPJPE and PA-MPJPE in mm on a benchmark file, exact and noisy 2D."""
    result = measure(Lifter(checkpoint), read_benchmark(bench))
    return {
        f"{kind}_{metric}": round(getattr(measured.overall, metric), 2)
        for kind, measured in (("exact", result.exact), ("noisy", result.noisy))
        for metric in ("mpjpe", "pa_mpjpe")
    }


def lift_error(
    network: LiftingNetwork, drawn: SyntheticBatch, precision: torch.dtype | None
) -> Tensor:
    """Mean distance in metres of the lifted from the true joints."""
    normalised = normalise(drawn.keypoints_px, drawn.image_size, "person")
    assert normalised.to_camera is not None
    wanted = drawn.poses @ normalised.to_camera
    device = drawn.poses.device.type
    with torch.autocast(device, dtype=precision, enabled=precision is not None):
        lifted = network.lift(normalised.keypoints)
    return (lifted - wanted).norm(dim=-1).mean()


def main(
    mocap: Annotated[Path, typer.Option(help="folder of the motion capture files")],
    out: Annotated[Path, typer.Option(help="run folder")],
    hidden: int = 128,
    blocks: int = 2,
    steps: int = 20_000,
    batch: Annotated[int, typer.Option(help="poses for each process and step")] = 256,
    rate: float = 2e-3,
    seed: int = 1,
    device: str = "cpu",
    half: Annotated[
        bool, typer.Option(help="bfloat16 products; without AMX slower on a CPU than float32")
    ] = True,
    evaluate_every: int = 1000,
) -> None:
    """Train, going on from OUT/state.pt when it is there."""
    keep_freed_memory()
    files = [mocap / "mocap_train.npz", mocap / "extra_train.npz"]
    for file in files:
        if not file.is_file():
            raise typer.BadParameter(f"{file} is missing")
    bench = mocap / "bench_test.npz"
    options = SynthesisOptions()
    config = NetworkConfig(hidden=hidden, blocks=blocks, dropout=0.0, temperature=1.0)
    recipe = {
        "data": [file.name for file in files],
        "batch": batch * int(os.environ.get("WORLD_SIZE", "1")),
        "rate": rate,
        "seed": seed,
        "half": half,
        "synthesis": asdict(options),
    }
    out.mkdir(parents=True, exist_ok=True)
    shipped = out / "default.safetensors"
    with processes(torch.device(device)) as target:
        torch.manual_seed(seed)  # all processes start from the same weights
        network = build_network(config).to(target)
        average = torch.optim.swa_utils.AveragedModel(
            network,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA_DECAY),
            use_buffers=True,
        )
        optimizer = Optimizer(network, rate)
        state_file, first = out / "state.pt", 0
        if state_file.is_file():
            state = torch.load(state_file, map_location=target, weights_only=True)
            network.load_state_dict(state["network"])
            average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
            first = state["step"]
            print(f"process {rank()} goes on from step {first}", flush=True)
        # Each process draws poses of its own, after an interruption others than before it.
        drawn_by = Synthesiser(PoseBank.from_files(files, target), options, seed + rank() + first)
        started, running = time.monotonic(), torch.zeros((), device=target)
        for step in range(first, steps):
            cooling = max(0.0, 1 - step / TEMPERATURE_STEPS)
            network.set_temperature(config.temperature + (30 - config.temperature) * cooling)
            loss = lift_error(network, drawn_by.batch(batch), torch.bfloat16 if half else None)
            network.zero_grad(set_to_none=True)
            loss.backward()
            share_gradients(network.parameters())
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step(learning_rate(step, steps, rate))
            average.update_parameters(network)
            running += loss.detach()

            done = step + 1
            if rank() != 0 or (done % evaluate_every and done != steps):
                continue
            weights = {name: v.detach().cpu() for name, v in average.module.state_dict().items()}
            checkpoint = Checkpoint(
                config, weights, "person", training={**recipe, "steps": done, "of": steps}
            )
            metrics = evaluate(checkpoint, bench) if bench.is_file() else {}
            line = {
                "step": done,
                "loss_mm": round(1000 * running.item() / evaluate_every, 2),
                "seconds": round(time.monotonic() - started, 1),
                **metrics,
            }
            print(json.dumps(line), flush=True)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            running.zero_()
            states = {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": done,
            }
            torch.save(states, out / "state.part")
            (out / "state.part").replace(state_file)
            save_checkpoint(replace(checkpoint, metrics=metrics), shipped, torch.float16)
    # What ships is rounded to half precision, so that is what is measured.
    if rank() == 0 and bench.is_file():
        print(json.dumps({"shipped": evaluate(read_checkpoint(shipped), bench)}))


if __name__ == "__main__":
    typer.run(main)
