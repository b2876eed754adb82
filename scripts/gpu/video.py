"""The whole way of a video with HRNet, from the file to the numbers or to a drawn file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from fakes import standing_at
from pose_networks import random_model, small_config_file

from gpu.common import Job, Utilisation, profiled
from gpu.hrnet import W32
from gridpose.core import FloatArray, ImageArray
from gridpose.detectors import HUMAN36M_17
from gridpose.detectors.boxes import PersonBoxes
from gridpose.detectors.hrnet.config import read_config
from gridpose.detectors.hrnet.network import TopDownNetwork
from gridpose.detectors.topdown import TopDownDetector, WithoutHints
from gridpose.pipeline import VideoOptions, run_video
from gridpose.pipeline.video.writer import VideoWriter

FPS = 30


class Finder:
    """Knows where people are."""

    name, weights_sha256, reason = "known", "", "a test"

    def __init__(self, people: FloatArray) -> None:
        self._boxes = np.concatenate((people.min(1) - 20, people.max(1) + 20), axis=1)

    def find(self, frames: Sequence[ImageArray]) -> list[PersonBoxes]:
        found = PersonBoxes(self._boxes, np.ones(len(self._boxes), np.float32))
        return [found for _ in frames]

    def __enter__(self) -> Finder:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@dataclass
class Network:
    """HRNet does all its work; the answer is then the keypoints of who is in the box."""

    network: TopDownNetwork
    people: FloatArray
    calls: list[int] = field(default_factory=list)

    def keypoints(
        self, frames: Sequence[ImageArray], frame_of_box: Sequence[int], boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        self.calls.append(len(boxes))
        self.network.keypoints(frames, frame_of_box, boxes)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        apart = np.linalg.norm(self.people.mean(1) - centres[:, None], axis=-1)
        return self.people[apart.argmin(1)], np.full((len(boxes), 17), 0.9, np.float32)


@dataclass
class Prepared:
    """A video in which two people stand, ``people`` (2, 17, 2) px, and who looks at it."""

    source: Path
    people: FloatArray
    network: TopDownNetwork
    precision: Any


def prepare(job: Job) -> Prepared:
    width, height = size = (320, 240) if job.small else (1280, 720)
    source = job.folder / "source.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    with VideoWriter(source, size, Fraction(FPS), preset="ultrafast") as writer:
        for number in range(40 if job.small else 450):
            writer.write(np.roll(noise, number, axis=1), number / FPS)
    config = read_config(small_config_file(job.folder) if job.small else W32)
    precision: Any = "fp16" if job.cuda else "fp32"
    network = TopDownNetwork(
        config, random_model(config), job.device, precision=precision, batch_size=64
    )
    people = np.stack([standing_at(x * width, height / 2, 0.3 * height) for x in (0.3, 0.7)])
    return Prepared(source, people, network, precision)


def _video(job: Job, given: Prepared, drawn: bool, ahead: int = 64) -> dict[str, Any]:
    network = Network(given.network, given.people)
    detector = TopDownDetector(
        "hrnet",
        WithoutHints(network),
        Finder(given.people),
        HUMAN36M_17,
        "",
        crops_at_once=ahead,
    )
    options = VideoOptions(
        detector=detector, device=str(job.device), precision=given.precision, overwrite=True
    )
    with Utilisation(job) as used:
        result = run_video(given.source, job.folder / "out.mp4" if drawn else None, options)
    return {
        "frames": result.frames,
        "people": len(result.track_ids),
        "frames_s": result.frames / result.seconds,
        "crops_per_call": float(np.mean(network.calls)),
        "gpu_percent": used.percent,
        "stages_s": result.seconds_by_stage,
    }


def run(job: Job, given: Prepared) -> None:
    _video(job, given, drawn=False)  # libraries, recordings
    for key, options in {
        "numbers only": {"drawn": False},
        "drawn": {"drawn": True},
        "numbers only, 0.15 s ahead": {"drawn": False, "ahead": 0},
    }.items():
        with job.guarded(key):
            if job.affords(key, 3):
                job.put(key, _video(job, given, **options))
    if job.cuda and job.affords("kernels", 5):
        with job.guarded("kernels"):
            job.put("kernels", profiled(job, lambda: _video(job, given, drawn=False)))
