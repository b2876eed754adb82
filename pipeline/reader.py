"""Streaming video decoding through an ffmpeg child process."""

from __future__ import annotations

import queue
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO

import cv2
import numpy as np

from gridpose.core import ImageArray, InputError
from gridpose.pipeline.ffmpeg import (
    LogReader,
    StreamInfo,
    command,
    ffmpeg_program,
    frame_pts,
    is_frame_line,
    keep_every_frame,
    open_input,
    probe,
    widen_pipe,
)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
_LOG_WAIT_SECONDS = 10.0


@dataclass(frozen=True)
class Frame:
    """A decoded frame: its number, presentation time in seconds and RGB pixels as displayed."""

    index: int
    time: float
    image: ImageArray


class _TimestampLog(LogReader):
    """Hands on the timestamp of every frame that ffmpeg lets through, in order."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.timestamps: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        super().__init__(stream)

    def handle(self, line: str) -> None:
        if is_frame_line(line):
            self.timestamps.put(frame_pts(line))
        elif "showinfo" not in line:
            super().handle(line)


class VideoReader:
    """Iterates over the frames of a video, one in memory at a time; a context manager.

    Args:
        file: any video that ffmpeg can read.
        start: seconds to skip at the beginning.
        end: second at which to stop.
        stride: take every n-th frame.

    Raises:
        InputError: not a readable video.
    """

    def __init__(
        self, file: Path, start: float = 0.0, end: float | None = None, stride: int = 1
    ) -> None:
        check_readable(file)
        self.file = file
        self.info: StreamInfo = probe(file)
        self.start, self.end, self.stride = start, end, stride
        self.warnings: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

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
        if self.info.duration is None and self.end is None:
            return None
        ends = [end for end in (self.info.duration, self.end) if end is not None]
        seconds = max(0.0, min(ends) - self.start)
        return max(1, round(seconds * self.fps))

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child process; an iteration under way stops."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def __iter__(self) -> Iterator[Frame]:
        width, height = self.info.width, self.info.height
        filters = [f"scale={width}:{height}", "setsar=1", "showinfo=checksum=0"]
        if self.stride > 1:
            filters.insert(0, f"select=not(mod(n\\,{self.stride}))")
        program = ffmpeg_program()
        output = open_input(self.file, self.start, self.end).output(
            "pipe:1",
            map="0:V:0",
            vf=",".join(filters),
            format="rawvideo",
            pix_fmt="rgb24",
            **keep_every_frame(program),
        )
        process = subprocess.Popen(
            command(output, program),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches us, and we end the child
        )
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        widen_pipe(process.stdout)
        log = _TimestampLog(process.stderr)
        index, last_time = 0, -1.0
        try:
            while True:
                image = np.empty((height, width, 3), np.uint8)
                if not _read_exactly(process.stdout, image.data.cast("B")):
                    break
                last_time = self._time(log, index, last_time)
                yield Frame(index, last_time, image)
                index += 1
            process.wait()
            log.join()
            self._report(log.problems(), index)
        finally:
            self.close()
            process.stdout.close()
            process.wait()
            log.join()
            process.stderr.close()

    def _time(self, log: _TimestampLog, index: int, last: float) -> float:
        """Presentation time of the frame just read; times never fall."""
        try:
            pts = log.timestamps.get(timeout=_LOG_WAIT_SECONDS)
        except queue.Empty:
            pts = None
        if pts is None:
            return last + float(1 / self.fps) if index else self.start
        return max(self.start + float(pts * self.info.time_base), last)

    def _report(self, problems: list[str], decoded: int) -> None:
        """Turn ffmpeg's complaints at the end of a stream into a warning or an error."""
        why = f" (ffmpeg: {problems[0]})" if problems else ""
        if decoded == 0:
            raise InputError(f"{self.file}: no frame of it can be decoded{why}")
        if problems:
            expected = self.frames_expected
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
