"""Part 5: the whole way of a video from decoded frames on, with HRNet; where it waits."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from fakes import standing_at
from pose_networks import random_model, small_config_file

from gpu.common import Job, Utilisation, busy
from gridpose.core import FloatArray, ImageArray
from gridpose.detectors import HUMAN36M_17
from gridpose.detectors.person_boxes import PersonBoxes
from gridpose.detectors.pose_config import read_config
from gridpose.detectors.topdown import TopDownNetwork
from gridpose.detectors.topdown_detector import TopDownDetector
from gridpose.pipeline.models import Models
from gridpose.pipeline.options import VideoOptions
from gridpose.pipeline.reader import Frame
from gridpose.pipeline.run import _layout_of, _Run
from gridpose.pipeline.stopwatch import Stopwatch

FPS = 30


class Walkers:
    """Where two people are: they walk to and fro."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def keypoints(self, frame: int) -> list[FloatArray]:
        width, height = self.size
        swing = 0.15 * width * np.sin(2 * np.pi * frame / FPS / 6)
        return [
            standing_at((0.3 * width + swing), 0.5 * height, 0.3 * height),
            standing_at((0.7 * width - swing), 0.5 * height, 0.3 * height),
        ]

    def boxes(self, frame: int) -> FloatArray:
        return np.array(
            [
                np.concatenate((pose.min(0) - 20, pose.max(0) + 20))
                for pose in self.keypoints(frame)
            ],
            np.float32,
        )


def number_of(frame: ImageArray) -> int:
    """Written into the first pixel."""
    return int(frame[0, 0, 0]) + 256 * int(frame[0, 0, 1])


class Decoded:
    """Frames as a decoder hands them out: each in memory of its own."""

    def __init__(self, size: tuple[int, int], count: int) -> None:
        self.size, self.frames_expected, self.fps = size, count, Fraction(FPS)
        self.warnings: list[str] = []
        rng = np.random.default_rng(0)
        self._images = [rng.integers(0, 255, (size[1], size[0], 3), np.uint8) for _ in range(4)]

    def __iter__(self) -> Iterator[Frame]:
        for number in range(self.frames_expected):
            image = self._images[number % 4].copy()
            image[0, 0, :2] = number % 256, number // 256
            yield Frame(number, number / FPS, image)

    def close(self) -> None:
        pass


class Finder:
    """Knows where people are."""

    name, weights_sha256, reason = "known", "", "a test"

    def __init__(self, walkers: Walkers) -> None:
        self._walkers = walkers

    def find(self, frames: Sequence[ImageArray]) -> list[PersonBoxes]:
        found = [self._walkers.boxes(number_of(frame)) for frame in frames]
        return [PersonBoxes(boxes, np.ones(len(boxes), np.float32)) for boxes in found]

    def __enter__(self) -> Finder:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Network:
    """HRNet does all its work; the answer is then the walker's who is in the box."""

    def __init__(self, network: TopDownNetwork, walkers: Walkers) -> None:
        self._network, self._walkers = network, walkers
        self.calls: list[int] = []

    def keypoints(
        self, frames: Sequence[ImageArray], frame_of_box: Sequence[int], boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        self.calls.append(len(boxes))
        self._network.keypoints(frames, frame_of_box, boxes)
        places = np.zeros((len(boxes), 17, 2), np.float32)
        for place, index, box in zip(places, frame_of_box, boxes, strict=True):
            people = self._walkers.keypoints(number_of(frames[index]))
            centre = (box[:2] + box[2:]) / 2
            place[:] = min(people, key=lambda pose: float(np.abs(pose.mean(0) - centre).sum()))
        return places, np.full(places.shape[:2], 0.9, np.float32)


class Sampler:
    """Looks, every few milliseconds, which line of gridpose each thread is at."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.003):
            self.looks += 1
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            for ident, frame in sys._current_frames().items():
                name = names.get(ident, "?")
                innermost = frame.f_code
                while frame is not None and "gridpose" not in frame.f_code.co_filename:
                    frame = frame.f_back  # type: ignore[assignment]
                if frame is not None and frame.f_code is not self._run.__code__:
                    where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                    self.seen[f"{name}: {where} ({innermost.co_name})"] += 1

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def top(self, count: int = 25) -> list[tuple[str, float]]:
        return [
            (what, round(n / max(1, self.looks), 3)) for what, n in self.seen.most_common(count)
        ]


class _Nowhere:
    def write(self, image: ImageArray, time: float) -> None:
        pass


def prepare(job: Job) -> dict[str, Any]:
    size = (320, 240) if job.small else (1280, 720)
    config = read_config(
        small_config_file(job.folder) if job.small else "td-hm_hrnet-w32_8xb64-210e_coco-256x192"
    )
    precision: Any = "fp16" if job.cuda else "fp32"
    network = TopDownNetwork(
        config, random_model(config), job.device, precision=precision, batch_size=64
    )
    walkers = Walkers(size)
    frames = [frame.image for frame in Decoded(size, 8)]
    network.keypoints(frames, [0, 1] * 8, np.tile(walkers.boxes(0), (8, 1)))
    return {"size": size, "walkers": walkers, "network": network, "precision": precision}


def _video(
    job: Job, given: dict[str, Any], count: int, drawn: bool, ahead: int = 64, **chosen: Any
) -> dict[str, Any]:
    walkers = given["walkers"]
    network = Network(given["network"], walkers)
    detector = TopDownDetector(
        "hrnet", network, Finder(walkers), HUMAN36M_17, "", crops_at_once=ahead
    )
    options = VideoOptions(
        detector=detector, device=str(job.device), precision=given["precision"], **chosen
    )
    source = Decoded(given["size"], count)
    layout = _layout_of(source.size, options) if drawn else None
    stopwatch = Stopwatch()
    run = _Run(source, layout, options, Models(options), stopwatch, None, None)
    begun = time.perf_counter()
    with Utilisation(job) as used, Sampler() as sampler:
        run.process(_Nowhere() if drawn else None)
    wall = time.perf_counter() - begun
    return {
        "frames": run.spool.frame_count,
        "people": len(run.spool.track_ids),
        "frames_s": run.spool.frame_count / wall,
        "crops_per_call": sum(network.calls) / max(1, len(network.calls)),
        "calls": len(network.calls),
        "gpu_percent": used.percent,
        "stage_share": {name: spent / wall for name, spent in stopwatch.seconds.items()},
        "where": sampler.top(),
    }


def run(job: Job, given: dict[str, Any]) -> None:
    count = 40 if job.small else 450
    _video(job, given, 20 if job.small else 150, drawn=False)  # libraries, recordings
    took = 0.0
    network = given["network"]
    recorded = network._look
    for key, drawn, look, chosen in (
        ("numbers only", False, recorded, {}),
        ("numbers only, launched", False, network._seen, {}),
        ("drawn", True, recorded, {}),
        ("busy", False, recorded, {}),
        ("numbers only, 0.15 s ahead", False, recorded, {"ahead": 0}),
        ("numbers only, batches of 32 frames", False, recorded, {"batch_size": 32}),
    ):
        if not job.cuda and key not in ("numbers only", "drawn"):
            continue
        if not job.affords(key, 1.3 * took + 0.5):
            continue
        network._look = look
        begun = time.monotonic()
        with job.guarded(key):
            if key == "busy":
                job.put(key, _busy(job, given, count))
            else:
                job.put(key, _video(job, given, count, drawn=drawn, **chosen))  # type: ignore[arg-type]
        took = max(took, time.monotonic() - begun)


def _busy(job: Job, given: dict[str, Any], count: int) -> dict[str, Any]:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        begun = time.perf_counter()
        _video(job, given, count, drawn=False)
        job.sync()
        wall = time.perf_counter() - begun
    return busy(profiler, wall)
