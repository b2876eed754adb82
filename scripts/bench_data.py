#!/usr/bin/env python
"""Time the way of data to the network.

    python scripts/bench_data.py

Makes a synthetic data set (200 k frames) in a temporary folder and prints, in seconds, what it
takes to read it the first time and from the cache, and to go through one epoch of shuffled batches,
without a network. The epoch is compared with a data set class that prepares every sample by itself:
copy, normalise, grid transform of one pose in NumPy, tensors, collated to batches; once with the
grid filled cell by cell and once with one indexing operation, about the best that NumPy can do for
one pose. Single samples are timed on a part of the data and scaled.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch.utils.data import default_collate

from gridpose.core import NUM_JOINTS, AnyArray
from gridpose.lifting.data.dataset import DeviceBatches, load_dataset, write_dataset
from gridpose.lifting.data.files import Key

# Joints of the cells, row by row; the middle of row 2 is between joints 8 and 9.
CELLS = (7, 7, 7, 7, 7, 0, 8, 8, 8, 0, 1, 14, -1, 11, 4, 2, 15, 9, 12, 5, 3, 16, 10, 13, 6)
FIRST = np.array([8 if joint < 0 else joint for joint in CELLS])
SECOND = np.array([9 if joint < 0 else joint for joint in CELLS])
SUBJECTS = ("S1", "S5", "S6", "S7", "S8")


def synthetic(folder: Path, frames: int, length: int) -> None:
    """Write a data set of people-sized random poses."""
    generator = np.random.default_rng(0)
    data2d: dict[Key, AnyArray] = {}
    data3d: dict[Key, dict[str, Any]] = {}
    for number in range(frames // length):
        action = f"Action{number % 15}"
        key = (SUBJECTS[number % 5], action, f"{action} {number}.54138969")
        joints = generator.normal(0, 150, (length, NUM_JOINTS, 3))
        joints -= joints[:, :1]
        data2d[key] = joints[..., :2] * 0.23 + 500
        data3d[key] = {
            "pelvis": np.tile((0.0, 0.0, 5000.0), (length, 1)),
            "joint_3d": joints,
            "camera": [1146, 1146, 500, 500],
        }
    write_dataset(folder, "train", data2d, data3d)


def grid_by_cell(pose: AnyArray) -> AnyArray:
    grid = np.zeros((pose.shape[1], 5, 5))
    for cell, joint in enumerate(CELLS):
        row, column = divmod(cell, 5)
        grid[:, row, column] = pose[joint] if joint >= 0 else (pose[8] + pose[9]) / 2
    return grid


def grid_by_index(pose: AnyArray) -> AnyArray:
    return ((pose[FIRST] + pose[SECOND]) / 2).T.reshape(-1, 5, 5)


def seconds(work: Callable[[], Any], repeats: int = 1) -> float:
    """The best of some runs."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def per_sample_epoch(
    keypoints: AnyArray,
    poses: AnyArray,
    order: AnyArray,
    batch: int,
    to_grid: Callable[[AnyArray], AnyArray],
) -> None:
    samples = []
    for row in order:
        flat = (keypoints[row].copy() - 500) / 500
        target = poses[row].copy()
        pair = (to_grid(flat), to_grid(target))
        samples.append(tuple(torch.from_numpy(grid).float() for grid in pair))
        if len(samples) == batch:
            default_collate(samples)
            samples = []


def main(
    frames: Annotated[int, typer.Option(help="frames of the data set")] = 200_000,
    batch: Annotated[int, typer.Option(help="poses in a batch")] = 200,
    device: Annotated[str, typer.Option(help="where the batches are wanted")] = "cpu",
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "gt", Path(name) / "cache"
        print(f"{frames} frames: write {seconds(lambda: synthetic(folder, frames, 400)):.2f} s")

        def load() -> Any:
            return load_dataset(folder, "train", exclude_drift=False, cache=cache)

        first = seconds(load)
        cached = seconds(load, 5)
        print(f"load, first time       {first:8.3f} s")
        print(f"load, from the cache   {cached:8.3f} s   {first / cached:6.0f} x")
        dataset = load()

    def prepare() -> DeviceBatches:
        return DeviceBatches(
            dataset.keypoints_px, dataset.poses, device, grid_inputs=True, grid_targets=True
        )

    generator = torch.Generator().manual_seed(0)

    def epoch() -> None:
        order = batches.order(generator)
        for start in range(0, len(order), batch):
            batches.batch(order[start : start + batch])
        if batches.device.type == "cuda":
            torch.cuda.synchronize()

    print(f"prepare on {device:11s} {seconds(prepare):8.3f} s")
    batches = prepare()
    epoch()
    ours = seconds(epoch, 5)
    print(f"epoch, batch {batch:<9d} {ours:8.3f} s")
    part = min(len(dataset), 20_000)
    order = np.random.default_rng(0).permutation(len(dataset))[:part]
    for words, to_grid in (("cell by cell", grid_by_cell), ("by indexing", grid_by_index)):
        theirs = seconds(
            lambda g=to_grid: per_sample_epoch(dataset.keypoints_px, dataset.poses, order, batch, g)
        )
        theirs *= len(dataset) / part
        print(f"per sample, {words:12s}{theirs:7.2f} s   {theirs / ours:6.0f} x")


if __name__ == "__main__":
    typer.run(main)
