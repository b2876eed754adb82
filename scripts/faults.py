#!/usr/bin/env python
"""Inject faults into `gridpose batch`, and see whether anything is lost.

    python scripts/faults.py [--only NAME ...] [--list]

Each fault meets a real batch over a few made-up videos. Then the batch is run again without it:
everything that can be done must be done, every result whole, what was done before not done twice,
nothing unfinished left. Prints a table in Markdown; ends with 1 when anything was lost. Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from gridpose.pipeline import read_pose_file
from gridpose.pipeline.batch.journal import Entry, Journal
from gridpose.pipeline.batch.processes import descendants
from gridpose.pipeline.reader import VideoReader
from gridpose.pipeline.writer import VideoWriter

VIDEOS = 5
FRAMES = 120
PATIENCE_SECONDS = 180.0
GONE_SECONDS = 10.0
KILLS = 5


@dataclass
class Scene:
    """A folder with videos and where results go."""

    root: Path
    frames: dict[str, int] = field(default_factory=dict)
    """By name without suffix, of the videos that can be done."""

    @property
    def folder(self) -> Path:
        return self.root / "in"

    @property
    def output(self) -> Path:
        return self.root / "out"

    def add(self, name: str, frames: int = FRAMES) -> Path:
        """A video of noise in which nobody is."""
        file = self.folder / f"{name}.mp4"
        picture = np.random.default_rng(len(self.frames)).integers(0, 255, (240, 320, 3), np.uint8)
        with VideoWriter(file, (320, 240), Fraction(25)) as writer:
            for number in range(frames):
                writer.write(np.roll(picture, 3 * number, axis=1), number / 25)
        self.frames[name] = frames
        return file

    def command(self, *options: str) -> list[str]:
        program = Path(sys.executable).with_name("gridpose")
        always = ("--detector", "blazepose", "--workers", "2")
        return [str(program), "batch", str(self.folder), "-o", str(self.output), *always, *options]

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Begin a batch, out of reach of our own Ctrl-C."""
        return subprocess.Popen(
            self.command(*options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *options: str) -> tuple[int, str]:
        """A batch to its end: exit code and what it said."""
        done = subprocess.run(
            self.command(*options), capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )
        return done.returncode, done.stderr.decode(errors="replace")

    def entries(self) -> dict[str, Entry]:
        with Journal(self.output / ".gridpose" / "journal.sqlite3") as journal:
            return journal.entries()

    def working(self) -> list[Entry]:
        """Videos in progress, as another process sees them."""
        with contextlib.suppress(Exception):
            return [entry for entry in self.entries().values() if entry.state == "running"]
        return []

    def made(self) -> dict[str, tuple[int, int]]:
        """Results: inode and time of change by name."""
        found = {}
        for file in self.output.rglob("*"):
            if file.suffix in (".mp4", ".npz") and not file.name.startswith("."):
                status = file.stat()
                found[file.name] = (status.st_ino, status.st_mtime_ns)
        return found

    def check(self) -> list[str]:
        """What is wrong with the results of everything that can be done."""
        wrong = [f"{file.name} is left" for file in self.output.rglob("*.part.*")]
        for name, frames in self.frames.items():
            try:
                poses = len(read_pose_file(self.output / f"{name}.npz").frame_time)
                with VideoReader(self.output / f"{name}.mp4") as reader:
                    drawn = sum(1 for _ in reader)
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the table
                wrong.append(f"{name}: {error}")
                continue
            if (poses, drawn) != (frames, frames):
                wrong.append(f"{name}: {poses} and {drawn} frames, not {frames}")
        return wrong


@dataclass(frozen=True)
class Row:
    """What a fault did: exit code and words, and what is wrong (nothing, if all is well)."""

    happened: str
    exit_code: int | str
    wrong: list[str]


def until(true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.05)


def workers(batch: subprocess.Popen[bytes]) -> list[int]:
    """Processes of a batch that decode videos: those that have children of their own."""
    return [child.pid for child in descendants(batch.pid) if descendants(child.pid)]


def busy(scene: Scene, batch: subprocess.Popen[bytes], done: int = 1) -> Callable[[], object]:
    """Whether some videos are done and others in progress."""
    return lambda: (
        batch.poll() is not None
        or (len(list(scene.output.glob("*.npz"))) >= done and workers(batch))
    )


def alive(processes: list[int]) -> list[int]:
    found = []
    for process in processes:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
            if state != "Z":
                found.append(process)
    return found


def go_on(scene: Scene, *options: str) -> list[str]:
    """Run again without a fault: what is wrong after that."""
    with contextlib.suppress(Exception):
        before_entries = {p for p, e in scene.entries().items() if e.state == "done"}
        before = {n: m for n, m in scene.made().items() if f"{Path(n).stem}.mp4" in before_entries}
    code, said = scene.run("--retry-failed", *options)
    wrong = scene.check()
    if code != 0:
        wrong.append(f"the run after it ended with {code}: {said[-200:]}")
    after = scene.made()
    wrong += [f"{name} was done twice" for name, mark in before.items() if after.get(name) != mark]
    return wrong


def worker_killed(scene: Scene) -> Row:
    batch = scene.start()
    until(busy(scene, batch))
    os.kill(workers(batch)[0], signal.SIGKILL)
    code = batch.wait(PATIENCE_SECONDS)
    failed = [entry for entry in scene.entries().values() if entry.state == "failed"]
    wrong = [] if code == 5 and len(failed) == 1 else [f"exit {code}, {len(failed)} failed"]
    said = failed[0].message.split(": ", 1)[1] if failed and failed[0].message else "nothing"
    return Row(f"1 video marked ({said}), the others done", code, wrong + go_on(scene))


def parent_killed(scene: Scene) -> Row:
    batch = scene.start()
    until(busy(scene, batch))
    everyone = [child.pid for child in descendants(batch.pid)]
    batch.kill()
    batch.wait()
    with contextlib.suppress(TimeoutError):
        until(lambda: not alive(everyone), GONE_SECONDS)
    wrong = [f"{len(left)} processes go on"] if (left := alive(everyone)) else []
    return Row("its processes ended by themselves", batch.returncode, wrong + go_on(scene))


def everything_killed(scene: Scene) -> Row:
    chance, states = random.Random(0), []
    for _ in range(KILLS):
        batch = scene.start()
        until(busy(scene, batch, done=0))
        delay = chance.uniform(2.0, 20.0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            batch.wait(delay)
        for process in [batch.pid, *(child.pid for child in descendants(batch.pid))]:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        batch.wait()
        states.append(len(list(scene.output.glob("*.npz"))))
    return Row(f"{KILLS} times; results after each: {states}", "-9", go_on(scene))


def _signalled(scene: Scene, number: signal.Signals, expected: int) -> Row:
    batch = scene.start()
    until(busy(scene, batch))
    everyone = [child.pid for child in descendants(batch.pid)]
    batch.send_signal(number)
    code = batch.wait(PATIENCE_SECONDS)
    with contextlib.suppress(TimeoutError):
        until(lambda: not alive(everyone), GONE_SECONDS)
    wrong = [] if code == expected else [f"exit {code}, not {expected}"]
    wrong += [f"{len(left)} processes go on"] if (left := alive(everyone)) else []
    pending = sum(entry.state == "pending" for entry in scene.entries().values())
    return Row(f"ended at once, {pending} videos pending", code, wrong + go_on(scene))


def interrupted(scene: Scene) -> Row:
    return _signalled(scene, signal.SIGINT, 130)


def terminated(scene: Scene) -> Row:
    return _signalled(scene, signal.SIGTERM, 143)


def disk_full(scene: Scene) -> Row:
    scene.output.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(scene.output)], check=False
    )
    if mounted.returncode:
        return Row("not tried: needs the right to mount", "-", [])
    try:
        code, said = scene.run()
        whole = [name for name in scene.frames if (scene.output / f"{name}.npz").exists()]
        wrong = [] if code == 5 and "defect" not in said else [f"exit {code}: {said[-300:]}"]
        subprocess.run(["mount", "-o", "remount,size=200m", str(scene.output)], check=True)
        wrong += go_on(scene)
    finally:
        subprocess.run(["umount", "-l", str(scene.output)], check=False)
    return Row(f"{len(whole)} videos done, the others recorded as failed", code, wrong)


def broken_files(scene: Scene) -> Row:
    whole = (scene.folder / "v0.mp4").read_bytes()
    bad = {"empty": b"", "text": b"none" * 99, "cut": whole[:3000], "random": os.urandom(9999)}
    for name, content in bad.items():
        (scene.folder / f"{name}.mp4").write_bytes(content)
    code, said = scene.run()
    failed = {Path(p).stem for p, e in scene.entries().items() if e.state == "failed"}
    wrong = scene.check()
    wrong += [] if code == 5 and failed == set(bad) else [f"exit {code}, failed {sorted(failed)}"]
    wrong += ["a traceback"] if "Traceback" in said or "defect" in said else []
    return Row(f"{len(failed)} recorded as failed, the others done", code, wrong)


def source_vanishes(scene: Scene) -> Row:
    batch = scene.start()
    # Found, but not begun: the smallest comes last.
    until(lambda: batch.poll() is not None or scene.working())
    last = min(scene.folder.glob("*.mp4"), key=lambda file: (file.stat().st_size, file.name))
    last.unlink()
    code = batch.wait(PATIENCE_SECONDS)
    scene.frames.pop(last.stem)
    failed = [e.message for e in scene.entries().values() if e.state == "failed"]
    wrong = [] if code == 5 and len(failed) == 1 else [f"exit {code}, failed {failed}"]
    return Row("recorded as failed (no such file)", code, wrong + go_on(scene))


def two_at_once(scene: Scene) -> Row:
    batch = scene.start()
    until(lambda: batch.poll() is not None or scene.working())
    code, said = scene.run()
    first = batch.wait(PATIENCE_SECONDS)
    wrong = [] if code == 4 and said.count("\n") == 1 else [f"the second: exit {code}: {said}"]
    wrong += [] if first == 0 else [f"the first: exit {first}"]
    return Row("the second ended at once with one sentence", code, wrong + scene.check())


def journal_damaged(scene: Scene) -> Row:
    scene.run()
    (scene.output / ".gridpose" / "journal.sqlite3").write_bytes(b"garbage" * 500)
    code, said = scene.run()
    wrong = [] if code == 4 and said.count("\n") == 1 else [f"exit {code}: {said[-200:]}"]
    return Row("told in one sentence; results untouched", code, wrong + scene.check())


def results_damaged(scene: Scene) -> Row:
    scene.run()
    before = scene.made()
    (scene.output / "v1.mp4").write_bytes(b"cut")
    (scene.output / "v2.npz").unlink()
    code, _ = scene.run()
    after = scene.made()
    kept = [n for n in before if before[n] == after.get(n)]
    wrong = [] if code == 0 and len(kept) == len(before) - 4 else [f"exit {code}, kept {kept}"]
    return Row("these two done again, the others not", code, wrong + scene.check())


def link_leads_out(scene: Scene) -> Row:
    outside = scene.root / "outside"
    outside.mkdir()
    (scene.folder / "sub").mkdir()
    scene.add("inner", 5).rename(scene.folder / "sub" / "inner.mp4")
    scene.frames.pop("inner")
    scene.output.mkdir()
    (scene.output / "sub").symlink_to(outside)
    (scene.folder / "round").symlink_to("..")
    code, _ = scene.run()
    wrong = [] if code == 5 else [f"exit {code}"]
    wrong += [f"{file} was written" for file in outside.iterdir()]
    return Row("recorded as failed, nothing written outside", code, wrong + scene.check())


FAULTS: dict[str, tuple[str, Callable[[Scene], Row]]] = {
    "worker": ("a worker is killed (-9) in a video", worker_killed),
    "parent": ("the parent is killed (-9)", parent_killed),
    "everything": ("everything is killed (-9) at random moments", everything_killed),
    "interrupt": ("Ctrl-C", interrupted),
    "terminate": ("SIGTERM", terminated),
    "disk": ("the disk is full", disk_full),
    "broken": ("empty, cut, text and random files", broken_files),
    "vanishes": ("a video vanishes after it was found", source_vanishes),
    "two": ("a second run on the same output folder", two_at_once),
    "journal": ("the journal is overwritten with garbage", journal_damaged),
    "results": ("a result is cut, another deleted", results_damaged),
    "links": ("links that lead out of the output folder, and in circles", link_leads_out),
}


@contextlib.contextmanager
def scenery() -> Iterator[Scene]:
    """A folder with a few videos, for one fault."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        scene = Scene(Path(folder))
        scene.folder.mkdir()
        for number in range(VIDEOS):
            scene.add(f"v{number}", FRAMES - 10 * number)
        yield scene


def inject(name: str) -> Row:
    """Try one fault."""
    with scenery() as scene:
        try:
            return FAULTS[name][1](scene)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            return Row(f"it hung: {error}", "-", ["hung"])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{name}: {what}" for name, (what, _) in FAULTS.items()))
        return 0
    print("| fault | what happened | exit | lost |\n| --- | --- | --- | --- |", flush=True)
    bad = 0
    for name in arguments.only:
        row = inject(name)
        bad += bool(row.wrong)
        lost = "; ".join(row.wrong) or "nothing"
        print(f"| {FAULTS[name][0]} | {row.happened} | {row.exit_code} | {lost} |", flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
