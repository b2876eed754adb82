"""Whether memory, files, threads and processes stay bounded over a long time."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from fakes import FakeDetector, standing_at
from media import ffmpeg, make_video

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc"),
]

CLIPS = int(os.environ.get("ENDURANCE_CLIPS", "300"))
MINUTES = float(os.environ.get("ENDURANCE_MINUTES", "20"))
GROWTH = 1.15
SETTLED = 0.2
"""What is loaded in the first fifth of a run stays loaded."""
FPS = 10


def usage(process):
    """Bytes, open files, threads and processes of a process and all it has started."""
    found = np.zeros(4)
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            found += (one.memory_info().rss, one.num_fds(), one.num_threads(), 1)
    return found


def assert_bounded(command):
    """Run a command, look at it once a second, and compare the last quarter with an early one."""
    samples = []
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    process = psutil.Process(child.pid)
    while child.poll() is None:
        with suppress(psutil.Error):
            samples.append(usage(process))
        time.sleep(1)
    assert child.returncode == 0
    rest = np.array(samples[int(SETTLED * len(samples)) :])
    quarter = max(1, len(rest) // 4)
    first, last = (np.median(part, axis=0) for part in (rest[:quarter], rest[-quarter:]))
    print("bytes, files, threads, processes:", first, "->", last)
    assert (last <= GROWTH * first).all()


def test_very_many_clips(sample_video, tmp_path):
    """In one batch: 20 different clips of people, a third of a second each, by turns."""
    folder, results = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(CLIPS):
        file = folder / f"clip{number}.mp4"
        if number < 20:
            part = ("-ss", 0.35 * number, "-i", sample_video, "-frames:v", 5, "-an")
            ffmpeg(*part, "-vf", "scale=trunc(iw/4)*2:trunc(ih/4)*2", file)
        else:
            os.link(folder / f"clip{number % 20}.mp4", file)
    program = Path(sys.executable).with_name("gridpose")
    assert_bounded([program, "batch", folder, "-o", results, "--workers", "2"])
    assert len(list(results.glob("*.npz"))) == CLIPS


def two_walk_about(frame):
    """Keypoints of two people in a picture of 128x96."""
    swing = 15 * np.sin(0.11 * frame / FPS)
    return [standing_at(x + swing, 48, 35) for x in (32, 96)]


def run_long(source, target):
    """A video through everything but a detector."""
    from gridpose.pipeline import VideoOptions, run_video
    from gridpose.visualize import Look

    options = VideoOptions(
        detector=FakeDetector(two_walk_about),
        look=Look(layout="skeleton", resolution=(320, 240)),
        save_poses=(target.with_suffix(".npz"),),
    )
    assert len(run_video(source, target, options).track_ids) == 2


def test_a_long_video(tmp_path):
    source = tmp_path / "long.mp4"
    frames = round(MINUTES * 60 * FPS)
    make_video(source, frames=frames, fps=FPS, size=(128, 96), args=("-preset", "ultrafast"))
    assert_bounded([sys.executable, __file__, source, tmp_path / "out.mp4"])


if __name__ == "__main__":
    run_long(*map(Path, sys.argv[1:]))
