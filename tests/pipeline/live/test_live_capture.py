import threading
import time
from itertools import islice

import numpy as np
import pytest

from gridpose.core import InputError, MissingError, UsageError
from gridpose.pipeline.live.capture import Capture, delays
from gridpose.pipeline.live.feed import camera_number, open_feed, without_password
from gridpose.pipeline.live.options import LiveOptions, parse_target

PATIENCE = 20.0


class Feed:
    """Gives pictures of rising grey, then none; ``gate`` holds it before every picture."""

    fps = 30.0

    def __init__(self, pictures=(), ends=False, gate=None, error=None):
        self.pictures, self.ends, self.gate, self.error = list(pictures), ends, gate, error
        self.closed = False

    def read(self):
        if self.gate is not None:
            self.gate.acquire()
        if self.pictures:
            return np.full((48, 64, 3), self.pictures.pop(0), np.uint8)
        if self.error is not None:
            raise self.error
        return None

    def close(self):
        self.closed = True


def opening(*answers):
    """Opens one after the other; raises those that are errors."""
    left = list(answers)

    def open_one():
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return open_one


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_newest_picture_wins_and_the_others_are_counted():
    gate = threading.Semaphore(5)
    feed = Feed(range(1, 8), ends=True, gate=gate)
    with Capture("it", opening(feed), print) as capture:
        capture.start()
        until(lambda: len(feed.pictures) == 2 and capture.dropped == 4)
        assert capture.newest(PATIENCE).image[0, 0, 0] == 5
        assert capture.newest(0.01) is None
        assert not capture.ended
        gate.release()
        assert capture.newest(PATIENCE).image[0, 0, 0] == 6
        gate.release(2)
        until(lambda: capture.ended)
        assert capture.newest(PATIENCE).image[0, 0, 0] == 7
        assert capture.newest(PATIENCE) is None
    assert capture.dropped == 4
    assert feed.closed


def test_what_is_lost_is_opened_again_until_pictures_come():
    said, lost = [], Feed([1])
    silent = Feed()
    back = Feed([2], gate=threading.Semaphore(1))
    feeds = opening(lost, MissingError("unplugged"), MissingError("unplugged"), silent, back)
    with Capture("camera 0", feeds, said.append, first_delay=0.01) as capture:
        capture.start()
        assert capture.newest(PATIENCE).image[0, 0, 0] == 1
        assert capture.newest(PATIENCE).image[0, 0, 0] == 2
        until(lambda: len(said) == 2)
        assert said == [
            "camera 0: gives no pictures any more; trying to get it back",
            "camera 0: is back",
        ]
        assert capture.trouble == ""
        assert lost.closed
        assert silent.closed
        back.gate.release()


def test_tries_become_ever_more_seldom():
    assert list(islice(delays(), 7)) == [0.5, 1, 2, 4, 8, 8, 8]


def test_what_cannot_be_opened_at_first_is_an_error():
    with pytest.raises(MissingError, match="busy"):
        Capture("it", opening(MissingError("busy")), print)


def test_an_error_of_the_feed_reaches_whoever_asks():
    feed = Feed([1], ends=True, error=InputError("no video"))
    with Capture("it", opening(feed), print) as capture:
        capture.start()
        until(lambda: capture.ended)
        assert capture.newest(PATIENCE) is not None
        with pytest.raises(InputError, match="no video"):
            capture.newest(PATIENCE)
    assert feed.closed


def test_a_file_is_played_in_real_time(make_video, tmp_path):
    feed = open_feed(str(make_video(tmp_path / "clip.mp4", frames=10, fps="20")))
    began = time.monotonic()
    pictures = []
    while (picture := feed.read()) is not None:
        pictures.append(picture)
    feed.close()
    assert feed.ends
    assert feed.fps == 20
    assert len(pictures) == 10
    assert pictures[0].shape == (48, 64, 3)
    assert time.monotonic() - began > 0.44  # nine twentieths from the first to the last


def test_sources():
    assert camera_number("0") == 0
    assert camera_number("/dev/video12") == 12
    assert camera_number("rtsp://10.0.0.2/1") is None
    assert camera_number("clip.mp4") is None
    assert without_password("rtsp://me:secret@host/1") == "rtsp://host/1"


def test_what_is_not_there_is_told_in_one_sentence(tmp_path):
    with pytest.raises(MissingError, match=r"camera"):
        open_feed("/dev/video97")
    with pytest.raises(InputError, match="no such file"):
        open_feed(str(tmp_path / "clip.mp4"))
    with pytest.raises(InputError, match=r"^http://127.0.0.1:9/x: no stream"):
        open_feed("http://me:secret@127.0.0.1:9/x")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("9000", ("127.0.0.1", 9000)),
        ("10.0.0.2:9000", ("10.0.0.2", 9000)),
        ("[::1]:9000", ("::1", 9000)),
    ],
)
def test_targets_are_on_this_machine_unless_another_is_named(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", ":9000", "host", "host:", "host:0", "70000", "host:-1"])
def test_what_is_no_target_is_refused(text):
    with pytest.raises(UsageError, match="PORT"):
        parse_target(text)


@pytest.mark.parametrize(
    "options",
    [
        {"fov": 200},
        {"duration": 0},
        {"give_up": float("nan")},
        {"max_persons": 0},
        {"port": 70000},
        {"udp": "x"},
        {"osc": "x:y"},
        {"record": "out.avi"},
        {"save_poses": "out.csv"},
    ],
)
def test_impossible_options_are_refused(options, tmp_path):
    for name in ("record", "save_poses"):
        if name in options:
            options[name] = tmp_path / options[name]
    with pytest.raises(UsageError):
        LiveOptions(**options).check()
