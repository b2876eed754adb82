"""Where pictures come from as they happen: cameras, streams, and files played in real time."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import cv2
import numpy as np

from gridpose.core import ImageArray, InputError, MissingError
from gridpose.pipeline.video.reader import Frame, VideoReader

_STREAM: Final = re.compile(r"(rtsps?|rtmps?|https?|udp|tcp|srt|rtp)://.+", re.IGNORECASE)
_DEVICE: Final = re.compile(r"/dev/video(\d+)")
_CAMERA_SIZE: Final = (1280, 720)
_OPEN_SECONDS, _READ_SECONDS = 10, 5
_USUAL_FPS: Final = 30.0
_OPENCV_SETTINGS: Final = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # quiet
}
"""OpenCV takes these from the environment; what the user has set stays."""


class Feed(Protocol):
    """Pictures as they happen."""

    fps: float
    """How many come in a second, more or less."""
    ends: bool
    """Whether it is over when no more come, and not lost."""

    def read(self) -> ImageArray | None:
        """Wait for the next picture, (H, W, 3) RGB; None when there is none any more."""
        ...

    def close(self) -> None: ...


def camera_number(source: str) -> int | None:
    """The number of the camera that a source names; None for streams and files."""
    device = _DEVICE.fullmatch(source)
    number = device[1] if device else source
    return int(number) if number.isascii() and number.isdecimal() else None


def open_feed(source: str) -> Feed:
    """Open a camera (``0``, ``/dev/video0``), a stream (``rtsp://``, ``http://``, ...) or a file.

    Raises:
        MissingError: there is no such camera, or it is in use.
        InputError: the stream cannot be had, or the file is no video.
    """
    number = camera_number(source)
    if number is not None:
        return _Camera(number)
    return _Stream(source) if _STREAM.fullmatch(source) else _File(Path(source))


class _Opened:
    """What OpenCV has opened."""

    ends = False

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        stated = float(capture.get(cv2.CAP_PROP_FPS))
        self.fps = stated if 1 <= stated <= 120 else _USUAL_FPS

    def read(self) -> ImageArray | None:
        """See :class:`Feed`; OpenCV itself waits no longer than some seconds."""
        with _silently():
            try:
                there, image = self._capture.read()
            except cv2.error:
                return None
        if not there:
            return None
        if image.ndim == 2:
            return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)

    def close(self) -> None:
        """Give the camera or stream back."""
        self._capture.release()


class _Camera(_Opened):
    def __init__(self, number: int) -> None:
        with _silently():
            capture = cv2.VideoCapture(number)
            if not capture.isOpened():
                raise MissingError(_why_no_camera(number))
            # What webcams give uncompressed at this size comes slowly.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, _CAMERA_SIZE[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, _CAMERA_SIZE[1])
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        super().__init__(capture)


class _Stream(_Opened):
    def __init__(self, address: str) -> None:
        options = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 1000 * _OPEN_SECONDS),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1000 * _READ_SECONDS),
            # Each further thread of a decoder keeps a frame back.
            *(cv2.CAP_PROP_N_THREADS, 1),
        ]
        for name, value in _OPENCV_SETTINGS.items():
            os.environ.setdefault(name, value)
        with _silently():
            capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, options)
        if not capture.isOpened():
            raise InputError(f"{without_password(address)}: no stream can be had from there")
        super().__init__(capture)


class _File:
    """Plays a file in real time."""

    ends = True

    def __init__(self, file: Path) -> None:
        self._reader = VideoReader(file, gives_way=False)
        self.fps = float(self._reader.fps)
        self._frames: Iterator[Frame] = iter(self._reader)
        self._begun: float | None = None

    def read(self) -> ImageArray | None:
        """See :class:`Feed`; waits until it is time for it."""
        frame = next(self._frames, None)
        if frame is None:
            return None
        now = time.monotonic()
        if self._begun is None:
            self._begun = now - frame.time
        time.sleep(max(0.0, self._begun + frame.time - now))
        return frame.image

    def close(self) -> None:
        """End the decoder."""
        self._reader.close()


def without_password(address: str) -> str:
    """An address that can be shown."""
    return re.sub(r"(?<=://)[^/@]*@", "", address)


def _why_no_camera(number: int) -> str:
    device = Path(f"/dev/video{number}")
    if sys.platform == "linux":
        if not device.exists():
            there = sorted(str(other) for other in Path("/dev").glob("video*"))
            known = f"; there are {', '.join(there)}" if there else "; there is no camera at all"
            return f"{device}: no such camera{known}"
        if not os.access(device, os.R_OK | os.W_OK):
            return f"{device}: may not be used by you (is your user in the group video?)"
        return f"{device}: gives no pictures; another program may be using it"
    return f"camera {number}: is not there, or another program is using it"


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """Without OpenCV's own words on stderr; ours say what is wrong."""
    before = cv2.getLogLevel()
    cv2.setLogLevel(0)
    try:
        yield
    finally:
        cv2.setLogLevel(before)
