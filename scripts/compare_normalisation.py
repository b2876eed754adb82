#!/usr/bin/env python
"""Compare keypoint normalisations for lifting at equal budget, with one network.

    python scripts/compare_normalisation.py --mocap DIR --out runs/normalisation

Each variant is trained on the same synthetic poses, in the same order, with the same residual MLP.
The variants of one group share the draws. Errors are those on DIR/bench_test.npz, hip at the
origin and rotated back to camera axes: with the lens assumed, and with the true focal length.
Runs are kept in OUT/runs.jsonl and not repeated; the Markdown table is printed and written to
OUT/table.md.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from compare_networks import ResidualMLP
from torch import Tensor, nn
from torch.nn.functional import pad

from gridpose.core import keep_freed_memory
from gridpose.lifting.metrics import mpjpe, pa_mpjpe
from gridpose.lifting.normalise import DEFAULT_FOV_DEGREES, view_rotation
from gridpose.lifting.synthesis.motion_capture import PoseBank
from gridpose.lifting.synthesis.poses import Synthesiser, SynthesisOptions, SyntheticBatch

Aim = Literal["frame", "pixels", "trunk", "centroid", "hip"]
Scale = Literal["none", "rms", "mean", "median", "l1", "trunk+thighs", "box"]
Extra = Literal["size", "bearing", "known", "confidence"]

WARM_UP_STEPS = 200
_TRUNK_AND_THIGHS = ((0, 7), (7, 8), (1, 2), (4, 5))
_LOG_SIZE_MEAN, _LOG_SIZE_SPREAD = -2.4, 0.45


@dataclass(frozen=True)
class Budget:
    """What every variant of a comparison is trained with."""

    width: int
    steps: int
    batch: int
    rate: float


@dataclass(frozen=True)
class Variant:
    """A normalisation and what else the network is told.

    ``aim`` is the point in the picture to which the virtual camera turns; ``frame`` and ``pixels``
    (hip at 0) turn none. The keypoints are divided by ``scale ** power``.
    """

    aim: Aim = "trunk"
    scale: Scale = "rms"
    power: float = 1.0
    perspective: bool = True
    """Else first order: as if all joints lay in one plane at right angles to the bearing."""
    fov: float = DEFAULT_FOV_DEGREES
    """Horizontal field of view assumed, degrees."""
    lens_known: float = 0.0
    """Share of training poses normalised with their true lens."""
    extras: tuple[Extra, ...] = ()
    confidence_known: float = 1.0
    """Share of training poses whose confidences are told; the others' are 1."""
    detector: bool = False
    """Train with joints that are found less well, and reported so."""


VARIANTS: Mapping[str, Variant] = {
    "a. hip-centred pixels / RMS": Variant("pixels"),
    "b. frame": Variant("frame", "none"),
    "c. person: trunk, RMS": Variant(),
    "d. aim centroid": Variant("centroid"),
    "d. aim hip": Variant("hip"),
    "e. mean distance": Variant(scale="mean"),
    "e. median distance": Variant(scale="median"),
    "e. L1": Variant(scale="l1"),
    "e. trunk + thighs": Variant(scale="trunk+thighs"),
    "e. bounding box": Variant(scale="box"),
    "f. first order": Variant(perspective=False),
    "g. + log size": Variant(extras=("size",)),
    "g. / size^0.85": Variant(power=0.85),
    "g. not scaled": Variant(power=0.0),
    "h. + bearing": Variant(extras=("bearing",)),
    "h. + log size, bearing": Variant(extras=("size", "bearing")),
    "h. centroid + log size, bearing": Variant("centroid", extras=("size", "bearing")),
    "i. assumed 45": Variant(fov=45.0),
    "i. assumed 65": Variant(fov=65.0),
    "i. true lens": Variant(lens_known=1.0),
    "i. true lens half the time": Variant(lens_known=0.5),
    "i. true half the time, + told": Variant(lens_known=0.5, extras=("known",)),
    "i. true half the time, + told, size, bearing": Variant(
        lens_known=0.5, extras=("known", "size", "bearing")
    ),
    "j. no confidence": Variant(detector=True),
    "j. + confidence": Variant(detector=True, extras=("confidence",)),
    "j. + confidence half the time": Variant(
        detector=True, extras=("confidence",), confidence_known=0.5
    ),
}


@dataclass(frozen=True)
class Drawn:
    """A batch, and with it how sure the detector is: ``confidence`` (N, 17) within 0 to 1."""

    batch: SyntheticBatch
    confidence: Tensor


def draw(synthesiser: Synthesiser, count: int, unsure: bool) -> Drawn:
    """A batch whose less well found joints, if there are any, are reported as such."""
    batch = synthesiser.batch(count)
    keypoints = batch.keypoints_px
    shape = keypoints.shape[:2]
    if not unsure:
        return Drawn(batch, torch.ones(shape))
    # In half the poses up to 30 % of the joints: three times the usual mean error of 1.2 %.
    generator = synthesiser.generator
    share = torch.rand(count, 1, generator=generator) * 0.6 - 0.3
    low = torch.rand(shape, generator=generator) < share
    level = torch.rand(shape, generator=generator)
    confidence = torch.where(low, 0.05 + 0.45 * level, 0.5 + 0.5 * level)
    extent = (keypoints.amax(1) - keypoints.amin(1)).amax(-1)[:, None, None]
    error = torch.randn(keypoints.shape, generator=generator) * low[..., None]
    return Drawn(replace(batch, keypoints_px=keypoints + 0.034 * extent * error), confidence)


def person_size(flat: Tensor, scale: Scale) -> Tensor:
    """Size ``(N,)`` of people ``(N, 17, 2)``; all but the box are alike for a standing person."""
    if scale == "none":
        return flat.new_ones(len(flat))
    if scale == "box":
        return (flat.amax(1) - flat.amin(1)).amax(-1) / 3.5
    if scale == "trunk+thighs":
        start, end = (list(joints) for joints in zip(*_TRUNK_AND_THIGHS, strict=True))
        lengths: Tensor = (flat[:, start] - flat[:, end]).norm(dim=-1)
        return lengths.sum(-1) / 2.8
    spread = flat - flat.mean(dim=1, keepdim=True)
    if scale == "l1":
        return spread.abs().sum(-1).mean(-1)
    distance: Tensor = spread.norm(dim=-1)
    if scale == "rms":
        return distance.square().mean(-1).sqrt()
    return distance.mean(-1) if scale == "mean" else distance.median(-1).values


def features(
    variant: Variant,
    keypoints_px: Tensor,
    image_size: Tensor,
    focal_px: Tensor,
    known: Tensor,
    confidence: Tensor,
) -> tuple[Tensor, Tensor]:
    """What the network is given, ``(N, D)``, and rotations to camera axes ``(N, 3, 3)``.

    ``focal_px`` (N,) is used where ``known`` (N,) is true.
    """
    size = image_size.to(keypoints_px)
    assumed = 0.5 * size[:, 0] / math.tan(math.radians(variant.fov) / 2)
    focal = torch.where(known, focal_px, assumed)[:, None, None]
    rotation = torch.eye(3).expand(len(size), 3, 3)
    if variant.aim == "frame":
        flat = (keypoints_px - size[:, None] / 2) / (size.amax(-1)[:, None, None] / 2)
    elif variant.aim == "pixels":
        flat = (keypoints_px - keypoints_px[:, :1]) / focal
    else:
        rays = pad((keypoints_px - size[:, None] / 2) / focal, (0, 1), value=1.0)
        aims = {"trunk": (rays[:, 0] + rays[:, 8]) / 2, "hip": rays[:, 0]}
        aim = aims.get(variant.aim, rays.mean(1))
        rotation = view_rotation(aim)
        turned = rays @ rotation.transpose(1, 2)
        depth = turned[..., 2:].clamp(min=0.05)
        if not variant.perspective:
            depth = aim.norm(dim=-1)[:, None, None]
        flat = turned[..., :2] / depth
    scale = person_size(flat, variant.scale).clamp(min=1e-6)
    # At any power, the typical person comes out at unit size.
    divisor = scale**variant.power * math.exp(_LOG_SIZE_MEAN) ** (1 - variant.power)
    if variant.scale == "none":
        divisor = scale
    parts = [(flat / divisor[:, None, None]).flatten(1)]
    if "size" in variant.extras:
        parts.append((scale.log()[:, None] - _LOG_SIZE_MEAN) / _LOG_SIZE_SPREAD)
    if "bearing" in variant.extras:
        # Yaw and pitch of the turned camera, as sines.
        parts.append(3 * rotation[:, 2, :2])
    if "known" in variant.extras:
        parts.append(known[:, None].to(flat))
    if "confidence" in variant.extras:
        parts.append(2 * confidence - 1)
    return torch.cat(parts, dim=1), rotation.transpose(1, 2)


def width_of(variant: Variant) -> int:
    """How many numbers :func:`features` gives the network."""
    sizes = {"size": 1, "bearing": 2, "known": 1, "confidence": 17}
    return 34 + sum(sizes[extra] for extra in variant.extras)


@torch.no_grad()
def predict(
    network: nn.Module,
    variant: Variant,
    keypoints_px: Tensor,
    image_size: Tensor,
    focal_px: Tensor,
    lens_known: bool,
    confidence: Tensor,
) -> Tensor:
    """Poses ``(N, 17, 3)`` in metres, camera axes, hip at the origin."""
    known = torch.full((len(keypoints_px),), lens_known)
    inputs, to_camera = features(variant, keypoints_px, image_size, focal_px, known, confidence)
    poses: Tensor = network(inputs) @ to_camera.transpose(1, 2)
    return poses - poses[:, :1]


def errors_mm(predicted: Tensor, wanted: Tensor) -> tuple[float, float]:
    """MPJPE and PA-MPJPE in mm."""
    actual, expected = predicted.numpy(), wanted.numpy()
    return (
        round(1000 * float(mpjpe(actual, expected).mean()), 2),
        round(1000 * float(pa_mpjpe(actual, expected).mean()), 2),
    )


def evaluate(
    network: nn.Module, variant: Variant, bench: Path, detected: Drawn
) -> dict[str, float]:
    """Errors in mm on the benchmark and, with confidences, on ``detected``."""
    network.eval()
    figures: dict[str, float] = {}
    with np.load(bench) as data:
        wanted = torch.from_numpy(data["poses_camera"])
        size = torch.from_numpy(data["image_size"]).float()
        focal = torch.from_numpy(data["focal_px"])
        sure = torch.ones(wanted.shape[:2])
        for kind, name in (("exact", "keypoints_px"), ("noisy", "keypoints_noisy_px")):
            keypoints = torch.from_numpy(data[name])
            for lens in (False, True):
                poses = predict(network, variant, keypoints, size, focal, lens, sure)
                key = f"{kind}_lens" if lens else kind
                figures[key], figures[f"{key}_pa"] = errors_mm(poses, wanted)
    if variant.detector:
        batch, wanted = detected.batch, detected.batch.poses
        for key, confidence in (
            ("detected", detected.confidence),
            ("detected_untold", torch.ones_like(detected.confidence)),
        ):
            poses = predict(
                network,
                variant,
                batch.keypoints_px,
                batch.image_size,
                detected.batch.focal_px,
                False,
                confidence,
            )
            figures[key], figures[f"{key}_pa"] = errors_mm(poses, wanted)
    network.train()
    return figures


def told(variant: Variant, drawn: Drawn, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For which poses the lens is known ``(N,)``, and the confidences told ``(N, 17)``."""
    uniform = torch.rand(2, len(drawn.batch.focal_px), generator=generator)
    known = uniform[0] < variant.lens_known
    confident = uniform[1] < variant.confidence_known
    return known, torch.where(confident[:, None], drawn.confidence, 1.0)


def train_group(
    names: Sequence[str],
    seed: int,
    bank: PoseBank,
    budget: Budget,
    log_every: int = 1000,
) -> dict[str, tuple[nn.Module, float]]:
    """Networks trained on the same draws, and the last losses in mm.

    The matrix products run in bfloat16; weights, their averages and the optimiser's in float32.
    """
    unsure = VARIANTS[names[0]].detector
    synthesiser = Synthesiser(bank, SynthesisOptions(), seed)
    networks: dict[str, nn.Module] = {}
    optimizers: dict[str, torch.optim.Optimizer] = {}
    generators: dict[str, torch.Generator] = {}
    for name in names:
        torch.manual_seed(seed)
        networks[name] = ResidualMLP(width_of(VARIANTS[name]), budget.width).train()
        optimizers[name] = torch.optim.AdamW(
            networks[name].parameters(), lr=budget.rate, weight_decay=1e-4, fused=True
        )
        generators[name] = torch.Generator().manual_seed(seed)
    running = dict.fromkeys(names, 0.0)
    last = dict.fromkeys(names, math.nan)
    started = time.perf_counter()
    for step in range(budget.steps):
        fall = 0.5 + 0.5 * math.cos(math.pi * step / budget.steps)
        now = budget.rate * min((step + 1) / WARM_UP_STEPS, fall)
        drawn = draw(synthesiser, budget.batch, unsure)
        for name, network in networks.items():
            variant, optimizer = VARIANTS[name], optimizers[name]
            optimizer.param_groups[0]["lr"] = now
            known, confidence = told(variant, drawn, generators[name])
            inputs, to_camera = features(
                variant,
                drawn.batch.keypoints_px,
                drawn.batch.image_size,
                drawn.batch.focal_px,
                known,
                confidence,
            )
            with torch.autocast("cpu", torch.bfloat16):
                poses = network(inputs)
            loss = (poses.float() - drawn.batch.poses @ to_camera).norm(dim=-1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            running[name] += loss.item()
        if (step + 1) % log_every == 0:
            last = {name: round(1000 * value / log_every, 1) for name, value in running.items()}
            running = dict.fromkeys(names, 0.0)
            print(step + 1, round(time.perf_counter() - started), last, flush=True)
    return {name: (network, last[name]) for name, network in networks.items()}


_COLUMNS = {
    "exact": "exact MPJPE / PA",
    "noisy": "noisy MPJPE / PA",
    "exact_lens": "exact, lens given",
    "noisy_lens": "noisy, lens given",
    "detected": "synthetic, with confidence",
    "detected_untold": "the same, confidence all 1",
}


def table(runs: Sequence[Mapping[str, object]]) -> str:
    """Markdown; a mean over seeds, with half their range."""
    lines = [
        f"| normalisation | seeds | {' | '.join(_COLUMNS.values())} |",
        "| --- " * (2 + len(_COLUMNS)) + "|",
    ]
    for name in VARIANTS:
        own = [run for run in runs if run["variant"] == name]
        if not own:
            continue
        cells = [name, str(len(own))]
        for key in _COLUMNS:
            if key not in own[0]:
                cells.append("")
                continue
            figures = []
            for metric in (key, f"{key}_pa"):
                values = [float(str(run[metric])) for run in own]
                spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
                figures.append(f"{statistics.mean(values):.1f}{spread}")
            cells.append(" / ".join(figures))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    mocap: Annotated[Path, typer.Option(help="folder of the motion capture files")],
    out: Annotated[Path, typer.Option(help="where runs are kept")],
    width: int = 512,
    steps: int = 3000,
    batch: int = 512,
    rate: float = 2e-3,
    seeds: Annotated[list[int] | None, typer.Option("--seed")] = None,
    only: Annotated[list[str] | None, typer.Option(help=" | ".join(VARIANTS))] = None,
    group: Annotated[int, typer.Option(help="variants trained at once, on the same draws")] = 6,
) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    log = out / "runs.jsonl"
    budget = Budget(width, steps, batch, rate)

    def finished() -> list[dict[str, object]]:
        lines = log.read_text().splitlines() if log.exists() else []
        runs: list[dict[str, object]] = [json.loads(line) for line in lines]
        return [run for run in runs if asdict(budget).items() <= run.items()]

    files = [mocap / "mocap_train.npz", mocap / "extra_train.npz"]
    bank = PoseBank.from_files(files, torch.device("cpu"))
    test_bank = PoseBank.from_files([mocap / "mocap_test.npz"], torch.device("cpu"))
    detected = draw(Synthesiser(test_bank, SynthesisOptions(), 1000), 4096, unsure=True)
    names = [name for name in VARIANTS if not only or name.startswith(tuple(only))]
    for seed in seeds or [0]:
        done = {run["variant"] for run in finished() if run["seed"] == seed}
        for unsure in (False, True):
            left = [n for n in names if n not in done and VARIANTS[n].detector == unsure]
            for first in range(0, len(left), group):
                some = left[first : first + group]
                started = time.perf_counter()
                trained = train_group(some, seed, bank, budget)
                seconds = round((time.perf_counter() - started) / len(some))
                with log.open("a") as stream:
                    for name, (network, loss) in trained.items():
                        run = {
                            "variant": name,
                            "seed": seed,
                            **asdict(budget),
                            "seconds": seconds,
                            "loss_mm": loss,
                            **evaluate(network, VARIANTS[name], mocap / "bench_test.npz", detected),
                        }
                        stream.write(json.dumps(run) + "\n")
    text = table(finished())
    (out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    typer.run(main)
