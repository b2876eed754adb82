#!/usr/bin/env python
"""Put damaged and hostile videos through the video reader and see whether it survives. Linux only.

    python scripts/fuzz_decoder.py [--count 600] [--seed 0] [--only mkv] [--keep FOLDER]

Small videos of many containers and codecs are made with ffmpeg and mutated: bits, bytes and whole
blocks, ends cut off, headers that lie, files glued together. Each mutant is read to its end, in
child processes that are watched for time and memory. A mutant may be decoded, decoded with a
warning (damaged), or refused by an InputError. Anything else is a failure, is kept, and makes the
exit status 1: another exception or the end of the process (crash), more memory than ffmpeg may
take and the reader needs (memory), or no end (hang).

600 mutants take about a minute on two cores.
"""

from __future__ import annotations

import json
import math
import os
import queue
import random
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from gridpose.core import GridposeError, InputError
from gridpose.pipeline.ffmpeg import ffmpeg_program
from gridpose.pipeline.reader import VideoReader

FRAMES_READ: Final = 200
SURVIVED: Final = ("decoded", "damaged", "refused")
FAILED: Final = ("crash", "memory", "hang")
TICK_SECONDS: Final = 0.02
OWN_BYTES: Final = 1 << 30
"""What the reader itself may use: a few pictures, and what it imports."""
EXTREMES: Final = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MAGICS: Final = (
    b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    b"\0\0\0\x08moov",
    b"\x1aE\xdf\xa3\x93B\x82\x88matroskaB\x87\x81\4B\x85\x81\2\x18S\x80g\1\xff\xff\xff\xff\xff\xff\xff",
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

Mutator = Callable[[random.Random, bytearray], None]


def recipes() -> dict[str, list[str]]:
    """Options of ffmpeg for making each base video, by file name."""
    picture = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=0.64"]
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=0.64"]
    x264 = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "8", "-x264-params", "threads=1"]
    x265 = ["-c:v", "libx265", "-x265-params", "log-level=error:pools=1:frame-threads=1"]
    yuv = ["-pix_fmt", "yuv420p"]
    uneven = ["-vf", "select=not(eq(mod(n\\,5)\\,2))", "-fps_mode", "vfr"]
    fragments = ["-movflags", "frag_keyframe+empty_moov"]
    dvd = ["-f", "lavfi", "-i", "testsrc2=size=720x576:rate=25:duration=0.12", "-pix_fmt"]
    return {
        "h264.mp4": [*picture, *sound, *yuv, *x264, "-c:a", "aac"],
        "b_frames.mp4": [*picture, *yuv, *x264, "-bf", "2"],
        "hevc.mp4": [*picture, *yuv, *x265],
        "mpeg4.mp4": [*picture, "-c:v", "mpeg4"],
        "av1.mp4": [*picture, *yuv, "-c:v", "libaom-av1", "-cpu-used", "8"],
        "fragments.mp4": [*picture, *sound, *yuv, *x264, *fragments],
        "uneven.mp4": [*picture, *uneven, *yuv, *x264],
        "late.mp4": [*picture, *yuv, *x264, "-output_ts_offset", "3"],
        "oblong.mp4": [*picture, "-vf", "setsar=3/2", *yuv, *x264],
        "prores.mov": [*picture, "-c:v", "prores", "-threads", "1"],
        "qtrle.mov": [*picture, "-c:v", "qtrle"],
        "mjpeg.mov": [*picture, *sound, "-pix_fmt", "yuvj420p", "-c:v", "mjpeg"],
        "h263.3gp": [*picture, "-s", "128x96", "-c:v", "h263"],
        "h264.mkv": [*picture, *sound, *yuv, *x264, "-c:a", "libvorbis"],
        "ffv1.mkv": [*picture, "-c:v", "ffv1", "-level", "3"],
        "uneven.mkv": [*picture, *uneven, *yuv, *x264],
        "vp8.webm": [*picture, *sound, "-c:v", "libvpx", "-c:a", "libopus"],
        "vp9.webm": [*picture, *yuv, "-c:v", "libvpx-vp9", "-cpu-used", "8"],
        "mpeg4.avi": [*picture, *sound, "-c:v", "mpeg4", "-c:a", "mp2"],
        "mjpeg.avi": [*picture, "-pix_fmt", "yuvj420p", "-c:v", "mjpeg"],
        "raw.avi": [*picture, "-frames:v", "4", "-pix_fmt", "bgr24", "-c:v", "rawvideo"],
        "flv1.flv": [*picture, *sound, "-c:v", "flv", "-c:a", "libmp3lame"],
        "h264.flv": [*picture, *yuv, *x264],
        "h264.ts": [*picture, *sound, *yuv, *x264, "-c:a", "aac"],
        "mpeg2.ts": [*picture, "-c:v", "mpeg2video"],
        "mpeg1.mpg": [*picture, *sound, "-c:v", "mpeg1video", "-c:a", "mp2"],
        "mpeg2.vob": [*picture, "-c:v", "mpeg2video"],
        "wmv2.wmv": [*picture, *sound, "-c:v", "wmv2", "-c:a", "wmav2"],
        "msmpeg4.asf": [*picture, "-c:v", "msmpeg4"],
        "small.gif": [*picture],
        "small.apng": [*picture, "-frames:v", "6"],
        "theora.ogv": [*picture, *sound, *yuv, "-c:v", "libtheora", "-c:a", "libvorbis"],
        "rv20.rm": [*picture, "-s", "128x96", "-c:v", "rv20"],
        "mpeg2.mxf": [*picture, "-c:v", "mpeg2video"],
        "dv.dv": [*dvd, "yuv420p", "-c:v", "dvvideo"],
        "mpeg2.wtv": [*picture, "-c:v", "mpeg2video"],
        "mpeg4.nut": [*picture, "-c:v", "mpeg4"],
        "vp8.ivf": [*picture, "-c:v", "libvpx"],
        "raw.y4m": [*picture, "-frames:v", "4", *yuv],
        "raw.h264": [*picture, *yuv, *x264],
        "raw.hevc": [*picture, *yuv, *x265],
        "raw.m4v": [*picture, "-c:v", "mpeg4"],
        "raw.mjpeg": [*picture, "-pix_fmt", "yuvj420p"],
        "raw.obu": [*picture, *yuv, "-c:v", "libaom-av1", "-cpu-used", "8"],
        "amv.amv": [
            *("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=20:duration=0.5"),
            *("-f", "lavfi", "-i", "sine=sample_rate=22050:duration=0.5", "-ac", "1"),
            *("-block_size", "1102", "-strict", "-1"),
        ],
    }


def make_bases(folder: Path) -> list[Path]:
    """The videos to mutate, as far as this ffmpeg can make them."""
    text = folder / "words.srt"
    text.write_text("1\n00:00:00,000 --> 00:00:00,500\nwords\n")
    made = []
    for name, options in recipes().items():
        file = folder / name
        if _ffmpeg(*options, "-threads", "1", f"file:{file}"):
            made.append(file)
    turned, subtitled = folder / "turned.mov", folder / "subtitled.mkv"
    if _ffmpeg("-display_rotation", "90", "-i", f"file:{made[0]}", "-c", "copy", f"file:{turned}"):
        made.append(turned)
    two = ("-i", f"file:{made[0]}", "-i", f"file:{text}")
    if _ffmpeg(*two, "-c", "copy", "-c:s", "srt", f"file:{subtitled}"):
        made.append(subtitled)
    return made


def _ffmpeg(*arguments: str) -> bool:
    exact = ("-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact")
    done = subprocess.run(
        [ffmpeg_program(), "-v", "error", "-nostdin", "-y", *arguments[:-1], *exact, arguments[-1]],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def flip_bits(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 4, 32, max(1, len(data) // 100)))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite_bytes(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 8, 64))):
        data[rng.randrange(len(data))] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))


def _block(rng: random.Random, data: bytearray) -> slice:
    length = min(len(data), rng.choice((1, 4, 16, 188, 512, 4096)))
    start = rng.randrange(len(data) - length + 1)
    return slice(start, start + length)


def delete_block(rng: random.Random, data: bytearray) -> None:
    del data[_block(rng, data)]


def repeat_block(rng: random.Random, data: bytearray) -> None:
    block = _block(rng, data)
    data[block] = data[block] * rng.choice((2, 3, 50))


def insert_noise(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 3, 64, 5000)))


def shuffle_blocks(rng: random.Random, data: bytearray) -> None:
    length = max(1, len(data) // rng.choice((4, 16, 64)))
    blocks = [data[at : at + length] for at in range(0, len(data), length)]
    kept = rng.randrange(2)  # with the header in its place it gets further
    rest = blocks[kept:]
    rng.shuffle(rest)
    data[:] = b"".join([*blocks[:kept], *rest])


def keep_the_start(rng: random.Random, data: bytearray) -> None:
    del data[max(1, round(len(data) * rng.random())) :]


def keep_the_end(rng: random.Random, data: bytearray) -> None:
    del data[: round(len(data) * rng.random() * 0.9)]


def cut_the_middle(rng: random.Random, data: bytearray) -> None:
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    del data[first:second]


def zero_a_run(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice((4, 100, 2000, len(data))))
    data[start:end] = bytes(end - start)


def swap_endianness(rng: random.Random, data: bytearray) -> None:
    width = rng.choice((2, 4, 8))
    start = rng.randrange(max(1, min(len(data), 4096)))
    for at in range(start, min(len(data) - width, start + width * rng.choice((1, 8, 64))), width):
        data[at : at + width] = data[at : at + width][::-1]


def lie_anywhere_in_front(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 2, 6))):
        width = rng.choice((1, 2, 4))
        at = rng.randrange(max(1, min(len(data), 600) - width))
        order = rng.choice(("big", "little"))
        value = rng.choice(EXTREMES) & ((1 << 8 * width) - 1)
        data[at : at + width] = value.to_bytes(width, order)


def lie_in_numbers_anywhere(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 3))):
        at = rng.randrange(max(1, len(data) - 8))
        value = rng.choice((*(struct.pack(">d", x) for x in (math.nan, math.inf, 1e300, -1.0, 0)),))
        data[at : at + 8] = value if rng.randrange(2) else value[::-1]


MP4_FIELDS: Final = {
    b"mvhd": ((12, 4), (16, 4), (20, 4)),
    b"mdhd": ((12, 4), (16, 4)),
    b"tkhd": ((12, 4), (20, 4), (40, 4), (44, 4), (76, 4), (80, 4)),
    b"stsd": ((4, 4), (8, 4), (40, 2), (42, 2), (48, 4), (56, 2)),
    b"stts": ((4, 4), (8, 4), (12, 4)),
    b"ctts": ((4, 4), (8, 4), (12, 4)),
    b"stsz": ((4, 4), (8, 4), (12, 4)),
    b"stsc": ((4, 4), (8, 4), (12, 4), (16, 4)),
    b"stco": ((4, 4), (8, 4)),
    b"stss": ((4, 4), (8, 4)),
    b"elst": ((4, 4), (8, 4), (12, 4), (16, 4)),
    b"dref": ((4, 4), (8, 4), (16, 4)),
    b"pasp": ((0, 4), (4, 4)),
    b"mehd": ((4, 4),),
    b"trex": ((8, 4), (12, 4), (16, 4)),
    b"tfhd": ((8, 4), (12, 4), (16, 4)),
    b"tfdt": ((4, 4), (8, 4)),
    b"trun": ((4, 4), (8, 4), (12, 4), (16, 4)),
    b"hdlr": ((8, 4),),
}
MP4_FOLDERS: Final = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"moof", b"traf")
)


def mp4_boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[tuple[int, bytes, int]]:
    """(offset, type, bytes) of each box, with those inside it."""
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        size = size if 8 <= size <= end - start else end - start
        kind = bytes(data[start + 4 : start + 8])
        yield start, kind, size
        if kind in MP4_FOLDERS:
            yield from mp4_boxes(data, start + 8, start + size)
        start += size


def lie_in_mp4(rng: random.Random, data: bytearray) -> None:
    boxes = list(mp4_boxes(data, 0, len(data)))
    for _ in range(rng.choice((1, 2, 4))):
        known = [box for box in boxes if box[1] in MP4_FIELDS]
        if known and rng.random() < 0.6:
            at, kind, _ = rng.choice(known)
            offset, width = rng.choice(MP4_FIELDS[kind])
            value = rng.choice((*EXTREMES, rng.getrandbits(32))) & ((1 << 8 * width) - 1)
            place = at + 8 + offset
            data[place : place + width] = value.to_bytes(width, "big")
        elif boxes:
            at, _, size = rng.choice(boxes)
            lie = rng.choice((0, 1, 7, 8, size - 1, size + 1, 2 * size, 0x7FFFFFFF, 0xFFFFFFFF))
            data[at : at + 4] = (lie & 0xFFFFFFFF).to_bytes(4, "big")
            if lie == 1:
                large = rng.choice((0, 1, 1 << 31, 1 << 32, 1 << 63, (1 << 63) - 1, (1 << 64) - 1))
                data[at + 8 : at + 16] = large.to_bytes(8, "big")


EBML_FOLDERS: Final = frozenset(
    bytes.fromhex(text)
    for text in ("18538067", "1549A966", "1654AE6B", "AE", "E0", "1F43B675", "1C53BB6B", "A0")
)


def ebml_elements(
    data: bytes | bytearray, start: int, end: int
) -> Iterator[tuple[int, int, int, int]]:
    """(offset of its size, of its content, end, bytes of the size) of each Matroska element."""
    while start < end:
        id_bytes = 9 - data[start].bit_length()
        at = start + id_bytes
        if at >= end or id_bytes > 4:
            return
        size_bytes = 9 - data[at].bit_length()
        if size_bytes > 8:
            return
        size = int.from_bytes(data[at : at + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
        content = at + size_bytes
        stop = min(end, content + size)
        yield at, content, stop, size_bytes
        if bytes(data[start:at]) in EBML_FOLDERS:
            yield from ebml_elements(data, content, stop)
        start = stop


def lie_in_matroska(rng: random.Random, data: bytearray) -> None:
    elements = list(ebml_elements(data, 0, len(data)))
    for _ in range(rng.choice((1, 2, 4)) if elements else 0):
        at, content, stop, size_bytes = rng.choice(elements)
        if rng.random() < 0.3:
            mark = 1 << 7 * size_bytes
            size = rng.choice((0, 1, mark - 1, mark - 2, mark >> 1, rng.randrange(mark)))
            data[at:content] = (mark | size).to_bytes(size_bytes, "big")
        elif stop - content <= 8:
            length = stop - content
            value = rng.choice((0, 1, -1, 1 << max(0, 8 * length - 1), rng.getrandbits(64)))
            data[content:stop] = (value & ((1 << 8 * length) - 1)).to_bytes(length, "big")


def lie_in_riff(rng: random.Random, data: bytearray) -> None:
    places = [at.start() for at in re.finditer(rb"RIFF|LIST|avih|str[hfl]|movi|idx1|00dc", data)]
    for _ in range(rng.choice((1, 2, 4)) if places else 0):
        # Sizes are at 4; after it come the fields, of which the first dozen matter.
        at = rng.choice(places) + 4 * rng.randrange(1, 14)
        data[at : at + 4] = rng.choice((*EXTREMES, rng.getrandbits(32))).to_bytes(4, "little")


def lie_in_packets(rng: random.Random, data: bytearray) -> None:
    """Of MPEG streams: timestamps, lengths and sizes follow their start codes."""
    places = [at.end() for at in re.finditer(rb"\x00\x00\x01[\xb3\xb5\xb8\xba\xbd\xc0\xe0]", data)]
    places += [at + 1 for at in range(0, len(data), 188) if data[at] == 0x47]
    for _ in range(rng.choice((1, 5, 30)) if places else 0):
        at = rng.choice(places) + rng.randrange(14)
        if at < len(data):
            data[at] = rng.choice((0, 0xFF, 0x80, rng.randrange(256)))


def resize_gif(rng: random.Random, data: bytearray) -> None:
    for at in (6, 8):
        size = rng.choice((0, 1, 100, 8192, 8193, 65535))
        data[at : at + 2] = size.to_bytes(2, "little")


GENERAL: Final[tuple[Mutator, ...]] = (
    *(flip_bits, overwrite_bytes, delete_block, repeat_block, insert_noise, shuffle_blocks),
    *(keep_the_start, keep_the_end, cut_the_middle, zero_a_run, swap_endianness),
    *(lie_anywhere_in_front, lie_in_numbers_anywhere),
)
MP4: Final = (".mp4", ".mov", ".3gp")
SPECIAL: Final[dict[str, Mutator]] = {
    **dict.fromkeys(MP4, lie_in_mp4),
    **dict.fromkeys((".mkv", ".webm"), lie_in_matroska),
    **dict.fromkeys((".avi", ".amv"), lie_in_riff),
    **dict.fromkeys((".ts", ".mpg", ".vob", ".m4v"), lie_in_packets),
    ".gif": resize_gif,
}
SPECIAL_SHARE: Final = 0.45
REUSED_SHARE: Final = 0.06


def mutate(bases: list[Path], number: int, seed: int) -> tuple[str, bytes]:
    """A name that says how it was made, and the content of a mutant."""
    rng = random.Random(f"{seed}:{number}")
    base = bases[number % len(bases)]
    data = bytearray(base.read_bytes())
    special = SPECIAL.get(base.suffix)
    if rng.random() < REUSED_SHARE:
        other = rng.choice(bases)
        how = "glued"
        data += other.read_bytes()
        if rng.randrange(2):
            how = "garbage"
            data[:] = rng.choice(MAGICS) + rng.randbytes(rng.choice((0, 100, 20_000)))
    elif special is not None and rng.random() < SPECIAL_SHARE:
        how = special.__name__
        special(rng, data)
    else:
        mutators = rng.choices(GENERAL, k=rng.choice((1, 1, 2, 3)))
        how = "+".join(mutator.__name__ for mutator in mutators)
        for mutator in mutators:
            if data:
                mutator(rng, data)
    return f"{number:05d}_{how}_{base.name}", bytes(data)


def work() -> None:
    """Read videos whose names come on stdin, one a line, and answer each with a line of JSON."""
    # A failing allocation in here is a crash. In ffmpeg, which inherits this, it is to be survived.
    memory = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        started = time.monotonic()
        try:
            answer = _read(Path(line.rstrip("\n")))
        except InputError as error:
            outcome = "refused" if "\n" not in str(error) else "crash"
            answer = {"outcome": outcome, "text": str(error)}
        except GridposeError as error:
            answer = {"outcome": "crash", "text": repr(error)}
        except Exception:  # noqa: BLE001 - that is what is looked for
            answer = {"outcome": "crash", "text": traceback.format_exc()}
        answer["seconds"] = time.monotonic() - started
        print(json.dumps(answer), flush=True)


def _read(file: Path) -> dict[str, Any]:
    """Read a video and check what the reader promises."""
    rng = random.Random(file.name)
    options: dict[str, Any] = {}
    if rng.random() < 0.2:
        options = {"start": 0.2, "end": rng.choice((None, 0.5)), "stride": rng.choice((1, 2))}
    count, last = 0, -math.inf
    with VideoReader(file, **options) as reader:
        width, height = reader.size
        assert reader.frames_expected is None or reader.frames_expected > 0
        assert 0 < reader.fps <= 1000
        for frame in reader:
            assert frame.image.shape == (height, width, 3)
            assert frame.image.dtype == np.uint8
            assert math.isfinite(frame.time)
            assert frame.time >= last
            last, count = frame.time, count + 1
            if count == FRAMES_READ:
                break
    outcome = "damaged" if reader.warnings else "decoded"
    return {"outcome": outcome, "frames": count, "text": "".join(reader.warnings)}


@dataclass
class Worker:
    """A child process that reads mutants, and what it and its own children use."""

    memory: int
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", str(self.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def try_out(self, file: Path, seconds: float) -> dict[str, Any]:
        """The answer for one mutant, ``peak`` bytes of memory added."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(OSError):  # forgets the peak of earlier mutants
            Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        started = time.monotonic()
        peak = 0
        self.process.stdin.write(f"{file}\n")
        self.process.stdin.flush()
        while not select.select([self.process.stdout], [], [], TICK_SECONDS)[0]:
            peak = max(peak, sum(map(_peak_bytes, [self.process.pid, *_below(self.process.pid)])))
            spent = time.monotonic() - started
            if peak > self.memory + OWN_BYTES or spent > seconds:
                self.end()
                outcome = "hang" if spent > seconds else "memory"
                return {"outcome": outcome, "text": "", "seconds": spent, "peak": peak}
        answer = self.process.stdout.readline()
        spent = time.monotonic() - started
        if not answer:
            text = f"the process ended with status {self.process.wait()}"
            return {"outcome": "crash", "text": text, "seconds": spent, "peak": peak}
        peak = max(peak, _peak_bytes(self.process.pid))
        return {**json.loads(answer), "peak": peak}

    def end(self) -> None:
        """Kill it and its children."""
        for number in [*_below(self.process.pid), self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()


def _below(process: int) -> list[int]:
    """Processes that a process has started, with theirs."""
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_below(child)]
    return found


def _peak_bytes(process: int) -> int:
    with suppress(OSError):
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        if match:
            return 1024 * int(match[1])
    return 0


def try_all(
    mutants: Iterator[tuple[str, bytes]], folder: Path, processes: int, memory: int, seconds: float
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each mutant's file, which is removed afterwards, and the answer for it."""
    results: queue.SimpleQueue[tuple[Path, dict[str, Any]] | BaseException | None]
    results = queue.SimpleQueue()
    lock = threading.Lock()

    def serve() -> None:
        worker = Worker(memory)
        try:
            while True:
                with lock:
                    mutant = next(mutants, None)
                if mutant is None:
                    return
                file = folder / mutant[0]
                file.write_bytes(mutant[1])
                answer = worker.try_out(file, seconds)
                if worker.process.poll() is not None:
                    worker = Worker(memory)
                results.put((file, answer))
        except BaseException as error:  # noqa: BLE001 - raised below
            results.put(error)
        finally:
            worker.end()
            results.put(None)

    for _ in range(processes):
        threading.Thread(target=serve, daemon=True).start()
    while processes:
        result = results.get()
        if result is None:
            processes -= 1
            continue
        if isinstance(result, BaseException):
            raise result
        yield result
        result[0].unlink()


def print_table(answers: dict[str, list[dict[str, Any]]]) -> None:
    """Counts by container, and what the worst mutant took."""
    columns = (*SURVIVED, *FAILED)
    print(f"{'container':>10} {'tried':>6}", *(f"{name:>8}" for name in columns), end="")
    print(f" {'peak MiB':>9} {'slowest s':>10}")
    everything = [answer for some in answers.values() for answer in some]
    for container, some in [*sorted(answers.items()), ("all", everything)]:
        counts = (sum(answer["outcome"] == name for answer in some) for name in columns)
        peak = max(answer["peak"] for answer in some) / 2**20
        slowest = max(answer["seconds"] for answer in some)
        print(f"{container:>10} {len(some):6d}", *(f"{count:8d}" for count in counts), end="")
        print(f" {peak:9.0f} {slowest:10.1f}")


def main(
    count: Annotated[int, typer.Option(help="how many mutants")] = 600,
    seed: Annotated[int, typer.Option(help="another one gives other mutants")] = 0,
    only: Annotated[str, typer.Option(help="base videos whose names contain this")] = "",
    keep: Annotated[Path, typer.Option(help="where mutants that fail go")] = Path("fuzz_failures"),
    processes: Annotated[int, typer.Option(help="how many at a time")] = 2,
    memory: Annotated[float, typer.Option(help="GiB that ffmpeg may take")] = 3.0,
    seconds: Annotated[float, typer.Option(help="after which it is a hang")] = 90.0,
    verbose: Annotated[bool, typer.Option(help="print what becomes of each mutant")] = False,
) -> None:
    answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        (bases_folder := Path(name) / "bases").mkdir()
        bases = [base for base in make_bases(bases_folder) if only in base.name]
        if not bases:
            raise typer.BadParameter(f"no base video has {only!r} in its name")
        print(f"{count} mutants, seed {seed}, of {len(bases)} videos", flush=True)
        mutants = (mutate(bases, number, seed) for number in range(count))
        limits = (processes, round(memory * 2**30), seconds)
        for file, answer in try_all(mutants, Path(name), *limits):
            answers[file.suffix[1:]].append(answer)
            if answer["outcome"] in FAILED:
                failed += 1
                keep.mkdir(parents=True, exist_ok=True)
                (keep / file.name).write_bytes(file.read_bytes())
            if verbose or answer["outcome"] in FAILED:
                print(f"{answer['outcome']}: {file.name} {answer['text']}", flush=True)
    print_table(answers)
    if failed:
        print(f"{failed} mutants failed; they are in {keep}")
        raise typer.Exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work()
    else:
        typer.run(main)
