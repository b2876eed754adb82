import io
import json
import threading
import time

import numpy as np
import pytest
from fakes import FakeDetector, standing_at
from media import streams

from gridpose.core import InputError, MissingError, UsageError
from gridpose.pipeline import read_pose_file
from gridpose.pipeline.live.controls import Controls
from gridpose.pipeline.live.options import LiveOptions
from gridpose.pipeline.live.run import run_live
from gridpose.pipeline.live.session import fitted

SIZE = (160, 120)
SHOWN = "320x240"


class Camera:
    """So many pictures a hundredth of a second apart, then it is unplugged."""

    fps, ends = 25.0, False

    def __init__(self, pictures, size=SIZE):
        self.left, self.size = pictures, size

    def read(self):
        time.sleep(0.01)
        self.left -= 1
        return np.full((self.size[1], self.size[0], 3), 60, np.uint8) if self.left >= 0 else None

    def close(self):
        self.left = 0


class Lines(io.StringIO):
    """Calls ``at(number)`` of each line before it is written."""

    def __init__(self, at):
        super().__init__()
        self.at, self.number = at, 0

    def write(self, text):
        if text.startswith("{"):
            self.number += 1
            self.at(self.number)
        return super().write(text)

    def values(self):
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def cameras(monkeypatch):
    """``cameras(one, another, ...)``: what is opened in turn; an error is raised."""

    def plug(*them):
        left = list(them)

        def open_feed(source):
            one = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(one, Exception):
                raise one
            return one

        monkeypatch.setattr("gridpose.pipeline.live.run.open_feed", open_feed)

    return plug


@pytest.fixture
def options(frame_lifter, tmp_path):
    """``options(...)``: of a session with a fake detector that sees somebody, not shown."""
    from gridpose.visualize.look import Look, parse_resolution

    def make(**more):
        detector = FakeDetector(lambda index: [standing_at(80, 60, 50)])
        look = Look(resolution=parse_resolution(SHOWN), layout=more.pop("layout", "side-by-side"))
        kept = {"record": tmp_path / "out.mp4", "save_poses": tmp_path / "out.npz"}
        more = {"serve": False, "duration": 60, **kept, **more}
        return LiveOptions(detector=detector, lifter=frame_lifter, look=look, **more)

    return make


@pytest.fixture(autouse=True)
def without_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)


def whole(options, frames):
    """Whether the files of a session have all of it."""
    tracks = read_pose_file(options.save_poses)
    assert "h264" in streams(options.record)[0]
    assert SHOWN in streams(options.record)[0]
    assert len(tracks.frame_time) == frames
    assert (np.diff(tracks.frame_time) > 0).all()
    return tracks


def test_a_file_is_shown_told_and_kept(make_video, tmp_path, options):
    file = make_video(tmp_path / "clip.mp4", frames=15, fps="15", size=SIZE)
    chosen, lines, said = options(), Lines(lambda _: None), []
    result = run_live(str(file), chosen, say=said.append, lines=lines)
    told = lines.values()
    assert result.frames == len(told) > 0
    assert result.frames + result.dropped == 15
    tracks = whole(chosen, result.frames)
    np.testing.assert_allclose(tracks.frame_time, [line["time"] for line in told], atol=1e-3)
    assert tracks.track_id.tolist() == [1]
    assert tracks.present.all()
    np.testing.assert_allclose(
        tracks.poses_world[0, -1], told[-1]["people"][0]["pose_world"], atol=1e-3
    )
    assert result.files == [str(chosen.record), str(chosen.save_poses)]
    assert f"written: {chosen.record}" in said
    assert tracks.meta["detector"]["name"] == "fake"


def test_a_camera_that_comes_back_goes_on_in_the_same_recording(cameras, options):
    cameras(Camera(10), MissingError("unplugged"), Camera(400, (120, 160)))
    controls = Controls()

    def stop_later(number):
        if "is back" in "".join(said) and len(after := lines.values()) > 0:
            controls.quit = after[-1]["time"] - resumed[0] > 0.1 if resumed else False
            resumed.append(after[-1]["time"])

    said, resumed, lines = [], [], Lines(stop_later)
    chosen = options()
    result = run_live("0", chosen, say=said.append, lines=lines, controls=controls)
    assert [text for text in said if text.startswith("camera 0: ")] == [
        "camera 0: gives no pictures any more; trying to get it back",
        "camera 0: is back",
    ]
    tracks = whole(chosen, result.frames)
    assert np.diff(tracks.frame_time).max() > 1  # half a second and a second were waited
    assert tracks.image_size == SIZE


def test_it_gives_up_if_told_so_and_keeps_what_there_is(cameras, options):
    cameras(Camera(5), MissingError("unplugged"))
    chosen, lines = options(give_up=0.3), Lines(lambda _: None)
    with pytest.raises(InputError, match=r"`give_up=0.3`"):
        run_live("0", chosen, lines=lines)
    whole(chosen, len(lines.values()))


@pytest.mark.parametrize("error", [BrokenPipeError, KeyboardInterrupt, MissingError])
def test_whatever_ends_it_the_files_are_whole(cameras, options, error):
    def fail(number):
        if number == 5:
            raise error

    cameras(Camera(1000))
    chosen = options()
    with pytest.raises(error):
        run_live("0", chosen, lines=Lines(fail))
    assert len(read_pose_file(chosen.save_poses).frame_time) == 4
    assert "h264" in streams(chosen.record)[0]


def test_a_pause_is_a_pause(cameras, options):
    controls = Controls()

    def pause(number):
        if number == 3:
            controls.press(" ")
            threading.Timer(0.7, lambda: controls.press(" ")).start()
        controls.quit = number == 6

    cameras(Camera(1000))
    chosen = options()
    run_live("0", chosen, lines=Lines(pause), controls=controls)
    times = whole(chosen, 6).frame_time
    assert times[-1] < 60
    assert np.diff(times).max() < 0.6


def test_layouts_change_but_not_the_size_of_the_video(cameras, options):
    controls = Controls()

    def switch(number):
        controls.press("l")
        controls.quit = number == 6

    cameras(Camera(1000))
    chosen = options(layout="overlay", save_poses=None)
    run_live("0", chosen, lines=Lines(switch), controls=controls)
    assert controls.layout == "skeleton"
    assert SHOWN in streams(chosen.record)[0]


def test_it_ends_after_a_while_and_leaves_no_file_of_nothing(cameras, options):
    class Nothing(Camera):
        def read(self):
            time.sleep(0.05)

    cameras(Nothing(0))
    chosen = options(duration=0.2)
    result = run_live("0", chosen)
    assert result.frames == 0
    assert result.files == []
    assert not chosen.record.exists()
    assert not chosen.save_poses.exists()


def test_without_a_display_it_is_a_page(cameras, options):
    controls, said = Controls(), []

    def end(text):
        said.append(text)

    cameras(Camera(1000))
    run_live("0", options(serve=None, port=0, duration=0.3), say=end, controls=controls)
    assert "no display" in said[0]
    assert said[1].startswith("open http://127.0.0.1:")


def test_files_that_exist_stay(cameras, options):
    cameras(Camera(1000))
    chosen = options()
    chosen.record.write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        run_live("0", chosen)
    assert chosen.record.read_text() == "precious"


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (400, 100)])
def test_pictures_of_another_size_are_fitted(size):
    image = fitted(np.full((size[1], size[0], 3), 200, np.uint8), (80, 60))
    assert image.shape == (60, 80, 3)
    bright = image[..., 0] > 0
    height, width = bright.any(1).sum(), bright.any(0).sum()
    assert width == 80 or height == 60
    assert abs(width / height - size[0] / size[1]) < 0.1
