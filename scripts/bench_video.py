#!/usr/bin/env python
"""Compare the whole job with its detector alone.

    python scripts/bench_video.py VIDEO

Runs, in one process and in turn, (A) the detector over frames decoded beforehand and (B) the whole
`gridpose video`, and prints seconds and the ratio B / A of each round.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from gridpose.detectors import load_detector
from gridpose.pipeline import VideoOptions, run_video
from gridpose.pipeline.reader import VideoReader


def main(
    video: Annotated[Path, typer.Argument(help="a short video")],
    rounds: Annotated[int, typer.Option(help="how often to run both")] = 3,
) -> None:
    with VideoReader(video) as reader:
        frames = list(reader)
    ratios = []
    for number in range(rounds):
        started = time.perf_counter()
        with load_detector("blazepose") as detector:
            ready = time.perf_counter()
            for frame in frames:
                detector.detect([frame.image], [frame.time])
            alone, loading = time.perf_counter() - ready, ready - started
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder)
            started = time.perf_counter()
            result = run_video(
                video,
                files / "out.mp4",
                VideoOptions(detector="blazepose", save_poses=(files / "out.npz",)),
            )
            whole = time.perf_counter() - started
        stages = ", ".join(f"{k} {v:.2f}" for k, v in result.seconds_by_stage.items())
        print(
            f"round {number + 1}: detector alone {alone:.2f} s (+ {loading:.2f} s to load), "
            f"whole job {whole:.2f} s, ratio {whole / alone:.2f}   busy: {stages}"
        )
        ratios.append(whole / alone)
    print(f"median ratio {np.median(ratios):.2f} over {len(frames)} frames")


if __name__ == "__main__":
    typer.run(main)
