"""Numbered pictures, slow motion and addresses as sources."""

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from fakes import FakeDetector, standing_at

from gridpose.core import InputError, MissingError, UsageError
from gridpose.pipeline import VideoOptions, read_pose_file, run_video
from gridpose.pipeline.render import RenderOptions, render_poses
from gridpose.pipeline.video.ffmpeg import probe
from gridpose.pipeline.video.sequence import PictureSequence


@pytest.fixture
def pictures(tmp_path):
    """A folder with eight pictures whose grey level is ten times their number."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(8, 16):
        write(folder / f"shot2_{number}.png", number)
    return folder


def write(file, number, size=(96, 72)):
    cv2.imwrite(str(file), np.full((size[1], size[0], 3), 10 * number, np.uint8))


def numbers(frames):
    return [round(frame.image.mean() / 10) for frame in frames]


@pytest.mark.parametrize("name", ["", "shot2_%d.png", "shot2_%02d.png"])
def test_pictures_come_by_their_numbers(pictures, name):
    source = PictureSequence(pictures / name, fps=20)
    frames = list(source)
    assert numbers(frames) == list(range(8, 16))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(8) / 20)
    assert source.frames_expected == 8
    assert float(source.fps) == 20
    assert source.size == (96, 72)
    assert source.warnings == []


def test_start_end_and_stride(pictures):
    source = PictureSequence(pictures, fps=20, start=0.05, end=0.3, stride=2)
    frames = list(source)
    assert numbers(frames) == [9, 11, 13]
    assert [frame.time for frame in frames] == pytest.approx([0.05, 0.15, 0.25])
    assert float(source.fps) == 10


def test_a_missing_number_is_a_gap_in_time(pictures):
    (pictures / "shot2_10.png").unlink()
    frames = list(PictureSequence(pictures, fps=10))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_names_that_do_not_count_are_taken_one_by_one(tmp_path):
    for name in ("20260101", "20260215", "20260301"):
        write(tmp_path / f"{name}.png", 1)
    assert [f.time for f in PictureSequence(tmp_path, fps=4)] == [0, 0.25, 0.5]


def test_pictures_that_do_not_fit_are_left_out_and_told_of(pictures):
    (pictures / "shot2_9.png").write_bytes(b"no picture")
    write(pictures / "shot2_11.png", 11, (40, 30))
    source = PictureSequence(pictures)
    assert numbers(source) == [8, 10, 12, 13, 14, 15]
    assert len(source.warnings) == 2
    assert "shot2_9.png: not a picture" in source.warnings[0]
    assert "shot2_11.png: is 40x30, but the first picture is 96x72" in source.warnings[1]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("empty", "gridpose batch does all videos of one"),
        ("a_%04d.png", "there are no such pictures"),
        ("none/a_%04d.png", "there is no folder"),
    ],
)
def test_no_pictures(tmp_path, name, why):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=why):
        run_video(tmp_path / name, None)


def somebody(frame):
    return [standing_at(48 + frame, 36, 24)]


def run(source, output, lifter, **options):
    options = VideoOptions(detector=FakeDetector(somebody), lifter=lifter, **options)
    return run_video(source, output, options)


def test_a_video_of_pictures_and_drawing_it_again(pictures, tmp_path, lifter):
    output, poses = tmp_path / "out.mp4", tmp_path / "out.npz"
    result = run(pictures, output, lifter, fps=20, save_poses=(poses,))
    assert result.frames == 8
    assert probe(output).fps == 20
    tracks = read_pose_file(poses)
    assert tracks.fps == 20
    np.testing.assert_allclose(tracks.frame_time, np.arange(8) / 20)
    assert len(tracks.meta["source_sha256"]) == 64
    again = tmp_path / "again.mp4"
    render_poses(tracks, again, RenderOptions(video=pictures))
    assert probe(again).frames_announced == 8


def test_pictures_are_read_twice_where_somebody_is_selected(pictures, tmp_path, lifter):
    run(pictures, tmp_path / "out.mp4", lifter, select=("48,36",))
    assert probe(tmp_path / "out.mp4").frames_announced == 8


def test_a_rate_is_for_pictures_only(make_video, tmp_path, lifter):
    with pytest.raises(UsageError, match="true_fps"):
        run(make_video(tmp_path / "a.mp4"), None, lifter, fps=20)


@pytest.mark.parametrize("stride", [1, 2])
def test_slow_motion_is_measured_in_true_time_and_plays_as_before(
    make_video, tmp_path, lifter, stride
):
    video = make_video(tmp_path / "a.mp4", frames=12, fps="25", size=(96, 72))
    output, poses = tmp_path / "out.mp4", tmp_path / "out.npz"
    run(video, output, lifter, true_fps=200.0, stride=stride, save_poses=(poses,))
    tracks = read_pose_file(poses)
    assert tracks.fps == pytest.approx(200 / stride)
    np.testing.assert_allclose(tracks.frame_time, np.arange(0, 12, stride) / 200, atol=1e-4)
    played = probe(output)
    assert float(played.fps) == pytest.approx(25 / stride)
    assert played.duration == pytest.approx(12 / 25, abs=0.01)
    again = tmp_path / "again.mp4"
    render_poses(tracks, again, RenderOptions(video=video))
    assert probe(again).duration == pytest.approx(12 / 25, abs=0.01)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), 1e9])
def test_rates_that_make_no_sense(rate):
    for name in ("fps", "true_fps"):
        with pytest.raises(UsageError, match=name):
            VideoOptions(**{name: rate}).check()


ADDRESS = "https://example.org/watch?v=1"


def test_an_address_needs_yt_dlp(monkeypatch):
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(MissingError, match=r"https://example\.org.*pip install yt-dlp"):
        run_video(ADDRESS, None)


class Downloader:
    """In place of yt-dlp's: "downloads" a file that is there, or fails as it does."""

    video, error, folder = None, None, None

    def __init__(self, options):
        type(self).folder = options["outtmpl"].rpartition("/")[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def extract_info(self, address):
        if self.error is not None:
            raise self.error
        copy = f"{self.folder}/Dance [1].mp4"
        Path(copy).write_bytes(self.video.read_bytes())
        return {"requested_downloads": [{"filepath": copy}]}


class FakeError(Exception):
    pass


@pytest.fixture
def downloader(monkeypatch):
    utils = SimpleNamespace(YoutubeDLError=FakeError)
    monkeypatch.setitem(sys.modules, "yt_dlp", SimpleNamespace(YoutubeDL=Downloader, utils=utils))
    monkeypatch.setattr(Downloader, "error", None)
    return Downloader


def test_an_address_is_fetched_and_leaves_nothing_behind(
    make_video, tmp_path, lifter, downloader, monkeypatch
):
    monkeypatch.setattr(downloader, "video", make_video(tmp_path / "a.mp4", frames=4, audio=True))
    result = run(ADDRESS, tmp_path / "out.mp4", lifter)
    assert result.frames == 4
    assert result.meta["source"] == "Dance [1].mp4"
    assert probe(tmp_path / "out.mp4").audio_codec == "aac"
    assert not Path(downloader.folder).exists()


def test_what_cannot_be_fetched(downloader, monkeypatch):
    error = FakeError("ERROR: [generic] Unable to download\nmore")
    monkeypatch.setattr(downloader, "error", error)
    with pytest.raises(InputError, match=r"cannot be fetched \(\[generic\] Unable to download\)"):
        run_video(ADDRESS, None)
