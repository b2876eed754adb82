#!/usr/bin/env python
"""Time the drawing of 3D frames.

    python scripts/bench_draw.py

Prints median and 95th percentile in ms for one frame of two moving skeletons, at several sizes,
for the 3D scene alone and for every layout, with trails, from a 1768x994 source. One core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import cv2
import numpy as np
import typer

from gridpose.core import NUM_JOINTS, ImageArray, Person
from gridpose.visualize import LAYOUTS, Layout, Look, SceneRenderer


def people(count: int, moment: float) -> list[Person]:
    """Moving skeletons of plausible extent."""
    generator = np.random.default_rng(0)
    base = generator.uniform((-0.5, -0.4, 0.05), (0.5, 0.4, 1.75), (count, NUM_JOINTS, 3))
    world = base + 0.1 * np.sin(3 * moment + base[..., ::-1])
    shown = []
    for index, pose in enumerate(world.astype(np.float32)):
        keypoints = (pose[:, [0, 2]] * (200, -200) + (500 + 400 * index, 700)).astype(np.float32)
        bbox = np.concatenate((keypoints.min(0), keypoints.max(0)))
        confidence = generator.uniform(0.3, 1, NUM_JOINTS).astype(np.float32)
        shown.append(Person(index + 1, bbox, keypoints, confidence, pose - pose[0], pose))
    return shown


def measure(name: str, frames: int, draw: Callable[[list[Person], float], ImageArray]) -> None:
    seconds = []
    for number in range(frames):
        shown = people(2, number / 30)
        started = time.perf_counter()
        draw(shown, number / 30)
        seconds.append(time.perf_counter() - started)
    median, slow = np.percentile(seconds[frames // 10 :], [50, 95]) * 1000
    print(f"{name:32s} median {median:6.2f} ms   95 % {slow:6.2f} ms")


def main(frames: Annotated[int, typer.Option(help="frames of each kind")] = 200) -> None:
    cv2.setNumThreads(1)
    for size in ((720, 720), (1280, 720), (3840, 2160)):
        scene = SceneRenderer(size)
        measure(f"scene {size[0]}x{size[1]}", frames, lambda p, t, s=scene: s.draw(p, 1 / 30))
    coarse = np.random.default_rng(0).integers(0, 255, (62, 110, 3), np.uint8)
    frame = cv2.resize(coarse, (1768, 994), interpolation=cv2.INTER_CUBIC)
    for resolution in ((1280, 720), (3840, 2160)):
        for name in LAYOUTS:
            layout = Layout((1768, 994), Look(layout=name, resolution=resolution, trails=True))
            panel = layout.panel(frame)
            title = f"{name} {resolution[0]}x{resolution[1]}"
            measure(title, frames, lambda p, t, k=layout, s=panel: k.compose(s, p, t))


if __name__ == "__main__":
    typer.run(main)
