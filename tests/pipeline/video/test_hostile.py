"""Videos that were made, or damaged, to do harm: see also test_fuzz.py."""

import http.server
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media import children, decode, ffmpeg, streams

from gridpose.core import GridposeError, InputError
from gridpose.pipeline.video import ffmpeg as ffmpeg_module
from gridpose.pipeline.video import reader as reader_module
from gridpose.pipeline.video.ffmpeg import ffmpeg_program, probe
from gridpose.pipeline.video.reader import VideoReader
from gridpose.pipeline.video.writer import VideoWriter

SIZE = (64, 48)
on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="needs /proc, limits of other processes, or a shell"
)


def read(file, **options):
    with VideoReader(file, **options) as reader:
        return reader, list(reader)


def refusal(file):
    """The text of the InputError that a file ends in; one sentence."""
    with pytest.raises(InputError) as caught:
        read(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: ")
    assert "\n" not in text
    return text


@pytest.fixture(scope="module")
def plain(make_video, tmp_path_factory):
    """A video with sound, and its frames."""
    file = tmp_path_factory.mktemp("plain") / "plain.mp4"
    make_video(file, frames=3, audio=True)
    return file, decode(file, SIZE)


@pytest.fixture
def server():
    """(Its address, paths of the requests that it got)."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}", requests
        serving.shutdown()


@pytest.fixture
def program(tmp_path, monkeypatch):
    """``program(script)``: a shell script in ffmpeg's place; in it $ffmpeg is the real one."""
    real = ffmpeg_program()
    ffmpeg_module.ffmpeg_version(real)

    def replace(script):
        file = tmp_path / "fake_ffmpeg"
        file.write_text(f"#!/bin/sh\nffmpeg='{real}'\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setattr(ffmpeg_module, "ffmpeg_program", lambda: str(file))
        monkeypatch.setattr(ffmpeg_module, "ffmpeg_version", lambda _: None)

    return replace


@contextmanager
def little_memory(megabytes):
    """What is allocated in this process within the block must stay below a limit."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes << 20
    finally:
        tracemalloc.stop()


M3U8 = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
MPD = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">
<Representation id="1" bandwidth="9"><BaseURL>{}</BaseURL></Representation>
</AdaptationSet></Period></MPD>
"""
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\na=x:{}\nm=video 9 RTP/AVP 96\n"
)
LISTS = {
    "m3u8": M3U8,
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "mpd": MPD,
    "sdp": SDP,
    "ffmeta": ";FFMETADATA1\ntitle={}\n",
    "m3u": "{}\n",
    "asx": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>\n',
    "txt": "{0}\n" * 100,
    "srt": "1\n00:00:00,000 --> 00:00:09,000\n{}\n",
}


@pytest.mark.parametrize("suffix", ["its own", "mp4"])
@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("target", ["a file", "a name", "a server"])
def test_files_that_lead_to_others_are_refused(plain, tmp_path, server, kind, suffix, target):
    secret = tmp_path / "secret.mp4"
    shutil.copy(plain[0], secret)
    address, requests = server
    targets = {"a file": str(secret), "a name": secret.name, "a server": f"{address}/x.ts"}
    file = tmp_path / f"list.{kind if suffix == 'its own' else suffix}"
    file.write_text(LISTS[kind].format(targets[target]))
    assert "not a video file" in refusal(file)
    assert requests == []


def test_the_sound_of_a_list_is_not_taken_over(make_video, tmp_path, server):
    secret = make_video(tmp_path / "secret.mp4", audio=True)
    address, requests = server
    for number, target in enumerate((secret, f"{address}/x.ts")):
        source = tmp_path / f"{number}.m3u8"
        source.write_text(M3U8.format(target))
        with pytest.raises(GridposeError, match="could not write"):
            write(tmp_path / "out.mp4", audio_from=source, audio_codec="aac")
    assert requests == []
    assert not (tmp_path / "out.mp4").exists()


def test_a_pattern_is_no_sequence_of_pictures(tmp_path):
    for number in range(3):
        ffmpeg("-f", "lavfi", "-i", "color=s=64x48", "-frames:v", 1, tmp_path / f"{number}.png")
    pattern = tmp_path / "%d.png"
    shutil.copy(tmp_path / "0.png", pattern)
    assert "not a video file" in refusal(pattern)


def with_reference(data, path):
    """The header of a QuickTime file, whose track is said to be in another file beside it."""
    alias = bytes(10) + b"\1x" + bytes(26 + 12) + b"\1x" + bytes(62 + 16) + struct.pack(">HH", 1, 1)
    alias += bytes(16) + struct.pack(">HH", 2, len(path)) + path + b"\0" * (len(path) % 2)
    entry = b"alis" + bytes(4) + alias + struct.pack(">HH", 0xFFFF, 0)
    body = bytes(4) + struct.pack(">II", 1, len(entry) + 4) + entry
    at = data.index(b"dref")
    old = int.from_bytes(data[at - 4 : at], "big")
    data = bytearray(data[: at + 4] + body + data[at - 4 + old :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = data.index(box) - 4
        size = int.from_bytes(data[place : place + 4], "big") + len(body) + 8 - old
        data[place : place + 4] = size.to_bytes(4, "big")
    return bytes(data[data.index(b"moov") - 4 :])


def test_a_track_in_another_file_is_not_read(make_video, tmp_path):
    secret = make_video(tmp_path / "secret.mov", frames=5)
    file = tmp_path / "in.mov"
    file.write_bytes(with_reference(secret.read_bytes(), b"/x/secret.mov"))
    found, _ = ffmpeg("-enable_drefs", 1, "-i", file, "-f", "rawvideo", "-")
    assert len(found) == 5 * 64 * 48 * 3 // 2  # it would work, were it not off
    assert "secret" not in refusal(file).removeprefix(f"{file}: ")


def write(file, *, audio_from=None, audio_codec=None):
    with VideoWriter(
        file, SIZE, Fraction(25), audio_from=audio_from, audio_codec=audio_codec
    ) as writer:
        for number in range(5):
            writer.write(np.full((48, 64, 3), 50 * number, np.uint8), number / 25)


def y4m(file, *, size=SIZE, rate="25:1", aspect="1:1", frames=2):
    """An uncompressed video with a header of our own; of other sizes the pixels are missing."""
    header = f"YUV4MPEG2 W{size[0]} H{size[1]} F{rate} Ip A{aspect} C420jpeg\n".encode()
    file.write_bytes(header + (b"FRAME\n" + bytes(SIZE[0] * SIZE[1] * 3 // 2)) * frames)
    return file


@pytest.mark.parametrize("size", [(65535, 65535), (10_000, 10_000), (1_000_000, 100)])
def test_pictures_that_are_too_large(tmp_path, size):
    width, height = size
    assert f"too large: {width}x{height} pixels" in refusal(y4m(tmp_path / "a.y4m", size=size))


def test_a_bomb_is_refused_by_its_size(tmp_path):
    file = tmp_path / "a.gif"
    ffmpeg("-f", "lavfi", "-i", "color=s=8320x8320", "-pix_fmt", "pal8", "-frames:v", 1, file)
    assert file.stat().st_size < 100_000
    assert "too large: 8320x8320 pixels (at most 16384 a side and 67 million" in refusal(file)


def test_long_pictures_are_refused(tmp_path):
    file = tmp_path / "a.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=s=20000x16", "-frames:v", 1, "-c:v", "ffv1", file)
    assert "too large: 20000x16 pixels" in refusal(file)


@pytest.mark.parametrize(("aspect", "size"), [("1000000:1", "64000000x48"), ("300:1", "19200x48")])
def test_stretched_pictures_are_refused(tmp_path, aspect, size):
    assert f"too large: {size} pixels" in refusal(y4m(tmp_path / "a.y4m", aspect=aspect))


def test_stretched_and_turned_pictures_are_refused(make_video, tmp_path):
    flat = make_video(tmp_path / "flat.mp4", filters=["setsar=2/1"])
    file = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", 90, "-i", flat, "-c", "copy", file)
    data = bytearray(file.read_bytes())
    at = data.index(b"pasp") + 4
    data[at : at + 8] = struct.pack(">II", 1, 1000)
    file.write_bytes(data)
    assert "too large: 48000x64 pixels" in refusal(file)


@on_linux
def test_memory_is_limited_while_probing(tmp_path, program):
    program('sleep 0.3; echo "[error] $(grep "Max data" /proc/self/limits)" >&2')
    assert str(ffmpeg_module.MEMORY_BYTES) in refusal(y4m(tmp_path / "a.y4m"))


@on_linux
def test_memory_is_limited_while_decoding(make_video, tmp_path):
    file = make_video(tmp_path / "limited.mp4", frames=300, size=(320, 240))
    with VideoReader(file) as reader:
        frames = iter(reader)
        next(frames)
        (child,) = (number for number, line in children(os.getpid()) if "limited" in line)
        limits = Path(f"/proc/{child}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max data size"))
    assert int(line.split()[3]) == ffmpeg_module.MEMORY_BYTES


@on_linux
def test_running_out_of_memory_is_told(make_video, tmp_path, monkeypatch):
    file = make_video(
        tmp_path / "a.mp4", size=(1920, 1080), frames=4, args=["-preset", "ultrafast"]
    )
    monkeypatch.setattr(ffmpeg_module, "MEMORY_BYTES", 10 << 20)
    assert "can be decoded" in refusal(file)


@pytest.mark.parametrize("rate", ["0:0", "0:1", "1:0", "1:1000000000", "1000000000:1", "999999:1"])
def test_absurd_rates(tmp_path, rate):
    reader, frames = read(y4m(tmp_path / "a.y4m", rate=rate, frames=3))
    assert len(frames) == 3
    assert 0 < reader.fps <= 1000
    assert reader.frames_expected is None or 0 < reader.frames_expected < 10**10
    assert np.isfinite([frame.time for frame in frames]).all()


@pytest.mark.parametrize("box", [b"mvhd", b"mdhd"])
@pytest.mark.parametrize("clock", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("length", [0, 0xFFFFFFFF])
def test_absurd_durations(make_video, tmp_path, box, clock, length):
    file = make_video(tmp_path / "a.mp4", frames=3)
    data = bytearray(file.read_bytes())
    at = data.index(box) + 16
    data[at : at + 8] = struct.pack(">II", clock, length)
    file.write_bytes(data)
    try:
        reader, frames = read(file)
    except InputError:  # no frame lies within the times that are to be shown
        return
    assert len(frames) == 3
    assert 0 < reader.fps <= 1000
    assert reader.frames_expected is None or 0 < reader.frames_expected < 10**13
    assert np.isfinite([frame.time for frame in frames]).all()


@on_linux
@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("N/A", None),
        ("1000000000000:00:00.00", 3.6e15),
        ("-00:00:01.00", None),
        (f"{'9' * 5000}:00:00.00", None),
    ],
)
def test_durations_as_ffmpeg_says_them(tmp_path, program, said, seconds):
    program(f'echo "[info]   Duration: {said}, start: 0" >&2; exec "$ffmpeg" "$@"')
    reader, frames = read(y4m(tmp_path / "a.y4m"))
    assert len(frames) == 2
    if seconds is None:
        assert reader.info.duration is None or reader.info.duration < 1
    else:
        assert reader.frames_expected == round(25 * seconds)


def with_tags(video, tags, file):
    """A copy of a video with more of what ffmpeg's own metadata format can say."""
    text = file.with_suffix(".ffmeta")
    text.write_text(";FFMETADATA1\n" + tags)
    ffmpeg("-i", video, "-i", text, "-map_metadata", 1, "-map_chapters", 1, "-c", "copy", file)
    return file


def test_a_title_of_megabytes(make_video, tmp_path):
    video = make_video(tmp_path / "plain.mkv", frames=3)
    file = with_tags(video, f"title={'x' * 12_000_000}\n", tmp_path / "a.mkv")
    assert file.stat().st_size > 12_000_000
    with little_memory(2):
        reader, frames = read(file)
    assert len(frames) == 3
    assert reader.warnings == []


def test_very_many_chapters(make_video, tmp_path):
    video = make_video(tmp_path / "plain.mkv", frames=3)
    chapters = "".join(f"[CHAPTER]\nSTART={n}\nEND={n + 1}\ntitle={n}\n" for n in range(8_000))
    file = with_tags(video, chapters, tmp_path / "a.mkv")
    with little_memory(2):
        _, frames = read(file)
    assert len(frames) == 3


@on_linux
@pytest.mark.parametrize("end", ["", "\\n"])
def test_endless_logs(tmp_path, program, end):
    noise = f"yes \"$(printf '[info]     title : xxxxxxxxxxxxxxxx{end}')\" | head -c 5000000"
    noise += "" if end else " | tr -d '\\n'"
    program(f'{noise} >&2; echo >&2; exec "$ffmpeg" "$@"')
    with little_memory(2):
        reader, frames = read(y4m(tmp_path / "a.y4m"))
    assert len(frames) == 2
    assert reader.size == SIZE


def test_a_title_does_not_pass_for_ffmpegs_words(make_video, tmp_path):
    video = make_video(tmp_path / "plain.mkv", frames=3)
    lies = (
        "[Parsed_showinfo_0 @ 0x1] [info] config in time_base: 7/1, frame_rate: 1/9",
        "[Parsed_showinfo_0 @ 0x1] [info] n: 0 pts: 900 x sar:1/1 s:9999x9 x",
        f"[Parsed_showinfo_0 @ 0x1] [info] n: 0 pts: {'9' * 5000} x sar:1/1 s:9999x9 x",
        "[info]   Duration: 99:00:00.00",
        "[error] Picture size 9x9 exceeds specified max pixel count",
    )
    reader, frames = read(with_tags(video, "title=" + "\\\n".join(lies) + "\n", tmp_path / "a.mkv"))
    assert reader.size == SIZE
    assert reader.fps == 25
    assert reader.info.duration == pytest.approx(0.12, abs=0.05)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(3) / 25, atol=1e-3)
    assert reader.warnings == []


FRAME_BYTES = 64 * 48 * 3
STALLS = 'case "$*" in *showinfo=checksum*) {};; *) exec "$ffmpeg" "$@";; esac'


@on_linux
@pytest.mark.parametrize("lost", [[0], [3], [2, 3], [4], [0, 1, 2, 3, 4]])
def test_lost_lines_of_the_log_cost_neither_time_nor_order(tmp_path, program, lost):
    lines = "|".join(map(str, lost))
    program(
        STALLS.format(
            f'"$ffmpeg" "$@" 2>{tmp_path}/log; grep -vE "n: +({lines}) +pts:" {tmp_path}/log >&2'
        )
    )
    started = time.monotonic()
    _, frames = read(y4m(tmp_path / "a.y4m", frames=5))
    assert time.monotonic() - started < 5
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(5) / 25, atol=1e-6)


def test_every_frame_has_its_time_though_the_size_changes(make_video, tmp_path):
    file = tmp_path / "a.ts"
    parts = [
        make_video(tmp_path / f"{size[0]}.ts", frames=10, size=size, args=["-bf", "0"])
        for size in ((64, 48), (96, 64))
    ]
    file.write_bytes(b"".join(part.read_bytes() for part in parts))
    started = time.monotonic()
    _, frames = read(file)
    assert time.monotonic() - started < 5
    assert len(frames) >= 18
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    steps = np.diff([frame.time for frame in frames])
    # Where they are glued, a frame may be lost.
    np.testing.assert_allclose(np.delete(steps, [8, 9, 10]), 1 / 25, atol=1e-3)


@on_linux
def test_a_probe_that_never_ends_is_ended(tmp_path, program, monkeypatch):
    monkeypatch.setattr(ffmpeg_module, "PROBE_SECONDS", 0.5)
    program("exec sleep 997")
    started = time.monotonic()
    assert "no frame in 0.5 s" in refusal(y4m(tmp_path / "a.y4m"))
    assert time.monotonic() - started < 5
    assert not [line for _, line in children(os.getpid()) if "sleep 997" in line]


@on_linux
def test_measuring_the_rate_ends_with_the_time_for_the_probe(tmp_path, program, monkeypatch):
    monkeypatch.setattr(ffmpeg_module, "PROBE_SECONDS", 1.0)
    program('case "$*" in *"-vframes 60 "*) exec sleep 996;; *) exec "$ffmpeg" "$@";; esac')
    started = time.monotonic()
    assert probe(y4m(tmp_path / "a.y4m", rate="1000:1")).fps == 25
    assert time.monotonic() - started < 5
    assert not [line for _, line in children(os.getpid()) if "sleep 996" in line]


@on_linux
@pytest.mark.parametrize("whole", [1, 2])
def test_a_decoder_that_stalls_is_ended(tmp_path, program, monkeypatch, whole):
    monkeypatch.setattr(reader_module, "_STALL_SECONDS", 0.5)
    some = whole * FRAME_BYTES + 1000
    program(STALLS.format(f'"$ffmpeg" "$@" | head -c {some}; exec sleep 995'))
    started = time.monotonic()
    reader, frames = read(y4m(tmp_path / "a.y4m", frames=5))
    assert time.monotonic() - started < 8
    assert len(frames) == whole
    (warning,) = reader.warnings
    assert "damaged in places" in warning
    assert "standstill" in warning
    assert not [line for _, line in children(os.getpid()) if "sleep 995" in line]


@on_linux
def test_a_decoder_that_stalls_before_its_first_frame(tmp_path, program, monkeypatch):
    monkeypatch.setattr(reader_module, "_STALL_SECONDS", 0.5)
    program(STALLS.format("exec sleep 994"))
    assert "standstill" in refusal(y4m(tmp_path / "a.y4m"))


def test_a_slow_consumer_is_no_stall(make_video, tmp_path, monkeypatch):
    monkeypatch.setattr(reader_module, "_STALL_SECONDS", 0.5)
    monkeypatch.setattr(reader_module, "_TICK_SECONDS", 0.05)
    file = make_video(tmp_path / "a.mp4", frames=150, size=(320, 240))  # more than the pipe holds
    with VideoReader(file) as reader:
        count = 0
        for frame in reader:
            count += 1
            if frame.index in (0, 50):
                time.sleep(1)
    assert count == 150
    assert reader.warnings == []


NAMES = [
    "a b.mp4",
    " leading and trailing .mp4 ",
    'it\'s "quoted".mp4',
    "`$(touch x)`;&|<>.mp4",
    "two\nlines\r\n.mp4",
    "\t\x1b[31mred\x07.mp4",
    "-i.mp4",
    "--help",
    "-",
    "file:x.mp4",
    "concat:a|b.mp4",
    "http:example.mp4",
    "data:video;base64,AAAA.mp4",
    "pipe:1.mp4",
    "crypto+file:a.mp4",
    "subfile,,start,0,end,9,,:a.mp4",
    "%03d.mp4",
    "100%.mp4",
    "*[a-z]?{b}.mp4",
    "~.mp4",
    "back\\slash.mp4",
    "名前 é 🙂.mp4",
    "名" * 80 + ".mp4",
    "x" * 251 + ".mp4",
    os.fsdecode(b"caf\xe9.mp4"),
    os.fsdecode(b"\xff" * 200 + b".mp4"),
]


@on_linux
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_of_all_sorts(plain, tmp_path, monkeypatch, name):
    source, expected = plain
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    shutil.copy(source, tmp_path / "in" / name)
    monkeypatch.chdir(tmp_path / "in")
    file = Path(name)  # relative, as a user types it
    assert probe(file).audio_codec == "aac"
    reader, frames = read(file)
    np.testing.assert_array_equal([frame.image for frame in frames], expected)
    assert reader.warnings == []

    monkeypatch.chdir(tmp_path / "out")
    write(file, audio_from=tmp_path / "in" / name, audio_codec="aac")
    assert os.listdir(tmp_path / "out") == [name]  # noqa: PTH208 - as the system spells it
    shutil.copy(file, tmp_path / "result.mp4")
    assert decode(tmp_path / "result.mp4", SIZE).shape[0] == 5
    assert [stream[:5] for stream in streams(tmp_path / "result.mp4")] == ["Video", "Audio"]


@on_linux
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_of_all_sorts_in_errors(tmp_path, name):
    file = tmp_path / name
    file.write_text("no video")
    with pytest.raises(InputError) as caught:
        VideoReader(file)
    assert str(caught.value).startswith(f"{file}: ")


@on_linux
def test_a_name_that_is_no_text_can_be_printed(tmp_path):
    file = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    file.write_text("no video")
    code = "from gridpose.pipeline.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "video", file, "-o", tmp_path / "out.mp4"],
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith(b"error: ")
    assert len(done.stderr.splitlines()) == 1
