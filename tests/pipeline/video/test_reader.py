import os
import signal
import sys
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from media import children, decode, ffmpeg

from gridpose.core import InputError, MissingError
from gridpose.pipeline.video import ffmpeg as ffmpeg_module
from gridpose.pipeline.video.ffmpeg import probe
from gridpose.pipeline.video.reader import VideoReader, read_image

RED, BLACK = (253, 0, 0), (0, 0, 0)
MARKER = "drawbox=x=0:y=0:w=16:h=16:color=red:thickness=fill"
"""A red square in the upper left corner, for use on black."""

needs_proc = pytest.mark.skipif(
    sys.platform != "linux", reason="child processes are looked up in /proc"
)


def read(file, **options):
    with VideoReader(file, **options) as reader:
        return reader, list(reader)


def times_of(frames):
    return [frame.time for frame in frames]


def is_near(pixel, colour):
    return np.abs(pixel.astype(int) - colour).max() < 30


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov", ".avi", ".ts"])
@pytest.mark.parametrize("fps", ["30000/1001", "24000/1001", "25", "60"])
def test_every_frame_at_its_time(make_video, tmp_path, fps, suffix):
    file = make_video(tmp_path / f"a{suffix}", frames=12, fps=fps)
    reader, frames = read(file)
    assert reader.fps == Fraction(fps)
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose(times_of(frames), np.arange(12) / float(Fraction(fps)), atol=1e-3)
    assert reader.warnings == []


def test_the_estimate_of_frames(make_video, tmp_path):
    reader, frames = read(make_video(tmp_path / "a.mp4", frames=31, fps="30000/1001"))
    assert reader.frames_expected == len(frames) == 31


def test_pixels_are_those_of_the_video(make_video, tmp_path):
    file = make_video(tmp_path / "a.mkv", frames=5, size=(96, 64), codec="ffv1", pix_fmt="bgr0")
    _, frames = read(file)
    assert frames[0].image.dtype == np.uint8
    np.testing.assert_array_equal([frame.image for frame in frames], decode(file, (96, 64)))


@pytest.mark.parametrize(
    ("colour", "rgb"), [("red", RED), ("lime", (0, 255, 0)), ("blue", (0, 0, 255))]
)
def test_channels_are_red_green_blue(make_video, tmp_path, colour, rgb):
    file = make_video(
        tmp_path / "a.mp4",
        source="color",
        filters=[f"drawbox=w=iw:h=ih:color={colour}:thickness=fill"],
        frames=1,
    )
    _, (frame,) = read(file)
    assert is_near(frame.image[20, 30], rgb)


@pytest.mark.parametrize("size", [(321, 241), (320, 241), (321, 240), (65, 3)])
def test_odd_sizes(make_video, tmp_path, size):
    file = make_video(tmp_path / "a.mkv", size=size, frames=3, codec="ffv1")
    reader, frames = read(file)
    assert reader.size == size
    np.testing.assert_array_equal([frame.image for frame in frames], decode(file, size))


@pytest.mark.parametrize(
    ("degrees", "size", "row", "column"),
    [
        (90, (48, 64), slice(48, 64), slice(0, 16)),  # counter-clockwise: lower left
        (180, (64, 48), slice(32, 48), slice(48, 64)),
        (-90, (48, 64), slice(0, 16), slice(32, 48)),
    ],
)
def test_rotated_as_players_show_it(make_video, tmp_path, degrees, size, row, column):
    flat = make_video(tmp_path / "flat.mp4", source="color", filters=[MARKER])
    file = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", degrees, "-i", flat, "-c", "copy", file)
    reader, frames = read(file)
    assert reader.size == size
    image = frames[0].image
    assert image.shape == (size[1], size[0], 3)
    red = image[..., 0] > 120
    assert red[row, column].mean() > 0.9
    assert red.sum() < 16 * 16 * 1.2


def test_pixels_that_are_not_square(make_video, tmp_path):
    file = make_video(
        tmp_path / "a.mp4", source="color", filters=[MARKER, "setsar=2/1"], size=(64, 48)
    )
    reader, frames = read(file)
    assert reader.size == (128, 48)
    red = frames[0].image[..., 0] > 120
    assert red[2:14, 2:30].all()
    assert not red[:, 36:].any()


def test_pixels_that_are_not_square_in_a_rotated_video(make_video, tmp_path):
    flat = make_video(tmp_path / "flat.mp4", filters=["setsar=2/1"], size=(64, 48))
    file = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", 90, "-i", flat, "-c", "copy", file)
    reader, frames = read(file)
    width, height = reader.size
    assert width / height == pytest.approx(48 / 128, rel=0.02)
    assert frames[0].image.shape == (height, width, 3)


def test_variable_rate_keeps_presentation_times(make_video, tmp_path):
    kept = [n for n in range(60) if n % 5 != 2 and n % 7 != 3]
    file = make_video(
        tmp_path / "a.mkv",
        frames=len(kept),
        fps="30",
        filters=["select=not(eq(mod(n\\,5)\\,2))*not(eq(mod(n\\,7)\\,3))"],
        args=["-fps_mode", "vfr"],
    )
    reader, frames = read(file)
    np.testing.assert_allclose(times_of(frames), np.array(kept) / 30, atol=1e-3)
    assert reader.warnings == []


JITTER = [round(1000 * n / 30) + n * n * 7919 % 29 for n in range(60)]
"""Milliseconds of frames as a busy telephone or browser stamps them."""


def jittery(make_video, file, **options):
    return make_video(
        file,
        frames=len(JITTER),
        fps="30",
        filters=["settb=1/1000", "setpts=floor(N*1000/30+0.5)+mod(N*N*7919\\,29)"],
        args=["-fps_mode", "passthrough", "-enc_time_base", "1/1000"],
        **options,
    )


def test_irregular_times_are_no_damage(make_video, tmp_path):
    reader, frames = read(jittery(make_video, tmp_path / "a.mkv"))
    np.testing.assert_allclose(times_of(frames), np.array(JITTER) / 1000, atol=1.1e-3)
    assert len({f.time for f in frames}) == len(frames)
    assert reader.warnings == []


def without_stated_rate(file):
    """Void the DefaultDuration of a Matroska file: browsers do not write one."""
    data = file.read_bytes()
    at = data.index(b"\x23\xe3\x83")
    length = 4 + (data[at + 3] & 0x7F)
    file.write_bytes(
        data[:at] + bytes([0xEC, 0x80 | (length - 2)]) + bytes(length - 2) + data[at + length :]
    )
    return file


def test_rate_of_a_video_that_states_only_its_clock(make_video, tmp_path):
    file = without_stated_rate(jittery(make_video, tmp_path / "a.webm", codec="libvpx"))
    reader, frames = read(file)
    assert reader.info.time_base == Fraction(1, 1000)
    assert 29 < reader.fps < 31
    np.testing.assert_allclose(times_of(frames), np.array(JITTER) / 1000, atol=1.1e-3)


def test_one_timestamp_far_ahead_does_not_stop_the_clock(make_video, tmp_path):
    file = make_video(tmp_path / "a.mkv", frames=20, args=["-g", "50", "-bf", "0"])
    data = file.read_bytes()
    block = b"\x81" + (400).to_bytes(2, "big") + b"\0"  # track 1, 400 ms, no flags
    assert data.count(block) == 1
    file.write_bytes(data.replace(block, b"\x81" + (20000).to_bytes(2, "big") + b"\0"))
    _, frames = read(file)
    times = times_of(frames)
    np.testing.assert_allclose(times[:11], [*np.arange(10) / 25, 20], atol=1e-3)
    np.testing.assert_allclose(np.diff(times[10:]), 1 / 25, atol=1e-3)


def test_high_rates_that_are_true_are_believed(make_video, tmp_path):
    reader, frames = read(make_video(tmp_path / "a.avi", fps="240", frames=24, codec="mpeg4"))
    assert reader.info.time_base == Fraction(1, 240)
    assert reader.fps == 240
    assert len(frames) == 24


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts", ".mpg", ".h264"])
def test_start_and_end(make_video, tmp_path, suffix):
    file = make_video(tmp_path / f"a{suffix}", frames=50, args=["-g", "50"])
    _, everything = read(file)
    _, some = read(file, start=0.6, end=1.2)
    np.testing.assert_allclose(times_of(some), np.arange(15, 30) / 25, atol=1e-3)
    for frame, expected in zip(some, everything[15:30], strict=True):
        np.testing.assert_array_equal(frame.image, expected.image)


def test_stride(make_video, tmp_path):
    file = make_video(tmp_path / "a.mp4", frames=20, fps="30")
    _, everything = read(file)
    reader, some = read(file, stride=3)
    assert reader.fps == 10
    assert [frame.index for frame in some] == list(range(7))
    np.testing.assert_allclose(times_of(some), np.arange(0, 20, 3) / 30, atol=1e-3)
    for frame, expected in zip(some, everything[::3], strict=True):
        np.testing.assert_array_equal(frame.image, expected.image)


def test_start_and_stride_count_from_the_start(make_video, tmp_path):
    file = make_video(tmp_path / "a.mp4", frames=50)
    _, frames = read(file, start=0.2, end=1.0, stride=4)
    np.testing.assert_allclose(times_of(frames), np.arange(5, 25, 4) / 25, atol=1e-3)


def test_times_start_at_zero_whatever_the_container_counts_from(make_video, tmp_path):
    file = make_video(tmp_path / "a.mp4", args=["-output_ts_offset", "100"], frames=3)
    _, frames = read(file)
    np.testing.assert_allclose(times_of(frames), np.arange(3) / 25, atol=1e-3)


def test_a_start_after_the_end_is_told_as_such(make_video, tmp_path):
    file = make_video(tmp_path / "a.mp4", frames=25)
    with pytest.raises(InputError, match=r"a\.mp4: no frames from second 5; it is 1 s long"):
        read(file, start=5)


@pytest.mark.parametrize(
    "name",
    [
        "a b.mp4",
        'it\'s "quoted".mp4',
        "-y.mp4",
        "at 10:30.mp4",
        "two\nlines.mp4",
        "日本語 é 🙂.mp4",
        "concat:a.mp4|b.mp4",
        "100%d.mp4",
        "back\\slash.mp4",
        "[a-z]*?.mp4",
        "pipe:0",
        "-",
    ],
)
def test_strange_file_names(make_video, tmp_path, monkeypatch, name):
    plain = make_video(tmp_path / "plain.mp4", frames=2)
    (tmp_path / "in").mkdir()
    plain.rename(tmp_path / "in" / name)
    monkeypatch.chdir(tmp_path / "in")
    reader, frames = read(type(plain)(name))  # relative, as a user types it
    assert len(frames) == 2
    assert reader.warnings == []


def test_a_playlist_fetches_nothing_from_the_network(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        playlist = tmp_path / "list.m3u8"
        playlist.write_text(
            "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n"
            f"http://127.0.0.1:{server.getsockname()[1]}/x.ts\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(InputError, match=r"list\.m3u8"):
            VideoReader(playlist)
        with pytest.raises(TimeoutError):
            server.accept()


@needs_proc
def test_close_in_the_middle_ends_the_child(make_video, tmp_path):
    file = make_video(tmp_path / "close-me.mp4", frames=300, size=(320, 240))
    reader = VideoReader(file)
    frames = iter(reader)
    next(frames)
    assert [line for _, line in children(os.getpid()) if "close-me" in line]
    reader.close()
    assert len(list(frames)) < 299
    assert not [line for _, line in children(os.getpid()) if "close-me" in line]
    assert reader.warnings == []


@needs_proc
def test_an_iteration_given_up_ends_the_child(make_video, tmp_path):
    file = make_video(tmp_path / "give-up.mp4", frames=300, size=(320, 240))
    frames = iter(VideoReader(file))
    next(frames)
    frames.close()
    assert not [line for _, line in children(os.getpid()) if "give-up" in line]


@needs_proc
def test_close_ends_an_iteration_in_another_thread(make_video, tmp_path):
    file = make_video(tmp_path / "a.mp4", frames=300, size=(320, 240))
    reader, under_way, count = VideoReader(file), threading.Event(), []

    def consume():
        for frame in reader:
            count.append(frame.index)
            under_way.set()
            time.sleep(0.02)

    thread = threading.Thread(target=consume)
    thread.start()
    assert under_way.wait(10)
    reader.close()
    thread.join(5)
    assert not thread.is_alive()
    assert len(count) < 300


@needs_proc
def test_a_decoder_that_is_killed_is_no_silent_end(make_video, tmp_path):
    file = make_video(tmp_path / "kill-me.mp4", frames=300, size=(320, 240))
    reader = VideoReader(file)
    frames = iter(reader)
    next(frames)
    (process,) = [number for number, line in children(os.getpid()) if "kill-me" in line]
    os.kill(process, signal.SIGKILL)
    assert len(list(frames)) < 299
    assert len(reader.warnings) == 1
    assert "kill-me.mp4" in reader.warnings[0]


def test_read_twice(make_video, tmp_path):
    reader = VideoReader(make_video(tmp_path / "a.mp4", frames=4))
    assert times_of(reader) == times_of(reader)


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path, kind):
    file = tmp_path / "pipe.mp4"
    if kind == "fifo":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no named pipes")
        os.mkfifo(file)
    else:
        file = type(file)("/dev/zero")
        if not file.exists():
            pytest.skip("this system has no /dev/zero")
    with pytest.raises(InputError, match="not a regular file"):
        VideoReader(file)


def test_audio_codec_is_known(make_video, tmp_path):
    assert probe(make_video(tmp_path / "a.mp4", audio=True)).audio_codec == "aac"
    assert probe(make_video(tmp_path / "b.mp4")).audio_codec is None


def test_no_ffmpeg_at_all(monkeypatch, tmp_path, make_video):
    import imageio_ffmpeg

    def fail():
        raise RuntimeError("No ffmpeg exe could be found.")

    file = make_video(tmp_path / "a.mp4", frames=1)
    monkeypatch.setattr(ffmpeg_module.shutil, "which", lambda name: None)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", fail)
    ffmpeg_module.ffmpeg_program.cache_clear()
    try:
        with pytest.raises(MissingError, match="pip install imageio-ffmpeg"):
            VideoReader(file)
    finally:
        ffmpeg_module.ffmpeg_program.cache_clear()


def test_a_picture_is_read_as_rgb(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "color=red:size=40x30", "-frames:v", 1, tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (30, 40, 3)
    assert is_near(image[10, 10], (255, 0, 0))


def test_a_picture_is_turned_as_its_exif_data_say(tmp_path):
    ffmpeg(
        *("-f", "lavfi", "-i", f"color=black:size=64x48,{MARKER}", "-frames:v", 1, "-pix_fmt"),
        *("yuvj444p", tmp_path / "flat.jpg"),
    )
    data = (tmp_path / "flat.jpg").read_bytes()
    # An APP1 segment with one entry, Orientation = 6: the upper left corner belongs upper right.
    tiff = b"MM\0\x2a\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + bytes(4)
    body = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    (tmp_path / "turned.jpg").write_bytes(data[:2] + segment + data[2:])
    image = read_image(tmp_path / "turned.jpg")
    assert image.shape == (64, 48, 3)
    assert is_near(image[4, 44], RED)
    assert is_near(image[4, 4], BLACK)
