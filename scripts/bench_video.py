#!/usr/bin/env python
"""What `gridpose video` costs, by detector, against ffmpeg alone and against another installation.

    python scripts/bench_video.py VIDEO --detector blazepose-full --detector blazepose \
        --against OTHER/.venv/bin/python

Every case is a process of its own; they take turns, and medians are told: seconds from start to
end, processor seconds (children included), seconds to the first finished frame, and where the
processor seconds go. The floor is ffmpeg decoding the source and encoding the drawn video again.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from gridpose.pipeline.ffmpeg import ffmpeg_program

# Runs in either installation, so it uses what both have.
PROGRAM = """
import json, sys, time
begun = float(sys.argv[4])
from gridpose.pipeline import VideoOptions, run_video
first = []
result = run_video(
    sys.argv[1], sys.argv[2], VideoOptions(detector=sys.argv[3], overwrite=True),
    on_progress=lambda _: first or first.append(time.time() - begun),
)
stages = getattr(result, "cpu_seconds_by_stage", {})
print(json.dumps({"first": first[0] if first else None, "stages": stages}))
"""


@dataclass(frozen=True)
class Run:
    """Seconds of one process."""

    wall: float
    cpu: float
    first: float | None = None
    stages: dict[str, float] | None = None


def timed(command: list[str]) -> tuple[float, float, str]:
    """Wall and processor seconds of a command, and what it printed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


def whole_job(python: str, detector: str, video: Path, output: Path) -> Run:
    """`gridpose video` with a detector."""
    wall, cpu, printed = timed(
        [python, "-c", PROGRAM, str(video), str(output), detector, str(time.time())]
    )
    told = json.loads(printed.splitlines()[-1])
    return Run(wall, cpu, told["first"], told["stages"])


def floor(video: Path, drawn: Path, folder: Path) -> Run:
    """Ffmpeg's part alone."""
    program = [ffmpeg_program(), "-v", "error", "-y"]
    decode = timed([*program, "-i", str(video), "-map", "0:V:0", "-f", "null", "-"])
    raw = folder / "drawn.y4m"
    timed([*program, "-i", str(drawn), "-map", "0:V:0", str(raw)])
    options = ["-c:v", "libx264", "-preset", "superfast", "-crf", "22", str(folder / "again.mp4")]
    encode = timed([*program, "-i", str(raw), *options])
    return Run(decode[0] + encode[0], decode[1] + encode[1])


def main(
    video: Annotated[Path, typer.Argument(help="a short video")],
    detector: Annotated[list[str] | None, typer.Option(help="may be given several times")] = None,
    against: Annotated[str | None, typer.Option(help="python of another installation")] = None,
    its_detector: Annotated[str, typer.Option(help="the other installation's")] = "blazepose",
    rounds: Annotated[int, typer.Option(help="how often each runs")] = 3,
) -> None:
    cases = {name: (sys.executable, name) for name in detector or ["blazepose"]}
    if against is not None:
        cases = {"other": (against, its_detector), **cases}
    runs: dict[str, list[Run]] = {name: [] for name in (*cases, "floor")}
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        for _ in range(rounds):
            for name, (python, which) in cases.items():
                runs[name].append(whole_job(python, which, video, folder / "out.mp4"))
            runs["floor"].append(floor(video, folder / "out.mp4", folder))

    def median(name: str, what: str) -> float:
        values = [getattr(run, what) for run in runs[name]]
        return statistics.median(value for value in values if value is not None)

    for name in runs:
        line = f"{name}: {median(name, 'wall'):.2f} s, {median(name, 'cpu'):.2f} CPU s"
        if name != "floor":
            line += f", {median(name, 'cpu') / median('floor', 'cpu'):.2f} times the floor"
            line += f", first frame after {median(name, 'first'):.2f} s"
        if against is not None and name not in ("other", "floor"):
            wall, cpu, first = (
                median("other", what) / median(name, what) for what in ("wall", "cpu", "first")
            )
            line += f"; other / this: {wall:.2f} wall, {cpu:.2f} CPU, {first:.2f} first frame"
        print(line)
        if stages := runs[name][-1].stages:
            print("  " + ", ".join(f"{stage} {cpu:.2f}" for stage, cpu in stages.items()))


if __name__ == "__main__":
    typer.run(main)
