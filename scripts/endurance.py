#!/usr/bin/env python
"""Whether memory, files, threads and processes stay bounded over a long time; Linux only.

    python scripts/endurance.py clips --count 1000 -o docs/endurance.png
    python scripts/endurance.py long --hours 2

``clips`` runs `gridpose batch` over many short clips of the demo's video. ``long`` sends one long
made-up video through everything but the detector, whose place a script takes that sees two people
walk about. Both are watched from outside, with all their processes, once a second; it ends with 1
when the second half needs clearly more than the first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import psutil

from gridpose.core import ImageArray
from gridpose.detectors import HUMAN36M_17, Detection
from gridpose.pipeline import VideoOptions, run_video
from gridpose.pipeline.batch.processes import descendants
from gridpose.pipeline.reader import VideoReader
from gridpose.pipeline.sample import sample_video
from gridpose.pipeline.writer import VideoWriter
from gridpose.visualize import Look

CLIP_FRAMES = 5
DIFFERENT_CLIPS = 20
GROWTH = 1.15
SETTLED = 0.2
"""What is loaded in the first fifth of a run stays loaded."""


@dataclass(frozen=True)
class Sample:
    """A moment: seconds since the start, and of all processes together MB, files, threads."""

    seconds: float
    megabytes: float
    files: int
    threads: int
    processes: int
    done: int


def sample(process: int, seconds: float, done: int) -> Sample:
    """Look at a process and all it has started."""
    everyone = [process, *(child.pid for child in descendants(process))]
    return Sample(
        seconds,
        sum(_resident_bytes(one) for one in everyone) / 1e6,
        sum(_entries(f"/proc/{one}/fd") for one in everyone),
        sum(_entries(f"/proc/{one}/task") for one in everyone),
        len(everyone),
        done,
    )


def _resident_bytes(process: int) -> int:
    try:
        return psutil.Process(process).memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def _entries(folder: str) -> int:
    try:
        return sum(1 for _ in Path(folder).iterdir())
    except OSError:
        return 0


def watch(command: list[str], done: Callable[[], int]) -> tuple[int, list[Sample]]:
    """Run a command and sample it once a second."""
    samples, started = [], time.monotonic()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        while child.poll() is None:
            samples.append(sample(child.pid, time.monotonic() - started, done()))
            time.sleep(1)
        said.seek(0)
        print(said.read().decode(errors="replace")[-400:], file=sys.stderr)
    return child.returncode, samples


def grown(samples: Sequence[Sample]) -> list[str]:
    """What the last quarter has clearly more of than the quarter after all was loaded."""
    rest = samples[int(SETTLED * len(samples)) :]
    quarter = max(1, len(rest) // 4)
    found = []
    for name in ("megabytes", "files", "threads", "processes"):
        first, last = (
            float(np.median([getattr(one, name) for one in part]))
            for part in (rest[:quarter], rest[-quarter:])
        )
        print(f"{name:10} {first:8.0f} -> {last:8.0f}  ({last / first:.2f})")
        if last > GROWTH * first:
            found.append(name)
    return found


def plot(samples: Sequence[Sample], file: Path, title: str) -> None:
    """Curves over the number of clips done."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained", facecolor="white")
    panels = figure.subplots(2, 2, sharex=True).flat
    names = (("megabytes", "memory, MB"), ("files", "open files"))
    for axes, (name, label) in zip(
        panels, (*names, ("threads", "threads"), ("processes", "processes")), strict=True
    ):
        axes.plot([s.done for s in samples], [getattr(s, name) for s in samples], color="#3b6fd4")
        axes.set_title(label, loc="left", fontsize=10)
        axes.set_ylim(bottom=0)
        axes.grid(color="#d9dde3", linewidth=0.8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in list(figure.axes)[-2:]:
        axes.set_xlabel("clips done")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.savefig(file, dpi=110)


def make_clips(folder: Path, count: int) -> None:
    """``count`` files of different content by turns, a third of a second each."""
    made = []
    for number in range(DIFFERENT_CLIPS):
        start = number * 0.35
        file = folder / f"made-{number}.mp4"
        with VideoReader(sample_video(), start, start + 0.4) as reader:
            frames = [frame for frame, _ in zip(reader, range(CLIP_FRAMES), strict=False)]
            size = (reader.size[0] // 4 * 2, reader.size[1] // 4 * 2)
            with VideoWriter(file, size, reader.fps) as writer:
                for frame in frames:
                    # Every other pixel is enough.
                    small = np.ascontiguousarray(frame.image[::2, ::2][: size[1], : size[0]])
                    writer.write(small, frame.time)
        made.append(file.rename(folder / f"clip-0000-{number}.mp4"))
    for number in range(DIFFERENT_CLIPS, count):
        os.link(made[number % DIFFERENT_CLIPS], folder / f"clip-{number:05}.mp4")


def clips(count: int, workers: int, output: Path | None, keep: Path | None) -> int:
    """Many short clips in one batch."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, results = Path(scratch) / "in", Path(scratch) / "out"
        folder.mkdir()
        make_clips(folder, count)
        program = str(Path(sys.executable).with_name("gridpose"))
        status, samples = watch(
            [program, "batch", str(folder), "-o", str(results), "--workers", str(workers)],
            lambda: len(list(results.glob("*.npz"))),
        )
        made = len(list(results.glob("*.npz")))
    seconds = samples[-1].seconds
    print(f"{made} of {count} clips in {seconds:.0f} s, exit {status}")
    if keep is not None:
        keep.write_text(json.dumps([asdict(one) for one in samples]))
    if output is not None:
        plot(samples, output, f"gridpose batch, {count} clips, {workers} workers")
    return int(bool(status or made < count or grown(samples)))


class Walkers:
    """A detector that sees two people walk about, without looking."""

    name, reason, notices = "script", "a test of endurance", ()
    convention = HUMAN36M_17
    weights_sha256 = "0" * 64

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        upright = np.linspace(0, 1, 17)[:, None] * (0.2, 1.0)
        self._body = (upright + random.normal(0, 0.05, (17, 2))).astype(np.float32)

    def forget(self) -> None:
        """Nothing is remembered."""

    def detect(self, frames: Sequence[ImageArray], times: Sequence[float]) -> list[list[Detection]]:
        """Two people in every frame."""
        height, width = frames[0].shape[:2]
        found = []
        for moment in times:
            people = []
            for speed in (0.11, 0.07):
                x = width * (0.5 + 0.3 * np.sin(speed * moment))
                keypoints = self._body * np.float32(height / 2) + np.float32((x, height / 5))
                swing = np.sin(moment * 3 + np.arange(17))[:, None] * height / 40
                keypoints = (keypoints + swing).astype(np.float32)
                box = np.concatenate((keypoints.min(0), keypoints.max(0)))
                people.append(Detection(box, keypoints, np.full(17, 0.9, np.float32)))
            found.append(people)
        return found

    def __enter__(self) -> Walkers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


def make_long(file: Path, hours: float, fps: int) -> None:
    """A video of moving grey, small enough to be made quickly."""
    from fractions import Fraction

    picture = np.zeros((96, 128, 3), np.uint8)
    with VideoWriter(file, (128, 96), Fraction(fps), preset="ultrafast") as writer:
        for frame in range(int(hours * 3600 * fps)):
            picture[:] = frame % 256
            writer.write(picture, frame / fps)


def long(hours: float, fps: int) -> int:
    """One long video."""
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "long.mp4", Path(scratch) / "out.mp4"
        make_long(source, hours, fps)
        status, samples = watch(
            [sys.executable, __file__, "run-long", str(source), str(target)], lambda: 0
        )
        size = target.stat().st_size if target.exists() else 0
    print(f"{hours:g} h at {fps} fps in {samples[-1].seconds:.0f} s, {size / 1e6:.0f} MB, {status}")
    return int(bool(status or grown(samples)))


def run_long(source: Path, target: Path) -> int:
    """What ``long`` watches."""
    look = Look(layout="skeleton", resolution=(320, 240))
    detector: Any = Walkers()
    options = VideoOptions(detector=detector, look=look, save_poses=(target.with_suffix(".npz"),))
    result = run_video(source, target, options)
    print(f"{result.frames} frames, {len(result.track_ids)} people", file=sys.stderr)
    return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    many = commands.add_parser("clips")
    many.add_argument("--count", type=int, default=1000)
    many.add_argument("--workers", type=int, default=2)
    many.add_argument("-o", "--output", type=Path, help="a picture of the curves")
    many.add_argument("--keep", type=Path, help="the samples, as JSON")
    one = commands.add_parser("long")
    one.add_argument("--hours", type=float, default=2.0)
    one.add_argument("--fps", type=int, default=10)
    inner = commands.add_parser("run-long")
    inner.add_argument("source", type=Path)
    inner.add_argument("target", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "clips":
        return clips(arguments.count, arguments.workers, arguments.output, arguments.keep)
    if arguments.command == "long":
        return long(arguments.hours, arguments.fps)
    return run_long(arguments.source, arguments.target)


if __name__ == "__main__":
    sys.exit(main())
