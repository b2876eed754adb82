"""Numbered pictures as a video."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Final

from gridpose.core import InputError
from gridpose.pipeline.video.reader import Frame, is_image, read_image
from gridpose.storage import file_sha256

DEFAULT_RATE: Final = 30.0
_PATTERN: Final = re.compile(r"%0?\d*d")
_NUMBER: Final = re.compile(r"(\d+)(?=\D*$)")
"""The last number of a name."""


def is_sequence(source: Path) -> bool:
    """Whether a path names numbered pictures: a folder, or a name with ``%04d`` in it."""
    try:
        return source.is_dir() or (_PATTERN.search(source.name) is not None and not source.exists())
    except OSError:  # a name that is too long, say
        return False


def pictures_of(source: Path) -> list[Path]:
    """The pictures that a folder or a name with ``%04d`` stands for, by their numbers.

    Raises:
        InputError: there are none.
    """
    folder = source if source.is_dir() else source.parent
    if not folder.is_dir():
        raise InputError(f"{source}: there is no folder {folder}")
    there = [file for file in folder.iterdir() if is_image(file) and not file.name.startswith(".")]
    if source.is_dir():
        if not there:
            raise InputError(
                f"{source}: is a folder without pictures; gridpose batch does all videos of one"
            )
    else:
        before, after = _PATTERN.split(source.name, maxsplit=1)
        form = re.compile(f"{re.escape(before)}\\d+{re.escape(after)}")
        there = [file for file in there if form.fullmatch(file.name)]
        if not there:
            raise InputError(f"{source}: there are no such pictures")
    return sorted(there, key=lambda file: (_number(file) or 0, file.name))


def _number(file: Path) -> int | None:
    found = _NUMBER.search(file.stem)
    return None if found is None else int(found[1])


class PictureSequence:
    """Hands out numbered pictures at a steady rate; a number that is missing leaves a gap in time.

    Pictures that cannot be read or have another size are left out, and told of.

    Args:
        source: a folder, or a name with ``%04d`` in it.
        fps: pictures a second.
        start: second at which to start.
        end: second at which to stop.
        stride: take every n-th picture.

    Raises:
        InputError: there are no such pictures, or the first cannot be read.
    """

    cpu_seconds = 0.0

    def __init__(
        self,
        source: Path,
        fps: float = DEFAULT_RATE,
        start: float = 0.0,
        end: float | None = None,
        stride: int = 1,
    ) -> None:
        self.warnings: list[str] = []
        files = pictures_of(source)
        times = [index / fps for index in _indices(files)]
        wanted = [
            (file, time)
            for file, time in zip(files, times, strict=True)
            if time >= start and (end is None or time < end)
        ]
        if not wanted:
            raise InputError(f"{source}: no pictures from second {start:g} on")
        self._wanted = wanted[::stride]
        first = read_image(self._wanted[0][0])
        self.size = (first.shape[1], first.shape[0])
        self.fps = Fraction(fps).limit_denominator(1001) / stride
        self.frames_expected = len(self._wanted)
        self._source, self._closed = source, False

    def __iter__(self) -> Iterator[Frame]:
        handed, self._closed = 0, False
        for file, time in self._wanted:
            if self._closed:
                return
            try:
                image = read_image(file)
            except InputError as error:
                self.warnings.append(f"{error}; left out")
                continue
            size = (image.shape[1], image.shape[0])
            if size != self.size:
                self.warnings.append(
                    f"{file}: is {size[0]}x{size[1]}, but the first picture is "
                    f"{self.size[0]}x{self.size[1]}; left out"
                )
                continue
            yield Frame(handed, time, image)
            handed += 1

    def close(self) -> None:
        """An iteration under way stops."""
        self._closed = True

    def sha256(self) -> str:
        """Hex digest of the digests of all pictures."""
        digests = "".join(file_sha256(file) for file, _ in self._wanted)
        return hashlib.sha256(digests.encode()).hexdigest()


def _indices(files: Sequence[Path]) -> list[int]:
    """Places in time: by the numbers in the names where these all differ, else one by one."""
    numbers = [_number(file) for file in files]
    known = [number for number in numbers if number is not None]
    if len(set(known)) < len(files):
        return list(range(len(files)))
    # Numbers may be times or dates: steps that are no counting are none of frames.
    steps = [later - sooner for sooner, later in pairwise(known)]
    if steps and sorted(steps)[len(steps) // 2] != 1:
        return list(range(len(files)))
    return [number - known[0] for number in known]
