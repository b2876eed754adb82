#!/usr/bin/env python
"""Train the lifter that ships with gridpose, from motion capture and virtual cameras.

    python scripts/train_default_lifter.py --mocap DIR --out runs/default

DIR holds mocap_train.npz and extra_train.npz and, for the figures in the model card,
bench_test.npz. The run can be interrupted at any time; the same command goes on from the last
checkpoint. At the end the averaged weights are written as OUT/default.safetensors.
"""

from __future__ import annotations

import ctypes
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from gridpose.core import InputError
from gridpose.lifting.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from gridpose.lifting.lifter import Lifter
from gridpose.lifting.metrics import mpjpe, pa_mpjpe
from gridpose.lifting.network import NetworkConfig, build_network
from gridpose.lifting.normalise import normalise
from gridpose.lifting.sgt import inverse_semantic_grid_transform, semantic_grid_transform
from gridpose.lifting.synthesis import PoseBank, Synthesiser, SynthesisOptions

EMA_DECAY = 0.998
WARM_UP_STEPS = 500
DECAY_SHARE = 0.3
"""Share of the steps, at the end, over which the learning rate falls to zero."""


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


def evaluate(checkpoint: Checkpoint, bench: Path) -> dict[str, float]:
    """MPJPE and PA-MPJPE in mm on a benchmark file, exact and noisy 2D."""
    lifter = Lifter(checkpoint)
    figures = {}
    with np.load(bench) as data:
        for name in ("keypoints_px", "keypoints_noisy_px"):
            predicted = lifter.lift(data[name], data["image_size"])
            kind = "noisy" if "noisy" in name else "exact"
            figures[f"{kind}_mpjpe"] = 1000 * float(mpjpe(predicted, data["poses_camera"]).mean())
            figures[f"{kind}_pa_mpjpe"] = 1000 * float(
                pa_mpjpe(predicted, data["poses_camera"]).mean()
            )
    return {name: round(value, 2) for name, value in figures.items()}


def main(
    mocap: Annotated[Path, typer.Option(help="folder of the motion capture files")],
    out: Annotated[Path, typer.Option(help="run folder")],
    hidden: int = 96,
    blocks: int = 2,
    steps: int = 14_000,
    batch: int = 256,
    rate: float = 2e-3,
    seed: int = 1,
    device: str = "cpu",
    evaluate_every: int = 1000,
) -> None:
    """Train, going on from OUT/state.pt when it is there."""
    keep_freed_memory()
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    files = [mocap / "mocap_train.npz", mocap / "extra_train.npz"]
    for file in files:
        if not file.is_file():
            raise typer.BadParameter(f"{file} is missing")
    bench = mocap / "bench_test.npz"
    target = torch.device(device)
    options = SynthesisOptions()
    synthesiser = Synthesiser(PoseBank.from_files(files, target), options, seed)
    config = NetworkConfig(hidden=hidden, blocks=blocks, dropout=0.0, temperature=1.0)
    network = build_network(config).to(target)
    average = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA_DECAY),
        use_buffers=True,
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    state_file, first = out / "state.pt", 0
    if state_file.is_file():
        state = torch.load(state_file, map_location=target, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        synthesiser.generator.set_state(state["generator"].cpu())
        first = state["step"]
        print(f"going on from step {first}", flush=True)

    def averaged(done: int, metrics: dict[str, float]) -> Checkpoint:
        return Checkpoint(
            network=config,
            state={k: v.detach().cpu() for k, v in average.module.state_dict().items()},
            normalisation="person",
            training={
                "data": [file.name for file in files],
                "steps": done,
                "batch": batch,
                "rate": rate,
                "seed": seed,
                "synthesis": asdict(options),
            },
            metrics=metrics,
        )

    started, running = time.monotonic(), torch.zeros((), device=target)
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, rate)
        drawn = synthesiser.batch(batch)
        normalised = normalise(drawn.keypoints_px, drawn.image_size, "person")
        assert normalised.to_camera is not None
        wanted = drawn.poses @ normalised.to_camera
        grid = network(semantic_grid_transform(normalised.keypoints))
        loss = (inverse_semantic_grid_transform(grid) - wanted).norm(dim=-1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        running += loss.detach()

        done = step + 1
        if done % evaluate_every and done != steps:
            continue
        checkpoint = averaged(done, {})
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
        partial = state_file.with_suffix(".part")
        torch.save(
            {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": synthesiser.generator.get_state(),
                "step": done,
            },
            partial,
        )
        partial.replace(state_file)
        save_checkpoint(averaged(done, metrics), out / "default.safetensors", torch.float16)
    try:
        final = read_checkpoint(out / "default.safetensors")
    except InputError as error:
        raise SystemExit(str(error)) from error
    # What ships is rounded to half precision, so that is what is measured.
    if bench.is_file():
        print(json.dumps({"shipped": evaluate(final, bench)}))


if __name__ == "__main__":
    typer.run(main)
