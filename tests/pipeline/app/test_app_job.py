"""One video or picture of the page."""

import re

import cv2
import numpy as np
import pytest
from fakes import FakeDetector, standing_at

from gridpose.core import InputError
from gridpose.pipeline import VideoOptions, read_pose_file
from gridpose.pipeline.app.job import Limits, run_job
from gridpose.pipeline.app.sessions import CancelledError
from gridpose.pipeline.video.ffmpeg import probe
from gridpose.visualize.look import Look

LIMITS = Limits(megabytes=1, seconds=2)


def two(frame):
    return [standing_at(120 + frame, 130, 80), standing_at(240, 130, 80)]


def no_one(frame):
    return []


@pytest.fixture(scope="module")
def video(tmp_path_factory, make_video):
    folder = tmp_path_factory.mktemp("uploads")
    return make_video(folder / "a % dance.mp4", frames=30, fps="25", size=(360, 240))


def run(upload, folder, lifter, script=two, limits=LIMITS, on_progress=lambda _: None):
    options = VideoOptions(
        detector=FakeDetector(script), lifter=lifter, look=Look(layout="overlay")
    )
    folder.mkdir(exist_ok=True)
    return run_job(upload, folder, options, limits, on_progress)


def test_everything_that_can_be_taken_home(video, tmp_path, lifter):
    told = []
    made = run(video, tmp_path / "job", lifter, on_progress=told.append)
    names = {file.name for file in made.files}
    suffixes = ("-3d.mp4", ".npz", ".json", ".csv", ".trc", ".c3d", ".glb", ".html", "-angles.csv")
    assert names >= {f"a _ dance{suffix}" for suffix in suffixes}
    assert {f"a _ dance_p{person}.bvh" for person in (1, 2)} <= names
    assert {file.name for file in (tmp_path / "job").iterdir()} == names
    assert all(file.stat().st_size for file in made.files)
    assert (made.frames, made.people, len(made.angles)) == (30, 2, 2)
    assert read_pose_file(tmp_path / "job" / "a _ dance.npz").meta["source"] == "a _ dance.mp4"
    frames = [each.done for each in told if each is not None]
    assert frames == sorted(frames)
    assert set(frames) - {0} == set(range(1, 31))
    assert told[-1] is None
    assert video.is_file()


def test_a_video_of_nobody(video, tmp_path, lifter):
    made = run(video, tmp_path / "job", lifter, no_one)
    assert {file.suffix for file in made.files} == {".mp4", ".npz", ".html"}
    assert made.angles == []
    (note,) = made.notes
    assert "nobody was found" in note


def test_a_picture(tmp_path, lifter):
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.full((240, 360, 3), 90, np.uint8))
    made = run(tmp_path / "photo.jpg", tmp_path / "job", lifter)
    assert made.drawn.name == "photo-3d.png"
    assert {".npz", ".glb", ".html"} <= {file.suffix for file in made.files}
    assert made.frames == 1


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(megabytes=0.001, seconds=9), r"has 0\.\d MB, and 0\.001 MB are allowed"),
        (Limits(megabytes=9, seconds=1), "is 1 s long, and 1 s are allowed here"),
    ],
)
def test_too_large_or_long(limits, message, video, tmp_path, lifter):
    with pytest.raises(InputError, match=message):
        run(video, tmp_path / "job", lifter, limits=limits)


def test_of_what_does_not_say_how_long_it_is_only_the_allowed_part_is_taken(
    video, tmp_path, lifter, make_video
):
    # As browsers record: to a pipe, so that the length is never filled in.
    piped = tmp_path / "recording.webm"
    make_video(piped, frames=50, size=(360, 240), codec="libvpx", args=("-live", "1", "-f", "webm"))
    assert probe(piped).duration is None
    told = []
    limits = Limits(megabytes=1, seconds=1)
    made = run(piped, tmp_path / "job", lifter, limits=limits, on_progress=told.append)
    assert made.frames == 25
    assert "only the first 1 s were taken: no more is allowed" in made.notes
    assert {each.total for each in told if each} == {None}


def test_a_recording_that_was_cut_is_no_share_of_what_is_allowed(tmp_path, lifter, make_video):
    piped = tmp_path / "recording.webm"
    make_video(piped, frames=50, size=(360, 240), codec="libvpx", args=("-live", "1", "-f", "webm"))
    piped.write_bytes(piped.read_bytes()[:-2000])
    made = run(piped, tmp_path / "job", lifter)
    (note,) = [note for note in made.notes if "damaged" in note]
    assert re.search(rf"damaged in places; {made.frames} frames decoded", note)


def test_a_broken_upload_is_called_by_its_name(tmp_path, lifter):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 999)
    with pytest.raises(InputError, match=r"broken\.mp4: "):
        run(broken, tmp_path / "job", lifter)
    with pytest.raises(InputError, match="please upload it again"):
        run(tmp_path / "gone.mp4", tmp_path / "job", lifter)


def test_what_progress_raises_ends_the_job_and_its_unfinished_files(video, tmp_path, lifter):
    def cancelled(how_far):
        if how_far.done == 5:
            raise CancelledError

    with pytest.raises(CancelledError):
        run(video, tmp_path / "job", lifter, on_progress=cancelled)
    assert [file.name for file in (tmp_path / "job").iterdir()] == ["a _ dance.mp4"]
