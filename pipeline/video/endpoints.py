"""What a run reads from and writes to; a still picture is a video of one frame."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2

from gridpose.core import ImageArray
from gridpose.pipeline.video.reader import Frame, read_image
from gridpose.storage import file_sha256, replacing


class Source(Protocol):
    """Where frames come from."""

    warnings: list[str]
    cpu_seconds: float
    """Of child processes that have ended."""

    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def fps(self) -> Fraction: ...
    @property
    def frames_expected(self) -> int | None: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...
    def sha256(self) -> str:
        """Hex digest of what the frames come from."""
        ...


class Sink(Protocol):
    """Where drawn frames go."""

    cpu_seconds: float
    """Of child processes that have ended."""

    def write(self, image: ImageArray, time: float) -> None: ...


class ImageSource:
    """Hands out the picture as the only frame.

    Raises:
        InputError: not a picture.
    """

    cpu_seconds = 0.0

    def __init__(self, file: Path) -> None:
        self._file = file
        self.warnings: list[str] = []
        self._image = read_image(file)
        self.size = (self._image.shape[1], self._image.shape[0])
        self.fps = Fraction(1)
        self.frames_expected = 1

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(0, 0.0, self._image)

    def close(self) -> None:
        """Nothing to free."""

    def sha256(self) -> str:
        """Hex digest of the file."""
        return file_sha256(self._file)


class ImageSink:
    """Writes the one drawn frame as a picture."""

    cpu_seconds = 0.0

    def __init__(self, output: Path) -> None:
        self._output = output

    def write(self, image: ImageArray, time: float) -> None:
        """Write it; the time of a picture does not matter."""
        with replacing(self._output) as partial:
            if not cv2.imwrite(str(partial), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
                raise OSError(0, "OpenCV could not encode the picture")
