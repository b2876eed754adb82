#!/usr/bin/env python
"""How fast folders are: several workers against one, and against one process for each video.

    python scripts/bench_batch.py clips/ --workers 1 2 --separate

A folder of clips is made from the demo's video where none is given. Everything runs in turn,
several times; the ratios are of medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

from gridpose.pipeline.reader import VideoReader
from gridpose.pipeline.sample import sample_video
from gridpose.pipeline.writer import VideoWriter

CLIPS = 10
SECONDS = 2.0


def make_clips(folder: Path) -> int:
    """Ten different clips of two seconds; returns how many frames there are in all."""
    source, frames = sample_video(), 0
    for number in range(CLIPS):
        start = number * 0.55
        with (
            VideoReader(source, start, start + SECONDS) as reader,
            VideoWriter(folder / f"clip{number}.mp4", _even(reader.size), reader.fps) as writer,
        ):
            for frame in reader:
                width, height = _even(reader.size)
                writer.write(frame.image[:height, :width], frame.time)
                frames += 1
    return frames


def _even(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // 2 * 2, size[1] // 2 * 2


def count_frames(folder: Path) -> int:
    """Of all videos in a folder."""
    frames = 0
    for file in sorted(folder.iterdir()):
        with VideoReader(file) as reader:
            frames += int(Fraction(reader.info.duration or 0) * reader.fps)
    return frames


def seconds_of(command: list[str]) -> float:
    """A command, from its start to its end."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="?", help="a folder of videos")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--separate", action="store_true", help="also a process for each video")
    parser.add_argument("--render", action="store_true", help="draw videos, not numbers only")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    program = [str(Path(sys.executable).with_name("gridpose"))]
    drawing = [] if arguments.render else ["--no-render"]
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        clips = arguments.clips or Path(scratch) / "clips"
        if arguments.clips is None:
            clips.mkdir()
            frames = make_clips(clips)
        else:
            frames = count_frames(clips)
        for repeat in range(arguments.repeat):
            for count in arguments.workers:
                out = Path(scratch) / f"out-{count}-{repeat}"
                command = [*program, "batch", str(clips), "-o", str(out), "--workers", str(count)]
                taken = seconds_of([*command, *drawing])
                times.setdefault(f"{count} workers", []).append(taken)
            if arguments.separate:
                taken = 0.0
                for number, clip in enumerate(sorted(clips.iterdir())):
                    out = Path(scratch) / f"single-{repeat}-{number}.mp4"
                    command = [*program, "video", str(clip), "-o", str(out)]
                    taken += seconds_of([*command, "--save-poses", str(out.with_suffix(".npz"))])
                times.setdefault("a process each", []).append(taken)
    first = statistics.median(next(iter(times.values())))
    for name, taken in times.items():
        middle = statistics.median(taken)
        print(
            f"{name:15} {middle:6.1f} s ({min(taken):.1f} to {max(taken):.1f}), "
            f"{frames / middle:5.1f} frames/s, {first / middle:4.2f} times the first"
        )


if __name__ == "__main__":
    main()
