"""Faults that meet a real batch. After each it is run again, and nothing may be lost."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest

from gridpose.pipeline import read_pose_file
from gridpose.pipeline.batch.journal import Journal
from gridpose.pipeline.batch.processes import descendants
from gridpose.pipeline.video.reader import VideoReader
from gridpose.pipeline.video.writer import VideoWriter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]

PATIENCE_SECONDS = 180
GONE_SECONDS = 10


class Batch:
    """`gridpose batch` over a folder with a few videos of noise, in which nobody is."""

    def __init__(self, root):
        self.root, self.folder, self.output = root, root / "in", root / "out"
        self.folder.mkdir()
        self.frames = {f"v{number}": 120 - 10 * number for number in range(5)}
        for seed, (name, frames) in enumerate(self.frames.items()):
            picture = np.random.default_rng(seed).integers(0, 255, (240, 320, 3), np.uint8)
            with VideoWriter(self.folder / f"{name}.mp4", (320, 240), Fraction(25)) as writer:
                for number in range(frames):
                    writer.write(np.roll(picture, 3 * number, axis=1), number / 25)

    def start(self, *options):
        program = Path(sys.executable).with_name("gridpose")
        always = ("--detector", "blazepose", "--workers", "2")
        return subprocess.Popen(
            [program, "batch", self.folder, "-o", self.output, *always, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # out of reach of our own Ctrl-C
            text=True,
        )

    def run(self, *options):
        """Exit code, and what is said."""
        process = self.start(*options)
        said = process.communicate(timeout=PATIENCE_SECONDS)[1]
        return process.returncode, said

    def names(self, state):
        with Journal(self.output / ".gridpose" / "journal.sqlite3") as journal:
            entries = journal.entries()
        return {Path(path).stem for path, entry in entries.items() if entry.state == state}

    def someone_works(self):
        with suppress(Exception):  # the journal may not be there yet
            return self.names("running")

    def start_and_wait(self, done=1):
        """A batch in which so many videos are done and another is being decoded."""
        process = self.start()
        until(
            lambda: (
                process.poll() is not None
                or (len(list(self.output.glob("*.npz"))) >= done and workers(process))
            )
        )
        return process

    def results(self):
        """Inode and time of change by name."""
        files = [f for f in self.output.rglob("*.*") if f.suffix in (".mp4", ".npz")]
        return {f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in files if f.name[0] != "."}

    def assert_all_done(self):
        """Every result is whole, and nothing unfinished is left."""
        assert list(self.output.rglob("*.part.*")) == []
        for name, frames in self.frames.items():
            assert len(read_pose_file(self.output / f"{name}.npz").frame_time) == frames
            with VideoReader(self.output / f"{name}.mp4") as reader:
                assert sum(1 for _ in reader) == frames

    def assert_goes_on(self):
        """Run again, everything gets done, and nothing twice."""
        done, before = self.names("done"), self.results()
        code, said = self.run("--retry-failed")
        assert code == 0, said
        self.assert_all_done()
        after = self.results()
        kept = {name: mark for name, mark in before.items() if Path(name).stem in done}
        assert {name: after[name] for name in kept} == kept


@pytest.fixture
def batch(tmp_path):
    return Batch(tmp_path)


def until(true, seconds=PATIENCE_SECONDS):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.05)


def workers(process):
    """Processes of a batch that decode videos: those that have children of their own."""
    return [child for child in descendants(process.pid) if descendants(child.pid)]


def alive(processes):
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_a_worker_is_killed(batch):
    process = batch.start_and_wait()
    workers(process)[0].kill()
    assert process.wait(PATIENCE_SECONDS) == 5
    assert len(batch.names("failed")) == 1
    batch.assert_goes_on()


@pytest.mark.parametrize(("number", "code"), [("KILL", -9), ("INT", 130), ("TERM", 143)])
def test_the_batch_is_ended(batch, number, code):
    process = batch.start_and_wait()
    everyone = descendants(process.pid)
    process.send_signal(signal.Signals[f"SIG{number}"])
    assert process.wait(PATIENCE_SECONDS) == code
    until(lambda: not alive(everyone), GONE_SECONDS)
    batch.assert_goes_on()


def test_everything_is_killed_at_random_moments(batch):
    chance = random.Random(0)
    for _ in range(5):
        process = batch.start_and_wait(done=0)
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(2.0, 20.0))
        for each in [process, *descendants(process.pid)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
    batch.assert_goes_on()


def test_the_disk_is_full(batch):
    batch.output.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", batch.output]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        code, said = batch.run()
        assert code == 5
        assert "defect" not in said
        subprocess.run(["mount", "-o", "remount,size=200m", batch.output], check=True)
        batch.assert_goes_on()
    finally:
        subprocess.run(["umount", "-l", batch.output], check=False)


def test_files_are_broken(batch):
    whole = (batch.folder / "v0.mp4").read_bytes()
    bad = {"empty": b"", "text": b"none" * 99, "cut": whole[:3000], "random": os.urandom(9999)}
    for name, content in bad.items():
        (batch.folder / f"{name}.mp4").write_bytes(content)
    code, said = batch.run()
    assert code == 5
    assert batch.names("failed") == set(bad)
    assert "Traceback" not in said
    assert "defect" not in said
    batch.assert_all_done()


def test_a_video_vanishes_after_it_was_found(batch):
    process = batch.start()
    until(lambda: process.poll() is not None or batch.someone_works())
    last = min(batch.folder.glob("*.mp4"), key=lambda file: file.stat().st_size)
    last.unlink()  # the smallest comes last
    assert process.wait(PATIENCE_SECONDS) == 5
    assert batch.names("failed") == {last.stem}
    del batch.frames[last.stem]
    batch.assert_goes_on()


def test_a_second_run_on_the_same_folder(batch):
    process = batch.start()
    until(lambda: process.poll() is not None or batch.someone_works())
    code, said = batch.run()
    assert (code, said.count("\n")) == (4, 1)
    assert process.wait(PATIENCE_SECONDS) == 0
    batch.assert_all_done()


def test_the_journal_is_garbage(batch):
    batch.run()
    (batch.output / ".gridpose" / "journal.sqlite3").write_bytes(b"garbage" * 500)
    code, said = batch.run()
    assert (code, said.count("\n")) == (4, 1)
    batch.assert_all_done()


def test_a_result_is_cut_and_another_deleted(batch):
    batch.run()
    before = batch.results()
    (batch.output / "v1.mp4").write_bytes(b"cut")
    (batch.output / "v2.npz").unlink()
    assert batch.run()[0] == 0
    after = batch.results()
    assert {name for name in before if after[name] != before[name]} == {
        *("v1.mp4", "v1.npz", "v2.mp4", "v2.npz")
    }
    batch.assert_all_done()


def test_links_lead_out_of_the_output_folder_and_in_circles(batch):
    outside, inner = batch.root / "outside", batch.folder / "sub" / "inner.mp4"
    outside.mkdir()
    inner.parent.mkdir()
    inner.write_bytes((batch.folder / "v0.mp4").read_bytes())
    batch.output.mkdir()
    (batch.output / "sub").symlink_to(outside)
    (batch.folder / "round").symlink_to("..")
    assert batch.run()[0] == 5
    assert list(outside.iterdir()) == []
    batch.assert_all_done()
