#!/usr/bin/env python
"""Train the lifter that ships with gridpose, from motion capture and virtual cameras.

    torchrun --nproc-per-node 2 scripts/train_default_lifter.py --mocap DIR --out runs/default

DIR holds mocap_train.npz and extra_train.npz and, for the figures in the model card,
bench_test.npz. Without torchrun one process trains. The run can be interrupted at any time; the
same command goes on from the last checkpoint. At the end the averaged weights are written as
OUT/default.safetensors.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from gridpose.lifting.benchmark import measure, read_benchmark
from gridpose.lifting.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from gridpose.lifting.lifter import Lifter
from gridpose.lifting.network import NetworkConfig, build_network
from gridpose.lifting.synthesis import PoseBank, Synthesiser, SynthesisOptions
from gridpose.lifting.training.processes import processes, rank
from gridpose.lifting.training.recipe import (
    MuonAdamW,
    keep_freed_memory,
    learning_rate,
    lift_error,
    refresh_batch_norm,
)

EMA_DECAY = 0.998
WARM_UP_STEPS = 500
DECAY_SHARE = 0.5
"""Share of the steps, at the end, over which the learning rate falls to zero."""
TEMPERATURE_STEPS = 1000
"""Steps over which the attention's temperature falls from 30 to 1."""
FIXED_STEPS, FIXED_RATE = 2000, 1e-3
"""The last steps learn with BatchNorm as it will be in use: a rare pose whose activations are many
times the usual ones, which by chance a batch holds none or five of, is otherwise learnt wrongly."""
SAMPLE_BATCHES, SAMPLE_SEED = 100, 1_000_000
"""Poses for the statistics of the averaged weights' BatchNorm, others than those learnt from."""


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


def main(
    mocap: Annotated[Path, typer.Option(help="folder of the motion capture files")],
    out: Annotated[Path, typer.Option(help="run folder")],
    hidden: int = 128,
    blocks: int = 2,
    steps: int = 19_000,
    batch: Annotated[int, typer.Option(help="poses for each process and step")] = 256,
    rate: float = 5e-3,
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
    processes_in_all = int(os.environ.get("WORLD_SIZE", "1"))
    recipe = {
        "data": [file.name for file in files],
        "batch": batch * processes_in_all,
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
        optimizer = MuonAdamW(network)
        state_file, first = out / "state.pt", 0
        if state_file.is_file():
            state = torch.load(state_file, map_location=target, weights_only=True)
            network.load_state_dict(state["network"])
            average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
            first = state["step"]
            print(f"process {rank()} goes on from step {first}", flush=True)
        # Each process draws poses of its own, after an interruption others than before it.
        draws = seed + processes_in_all * first + rank()
        bank = PoseBank.from_files(files, target)
        drawn_by = Synthesiser(bank, options, draws)
        started, running, summed = time.monotonic(), torch.zeros((), device=target), 0
        fixed_steps = min(FIXED_STEPS, steps // 8)
        fixed_from = steps - fixed_steps

        def fix_batch_norm(module: nn.Module) -> None:
            sample = Synthesiser(bank, options, seed + SAMPLE_SEED)
            refresh_batch_norm(module, (sample.batch(256) for _ in range(SAMPLE_BATCHES)))

        for step in range(first, steps):
            cooling = max(0.0, 1 - step / TEMPERATURE_STEPS)
            network.set_temperature(config.temperature + (30 - config.temperature) * cooling)
            if step == fixed_from:
                network.load_state_dict(average.module.state_dict())
                fix_batch_norm(network)
                average.module.load_state_dict(network.state_dict())
            network.train(step < fixed_from)
            loss = lift_error(network, drawn_by.batch(batch), torch.bfloat16 if half else None)
            network.zero_grad(set_to_none=True)
            loss.backward()
            share_gradients(network.parameters())
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            if step < fixed_from:
                progress = step / fixed_from
                now = learning_rate(progress, rate, WARM_UP_STEPS / fixed_from, DECAY_SHARE)
            else:
                now = FIXED_RATE * (steps - step) / fixed_steps
            optimizer.step(now)
            average.update_parameters(network)
            running += loss.detach()
            summed += 1

            done = step + 1
            if rank() != 0 or (done % evaluate_every and done != steps):
                continue
            averaged = copy.deepcopy(average.module)
            averaged.set_temperature(config.temperature)
            if step < fixed_from:
                fix_batch_norm(averaged)
            weights = {name: value.cpu() for name, value in averaged.state_dict().items()}
            checkpoint = Checkpoint(
                config, weights, "person", training={**recipe, "steps": done, "of": steps}
            )
            metrics = evaluate(checkpoint, bench) if bench.is_file() else {}
            line = {
                "step": done,
                "loss_mm": round(1000 * running.item() / summed, 2),
                "seconds": round(time.monotonic() - started, 1),
                **metrics,
            }
            print(json.dumps(line), flush=True)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            running.zero_()
            summed = 0
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
