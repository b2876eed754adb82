"""Folders of videos: what is found, what is planned, what is kept. Real worker processes are at
the end.
"""

import csv
import json
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.core import GridposeError, InputError, MissingError, UsageError
from gridpose.pipeline import BatchOptions, VideoOptions, read_pose_file, run_batch
from gridpose.pipeline.batch.finding import find_videos
from gridpose.pipeline.batch.journal import Entry, Journal
from gridpose.pipeline.batch.plan import plan
from gridpose.pipeline.batch.run import JOURNAL, STATE_FOLDER
from gridpose.pipeline.batch.work import Event, Outcome
from gridpose.pipeline.batch.worker import Message
from gridpose.pipeline.video.reader import VideoReader
from gridpose.storage import file_sha256, partial_name

ODD_NAMES = (
    "with space.mp4", "quote'\".mp4", "new\nline.mp4", "-i.mp4", "file:x.mp4", "%03d.mp4",
    os.fsdecode(b"caf\xe9.mp4"), "日本.mp4", "concat:a|b.mp4", "a.b.c.mp4", ".hidden.mp4",
)  # fmt: skip


class Pretend:
    """An engine that writes a file for each result; ``answers`` are outcomes by path."""

    def __init__(self, answers=None, stop_after=None):
        self.answers, self.stop_after = answers or {}, stop_after
        self.paths, self.closed = [], False

    def run(self, tasks):
        try:
            for number, task in enumerate(tasks):
                if number == self.stop_after:
                    yield Event("sent", task, "1")
                    raise KeyboardInterrupt
                yield Event("sent", task, "1")
                self.paths.append(task.path)
                yield Event("finished", task, "1", outcome=self._outcome(task))
        finally:
            self.closed = True

    def _outcome(self, task):
        answer = self.answers.get(task.path)
        if answer is not None:
            return replace(answer, path=task.path)
        sha256 = file_sha256(task.source)
        if sha256 == task.done_sha256:
            return Outcome(task.path, "unchanged", sha256=sha256)
        task.result.parent.mkdir(parents=True, exist_ok=True)
        sizes = {}
        for suffix in task.suffixes:
            task.output(suffix).write_bytes(b"result of " + task.source.read_bytes())
            sizes[suffix] = task.output(suffix).stat().st_size
        return Outcome(task.path, "done", sizes=sizes, sha256=sha256, frames=3, people=1)


@pytest.fixture
def folder(tmp_path):
    """Three videos by name, one of them in a subfolder."""
    for name in ("a.mp4", "b.mov", "sub/c.mkv"):
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return tmp_path / "in"


@pytest.fixture
def batch(folder, tmp_path):
    """``batch(answers=, stop_after=, **options)`` -> the result and the paths that were done."""

    def run(answers=None, stop_after=None, **options):
        engine = Pretend(answers, stop_after)
        result = run_batch(folder, tmp_path / "out", BatchOptions(**options), engine=engine)
        return result, sorted(engine.paths)

    return run


# Finding -----------------------------------------------------------------------------------------


def found(folder, **options):
    return [video.path for video in find_videos(folder, folder / "out", **options).videos]


def test_videos_are_found_by_what_is_in_them(tmp_path, make_video):
    film = make_video(tmp_path / "film.mp4", frames=3, fps="25", size=(64, 48))
    (tmp_path / "sub").mkdir()
    film.rename(tmp_path / "sub" / "no suffix")
    make_video(tmp_path / "called.mp4", frames=3, fps="25", size=(64, 48))
    (tmp_path / "broken.avi").write_text("not at all")
    (tmp_path / "notes.txt").write_text("x" * 3000)
    (tmp_path / "liar").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(50))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n" + bytes(50))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.mp4").write_bytes(b"x")
    partial_name(tmp_path / "unfinished.mp4").write_bytes(b"x")
    assert sorted(found(tmp_path)) == ["broken.avi", "called.mp4", "sub/no suffix"]


def test_moving_gifs_are_videos_and_side_cars_of_macos_are_none(tmp_path, make_video):
    make_video(tmp_path / "moves.gif", frames=3, pix_fmt="rgb24")
    (tmp_path / "._moves.mp4").write_bytes(b"\x00\x05\x16\x07 attributes")
    (tmp_path / "text.gif").write_text("no picture")
    assert list(found(tmp_path)) == ["moves.gif"]


def test_the_largest_come_first_and_globs_choose(folder):
    (folder / "a.mp4").write_bytes(bytes(100))
    (folder / "sub" / "c.mkv").write_bytes(bytes(1000))
    assert found(folder) == ["sub/c.mkv", "a.mp4", "b.mov"]
    assert found(folder, include=["sub/*"]) == ["sub/c.mkv"]
    assert found(folder, include=["*.m*"], exclude=["c.*"]) == ["a.mp4", "b.mov"]
    assert found(folder, exclude=["*"]) == []


def test_links_lead_round_no_circles(folder):
    (folder / "sub" / "up").symlink_to("..")
    (folder / "self.mp4").symlink_to("self.mp4")
    (folder / "nowhere.mp4").symlink_to("not-there")
    (folder / "again.mp4").symlink_to("a.mp4")
    search = find_videos(folder, folder / "out")
    assert sorted(v.path for v in search.videos) == ["a.mp4", "again.mp4", "b.mov", "sub/c.mkv"]
    assert len(search.warnings) == 2
    assert all("cannot be read" in warning for warning in search.warnings)


# Planning and resuming ---------------------------------------------------------------------------


def test_results_mirror_the_folder(batch, tmp_path):
    result, paths = batch()
    assert paths == ["a.mp4", "b.mov", "sub/c.mkv"]
    assert result.states == {"done": 3}
    for name in ("a", "b", "sub/c"):
        for suffix in (".mp4", ".npz"):
            assert (tmp_path / "out" / (name + suffix)).exists()
    result, paths = batch(render=False)
    assert len(paths) == 3  # other options


def test_what_is_done_is_not_done_again(batch, folder, tmp_path):
    batch()
    assert batch()[1] == []
    # Only a new date, as a copy has it.
    os.utime(folder / "a.mp4", (1, 1))
    result, paths = batch()
    assert paths == ["a.mp4"]
    assert result.done_now == 0
    assert batch()[1] == []
    (folder / "a.mp4").write_bytes(b"other content")
    result, paths = batch()
    assert (paths, result.done_now) == (["a.mp4"], 1)
    (tmp_path / "out" / "b.npz").unlink()
    assert batch()[1] == ["b.mov"]
    (tmp_path / "out" / "sub" / "c.mp4").write_bytes(b"cut")
    assert batch()[1] == ["sub/c.mkv"]
    (folder / "new.mp4").write_bytes(b"new")
    assert batch()[1] == ["new.mp4"]
    assert len(batch(video=VideoOptions(persons="largest"))[1]) == 4
    # How it is computed is no other result.
    assert batch(video=VideoOptions(persons="largest", batch_size=3), workers=2)[1] == []


def test_failures_are_kept_and_tried_again_when_asked(batch, folder):
    bad = {"b.mov": Outcome("", "failed", "input", "b.mov: is broken")}
    result, _ = batch(bad)
    assert result.states == {"done": 2, "failed": 1}
    assert [entry.message for entry in result.failed] == ["b.mov: is broken"]
    result, paths = batch()
    assert paths == []
    assert len(result.failed) == 1  # still
    assert result.planned["b.mov"] == "failed before"
    assert batch(bad, retry_failed=True)[1] == ["b.mov"]
    (folder / "b.mov").write_bytes(b"mended")
    assert batch()[1] == ["b.mov"]
    assert batch(retry_failed=True)[1] == []


def test_an_interrupted_run_goes_on(batch, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        batch(stop_after=1)
    rows = list(csv.DictReader((tmp_path / "out" / "report.csv").open()))
    assert sorted(row["state"] for row in rows) == ["done", "pending", "pending"]
    result, paths = batch()
    assert len(paths) == 2
    assert result.states == {"done": 3}


def test_what_a_killed_run_left_is_cleared_away(batch, folder, tmp_path):
    out = tmp_path / "out"
    batch()
    with Journal(out / STATE_FOLDER / JOURNAL) as journal:
        journal.save(replace(journal.entries()["b.mov"], state="running"))
    left = partial_name(out / "sub" / "c.mp4")
    left.write_bytes(b"half")
    assert batch()[1] == ["b.mov"]
    assert not left.exists()


def test_names_that_are_alike_do_not_meet(folder, tmp_path):
    for name in ("clip.mp4", "clip.MOV", "Clip.avi", "clip", "clip.mov.mp4"):
        (folder / name).write_bytes(name.encode())
    (folder / "clip").unlink()
    run_batch(folder, tmp_path / "out", engine=Pretend())
    results = sorted(file.name for file in (tmp_path / "out").glob("*.npz"))
    assert len(results) == 6
    # Names stay as they are when more files come.
    (folder / "clip.aaa.mkv").write_bytes(b"x")
    (folder / "a.avi").write_bytes(b"x")
    engine = Pretend()
    run_batch(folder, tmp_path / "out", engine=engine)
    assert sorted(engine.paths) == ["a.avi", "clip.aaa.mkv"]


@given(
    st.lists(st.sampled_from([*ODD_NAMES, "a.mp4", "a.mov", "A.mp4", "x/a.mov", "a"]), unique=True)
)
@settings(max_examples=30, deadline=None)
def test_every_video_has_results_of_its_own(names):
    from gridpose.pipeline.batch.finding import Found

    items = plan([Found(name, 1, 1) for name in names], {}, Path("out"), BatchOptions())
    assert len({item.entry.result.casefold() for item in items}) == len(names)


def test_odd_names(folder, tmp_path):
    for name in ODD_NAMES:
        (folder / name).write_bytes(os.fsencode(name))
    result = run_batch(folder, tmp_path / "out", engine=Pretend())
    assert result.states == {"done": 3 + len(ODD_NAMES)}
    engine = Pretend()
    run_batch(folder, tmp_path / "out", engine=engine)
    assert engine.paths == []
    page = (tmp_path / "out" / "report.html").read_text()
    assert "quote&#x27;&quot;.mp4" in page
    assert len(list(csv.reader((tmp_path / "out" / "report.csv").open()))) == 4 + len(ODD_NAMES)


def test_dry_run_changes_nothing(folder, tmp_path, invoke):
    result = run_batch(folder, tmp_path / "out", dry_run=True)
    assert set(result.planned.values()) == {"new"}
    assert not (tmp_path / "out").exists()
    run_batch(folder, tmp_path / "out", engine=Pretend())
    told = invoke("batch", folder, "-o", tmp_path / "out", "--dry-run", "--json")
    assert told.exit_code == 0
    assert set(json.loads(told.stdout)["planned"].values()) == {"done before"}
    for name in ODD_NAMES:
        (folder / name).write_bytes(b"x")
    told = invoke("batch", folder, "-o", tmp_path / "out", "--dry-run")
    assert told.exit_code == 0
    # A line each, whatever is in the names.
    assert len(told.stdout.splitlines()) == 3 + len(ODD_NAMES) + 1
    told.stdout.encode()


# The journal -------------------------------------------------------------------------------------


@given(
    st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name),
    st.sampled_from(("pending", "running", "done", "failed", "skipped")),
    st.text(max_size=20),
)
@settings(max_examples=12, deadline=None)
def test_entries_come_back(tmp_path_factory, name, state, message):
    file = tmp_path_factory.mktemp("journal") / "j.sqlite3"
    path = os.fsdecode(name)
    entry = Entry(path, path, 12, 34, state=state, message=message.replace("\0", ""), seconds=1.5)
    with Journal(file) as journal:
        journal.save(entry)
    with Journal(file) as journal:
        assert journal.entries() == {path: entry}


def test_the_journal_outlives_a_kill(tmp_path):
    """What was saved is there though the process never closed the file."""
    file = tmp_path / "j.sqlite3"
    child = os.fork()
    if not child:
        journal = Journal(file)
        journal.save(*(Entry(f"{number}", f"{number}", 1, 1) for number in range(50)))
        os.kill(os.getpid(), 9)
    assert os.waitpid(child, 0)[1] == 9
    with Journal(file) as journal:
        assert len(journal.entries()) == 50


def test_what_cannot_be_written_is_written_later(tmp_path):
    file = tmp_path / "j.sqlite3"
    with Journal(file) as journal:
        journal._database.execute("PRAGMA max_page_count = 4")  # a disk that is full
        entries = [
            Entry(f"{number}" * 200, f"r{number}", 1, 1, message="m" * 500) for number in range(40)
        ]
        for entry in entries:
            journal.save(entry)
        assert journal.behind > 0
        assert len(journal.entries()) == 40
        journal._database.execute("PRAGMA max_page_count = 100000")
    with Journal(file) as journal:
        assert len(journal.entries()) == 40


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_journal_is_told_of(batch, tmp_path, invoke, folder, damage):
    batch()
    (tmp_path / "out" / STATE_FOLDER / JOURNAL).write_bytes(damage)
    with pytest.raises(MissingError, match="the journal cannot be used"):
        batch()


def test_another_version_is_told_of(tmp_path):
    file = tmp_path / "j.sqlite3"
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(MissingError, match="another version of gridpose"):
        Journal(file)


def test_two_runs_do_not_meet(folder, tmp_path):
    class Second:
        def run(self, tasks):
            with pytest.raises(MissingError, match=r"already at work there \(process \d+ on "):
                run_batch(folder, tmp_path / "out", engine=Pretend())
            yield Event("finished", tasks[0], "1", outcome=Outcome(tasks[0].path, "skipped"))

    run_batch(folder, tmp_path / "out", engine=Second())
    run_batch(folder, tmp_path / "out", engine=Pretend())  # and is free again


# What is refused ---------------------------------------------------------------------------------


def test_folders_that_do_not_fit(folder, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        run_batch(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(InputError, match="use gridpose video for one video"):
        run_batch(folder / "a.mp4", tmp_path / "out")
    for output in (folder, tmp_path):
        with pytest.raises(UsageError, match="a folder of their own"):
            run_batch(folder, output)
    with pytest.raises(UsageError, match="is not a folder"):
        run_batch(folder, folder / "a.mp4")
    run_batch(folder, folder / "results", engine=Pretend())
    assert len(found(folder)) == 6  # the results, too, unless they are left out
    result = run_batch(folder, folder / "results", engine=Pretend())
    assert len(result.entries) == 3


@pytest.mark.parametrize(
    "options",
    [{"workers": 0}, {"max_duration": 0}, {"timeout": 0}, {"address": "auto"},
     {"video": VideoOptions(crf=99)}],
)  # fmt: skip
def test_options_out_of_range(folder, tmp_path, options):
    with pytest.raises(UsageError):
        run_batch(folder, tmp_path / "out", BatchOptions(**options))


def test_nothing_there(tmp_path, invoke):
    (tmp_path / "in").mkdir()
    result = invoke("batch", tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "0 videos" in result.stdout


# Real workers ------------------------------------------------------------------------------------


def test_a_folder_of_real_videos(tmp_path, make_video, invoke):
    """Broken, long and odd ones among good ones; exit code 5 and everything accounted for."""
    source, output = tmp_path / "in", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    make_video(source / "a.mp4", frames=12, fps="25", size=(160, 120), audio=True)
    make_video(source / "sub" / "b'\n\".mkv", frames=9, fps="30000/1001", size=(160, 120))
    make_video(source / "long.mp4", frames=200, fps="25", size=(64, 48))
    (source / "broken.mp4").write_bytes((source / "a.mp4").read_bytes()[:700])
    (source / "empty.avi").touch()
    options = ["--workers", "2", "--max-duration", "5", "--detector", "blazepose-full"]
    result = invoke("batch", source, "-o", output, *options, "--json")
    assert result.exit_code == 5, result.output
    summary = json.loads(result.stdout)
    assert summary["states"] == {"done": 2, "failed": 2, "skipped": 1}
    assert {row["path"] for row in summary["failed"]} == {"broken.mp4", "empty.avi"}
    assert "failed (input)" in result.stderr
    for name, frames in (("a", 12), ("sub/b'\n\"", 9)):
        assert len(read_pose_file(output / f"{name}.npz").frame_time) == frames
        with VideoReader(output / f"{name}.mp4") as made:
            assert sum(1 for _ in made) == frames
    assert not list(output.rglob("*.part.*"))
    with Journal(output / STATE_FOLDER / JOURNAL) as journal:
        entries = journal.entries()
    assert entries["a.mp4"].sha256 == file_sha256(source / "a.mp4")
    assert entries["long.mp4"].kind == "long"
    assert "nobody was found" in entries["a.mp4"].warnings
    again = invoke("batch", source, "-o", output, *options, "--json")
    assert again.exit_code == 5  # what failed is still not done
    assert json.loads(again.stdout)["done_now"] == 0


def test_models_that_cannot_be_loaded_end_it_at_once(tmp_path, make_video, invoke):
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "a.mp4", frames=3, fps="25", size=(64, 48))
    options = ["--detector", "hrnet", "--detector-weights", str(tmp_path / "none.pth")]
    started = time.monotonic()
    result = invoke("batch", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert result.exit_code in (3, 4), result.output
    assert result.stderr.count("error:") == 1
    assert time.monotonic() - started < 60


def mischievous_worker(connection, options, threads):
    """A worker program without models that does what the name of the video says."""
    connection.send(Message("ready"))
    while (task := connection.recv()) is not None:
        name = Path(task.path).stem
        connection.send(Message("started", duration=0.1))
        if name == "dies":
            os.kill(os.getpid(), 9)
        if name == "exits":
            os._exit(7)
        if name in ("hangs", "slow"):
            time.sleep(60)
        connection.send(Message("finished", outcome=Outcome(task.path, "done")))


def test_workers_that_die_or_hang_are_replaced(folder, tmp_path, monkeypatch):
    from gridpose.pipeline.batch import pool

    monkeypatch.setattr(pool.worker_program, "main", mischievous_worker)
    for name in ("dies.mp4", "exits.mp4", "hangs.mp4"):
        (folder / name).write_bytes(b"x" * 50)
    engine = pool.Pool(VideoOptions(device="cpu"), workers=2, stall=1.5)
    result = run_batch(folder, tmp_path / "out", engine=engine)
    messages = {entry.path: (entry.kind, entry.message) for entry in result.failed}
    assert set(messages) == {"dies.mp4", "exits.mp4", "hangs.mp4"}
    assert messages["dies.mp4"][0] == "died"
    assert "SIGKILL" in messages["dies.mp4"][1]
    assert "status 7" in messages["exits.mp4"][1]
    assert messages["hangs.mp4"][0] == "timeout"
    assert result.states["done"] == 3


def test_a_video_may_take_as_long_as_it_lasts(folder, tmp_path, monkeypatch):
    from gridpose.pipeline.batch import pool

    monkeypatch.setattr(pool.worker_program, "main", mischievous_worker)
    monkeypatch.setattr(pool, "GRACE_SECONDS", 1.0)
    (folder / "slow.mp4").write_bytes(b"x" * 50)
    engine = pool.Pool(VideoOptions(device="cpu"), workers=1, timeout=1.0)
    result = run_batch(folder, tmp_path / "out", engine=engine)
    assert [entry.path for entry in result.failed] == ["slow.mp4"]
    assert "than its duration allows" in result.failed[0].message


def dying_worker(connection, options, threads):
    """A worker program that never gets to work."""
    os._exit(3)


def test_workers_that_never_start_end_it(folder, tmp_path, monkeypatch):
    from gridpose.pipeline.batch import pool

    monkeypatch.setattr(pool.worker_program, "main", dying_worker)
    engine = pool.Pool(VideoOptions(device="cpu"), workers=2)
    with pytest.raises(GridposeError, match=r"no worker process gets to work: .* status 3"):
        run_batch(folder, tmp_path / "out", engine=engine)
