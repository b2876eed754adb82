import io
import json

import pytest

from gridpose.pipeline import Progress
from gridpose.pipeline.cli import console
from gridpose.pipeline.cli.console import Console, ProgressDisplay


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told to."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


@pytest.mark.parametrize("quiet", [False, True])
def test_news_can_be_turned_off_and_warnings_cannot(capsys, quiet):
    output = Console(quiet, False, False)
    output.info("news")
    output.warn("beware")
    output.result({"frames": 3}, "3 frames")
    out, err = capsys.readouterr()
    assert out == ("" if quiet else "3 frames\n")
    assert err == ("" if quiet else "news\n") + "warning: beware\n"


@pytest.mark.parametrize("quiet", [False, True])
def test_json_is_one_line_whatever_is_in_it(capsys, quiet):
    values = {"output": "two\nlines 日本.mp4", "frames": 3, "warnings": []}
    Console(quiet, False, True).result(values, "3 frames")
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1
    assert json.loads(out) == values


def test_the_rate_is_that_of_finished_frames_from_the_start_of_work(capsys, clock):
    with ProgressDisplay(quiet=False) as progress:
        progress.begin()
        clock.now += 10  # in which many frames are under way
        for done in range(1, 41):
            progress.update(Progress(done, None))
        clock.now += 10
        progress.update(Progress(80, None))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "80 frames, 4.0 fps"


def test_first_frames_that_come_late_promise_nothing(capsys, clock):
    with ProgressDisplay(quiet=False) as progress:
        progress.begin()
        for done in (1, 41):
            clock.now += 20
            progress.update(Progress(done, 81))
    assert capsys.readouterr().err.splitlines() == [
        "1 of about 81 frames",
        "41 of about 81 frames, 1.0 fps, 39 s left",
    ]


def test_a_line_now_and_then_where_there_is_no_terminal(capsys, clock):
    with ProgressDisplay(quiet=False) as progress:
        for done in range(1, 31):
            clock.now += 1
            progress.update(Progress(done, 60))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "11 of about 60 frames, 1.0 fps, 49 s left",
        "21 of about 60 frames, 1.0 fps, 39 s left",
    ]


def test_time_to_the_first_frame_is_not_counted(capsys, clock):
    with ProgressDisplay(quiet=False) as progress:
        clock.now += 30
        progress.update(Progress(1, 60))
        clock.now += 10
        progress.update(Progress(21, 60))
    assert capsys.readouterr().err == "21 of about 60 frames, 2.0 fps, 20 s left\n"


def test_an_unknown_length(capsys, clock):
    with ProgressDisplay(quiet=False) as progress:
        clock.now += 20
        progress.update(Progress(10, None))
    assert capsys.readouterr().err == "10 frames, 0.5 fps\n"


def test_an_estimate_that_was_too_low(capsys, clock):
    with ProgressDisplay(quiet=False) as progress:
        clock.now += 20
        progress.update(Progress(70, 60))
    assert "0 s left" in capsys.readouterr().err


def test_quiet(capsys, clock):
    with ProgressDisplay(quiet=True) as progress:
        clock.now += 1000
        progress.update(Progress(1, 2))
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressDisplay(quiet=False) as progress:
        for done in range(1, 8):
            progress.update(Progress(done, 7))
    assert "7/7" in terminal.getvalue()
    assert "fps" in terminal.getvalue()


def test_no_bar_for_quiet_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with ProgressDisplay(quiet=True) as progress:
        progress.update(Progress(1, 7))
    assert terminal.getvalue() == ""


def test_a_bar_of_unknown_length_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressDisplay(quiet=False) as progress:
        progress.update(Progress(5, None))
    assert "5/?" in terminal.getvalue()


def test_json_has_options_in_messages_and_files_by_their_names(capsys):
    values = {
        "output": "`a`.mp4",
        "warnings": ["`gravity=estimate` helps"],
        "failed": [{"path": "`b`.mp4", "message": "`fps` 0: must be positive"}],
    }
    Console(False, False, True).result(values, "done")
    assert json.loads(capsys.readouterr().out) == {
        "output": "`a`.mp4",
        "warnings": ["--gravity estimate helps"],
        "failed": [{"path": "`b`.mp4", "message": "--fps 0: must be positive"}],
    }
