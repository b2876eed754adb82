"""What the command line says of files that cannot be used, and what it leaves behind."""

import os
import random
import sys

import numpy as np
import pytest
from fakes import FakeDetector, standing_at
from media import decode, ffmpeg, packets

from gridpose.pipeline import VideoOptions, run_video
from gridpose.visualize import Look

WRONG_USAGE, BAD_INPUT, MISSING = 2, 3, 4
SMALL = Look(resolution=(320, 120))
"""What is drawn quickly."""


@pytest.fixture
def out(tmp_path):
    """An empty folder for results."""
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


@pytest.fixture
def video(make_video, tmp_path):
    return make_video(tmp_path / "in.mp4", frames=5)


def assert_one_clear_line(result, code, *words):
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "defect" not in line
    for word in words:
        assert word in line


def missing(tmp_path):
    return tmp_path / "nothing.mp4"


def folder(tmp_path):
    return tmp_path


def text(tmp_path):
    file = tmp_path / "text.mp4"
    file.write_text("It was a dark and stormy night.\n" * 50)
    return file


def empty(tmp_path):
    file = tmp_path / "empty.mp4"
    file.touch()
    return file


def zeros(tmp_path):
    file = tmp_path / "zeros.mp4"
    file.write_bytes(bytes(10_000))
    return file


def noise(tmp_path):
    file = tmp_path / "noise.mp4"
    file.write_bytes(random.Random(0).randbytes(10_000))
    return file


def truncated(tmp_path):
    whole = tmp_path / "whole.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:d=1", whole)
    file = tmp_path / "truncated.mp4"
    file.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    return file


def sound_only(tmp_path):
    file = tmp_path / "sound.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.5", file)
    return file


def sound_with_cover(tmp_path):
    cover, file = tmp_path / "cover.png", tmp_path / "song.mp3"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64", "-frames:v", "1", cover)
    ffmpeg(
        *("-f", "lavfi", "-i", "sine=d=0.5", "-i", cover, "-map", "0", "-map", "1"),
        *("-c:v", "png", "-disposition:v", "attached_pic", file),
    )
    return file


def no_frames(tmp_path):
    """An mp4 whose video track has its header and nothing else."""
    whole, file = tmp_path / "whole.mp4", tmp_path / "frameless.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:d=1", whole)
    ffmpeg("-i", whole, "-c", "copy", "-frames:v", "0", "-movflags", "+empty_moov", file)
    return file


def playlist(tmp_path):
    file = tmp_path / "list.m3u8"
    file.write_text("#EXTM3U\n#EXTINF:9,\nhttps://example.org/a.ts\n#EXT-X-ENDLIST\n")
    return file


def name_too_long(tmp_path):
    return tmp_path / ("x" * 300 + ".mp4")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing, "no such file"),
        (folder, "is a folder"),
        (text, "not a video file"),
        (empty, "is empty"),
        (zeros, "not a video file"),
        (noise, "not a video file"),
        (truncated, "moov atom not found"),
        (sound_only, "no video in it"),
        (sound_with_cover, "no video in it"),
        (no_frames, "frame"),
        (playlist, "not a video file"),
        (name_too_long, "name too long"),
    ],
)
def test_inputs_that_are_no_videos(make, words, tmp_path, out, invoke):
    source = make(tmp_path)
    result = invoke("video", source, "-o", out / "out.mp4")
    assert_one_clear_line(result, BAD_INPUT, str(source), words)
    assert list(out.iterdir()) == []


def test_a_start_after_the_end_of_the_video(video, out, invoke, fake_detector):
    result = invoke("video", video, "-o", out / "out.mp4", "--start", 9, "--quiet")
    assert_one_clear_line(result, BAD_INPUT, str(video), "no frames from second 9")
    assert list(out.iterdir()) == []


def test_a_missing_output_folder(video, out, invoke):
    result = invoke("video", video, "-o", out / "no" / "out.mp4")
    assert_one_clear_line(result, MISSING, str(out / "no"), "no such folder")
    assert list(out.iterdir()) == []


def test_an_output_below_a_file(video, out, invoke):
    (out / "file").write_text("mine")
    result = invoke("video", video, "-o", out / "file" / "out.mp4")
    assert_one_clear_line(result, MISSING, str(out / "file"), "no such folder")
    assert (out / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, where nobody can make files")
def test_a_folder_that_cannot_be_written_to(video, invoke):
    result = invoke("video", video, "-o", "/proc/out.mp4")
    assert_one_clear_line(result, MISSING, "/proc/out.mp4", "cannot be written")


def test_an_output_name_that_is_too_long(video, out, invoke):
    result = invoke("video", video, "-o", out / ("x" * 300 + ".mp4"))
    assert_one_clear_line(result, MISSING, "name too long")


@pytest.mark.parametrize("what", ["output", "poses"])
def test_existing_results_are_safe(video, out, invoke, what):
    mine = out / ("out.mp4" if what == "output" else "out.npz")
    mine.write_bytes(b"mine")
    result = invoke("video", video, "-o", out / "out.mp4", "--save-poses", out / "out.npz")
    assert_one_clear_line(result, WRONG_USAGE, str(mine), "--overwrite")
    assert mine.read_bytes() == b"mine"
    assert [entry.name for entry in out.iterdir()] == [mine.name]


def test_existing_results_are_replaced_when_asked(video, out, invoke, fake_detector):
    for name in ("out.mp4", "out.npz"):
        (out / name).write_bytes(b"old")
    options = ["-o", out / "out.mp4", "--save-poses", out / "out.npz"]
    result = invoke("video", video, *options, "--overwrite")
    assert result.exit_code == 0, result.output
    assert len(packets(out / "out.mp4")[1]) == 5
    with np.load(out / "out.npz") as poses:
        assert poses["present"].shape == (0, 5)
    assert sorted(entry.name for entry in out.iterdir()) == ["out.mp4", "out.npz"]


def test_an_output_that_is_a_folder(video, out, invoke):
    (out / "out.mp4").mkdir()
    result = invoke("video", video, "-o", out / "out.mp4", "--overwrite")
    assert_one_clear_line(result, WRONG_USAGE, str(out / "out.mp4"), "folder")


@pytest.mark.parametrize("through", ["itself", "a link", "another spelling"])
def test_an_output_that_is_the_input(video, out, invoke, through):
    before = video.read_bytes()
    output = video
    if through == "a link":
        output = out / "link.mp4"
        try:
            output.symlink_to(video)
        except OSError:
            pytest.skip("no symbolic links here")
    elif through == "another spelling":
        output = out / ".." / video.name
    result = invoke("video", video, "-o", output, "--overwrite")
    assert_one_clear_line(result, WRONG_USAGE, "the input itself")
    assert video.read_bytes() == before


@pytest.mark.parametrize("name", ["out.avi", "out", "out.mp4.txt", "out.png", "out.npz"])
def test_an_output_of_another_kind(video, out, invoke, name):
    result = invoke("video", video, "-o", out / name)
    assert_one_clear_line(result, WRONG_USAGE, str(out / name), ".mp4")
    assert list(out.iterdir()) == []


def test_poses_of_another_kind(video, out, invoke):
    result = invoke("video", video, "-o", out / "out.mp4", "--save-poses", out / "out.xlsx")
    assert_one_clear_line(result, WRONG_USAGE, str(out / "out.xlsx"), ".npz")


@pytest.mark.parametrize(
    "options",
    [
        ["--start", "-1"],
        ["--start", "2", "--end", "1"],
        ["--fov", "1"],
        ["--fov", "179"],
        ["--device", "abacus"],
        ["--precision", "fp16", "--device", "cpu"],
    ],
)
def test_options_that_cannot_be(video, out, invoke, fake_detector, options):
    result = invoke("video", video, "-o", out / "out.mp4", "--quiet", *options)
    assert_one_clear_line(result, WRONG_USAGE, options[0])
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("made", ["missing", "text"])
def test_a_lifter_that_is_none(video, out, invoke, fake_detector, tmp_path, made):
    lifter = tmp_path / "lifter.safetensors"
    if made == "text":
        lifter.write_text("not weights")
    result = invoke("video", video, "-o", out / "out.mp4", "--lifter", lifter, "--quiet")
    assert_one_clear_line(result, BAD_INPUT, str(lifter))
    assert list(out.iterdir()) == []


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "in.png"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x120", "-frames:v", "1", file)
    return file


def test_a_picture_does_not_become_a_video(picture, out, invoke):
    result = invoke("video", picture, "-o", out / "out.mp4")
    assert_one_clear_line(result, WRONG_USAGE, str(out / "out.mp4"), ".png")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_a_broken_picture(picture, out, invoke, damage):
    data = {"text": b"no picture", "cut": picture.read_bytes()[:60], "empty": b""}[damage]
    picture.write_bytes(data)
    result = invoke("video", picture, "-o", out / "out.png")
    assert_one_clear_line(result, BAD_INPUT, str(picture))
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_becomes_a_picture(picture, out, invoke, fake_detector, suffix):
    fake_detector.script = lambda index: [standing_at(80, 50, 40)]
    output = out / f"out{suffix}"
    result = invoke("video", picture, "-o", output)
    assert result.exit_code == 0, result.output
    assert "1 people" in result.stdout
    _, log = ffmpeg("-i", output, check=False)
    assert ("png" if suffix == ".png" else "mjpeg") in log
    assert [entry.name for entry in out.iterdir()] == [output.name]


def damaged(make_video, tmp_path, suffix):
    """Whole at first, with many wrong bytes in the last third of its pictures."""
    args = ["-g", "10", "-movflags", "+faststart"] if suffix == ".mp4" else ["-g", "10"]
    file = make_video(tmp_path / f"damaged{suffix}", frames=60, size=(160, 120), args=args)
    data = bytearray(file.read_bytes())
    for at in range(len(data) * 2 // 3, len(data), 97):
        data[at] ^= 0xFF
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_video_damaged_near_its_end_is_used_as_far_as_it_goes(
    make_video, tmp_path, out, lifter, suffix
):
    source = damaged(make_video, tmp_path, suffix)
    detector = FakeDetector(lambda index: [standing_at(80, 50, 40)])
    result = run_video(
        source,
        out / "out.mp4",
        # Damaged times may jump, so that somebody new is there for a moment.
        VideoOptions(detector=detector, lifter=lifter, persons="everyone", audio=False, look=SMALL),
    )
    (warning,) = result.warnings
    assert str(source) in warning
    assert "damaged" in warning
    assert 40 <= result.frames <= 61
    assert len(packets(out / "out.mp4")[1]) >= 40
    assert result.poses.present.any(0).mean() > 0.8


def test_a_damaged_video_succeeds_with_a_warning(make_video, tmp_path, out, invoke, fake_detector):
    source = damaged(make_video, tmp_path, ".mp4")
    result = invoke("video", source, "-o", out / "out.mp4", "--quiet")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert any(
        line.startswith(f"warning: {source}: damaged") for line in result.stderr.splitlines()
    )
    assert [entry.name for entry in out.iterdir()] == ["out.mp4"]


def test_a_video_without_its_end_is_used_as_far_as_it_goes(make_video, tmp_path, out, lifter):
    source = make_video(tmp_path / "cut.mkv", frames=60, size=(160, 120))
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    result = run_video(
        source, out / "out.mp4", VideoOptions(detector=FakeDetector(), lifter=lifter, look=SMALL)
    )
    assert 20 < result.frames < 60
    assert any("damaged" in warning for warning in result.warnings)


def test_nobody_in_a_video_is_a_warning(video, out, invoke, fake_detector):
    result = invoke("video", video, "-o", out / "out.mp4")
    assert result.exit_code == 0
    assert f"warning: {video}: nobody was found" in result.stderr
    assert decode(out / "out.mp4", probe_size(out / "out.mp4")).shape[0] == 5


def probe_size(file):
    from gridpose.pipeline.video.ffmpeg import probe

    info = probe(file)
    return info.width, info.height


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_block(tmp_path, out, invoke):
    os.mkfifo(tmp_path / "pipe.mp4")
    result = invoke("video", tmp_path / "pipe.mp4", "-o", out / "out.mp4")
    assert_one_clear_line(result, BAD_INPUT, str(tmp_path / "pipe.mp4"), "not a regular file")


def test_a_full_disk_is_something_missing(video, out, invoke, fake_detector, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gridpose.storage.os.replace", full)
    options = ["-o", out / "out.mp4", "--save-poses", out / "out.npz", "--quiet"]
    result = invoke("video", video, *options)
    assert_one_clear_line(result, MISSING, str(out / "out.mp4"), "No space left")
    assert list(out.iterdir()) == []
