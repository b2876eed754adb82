"""Damaged and hostile videos: each is decoded, decoded with a warning, or refused in a sentence."""

import math
import random
import re
import resource
import signal
import struct
import sys
from collections import Counter

import numpy as np
import pytest
from media import address, ffmpeg

from gridpose.core import InputError
from gridpose.pipeline.video.reader import VideoReader

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")

SECONDS = 90
MOST_BYTES = 7 << 30
"""ffmpeg may take 6 GiB."""
FRAMES_READ = 200

PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=0.64"]
SOUND = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=0.64"]
YUV = ["-pix_fmt", "yuv420p"]
X264 = [*YUV, "-c:v", "libx264", "-preset", "ultrafast", "-g", "8", "-x264-params", "threads=1"]
X265 = [*YUV, "-c:v", "libx265", "-x265-params", "log-level=error:pools=1:frame-threads=1"]
AV1 = [*YUV, "-c:v", "libaom-av1", "-cpu-used", "8"]
MJPEG = ["-pix_fmt", "yuvj420p", "-c:v", "mjpeg"]
UNEVEN = ["-vf", "select=not(eq(mod(n\\,5)\\,2))", "-fps_mode", "vfr"]
SMALL = ["-s", "128x96"]
RECIPES = {
    "h264.mp4": [*PICTURE, *SOUND, *X264, "-c:a", "aac"],
    "b_frames.mp4": [*PICTURE, *X264, "-bf", "2"],
    "hevc.mp4": [*PICTURE, *X265],
    "mpeg4.mp4": [*PICTURE, "-c:v", "mpeg4"],
    "av1.mp4": [*PICTURE, *AV1],
    "fragments.mp4": [*PICTURE, *SOUND, *X264, "-movflags", "frag_keyframe+empty_moov"],
    "uneven.mp4": [*PICTURE, *UNEVEN, *X264],
    "late.mp4": [*PICTURE, *X264, "-output_ts_offset", "3"],
    "oblong.mp4": [*PICTURE, "-vf", "setsar=3/2", *X264],
    "prores.mov": [*PICTURE, "-c:v", "prores"],
    "qtrle.mov": [*PICTURE, "-c:v", "qtrle"],
    "mjpeg.mov": [*PICTURE, *SOUND, *MJPEG],
    "h263.3gp": [*PICTURE, *SMALL, "-c:v", "h263"],
    "h264.mkv": [*PICTURE, *SOUND, *X264, "-c:a", "libvorbis"],
    "ffv1.mkv": [*PICTURE, "-c:v", "ffv1", "-level", "3"],
    "uneven.mkv": [*PICTURE, *UNEVEN, *X264],
    "vp8.webm": [*PICTURE, *SOUND, "-c:v", "libvpx", "-c:a", "libopus"],
    "vp9.webm": [*PICTURE, *YUV, "-c:v", "libvpx-vp9", "-cpu-used", "8"],
    "mpeg4.avi": [*PICTURE, *SOUND, "-c:v", "mpeg4", "-c:a", "mp2"],
    "mjpeg.avi": [*PICTURE, *MJPEG],
    "raw.avi": [*PICTURE, "-frames:v", "4", "-pix_fmt", "bgr24", "-c:v", "rawvideo"],
    "flv1.flv": [*PICTURE, *SOUND, "-c:v", "flv", "-c:a", "libmp3lame"],
    "h264.flv": [*PICTURE, *X264],
    "h264.ts": [*PICTURE, *SOUND, *X264, "-c:a", "aac"],
    "mpeg2.ts": [*PICTURE, "-c:v", "mpeg2video"],
    "mpeg1.mpg": [*PICTURE, *SOUND, "-c:v", "mpeg1video", "-c:a", "mp2"],
    "mpeg2.vob": [*PICTURE, "-c:v", "mpeg2video"],
    "wmv2.wmv": [*PICTURE, *SOUND, "-c:v", "wmv2", "-c:a", "wmav2"],
    "msmpeg4.asf": [*PICTURE, "-c:v", "msmpeg4"],
    "small.gif": PICTURE,
    "small.apng": [*PICTURE, "-frames:v", "6"],
    "theora.ogv": [*PICTURE, *SOUND, *YUV, "-c:v", "libtheora", "-c:a", "libvorbis"],
    "rv20.rm": [*PICTURE, *SMALL, "-c:v", "rv20"],
    "mpeg2.mxf": [*PICTURE, "-c:v", "mpeg2video"],
    "dv.dv": [*PICTURE, "-s", "720x576", "-frames:v", "3", *YUV, "-c:v", "dvvideo"],
    "mpeg2.wtv": [*PICTURE, "-c:v", "mpeg2video"],
    "mpeg4.nut": [*PICTURE, "-c:v", "mpeg4"],
    "vp8.ivf": [*PICTURE, "-c:v", "libvpx"],
    "raw.y4m": [*PICTURE, "-frames:v", "4", *YUV],
    "raw.h264": [*PICTURE, *X264],
    "raw.hevc": [*PICTURE, *X265],
    "raw.m4v": [*PICTURE, "-c:v", "mpeg4"],
    "raw.mjpeg": [*PICTURE, *MJPEG],
    "raw.obu": [*PICTURE, *AV1],
}
"""How ffmpeg makes each base video."""

HEADERS = (
    b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    b"\0\0\0\x08moov",
    b"\x1aE\xdf\xa3\x93B\x82\x88matroskaB\x87\x81\4B\x85\x81\2\x18S\x80g\1\xff\xff\xff\xff\xff\xff",
    b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrlavih",
    b"FLV\1\5\0\0\0\x09\0\0\0\0",
    b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel",
    b"GIF89a\xff\xff\xff\xff\xf7\0\0",
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xff\xff\0\0\xff\xff\x08\6\0\0\0",
    b"OggS\0\2\0\0\0\0\0\0\0\0",
    b"\0\0\1\xba\x44\0\4\0\4\1",
    b"\0\0\0\1\x67\x42\0\x0a",
    b"YUV4MPEG2 W65535 H65535 F25:1 Ip A1:1 C420\nFRAME\n",
    b"YUV4MPEG2 W640 H8 F0:0 Ip A1000000:1 C420\nFRAME\n",
    b"DKIF\0\0\x20\0VP80\xff\xff\xff\xff",
    b".RMF\0\0\0\x12\0\0",
    b"#EXTM3U\n#EXTINF:9,\n",
    b"ffconcat version 1.0\nfile ",
)
# Where containers say sizes, lengths, times and counts: (mark, how far behind it, order of bytes).
# In Matroska and MPEG streams numbers follow their marks at once and have any width.
FIELDS = {
    ("mp4", "mov", "3gp"): (
        rb"mvhd|mdhd|tkhd|stsd|stts|ctts|stsz|stsc|stco|stss|elst|dref|pasp|mehd|trex|tfhd|tfdt"
        rb"|trun|hdlr|moov|trak|mdia|minf|stbl|mdat|moof|traf",
        (-8, -4, *range(0, 60, 4)),
        "big",
    ),
    ("avi",): (rb"RIFF|LIST|avih|str[hfl]|movi|idx1|00dc", range(0, 56, 4), "little"),
    ("gif",): (rb"GIF89a|,", (0, 2, 4), "little"),
    ("mkv", "webm"): (
        rb"\x18\x53\x80\x67|\x15\x49\xa9\x66|\x16\x54\xae\x6b|\x1f\x43\xb6\x75|\x1c\x53\xbb\x6b"
        rb"|\x2a\xd7\xb1|[\xae\xe0\xa0\xb0\xba\xe7\xa3\x83\xd7]",
        range(8),
        "big",
    ),
    ("ts", "mpg", "vob", "m4v", "h264", "hevc"): (
        rb"\x00\x00\x01[\xb3\xb5\xb8\xba\xbd\xc0\xe0]?|\x47",
        range(14),
        "big",
    ),
}
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
FLOATS = (math.nan, math.inf, 1e300, -1.0, 0.0)


def some_block(rng, data):
    length = min(len(data), rng.choice((1, 4, 16, 188, 512, 4096, len(data) // 2)))
    start = rng.randrange(len(data) - length + 1)
    return slice(start, start + length)


def flip_bits(rng, data):
    for _ in range(rng.choice((1, 4, 32, max(1, len(data) // 100)))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def replace_a_block(rng, data):
    block = some_block(rng, data)
    old = bytes(data[block])
    data[block] = rng.choice(
        (b"", bytes(len(old)), old * 2, old * 50, old[::-1], rng.randbytes(len(old)), old + b"\xff")
    )


def shuffle_blocks(rng, data):
    length = max(1, len(data) // rng.choice((4, 16, 64)))
    blocks = [data[at : at + length] for at in range(0, len(data), length)]
    kept = rng.randrange(2)  # with the header in its place it gets further
    rest = blocks[kept:]
    rng.shuffle(rest)
    data[:] = b"".join([*blocks[:kept], *rest])


def cut(rng, data):
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    part = rng.choice((slice(0, first), slice(first, second), slice(second, None)))
    if len(data) > part.indices(len(data))[1] - part.start:
        del data[part]


def lie_in_front(rng, data):
    for _ in range(rng.choice((1, 2, 6))):
        write_number(rng, data, rng.randrange(min(len(data), 600)), rng.choice(("big", "little")))


def lie_in_fields(rng, data, fields):
    pattern, offsets, order = fields
    places = [match.end() for match in re.finditer(pattern, data)]
    for _ in range(rng.choice((1, 2, 4)) if places else 0):
        write_number(rng, data, max(0, rng.choice(places) + rng.choice(offsets)), order)


def write_number(rng, data, at, order):
    width = rng.choice((1, 2, 4, 4, 8))
    value = rng.choice((*EXTREMES, rng.getrandbits(32), min(len(data) + 1, 0xFFFF)))
    number = (value & ((1 << 8 * width) - 1)).to_bytes(width, order)
    if width == 8 and rng.randrange(2):
        number = struct.pack(">d", rng.choice(FLOATS))
    data[at : at + width] = number


def mutant_of(base, suffix, number):
    """The content of a mutant, the same in every run."""
    rng = random.Random(f"{suffix}:{number}")
    data = bytearray(base)
    fields = next((fields for kinds, fields in FIELDS.items() if suffix in kinds), None)
    if rng.random() < 0.04:
        return rng.choice(HEADERS) + rng.randbytes(rng.choice((0, 100, 20_000)))
    if fields is not None and rng.random() < 0.45:
        lie_in_fields(rng, data, fields)
        return bytes(data)
    ways = (flip_bits, replace_a_block, shuffle_blocks, cut, lie_in_front)
    for way in rng.choices(ways, k=rng.choice((1, 1, 2, 3))):
        if data:
            way(rng, data)
    return bytes(data)


def outcome_of(file, rng):
    """Read a video to its end and check what the reader promises."""
    options = {}
    if rng.random() < 0.2:
        options = {"start": 0.2, "end": rng.choice((None, 0.5)), "stride": rng.choice((1, 2))}
    last = -math.inf
    try:
        with VideoReader(file, **options) as reader:
            width, height = reader.size
            assert reader.frames_expected is None or reader.frames_expected > 0
            assert 0 < reader.fps <= 1000
            for number, frame in enumerate(reader):
                assert frame.image.shape == (height, width, 3)
                assert frame.image.dtype == np.uint8
                assert math.isfinite(frame.time)
                assert frame.time >= last
                last = frame.time
                if number == FRAMES_READ:
                    break
    except InputError as error:
        return "refused" if "\n" not in str(error) else f"refused in several lines: {error}"
    return "damaged" if reader.warnings else "decoded"


@pytest.fixture
def patience():
    """Raises where something takes too long."""

    def raise_timeout(*_):
        raise TimeoutError(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, raise_timeout)
    yield lambda: signal.alarm(SECONDS)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def try_mutants(name, numbers, folder, patience):
    """Outcomes of some mutants of a base video."""
    base, suffix = folder / name, name.rpartition(".")[2]
    exact = ("-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact")
    log = ffmpeg(*RECIPES[name], "-threads", 1, *exact, address(base), check=False)[1]
    if not base.exists() or not base.stat().st_size:
        pytest.skip(f"this ffmpeg cannot make {name}: {log.splitlines()[-1]}")
    outcomes = Counter()
    for number in numbers:
        file = folder / f"{number}.{suffix}"
        file.write_bytes(mutant_of(base.read_bytes(), suffix, number))
        patience()
        outcomes[outcome_of(file, random.Random(number))] += 1
    assert set(outcomes) <= {"decoded", "damaged", "refused"}
    # The largest of all child processes of this one, earlier tests' included.
    assert 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < MOST_BYTES
    return outcomes


@pytest.mark.parametrize("name", list(RECIPES)[::4])
def test_damaged_videos_are_survived(name, tmp_path, patience):
    assert try_mutants(name, range(100, 103), tmp_path, patience).total() == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_very_many_damaged_videos_are_survived(name, tmp_path, patience):
    outcomes = try_mutants(name, range(14), tmp_path, patience)
    assert outcomes.total() == 14
    print(name, dict(outcomes))


def test_mutants_end_in_every_way(tmp_path, patience):
    outcomes = try_mutants("mpeg4.avi", range(12), tmp_path, patience)
    assert set(outcomes) == {"decoded", "damaged", "refused"}


def test_the_same_mutants_are_made_again():
    base = b"moov____mvhd" + bytes(range(256)) * 8
    mutants = [mutant_of(base, "mp4", number) for number in range(60)]
    assert mutants == [mutant_of(base, "mp4", number) for number in range(60)]
    assert len(set(mutants)) > 50
