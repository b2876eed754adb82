"""The ffmpeg program: finding it, asking it about a file, reading what it says.

Only the ``ffmpeg`` program itself is needed (imageio-ffmpeg's has no ffprobe beside it). Facts
about a stream are read from the ``showinfo`` filter on its first frame, which sees it decoded,
turned upright and scaled, as we do.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import ffmpeg

from gridpose.core import InputError, MissingError

PROBE_SECONDS = 60
_TICK_RATE = 100
"""A frame rate from here on that is also the clock's rate is doubted."""
_MEASURED_FRAMES = 60
_FALLBACK_RATE = Fraction(25)
_PIPE_BYTES = 1 << 20
_TIME_BASE = re.compile(r"config in time_base: (\d+)/(\d+), frame_rate: (\d+)/(\d+)")
_FRAME = re.compile(r"n: *\d+ +pts: *(-?\d+|NOPTS).* sar:(\d+)/(\d+) s:(\d+)x(\d+) ")
_CONTAINER = re.compile(r"Input #0, (\S+), from ")
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_AUDIO = re.compile(r"Stream #\d+:\d+.*: Audio: (\w+)")
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


def _ask(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end for what it says."""
    return subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PROBE_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@lru_cache(maxsize=4)
def ffmpeg_version(program: str) -> tuple[int, int] | None:
    """(major, minor), or None for builds named otherwise (nightlies, which are recent)."""
    banner = _ask([program, "-hide_banner", "-version"]).stdout
    match = re.match(r"ffmpeg version n?(\d+)\.(\d+)", banner)
    return (int(match[1]), int(match[2])) if match else None


def keep_every_frame(program: str) -> dict[str, str]:
    """The output option that neither drops nor repeats frames, in this program's spelling."""
    version = ffmpeg_version(program)
    if version is not None and version < (5, 1):
        return {"vsync": "passthrough"}
    return {"fps_mode": "passthrough"}


def open_input(file: Path, start: float | None = None, end: float | None = None) -> Any:
    """An ffmpeg-python input node.

    The name goes in as a ``file:`` address and other protocols are off, so that neither a strange
    name nor a playlist can make ffmpeg fetch anything.
    """
    options: dict[str, Any] = {"protocol_whitelist": "file,pipe"}
    if start:
        options["ss"] = f"{start:.6f}"
    if end is not None:
        options["to"] = f"{end:.6f}"
    return ffmpeg.input(f"file:{file.absolute()}", **options)


def command(output: Any, program: str) -> list[str]:
    """Argument list of an ffmpeg-python output node, logging with levels and without statistics."""
    arguments = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info"]
    compiled: list[str] = output.global_args(*arguments).compile(cmd=program)
    return compiled


@dataclass(frozen=True)
class StreamInfo:
    """What is known of a video before decoding it.

    ``container`` is ffmpeg's name or names of the format, separated by commas.
    ``width`` and ``height`` are as displayed: rotation applied, square pixels. ``duration`` in
    seconds and ``audio_codec`` are None where unknown or absent.
    """

    container: str
    width: int
    height: int
    fps: Fraction
    time_base: Fraction
    duration: float | None
    audio_codec: str | None

    @property
    def frames_announced(self) -> int | None:
        """An estimate, for progress bars."""
        return None if self.duration is None else max(1, round(self.duration * self.fps))


def frame_pts(line: str) -> int | None:
    """The presentation timestamp in a showinfo line, or None for any other line."""
    match = _FRAME.search(line)
    if match is None or match[1] == "NOPTS":
        return None
    return int(match[1])


def is_frame_line(line: str) -> bool:
    """Whether showinfo wrote this line for a frame."""
    return "showinfo" in line and _FRAME.search(line) is not None


def problem_text(line: str) -> str | None:
    """The message of a line of level error or worse, else None."""
    match = _PREFIX.match(line)
    if match is None or match[1] not in ("error", "fatal", "panic"):
        return None
    return line[match.end() :].strip()


def probe(file: Path) -> StreamInfo:
    """Decode the first frame of a video and read off its facts.

    Raises:
        InputError: not a video, no video stream, or nothing that decodes.
        MissingError: no ffmpeg.
    """
    log = _log_of_frames(file, 1)
    base, frame = _TIME_BASE.search(log), _FRAME.search(log)
    if base is None or frame is None:
        raise InputError(f"{file}: {_why_no_frame(log)}")
    sar_width, sar_height = int(frame[2]), int(frame[3])
    width, height = int(frame[4]), int(frame[5])
    if sar_width > 0 and sar_height > 0 and sar_width != sar_height:
        width = max(1, round(width * sar_width / sar_height))
    time_base = Fraction(int(base[1]), max(1, int(base[2])))
    rate = Fraction(int(base[3]), max(1, int(base[4])))
    if not 0 < rate <= 1000 or (rate >= _TICK_RATE and rate * time_base == 1):
        # Of some variable-rate videos (browsers' WebM, GIF) ffmpeg knows nothing but the clock.
        rate = _measured_rate(file, time_base)
    container, duration = _CONTAINER.search(log), _DURATION.search(log)
    audio = _AUDIO.search(log)
    return StreamInfo(
        container=container[1] if container else "",
        width=width,
        height=height,
        fps=rate,
        time_base=time_base,
        duration=(
            None
            if duration is None
            else 3600 * int(duration[1]) + 60 * int(duration[2]) + float(duration[3])
        ),
        audio_codec=audio[1] if audio else None,
    )


def _log_of_frames(file: Path, count: int) -> str:
    """What ffmpeg says while it decodes the first frames of a video."""
    program = ffmpeg_program()
    output = open_input(file).output(
        "-",
        format="null",
        map="0:V:0",
        vf="showinfo",
        vframes=count,
        **keep_every_frame(program),
    )
    try:
        return _ask(command(output, program)).stderr
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{file}: ffmpeg found no frame in {PROBE_SECONDS} s") from error


def _measured_rate(file: Path, time_base: Fraction) -> Fraction:
    """Mean rate of the first frames by their presentation times."""
    lines = _log_of_frames(file, _MEASURED_FRAMES).splitlines()
    times = [pts * time_base for line in lines if (pts := frame_pts(line)) is not None]
    if len(times) < 2 or times[-1] <= times[0]:
        return _FALLBACK_RATE
    mean = (len(times) - 1) / (times[-1] - times[0])
    return min(max(mean.limit_denominator(10), Fraction(1)), Fraction(1000))


def _why_no_frame(log: str) -> str:
    """One clear sentence from ffmpeg's log of a file without a decodable frame."""
    if "Invalid data found when processing input" in log and "Input #0" not in log:
        return f"not a video file that ffmpeg can read ({first_problem(log)})"
    if "matches no streams" in log:
        return "has no video in it (only sound or data)"
    return f"no frame of it can be decoded ({first_problem(log)})"


def first_problem(log: str) -> str:
    """The first error that ffmpeg reported, or a phrase saying that there was none."""
    for line in log.splitlines():
        text = problem_text(line)
        if text:
            return text
    return "ffmpeg gave no reason"


def widen_pipe(stream: IO[bytes]) -> None:
    """Let a pipe hold more than 64 KiB: frames of megabytes pass with fewer task switches."""
    with contextlib.suppress(ImportError, AttributeError, OSError):  # Linux alone can
        import fcntl

        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class LogReader(threading.Thread):
    """Drains a process's stderr, so that it never blocks, and keeps the last lines."""

    def __init__(self, stream: IO[bytes], keep: int = 200) -> None:
        super().__init__(daemon=True, name="ffmpeg-log")
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=keep)
        self.start()

    def run(self) -> None:
        for raw in self._stream:
            self.handle(raw.decode(errors="replace").rstrip())

    def handle(self, line: str) -> None:
        """Called in the reading thread for every line."""
        self._lines.append(line)

    def problems(self) -> list[str]:
        """Error messages so far, without repetitions."""
        texts = (problem_text(line) for line in list(self._lines))
        return list(dict.fromkeys(text for text in texts if text))
