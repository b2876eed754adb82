#!/usr/bin/env python
"""Time the evaluation of poses by both protocols against a loop over poses.

    python scripts/bench_metrics.py --poses 20000

Both run alternately in one process, on float32 poses in metres as a lifter answers them; the
medians and their ratio are printed, and how far the results lie apart. The whole report (all
metrics, by action and joint) is timed too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import numpy as np
import typer

from gridpose.core import DoubleArray, FloatArray
from gridpose.lifting import mpjpe, pa_mpjpe
from gridpose.lifting.evaluation import EvaluationReport, report

T = TypeVar("T")


def loop(predicted: FloatArray, target: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    """MPJPE and PA-MPJPE of each pose by the textbook, one pose after the other."""
    plain, aligned = np.empty(len(target)), np.empty(len(target))
    for number in range(len(target)):
        pose, wanted = predicted[number].astype(np.float64), target[number].astype(np.float64)
        plain[number] = np.linalg.norm(pose - wanted, axis=1).mean()
        pose_mean, wanted_mean = pose.mean(axis=0), wanted.mean(axis=0)
        a, b = pose - pose_mean, wanted - wanted_mean
        a_size, b_size = np.sqrt((a**2).sum()), np.sqrt((b**2).sum())
        a, b = a / a_size, b / b_size
        u, singular, vt = np.linalg.svd(b.T @ a)
        rotation = vt.T @ u.T
        if np.linalg.det(rotation) < 0:
            vt[-1] *= -1
            singular[-1] *= -1
            rotation = vt.T @ u.T
        fitted = singular.sum() * b_size * (a @ rotation) + wanted_mean
        aligned[number] = np.linalg.norm(fitted - wanted, axis=1).mean()
    return plain, aligned


def batched(predicted: FloatArray, target: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    return mpjpe(predicted, target), pa_mpjpe(predicted, target)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def main(
    poses: Annotated[int, typer.Option(min=1)] = 20_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 7,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    generator = np.random.default_rng(0)
    target = generator.normal(0, 0.3, (poses, 17, 3)).astype(np.float32)
    predicted = (target + generator.normal(0, 0.05, target.shape)).astype(np.float32)
    actions = np.array([f"action {number % 15:2d}" for number in range(poses)])

    def whole() -> EvaluationReport:
        return report(predicted, target, actions)

    seconds: dict[str, list[float]] = {"loop": [], "batched": [], "report": []}
    for _ in range(rounds):
        slow, expected = timed(lambda: loop(predicted, target))
        fast, found = timed(lambda: batched(predicted, target))
        full, _result = timed(whole)
        for name, value in (("loop", slow), ("batched", fast), ("report", full)):
            seconds[name].append(value)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    ratios = np.divide(seconds["loop"], seconds["batched"])
    values = {
        "poses": poses,
        "seconds": medians,
        "ratio": medians["loop"] / medians["batched"],
        "ratio_range": [float(ratios.min()), float(ratios.max())],
        "ratio_of_the_whole_report": medians["loop"] / medians["report"],
        "greatest_difference_mm": 1000
        * float(max(np.abs(a - b).max() for a, b in zip(expected, found, strict=True))),
    }
    if json_output:
        print(json.dumps(values))
        return
    print(f"{poses} poses, both protocols, median of {rounds}")
    for name, value in medians.items():
        print(f"  {name:8s} {1000 * value:8.1f} ms")
    print(f"  loop / batched {values['ratio']:.1f} ({ratios.min():.1f} to {ratios.max():.1f})")
    print(f"  loop / report  {values['ratio_of_the_whole_report']:.1f}")
    print(f"  greatest difference {values['greatest_difference_mm']:.1e} mm")


if __name__ == "__main__":
    typer.run(main)
