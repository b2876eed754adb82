#!/usr/bin/env python
"""Turn the results of two trainings into the weights that ship: half precision, and measured.

    scripts/reproduce/as_shipped.py FRAME_RUN TEMPORAL_RUN MOCAP OUT

MOCAP holds bench_test.npz and bench_temporal.npz. OUT gets default-frame.safetensors and
default-temporal.safetensors.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
import typer

from gridpose.lifting.benchmark import measure, read_benchmark
from gridpose.lifting.lifter import Lifter
from gridpose.lifting.model.forward import FrameLifter, LiftWindows
from gridpose.lifting.normalise import DEFAULT_FOV_DEGREES
from gridpose.lifting.sequences import lift_keypoints
from gridpose.lifting.temporal_benchmark import measure_sequences, read_sequences
from gridpose.lifting.weights.checkpoint import read_checkpoint, save_checkpoint
from gridpose.lifting.weights.temporal_checkpoint import read_temporal, save_temporal


def main(frame_run: Path, temporal_run: Path, mocap: Path, out: Path, device: str = "cpu") -> None:
    out.mkdir(parents=True, exist_ok=True)
    target = torch.device(device)
    frame_file = out / "default-frame.safetensors"
    temporal_file = out / "default-temporal.safetensors"

    checkpoint = read_checkpoint(frame_run / "last.safetensors")
    save_checkpoint(checkpoint, frame_file, torch.float16)
    rounded = read_checkpoint(frame_file)  # which is what is measured
    found = measure(Lifter(rounded, target), read_benchmark(mocap / "bench_test.npz"))
    metrics = {
        f"{kind}_{name}": round(value, 2)
        for kind, errors in (("exact", found.exact), ("noisy", found.noisy))
        for name, value in asdict(errors.overall).items()
        if name != "samples"
    }
    save_checkpoint(replace(checkpoint, metrics=metrics), frame_file, torch.float16)
    print(json.dumps({"default-frame": metrics}))

    temporal = replace(read_temporal(temporal_run / "last.safetensors"), frames=None)
    save_temporal(temporal, temporal_file)
    network = read_temporal(temporal_file).build().to(target)
    lift_windows = LiftWindows(FrameLifter(rounded.build()).to(target), network).lift_arrays
    sequences, fps = read_sequences(mocap / "bench_temporal.npz")
    metrics = {}
    for kind in ("exact", "disturbed"):
        errors = measure_sequences(
            lambda *given: lift_keypoints(lift_windows, *given, DEFAULT_FOV_DEGREES),
            sequences,
            fps,
            exact=kind == "exact",
        )
        metrics |= {f"{kind}_{name}": round(value, 2) for name, value in asdict(errors).items()}
    save_temporal(replace(temporal, metrics=metrics), temporal_file)
    print(json.dumps({"default-temporal": metrics}))


if __name__ == "__main__":
    typer.run(main)
