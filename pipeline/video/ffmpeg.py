"""The ffmpeg program: finding it, asking it about a file, reading what it says.

Only the ``ffmpeg`` program itself is needed (imageio-ffmpeg's has no ffprobe beside it). Facts
about a stream are read from the ``showinfo`` filter on its first frame, which sees it decoded,
turned upright and scaled, as we do.

Files are taken to be hostile: which formats ffmpeg may take them for, how large their pictures may
be, how much memory and time it may use and how much of what it says is kept are all limited.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote_to_bytes

import ffmpeg

from gridpose.core import InputError, MissingError
from gridpose.machine import usable_cores
from gridpose.pipeline.video.conversions import IDET_FRAMES, field_order, may_be_interlaced

PROBE_SECONDS = 60.0
MAX_PIXELS = 1 << 26
MAX_SIDE = 1 << 14
"""Pixels of a picture and of its sides at most: 8K twice over, and what H.264 can be written."""
MEMORY_BYTES = 6 << 30
"""What ffmpeg may allocate while decoding; 8K takes it 2 GiB, and 3 GiB with all threads."""
_MAX_THREADS = 8
_FORMATS = (
    "mov,matroska,avi,flv,live_flv,kux,asf,asf_o,rm,ivr,ogg,"
    "mpegts,mpeg,mpegvideo,wtv,ty,pva,pmp,nsv,nuv,nut,swf,"
    "mxf,mxg,gxf,lxf,dv,dnxhd,r3d,cine,mlv,yuv4mpegpipe,lmlm4,"
    "h261,h263,h264,hevc,vvc,evc,m4v,vc1,ivf,obu,av1,dirac,"
    "cavsvideo,avs2,avs3,mjpeg,smjpeg,dhav,ifv,hxvs,luodat,"
    "gif,apng,webp_anim,jpegxl_anim,"
    "mp3,aac,ac3,flac,wav"  # for saying that there is only sound
)
"""Formats whose files hold all of a video themselves.

Playlists of all sorts, sequences of pictures, subtitles and scripts are not among them: they make
ffmpeg read other files or fetch something, or turn any text into a film.
"""
_TICK_RATE = 100
"""A frame rate from here on that is also the clock's rate is doubted."""
_ADDRESS = "file:"
_MEASURED_FRAMES = 60
_FALLBACK_RATE = Fraction(25)
_PIPE_BYTES = 1 << 20
_LINE_BYTES = 8192
_KEPT_FACTS = 2000
_KEPT_PROBLEMS = 100
# Of digits as many as ffmpeg writes: Python refuses to convert thousands of them.
_TIME_BASE = re.compile(
    r"^\[(?!info\]).*\] config in time_base: (\d{1,10})/(\d{1,10})"
    r", frame_rate: (\d{1,10})/(\d{1,10})",
    re.M,
)
_FRAME = re.compile(
    r"n: *(\d{1,10}) +pts: *(-?\d{1,20}|NOPTS) .*"
    r" sar:(\d{1,10})/(\d{1,10}) s:(\d{1,10})x(\d{1,10}) i:(\S)"
)
_TRANSFER = re.compile(r"^\[(?!info\]).*showinfo.* color_trc:(\S+)", re.M)
_CONTAINER = re.compile(r"^\[info\] Input #0, (\S+), from ", re.M)
_DURATION = re.compile(r"^\[info\]   Duration: (\d{1,15}):(\d\d):(\d\d(?:\.\d{1,9})?)", re.M)
_AUDIO = re.compile(r"Stream #\d+:\d+.*: Audio: (\w+)")
_FACT = re.compile(r"\[info\] (?:Input #0, |  Duration: | +Stream #)")
_TOO_LARGE = re.compile(r"Picture size ([1-9]\d*x[1-9]\d*) (?:exceeds|is invalid)")
_PREFIX = re.compile(r"^(?:\[[^]]*\] )*\[(info|warning|error|fatal|panic|verbose)\] ")


@lru_cache(maxsize=1)
def ffmpeg_program() -> str:
    """Path of the system's ffmpeg, else of imageio-ffmpeg's.

    Raises:
        MissingError: there is neither.
    """
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise MissingError(
            "no ffmpeg program found: pip install imageio-ffmpeg, or install ffmpeg"
        ) from error


@lru_cache(maxsize=4)
def ffmpeg_version(program: str) -> tuple[int, int] | None:
    """(major, minor), or None for builds named otherwise (nightlies, which are recent)."""
    asked = subprocess.run(
        [program, "-hide_banner", "-version"],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PROBE_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    match = re.match(r"ffmpeg version n?(\d+)\.(\d+)", asked.stdout)
    return (int(match[1]), int(match[2])) if match else None


def decode_command(
    file: Path, target: str, filters: list[str], *, start: float = 0.0, **options: Any
) -> list[str]:
    """Arguments that decode the first video stream of a file, neither dropping nor repeating.

    Args:
        file: it may be hostile.
        target: where frames go: ``pipe:1``, or ``-`` for nowhere.
        filters: what frames go through.
        start: second to seek to.
        options: of the output.
    """
    version = ffmpeg_version(ffmpeg_program())
    is_old = version is not None and version < (5, 1)
    options["vsync" if is_old else "fps_mode"] = "passthrough"
    output = _input(file, start).output(target, map="0:V:0", vf=",".join(filters), **options)
    return _arguments(output.global_args("-nostdin"))


def encode_command(
    file: Path,
    size: tuple[int, int],
    fps: Fraction,
    *,
    crf: int,
    preset: str,
    audio_from: Path | None = None,
    audio_codec: str = "copy",
    audio_start: float = 0.0,
    audio_end: float | None = None,
) -> list[str]:
    """Arguments that encode YUV 4:2:0 frames from stdin as :class:`~.writer.VideoWriter` says.

    ``audio_codec`` is what the sound is encoded with; ``copy`` takes it as it is.
    """
    frames = ffmpeg.input(
        "pipe:0",
        format="rawvideo",
        pix_fmt="yuv420p",
        s=f"{size[0]}x{size[1]}",
        framerate=f"{fps.numerator}/{fps.denominator}",
    )
    streams, sound = [frames["v"]], {}
    if audio_from is not None:
        streams.append(_input(audio_from, audio_start, audio_end)["a:0"])
        sound = {"acodec": audio_codec, "max_muxing_queue_size": 9999}
    output = ffmpeg.output(
        *streams,
        _address(file),
        vcodec="libx264",
        pix_fmt="yuv420p",
        preset=preset,
        crf=crf,
        movflags="+faststart",
        format="mp4",
        # Say which conversion from RGB was used (OpenCV's is BT.601), or players guess by size.
        color_range="tv",
        colorspace="smpte170m",
        color_primaries="bt709",
        color_trc="bt709",
        **sound,
    )
    return _arguments(output.overwrite_output())


def _address(file: Path) -> str:
    """A file for ffmpeg-python, until :func:`_arguments`; bytes quoted, as it needs proper text.

    Behind ``file:``, ffmpeg takes no name for an option, a protocol or anything else.
    """
    return _ADDRESS + quote(os.fsencode(file.absolute()))


def _input(file: Path, start: float = 0.0, end: float | None = None) -> Any:
    """An ffmpeg-python input node.

    Protocols other than ``file:`` are off, as are formats that lead to other files, so that no
    playlist can make ffmpeg fetch anything.
    """
    options: dict[str, Any] = {
        "protocol_whitelist": "file",
        "format_whitelist": _FORMATS,
        "max_pixels": MAX_PIXELS,
        # Every thread has pictures of its own. This is ffmpeg's choice, but for the maximum.
        "threads": min(usable_cores() + 1, _MAX_THREADS),
    }
    if start:
        options["ss"] = f"{start:.6f}"
    if end is not None:
        options["to"] = f"{end:.6f}"
    return ffmpeg.input(_address(file), **options)


def _arguments(output: Any) -> list[str]:
    """Of an ffmpeg-python output node, logging with levels and without statistics."""
    logging = ["-hide_banner", "-nostats", "-loglevel", "level+info"]
    compiled: list[str] = output.global_args(*logging).compile(cmd=ffmpeg_program())
    return [
        _ADDRESS + os.fsdecode(unquote_to_bytes(text.removeprefix(_ADDRESS)))
        if text.startswith(_ADDRESS)
        else text
        for text in compiled
    ]


@dataclass(frozen=True)
class StreamInfo:
    """What is known of a video before decoding it.

    ``container`` is ffmpeg's name or names of the format, separated by commas.
    ``width`` and ``height`` are as displayed: rotation applied, square pixels. ``duration`` in
    seconds and ``audio_codec`` are None where unknown or absent. ``transfer`` is ffmpeg's name of
    the transfer function. ``fields`` tells of interlaced video which field is first (``tff`` or
    ``bff``; ``auto`` where frames say so themselves), and is None for progressive video.
    """

    container: str
    width: int
    height: int
    fps: Fraction
    time_base: Fraction
    duration: float | None
    audio_codec: str | None
    transfer: str = "unknown"
    fields: str | None = None

    @property
    def frames_announced(self) -> int | None:
        """An estimate, for progress bars."""
        return None if self.duration is None else max(1, round(self.duration * self.fps))


def frame_stamp(line: str) -> tuple[int, int | None] | None:
    """Number and timestamp of the frame in a line of showinfo; None for any other line.

    Frames are counted from 0, and from 0 again where the size changes.
    """
    match = _match_frame(line)
    if match is None:
        return None
    return int(match[1]), None if match[2] == "NOPTS" else int(match[2])


def _match_frame(line: str) -> re.Match[str] | None:
    # What a file says of itself comes in lines that begin with "[info]" or, from the second line
    # of a text on, with spaces.
    if not line.startswith("[") or line.startswith("[info]") or "showinfo" not in line:
        return None
    return _FRAME.search(line)


def problem_text(line: str) -> str | None:
    """The message of a line of level error or worse, else None."""
    match = _PREFIX.match(line)
    if match is None or match[1] not in ("error", "fatal", "panic"):
        return None
    return line[match.end() :].strip()


def probe(file: Path) -> StreamInfo:
    """Decode the first frame of a video and read off its facts.

    Raises:
        InputError: not a video, no video stream, too large pictures, or nothing that decodes.
        MissingError: no ffmpeg.
    """
    deadline = time.monotonic() + PROBE_SECONDS
    lines = _log_of_frames(file, 1, deadline)
    log = "\n".join(lines)
    base = _TIME_BASE.search(log)
    frame = next(filter(None, map(_match_frame, lines)), None)
    if base is None or frame is None:
        if time.monotonic() > deadline:
            raise InputError(f"{file}: ffmpeg found no frame in {PROBE_SECONDS:g} s")
        raise InputError(f"{file}: {_why_no_frame(log)}")
    sar_width, sar_height = int(frame[3]), int(frame[4])
    width, height = int(frame[5]), int(frame[6])
    if sar_width > 0 and sar_height > 0 and sar_width != sar_height:
        width = max(1, round(width * sar_width / sar_height))
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise InputError(f"{file}: {_too_large(f'{width}x{height}')}")
    time_base = Fraction(int(base[1]), max(1, int(base[2])))
    rate = Fraction(int(base[3]), max(1, int(base[4])))
    if not 0 < rate <= 1000 or (rate >= _TICK_RATE and rate * time_base == 1):
        # Of some variable-rate videos (browsers' WebM, GIF) ffmpeg knows nothing but the clock.
        rate = _measured_rate(file, time_base, deadline)
    container, audio = _CONTAINER.search(log), _AUDIO.search(log)
    transfer, duration = _TRANSFER.search(log), _duration(log)
    fields = "auto" if frame[7] in "TB" else None
    if fields is None and may_be_interlaced(int(frame[6]), rate):
        fields = _fields_found(file, duration, deadline)
    return StreamInfo(
        container=container[1] if container else "",
        width=width,
        height=height,
        fps=rate,
        time_base=time_base,
        duration=duration,
        audio_codec=audio[1] if audio else None,
        transfer=transfer[1] if transfer else "unknown",
        fields=fields,
    )


def _duration(log: str) -> float | None:
    said = _DURATION.search(log)
    return said and 3600 * int(said[1]) + 60 * int(said[2]) + float(said[3])


def _fields_found(file: Path, duration: float | None, deadline: float) -> str | None:
    """Which field is first in video that does not say it is interlaced, by how it looks."""
    start = 0.0 if duration is None else duration / 3
    lines = _log_of_frames(file, IDET_FRAMES, deadline, "idet", start)
    return field_order("\n".join(lines))


def _log_of_frames(
    file: Path, count: int, deadline: float, sees: str = "showinfo", start: float = 0.0
) -> list[str]:
    """What ffmpeg says, until a monotonic time, of some frames of a video while decoding.

    Args:
        file: the video.
        count: how many frames at most.
        deadline: monotonic time, s.
        sees: the filter that tells of them.
        start: second of the first.
    """
    process = subprocess.Popen(
        decode_command(file, "-", [sees], start=start, format="null", vframes=count),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    log = _FactReader(process.stderr)
    try:
        limit_memory(process)
        log.join(max(0.0, deadline - time.monotonic()))
    finally:
        process.kill()
        process.wait()
        log.join()
        process.stderr.close()
    return [*log.facts, *log.first_problems]


def limit_memory(process: subprocess.Popen[bytes]) -> None:
    """Let ffmpeg allocate no more than :data:`MEMORY_BYTES` from now on, where the system can."""
    if sys.platform == "linux":
        import resource

        with contextlib.suppress(OSError):  # it has ended by now
            present = resource.prlimit(process.pid, resource.RLIMIT_DATA)
            finite = [limit for limit in present if limit != resource.RLIM_INFINITY]
            limit = min([MEMORY_BYTES, *finite])
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (limit, limit))


def _measured_rate(file: Path, time_base: Fraction, deadline: float) -> Fraction:
    """Mean rate of the first frames by their presentation times."""
    lines = _log_of_frames(file, _MEASURED_FRAMES, deadline)
    stamps = filter(None, map(frame_stamp, lines))
    times = [pts * time_base for _, pts in stamps if pts is not None]
    if len(times) < 2 or times[-1] <= times[0]:
        return _FALLBACK_RATE
    mean = (len(times) - 1) / (times[-1] - times[0])
    return min(max(mean.limit_denominator(10), Fraction(1)), Fraction(1000))


def _why_no_frame(log: str) -> str:
    """One clear sentence from ffmpeg's log of a file without a decodable frame."""
    if "Format not on whitelist" in log:
        return "not a video file (a playlist, picture or text, or a format that is not read)"
    if "Invalid data found when processing input" in log and "Input #0" not in log:
        return f"not a video file that ffmpeg can read ({_first_problem(log)})"
    if "matches no streams" in log:
        return "has no video in it (only sound or data)"
    if too_large := _TOO_LARGE.search(log):
        return _too_large(too_large[1])
    return f"no frame of it can be decoded ({_first_problem(log)})"


def _too_large(size: str) -> str:
    return (
        f"its pictures are too large: {size} pixels "
        f"(at most {MAX_SIDE} a side and {MAX_PIXELS / 1e6:.0f} million in all)"
    )


def _first_problem(log: str) -> str:
    return next(filter(None, map(problem_text, log.splitlines())), "ffmpeg gave no reason")


def widen_pipe(stream: IO[bytes]) -> None:
    """Let a pipe hold more than 64 KiB: frames of megabytes pass with fewer task switches."""
    with contextlib.suppress(ImportError, AttributeError, OSError):  # Linux alone can
        import fcntl

        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class LogReader(threading.Thread):
    """Drains a process's stderr, so that it never blocks, and keeps the last lines.

    Of lines without end the beginning counts.
    """

    def __init__(self, stream: IO[bytes], keep: int = 200) -> None:
        super().__init__(daemon=True, name="ffmpeg-log")
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=keep)
        self.start()

    def run(self) -> None:
        begins = True
        while raw := self._stream.readline(_LINE_BYTES):
            if begins:
                self.handle(raw.decode(errors="replace").rstrip())
            begins = raw.endswith(b"\n")

    def handle(self, line: str) -> None:
        """Called in the reading thread for every line."""
        self._lines.append(line)

    def problems(self) -> list[str]:
        """Error messages so far, without repetitions."""
        texts = (problem_text(line) for line in list(self._lines))
        return list(dict.fromkeys(text for text in texts if text))


class _FactReader(LogReader):
    """Keeps the first lines of those that tell something; tags and chapters may be endless."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.facts: list[str] = []
        self.first_problems: list[str] = []
        super().__init__(stream)

    def handle(self, line: str) -> None:
        if problem_text(line) is not None:
            if len(self.first_problems) < _KEPT_PROBLEMS:
                self.first_problems.append(line)
        elif len(self.facts) < _KEPT_FACTS and (
            _FACT.match(line)
            or _TIME_BASE.match(line)
            or frame_stamp(line)
            or _TRANSFER.match(line)
            or "Multi frame detection" in line
        ):
            self.facts.append(line)
