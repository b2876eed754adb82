#!/usr/bin/env python
"""Train the network that sees time, around the shipped lifter of single frames.

    python scripts/train_temporal_lifter.py --mocap DIR --frames default-frame.safetensors \
        --out runs/temporal --device cuda --seconds 240 --at-once 1024

DIR holds temporal_train.npz and temporal_more_train.npz, the files of train_default_lifter.py (for
more movements, and windows in which people are still) and, for the figures in the model card,
bench_temporal.npz. The learning rate falls to zero with the steps or, with --seconds, with the
time. The run can be interrupted at any time; the same command goes on from the last checkpoint. At
the end the averaged weights are written as OUT/default-temporal.safetensors.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from gridpose.core import AnyArray, FloatArray, keep_freed_memory
from gridpose.lifting.checkpoint import read_checkpoint
from gridpose.lifting.forward import FrameLifter, LiftWindows
from gridpose.lifting.normalise import DEFAULT_FOV_DEGREES
from gridpose.lifting.sequences import lift_keypoints
from gridpose.lifting.synthesis.poses import PoseBank
from gridpose.lifting.synthesis.windows import (
    SequenceBank,
    SequenceOptions,
    SequenceSynthesiser,
)
from gridpose.lifting.temporal import WINDOW_FRAMES, TemporalConfig, TemporalNetwork
from gridpose.lifting.temporal_benchmark import measure_sequences, read_sequences
from gridpose.lifting.temporal_checkpoint import (
    TemporalCheckpoint,
    read_temporal,
    save_temporal,
)
from gridpose.lifting.training.recipe import (
    Clock,
    LossStep,
    MuonAdamW,
    WeightAverage,
    learning_rate,
    write_whole,
)
from gridpose.lifting.training.temporal import temporal_error, to_learn_from

MOVING = ("temporal_train.npz", "temporal_more_train.npz", "extra_train.npz")
STILL = ("mocap_train.npz", "extra_train.npz", "more_train.npz")
EMA_DECAY = 0.998
WARM_UP_SHARE, DECAY_SHARE = 0.04, 0.6
"""Shares of the training at its beginning and end, over which the learning rate rises and falls."""


def evaluate(network: TemporalNetwork, frames: FrameLifter, bench: Path) -> dict[str, float]:
    """Errors on a benchmark of sequences, exact and disturbed 2D, without any repair."""
    sequences, fps = read_sequences(bench)
    lift_windows = LiftWindows(frames, network).lift_arrays

    def lift(
        keypoints: FloatArray, size: AnyArray, confidence: FloatArray, fps: float
    ) -> FloatArray:
        return lift_keypoints(lift_windows, keypoints, size, confidence, fps, DEFAULT_FOV_DEGREES)

    return {
        f"{kind}_{name}": round(value, 2)
        for kind in ("exact", "disturbed")
        for name, value in asdict(
            measure_sequences(lift, sequences, fps, exact=kind == "exact")
        ).items()
    }


def main(
    mocap: Annotated[Path, typer.Option(help="folder of the motion capture files")],
    frames: Annotated[Path, typer.Option(help="the lifter of single frames")],
    out: Annotated[Path, typer.Option(help="run folder")],
    hidden: int = 128,
    mixing: Annotated[str, typer.Option(help="depthwise, dense or attention")] = "dense",
    before: Annotated[str, typer.Option(help="dilations of the blocks before lifting")] = "1,4",
    after: Annotated[str, typer.Option(help="dilations of the blocks after it")] = "1,4,10",
    taps: int = 5,
    steps: int = 7000,
    seconds: Annotated[
        float | None, typer.Option(help="end after so much time, whatever the steps")
    ] = None,
    batch: Annotated[int, typer.Option(help="windows for each step")] = 64,
    at_once: Annotated[int, typer.Option(help="windows drawn at once, for several steps")] = 64,
    rate: float = 3e-3,
    seed: int = 1,
    device: str = "cpu",
    half: Annotated[
        bool, typer.Option(help="bfloat16 products; without AMX slower on a CPU than float32")
    ] = True,
    record: Annotated[bool, typer.Option(help="on a GPU, record steps as one graph")] = True,
    resumable: Annotated[bool, typer.Option(help="keep OUT/state.pt to go on from")] = True,
    save_seconds: Annotated[float, typer.Option(help="evaluate and save so often")] = 120,
) -> None:
    """Train, going on from OUT/state.pt when it is there."""
    keep_freed_memory()
    moving, still = [mocap / name for name in MOVING], [mocap / name for name in STILL]
    for file in (*moving, *still, frames):
        if not file.is_file():
            raise typer.BadParameter(f"{file} is missing")
    bench = mocap / "bench_temporal.npz"
    target = torch.device(device)
    torch.manual_seed(seed)
    config = TemporalConfig(
        hidden=hidden,
        mixing=mixing,  # type: ignore[arg-type]
        before=tuple(int(part) for part in before.split(",")),
        after=tuple(int(part) for part in after.split(",")),
        taps=taps,
    )
    options = SequenceOptions()
    recipe = {
        "data": [file.name for file in (*moving, *still)],
        "frames": frames.name,
        "batch": batch,
        "rate": rate,
        "seed": seed,
        "half": half,
        "synthesis": asdict(options),
    }
    out.mkdir(parents=True, exist_ok=True)
    shipped, state_file = out / "default-temporal.safetensors", out / "state.pt"
    lifter = FrameLifter(read_checkpoint(frames).build()).to(target).requires_grad_(False)
    network = TemporalNetwork(config).to(target)
    average = WeightAverage(network, EMA_DECAY)
    optimizer = MuonAdamW(network)
    step, elapsed = 0, 0.0
    if state_file.is_file():
        state = torch.load(state_file, map_location=target, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, elapsed = state["step"], state["elapsed"]
        print(f"goes on from step {step}", flush=True)
    clock = Clock(steps, seconds, elapsed)
    synthesiser = SequenceSynthesiser(
        SequenceBank.from_files(moving, target),
        PoseBank.from_files(still, target),
        options,
        seed + step,
    )
    print(json.dumps({"ready": round(clock.elapsed, 1)}), flush=True)
    position = torch.zeros((), device=target)

    def error(*given: Tensor) -> Tensor:
        precision = torch.bfloat16 if half else None
        loss, distance = temporal_error(network, lifter, *given, precision=precision)
        position.add_(distance)
        return loss

    def save() -> None:
        averaged = average.module
        training = {**recipe, "steps": step, "seconds": round(clock.elapsed)}
        training["progress"] = round(clock.progress(step), 3)
        metrics = evaluate(averaged, lifter, bench) if bench.is_file() else {}
        line = {
            "mixing": mixing,
            "step": step,
            "train_mm": round(1000 * position.item() / max(summed, 1), 2),
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
            "step": step,
            "elapsed": clock.elapsed,
        }
        if resumable:
            write_whole(partial(torch.save, states), state_file)
        weights = {name: value.cpu() for name, value in averaged.state_dict().items()}
        whole = TemporalCheckpoint(config, weights, training, metrics)
        write_whole(partial(save_temporal, whole), shipped)

    learn = LossStep(error, network.parameters(), record and target.type == "cuda")
    summed, saved = 0, clock.elapsed
    ready: list[tuple[Tensor, ...]] = []
    while (progress := clock.progress(step)) < 1:
        if not ready:
            drawn = to_learn_from(
                synthesiser.windows(max(batch, at_once // batch * batch), WINDOW_FRAMES)
            )
            ready = list(zip(*(tensor.split(batch) for tensor in drawn), strict=True))
        learn(*ready.pop())
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step(learning_rate(progress, rate, WARM_UP_SHARE, DECAY_SHARE))
        average.update(network)
        summed += 1
        step += 1
        if clock.elapsed - saved >= save_seconds and clock.progress(step) < 0.97:
            save()
            position.zero_()
            summed, saved = 0, clock.elapsed
    if summed:
        save()
    if bench.is_file():
        shipped_network = read_temporal(shipped).build().to(target)
        print(json.dumps({"shipped": evaluate(shipped_network, lifter, bench)}))


if __name__ == "__main__":
    typer.run(main)
