"""Streaming video decoding through an ffmpeg child process."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from gridpose.core import ImageArray, InputError
from gridpose.pipeline.stopwatch import reap
from gridpose.pipeline.video.conversions import (
    lacks_tone_mapping,
    progressive,
    standard_range,
)
from gridpose.pipeline.video.ffmpeg import (
    LogReader,
    StreamInfo,
    decode_command,
    ffmpeg_program,
    frame_stamp,
    limit_memory,
    probe,
    widen_pipe,
)
from gridpose.pipeline.video.priority import spawn
from gridpose.storage import file_sha256

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
_LOG_WAIT_SECONDS = 10.0
_STALL_SECONDS = 120.0
_TICK_SECONDS = 0.5
_BROKEN_SECONDS = 1.0
"""Frames that step back farther than this have a broken timestamp before them."""
_SEEKLESS = frozenset({"mpegts", "mpeg", "h264", "hevc"})
"""Containers in which ffmpeg's seeking misses frames: it does not know where key frames are."""


@dataclass(frozen=True)
class Frame:
    """A decoded frame: its number, presentation time in seconds and RGB pixels as displayed."""

    index: int
    time: float
    image: ImageArray


class _TimestampLog(LogReader):
    """Hands on the timestamp of every frame that ffmpeg lets through.

    Threads in ffmpeg may write into each other's lines, so one may be missing now and then.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stamps: queue.SimpleQueue[tuple[int, int | None] | None] = queue.SimpleQueue()
        self._next: tuple[int, int | None] | None = (-1, None)
        self._last = -1
        self._first = 0
        super().__init__(stream)

    def timestamp(self, index: int) -> int | None:
        """Of a frame, which is none before that of the last call; None where it has none."""
        while self._next is not None and self._next[0] < index:
            try:
                self._next = self._stamps.get(timeout=_LOG_WAIT_SECONDS)
            except queue.Empty:
                return None
        return self._next[1] if self._next is not None and self._next[0] == index else None

    def run(self) -> None:
        super().run()
        self._stamps.put(None)

    def handle(self, line: str) -> None:
        stamp = frame_stamp(line)
        if stamp is not None:
            number, pts = stamp
            if self._first + number <= self._last:  # counted from 0 again
                self._first = self._last + 1 - number
            self._last = self._first + number
            self._stamps.put((self._last, pts))
        elif "showinfo" not in line:
            super().handle(line)


class _Clock:
    """Turns timestamps into presentation times that never fall.

    Args:
        origin: second of timestamp 0.
        time_base: seconds of a tick.
        step: seconds from frame to frame, for frames without a timestamp.
        first: second of the first frame, should it have no timestamp.
    """

    def __init__(self, origin: float, time_base: Fraction, step: float, first: float) -> None:
        self._origin, self._time_base, self._step = origin, time_base, step
        self._last: float | None = None
        self._first = first

    def time(self, pts: int | None) -> float:
        follows = self._first if self._last is None else self._last + self._step
        time = follows if pts is None else self._origin + float(pts * self._time_base)
        if self._last is not None and time < self._last:
            if time < self._last - _BROKEN_SECONDS:
                # After one timestamp far ahead all others lie before it: go on from there, or
                # every later frame would be shown at that one moment.
                self._origin += follows - time
                time = follows
            else:
                time = self._last
        self._last = time
        return time


class _Watchman(threading.Thread):
    """Kills a child process that keeps us waiting for a frame; a context manager.

    Only time in which this program ran counts: it may have been suspended, and the child not.
    """

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        super().__init__(daemon=True, name="ffmpeg-watchman")
        self._process, self._seconds = process, seconds
        self._done = threading.Event()
        self.waits_for: int | None = None
        """The frame that somebody waits for, None while nobody does; to be set by them."""
        self.stalled = False

    def run(self) -> None:
        waited, before = 0.0, None
        while not self._done.wait(_TICK_SECONDS):
            frame = self.waits_for
            waited = waited + _TICK_SECONDS if frame is not None and frame == before else 0.0
            before = frame
            if waited >= self._seconds:
                self.stalled = True
                self._process.kill()
                return

    def __enter__(self) -> _Watchman:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


class VideoReader:
    """Iterates over the frames of a video, one in memory at a time; a context manager.

    Args:
        file: a video in any usual container; it may be damaged or hostile.
        start: seconds to skip at the beginning.
        end: second at which to stop.
        stride: take every n-th frame.
        info: what :func:`~gridpose.pipeline.video.ffmpeg.probe` said, where it was asked already.
        gives_way: decode at lower priority; not where it has to keep up with the clock.

    Raises:
        InputError: not a readable video.
    """

    def __init__(
        self,
        file: Path,
        start: float = 0.0,
        end: float | None = None,
        stride: int = 1,
        info: StreamInfo | None = None,
        *,
        gives_way: bool = True,
    ) -> None:
        check_readable(file)
        self.file = file
        self._gives_way = gives_way
        self.info = info or probe(file)
        self.start, self.end, self.stride = start, end, stride
        self.warnings: list[str] = []
        self.cpu_seconds = 0.0
        """Of the decoders that have ended."""
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    @property
    def size(self) -> tuple[int, int]:
        """Width, height in pixels as displayed."""
        return self.info.width, self.info.height

    @property
    def fps(self) -> Fraction:
        """Rate of the frames that are handed out."""
        return self.info.fps / self.stride

    @property
    def frames_expected(self) -> int | None:
        """An estimate, for progress bars."""
        ends = [end for end in (self.info.duration, self.end) if end is not None]
        return max(1, round(max(0.0, min(ends) - self.start) * self.fps)) if ends else None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child process; an iteration under way stops."""
        self._closed = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def sha256(self) -> str:
        """Hex digest of the file."""
        return file_sha256(self.file)

    def __iter__(self) -> Iterator[Frame]:
        width, height = self.info.width, self.info.height
        sought = 0.0 if self.info.container in _SEEKLESS else self.start
        arguments = decode_command(
            self.file,
            "pipe:1",
            [
                *self._whole_pictures(),
                *self._cuts(sought),
                *self._ordinary_light(),
                f"scale={width}:{height}",
                "setsar=1",
                "showinfo=checksum=0",
                # Their times noted, frames are numbered far apart: of two frames nearer to each
                # other than the stated rate allows, ffmpeg would complain as if it were damaged.
                "settb=1",
                "setpts=1000*N",
            ],
            start=sought,
            format="rawvideo",
            pix_fmt="rgb24",
        )
        process = spawn(
            arguments,
            gives_way=self._gives_way,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._process, self._closed = process, False
        limit_memory(process)
        assert process.stdout is not None
        assert process.stderr is not None
        widen_pipe(process.stdout)
        log = _TimestampLog(process.stderr)
        clock = _Clock(sought, self.info.time_base, float(1 / self.fps), self.start)
        # What is skipped has to be decoded, too.
        watchman = _Watchman(process, _STALL_SECONDS + self.start + float(1 / self.fps))
        index = 0
        try:
            with watchman:
                while True:
                    image = np.empty((height, width, 3), np.uint8)
                    watchman.waits_for = index
                    if not _read_exactly(process.stdout, image.data.cast("B")):
                        break
                    watchman.waits_for = None
                    yield Frame(index, clock.time(log.timestamp(index)), image)
                    index += 1
                self.cpu_seconds += reap(process)
            log.join()
            if not self._closed:
                problems = log.problems()
                if watchman.stalled:
                    problems = ["it came to a standstill", *problems]
                self._report(problems, index, process.returncode)
        finally:
            self.close()
            process.stdout.close()
            self.cpu_seconds += reap(process)
            log.join()
            process.stderr.close()

    def _whole_pictures(self) -> list[str]:
        """Filters that must see every frame, since they look at those before and after."""
        fields, base = self.info.fields, self.info.time_base
        return [] if fields is None else progressive(fields, base)

    def _ordinary_light(self) -> list[str]:
        transfer = self.info.transfer
        filters = standard_range(ffmpeg_program(), transfer)
        if filters is None:
            self.warnings.append(f"{self.file}: {lacks_tone_mapping(transfer)}")
        return filters or []

    def _cuts(self, sought: float) -> list[str]:
        """Filters that take the wanted frames of those from second ``sought`` on."""
        trim = [f"start={self.start - sought:.6f}"] if sought < self.start else []
        if self.end is not None:
            trim.append(f"end={self.end - sought:.6f}")
        cuts = ["trim=" + ":".join(trim)] if trim else []
        if self.stride > 1:
            cuts.append(f"select=not(mod(n\\,{self.stride}))")
        return cuts

    def _report(self, problems: list[str], decoded: int, status: int) -> None:
        """Turn ffmpeg's complaints at the end of a stream into a warning or an error."""
        if status and not problems:  # killed, say for want of memory
            problems = [f"ended early with status {status}"]
        why = f" (ffmpeg: {problems[0]})" if problems else ""
        if decoded == 0 and (self.start or self.end is not None) and not problems:
            until = f" until {self.end:g}" if self.end is not None else ""
            length = "" if self.info.duration is None else f"; it is {self.info.duration:g} s long"
            raise InputError(f"{self.file}: no frames from second {self.start:g}{until}{length}")
        if decoded == 0:
            raise InputError(f"{self.file}: no frame of it can be decoded{why}")
        if problems:
            expected = self.frames_expected if self.info.duration else None
            share = f"{decoded} frames of about {expected}" if expected else f"{decoded} frames"
            self.warnings.append(f"{self.file}: damaged in places; {share} decoded{why}")


def _read_exactly(stream: IO[bytes], target: memoryview) -> bool:
    """Fill ``target``; False at the end of the stream."""
    filled = 0
    reader = stream.readinto  # type: ignore[attr-defined]
    while filled < len(target):
        count = reader(target[filled:])
        if not count:
            return False
        filled += count
    return True


def check_readable(file: Path) -> None:
    """Say clearly what is wrong with a path before anything tries to decode it.

    Raises:
        InputError: missing, a folder, empty or unreadable.
    """
    try:
        if file.is_dir():
            raise InputError(f"{file}: is a folder, not a video")
        if file.exists() and not file.is_file():
            # It is read more than once; a pipe would also block until someone writes to it.
            raise InputError(f"{file}: is not a regular file; save the video to a file first")
        with file.open("rb") as stream:
            if not stream.read(1):
                raise InputError(f"{file}: is empty")
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error


def is_image(file: Path) -> bool:
    """Whether a path names a still picture."""
    return file.suffix.lower() in IMAGE_SUFFIXES


def read_image(file: Path) -> ImageArray:
    """A picture as (H, W, 3) uint8 RGB, turned as its EXIF data say.

    Raises:
        InputError: not a picture.
    """
    check_readable(file)
    try:
        data = np.frombuffer(file.read_bytes(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"{file}: not a picture that OpenCV can read ({error.err})") from error
    if image is None:
        raise InputError(f"{file}: not a picture that OpenCV can read")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
