#!/usr/bin/env python
"""Train the lifter of single frames that ships with gridpose, from motion capture.

    python scripts/train_default_lifter.py --mocap DIR --out runs/default --device cuda \
        --seconds 210 --batch 4096 --at-once 65536
    torchrun --nproc-per-node 2 scripts/train_default_lifter.py --mocap DIR --out runs/default

DIR holds mocap_train.npz, extra_train.npz and more_train.npz and, for the figures in the model
card, bench_test.npz. The learning rate falls to zero with the steps or, with --seconds, with the
time. The run can be interrupted at any time; the same command goes on from the last checkpoint. At
the end the averaged weights are written as OUT/default-frame.safetensors.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from gridpose.core import keep_freed_memory
from gridpose.lifting.benchmark import measure, read_benchmark
from gridpose.lifting.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from gridpose.lifting.lifter import Lifter
from gridpose.lifting.network import NetworkConfig, build_network
from gridpose.lifting.synthesis.poses import (
    PoseBank,
    Synthesiser,
    SynthesisOptions,
    SyntheticBatch,
)
from gridpose.lifting.training.processes import processes, rank
from gridpose.lifting.training.recipe import (
    Clock,
    LossStep,
    MuonAdamW,
    WeightAverage,
    learning_rate,
    lift_error,
    refresh_batch_norm,
    sliced,
    write_whole,
)

FILES = ("mocap_train.npz", "extra_train.npz", "more_train.npz")
EMA_DECAY = 0.998
WARM_UP_SHARE, DECAY_SHARE = 0.03, 0.5
"""Shares of the training at its beginning and end, over which the learning rate rises and falls."""
COOLING_SHARE = 0.05
"""Share of the training over which the attention's temperature falls from 30 to 1."""
FIXED_SHARE, FIXED_RATE = 0.11, 1e-3
"""The last steps learn with BatchNorm as it will be in use: a rare pose whose activations are many
times the usual ones, which by chance a batch holds none or five of, is otherwise learnt wrongly."""
SAMPLE_POSES, SAMPLE_SEED = 25_600, 1_000_000
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


def evaluate(checkpoint: Checkpoint, bench: Path, device: torch.device) -> dict[str, float]:
    """MPJPE and PA-MPJPE in mm on a benchmark file, exact and noisy 2D."""
    result = measure(Lifter(checkpoint, device), read_benchmark(bench))
    return {
        f"{kind}_{metric}": round(getattr(measured.overall, metric), 2)
        for kind, measured in (("exact", result.exact), ("noisy", result.noisy))
        for metric in ("mpjpe", "pa_mpjpe")
    }


def main(
    mocap: Annotated[Path, typer.Option(help="folder of the motion capture files")],
    out: Annotated[Path, typer.Option(help="run folder")],
    hidden: int = 192,
    blocks: int = 2,
    steps: int = 19_000,
    seconds: Annotated[
        float | None, typer.Option(help="end after so much time, whatever the steps")
    ] = None,
    batch: Annotated[int, typer.Option(help="poses for each process and step")] = 256,
    at_once: Annotated[int, typer.Option(help="poses drawn at once, for several steps")] = 256,
    rate: float = 5e-3,
    seed: int = 1,
    device: str = "cpu",
    half: Annotated[
        bool, typer.Option(help="bfloat16 products; without AMX slower on a CPU than float32")
    ] = True,
    record: Annotated[bool, typer.Option(help="on a GPU, record steps as one graph")] = True,
    evaluate_every: int = 1000,
    resumable: Annotated[bool, typer.Option(help="keep OUT/state.pt to go on from")] = True,
    save_seconds: Annotated[float, typer.Option(help="evaluate and save at least so often")] = 120,
) -> None:
    """Train, going on from OUT/state.pt when it is there."""
    keep_freed_memory()
    files = [mocap / name for name in FILES]
    for file in files:
        if not file.is_file():
            raise typer.BadParameter(f"{file} is missing")
    bench = mocap / "bench_test.npz"
    options = SynthesisOptions()
    config = NetworkConfig(hidden=hidden, blocks=blocks, dropout=0.0, temperature=1.0)
    processes_in_all = int(os.environ.get("WORLD_SIZE", "1"))
    if seconds is not None and processes_in_all > 1:
        raise typer.BadParameter("--seconds is for a single process; give --steps")
    recipe = {
        "data": [file.name for file in files],
        "batch": batch * processes_in_all,
        "rate": rate,
        "seed": seed,
        "half": half,
        "synthesis": asdict(options),
    }
    out.mkdir(parents=True, exist_ok=True)
    shipped = out / "default-frame.safetensors"
    with processes(torch.device(device)) as target:
        torch.manual_seed(seed)  # all processes start from the same weights
        network = build_network(config).to(target)
        average = WeightAverage(network, EMA_DECAY)
        optimizer = MuonAdamW(network)
        state_file, step, elapsed = out / "state.pt", 0, 0.0
        if state_file.is_file():
            state = torch.load(state_file, map_location=target, weights_only=True)
            network.load_state_dict(state["network"])
            average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
            step, elapsed = state["step"], state["elapsed"]
            print(f"process {rank()} goes on from step {step}", flush=True)
        clock = Clock(steps, seconds, elapsed)
        # Each process draws poses of its own, after an interruption others than before it.
        draws = seed + processes_in_all * step + rank()
        bank = PoseBank.from_files(files, target)
        print(json.dumps({"poses": len(bank), "seconds": round(clock.elapsed, 1)}), flush=True)
        drawn_by = sliced(Synthesiser(bank, options, draws).batch, batch, at_once)

        def fix_batch_norm(module: nn.Module) -> None:
            sample = Synthesiser(bank, options, seed + SAMPLE_SEED)
            count = min(max(batch, 512), SAMPLE_POSES)
            refresh_batch_norm(module, (sample.batch(count) for _ in range(SAMPLE_POSES // count)))

        def error(*drawn: Tensor) -> Tensor:
            precision = torch.bfloat16 if half else None
            return lift_error(network, SyntheticBatch(*drawn), precision)

        def save(done: int) -> None:
            averaged = copy.deepcopy(average.module)
            averaged.set_temperature(config.temperature)
            if not fixed:
                fix_batch_norm(averaged)
            weights = {name: value.cpu() for name, value in averaged.state_dict().items()}
            training = {**recipe, "steps": done, "seconds": round(clock.elapsed)}
            training["progress"] = round(clock.progress(done), 3)
            checkpoint = Checkpoint(config, weights, "person", training=training)
            metrics = evaluate(checkpoint, bench, target) if bench.is_file() else {}
            line = {
                "step": done,
                "loss_mm": round(1000 * running.item() / max(summed, 1), 2),
                "seconds": round(clock.elapsed, 1),
                "recorded": learn.record,
                **metrics,
            }
            print(json.dumps(line), flush=True)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            states = {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": done,
                "elapsed": clock.elapsed,
            }
            if resumable:
                write_whole(lambda file: torch.save(states, file), state_file)
            whole = replace(checkpoint, metrics=metrics)
            write_whole(lambda file: save_checkpoint(whole, file, torch.float16), shipped)

        def learning() -> LossStep:
            wanted = record and target.type == "cuda"
            return LossStep(error, network.parameters(), wanted)

        fixed = clock.progress(step) >= 1 - FIXED_SHARE
        learn, plain = learning(), LossStep(error, network.parameters(), record=False)
        running, summed, saved = torch.zeros((), device=target), 0, clock.elapsed
        while (progress := clock.progress(step)) < 1:
            cooling = max(0.0, 1 - progress / COOLING_SHARE)
            network.set_temperature(config.temperature + (30 - config.temperature) * cooling)
            if progress >= 1 - FIXED_SHARE and not fixed:
                fixed = True
                network.load_state_dict(average.module.state_dict())
                fix_batch_norm(network)
                average.module.load_state_dict(network.state_dict())
                learn = learning()
            network.train(not fixed)
            # A recorded step would keep the temperature that it was recorded at.
            loss = (plain if cooling > 0 else learn)(*next(drawn_by))
            share_gradients(network.parameters())
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            if fixed:
                now = FIXED_RATE * (1 - progress) / FIXED_SHARE
            else:
                share = progress / (1 - FIXED_SHARE)
                now = learning_rate(share, rate, WARM_UP_SHARE, DECAY_SHARE)
            optimizer.step(now)
            average.update(network)
            running += loss
            summed += 1
            step += 1
            due = step % evaluate_every == 0 if seconds is None else False
            due = due or (clock.elapsed - saved >= save_seconds and clock.progress(step) < 0.97)
            if rank() == 0 and due:
                save(step)
                running.zero_()
                summed, saved = 0, clock.elapsed
        if rank() == 0 and summed:
            save(step)
    # What ships is rounded to half precision, so that is what is measured.
    if rank() == 0 and bench.is_file():
        print(json.dumps({"shipped": evaluate(read_checkpoint(shipped), bench, target)}))


if __name__ == "__main__":
    typer.run(main)
