"""What a file of 2D keypoints holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from gridpose.core import AnyArray, BoolArray, FloatArray, InputError
from gridpose.detectors.conventions import Convention

Stated = Literal["user", "file", "count"]
"""Who says which convention it is: the user, the file, or nobody but the number of keypoints."""

_LARGEST_PICTURE: Final = 1e6
RATES: Final = 0.1, 10_000.0
"""Least and most frames per second."""


@dataclass(frozen=True)
class Keypoints2D:
    """Keypoints of people as a file has them; K keypoints in the order of ``convention``.

    Absent keypoints are NaN. Files that are lists have one leading axis, N.
    """

    keypoints: FloatArray
    """(..., K, 2) px, x right, y down."""
    convention: Convention
    stated: Stated
    confidence: FloatArray | None = None
    """(..., K), in the file's own scale; annotated keypoints have 1, absent ones 0."""
    image_size: FloatArray | None = None
    """(2,) width and height in px, or one for each pose, (..., 2)."""
    visible: BoolArray | None = None
    """(..., K): an annotator saw it; None where the file does not tell."""
    columns: Mapping[str, AnyArray] = field(default_factory=dict)
    """Where each pose of a list comes from, (N,) each: ``image_id``, ``frame``, ``person``..."""
    track: AnyArray | None = None
    """(N,) numbers of the sequences that poses with a ``frame`` belong to, if that is known."""
    track_names: tuple[int | str, ...] = ()
    """What the file calls those, by their numbers, where it has names for them."""
    frames: tuple[int, int] | None = None
    """Numbers of the first and the last frame, where the file has frames without anybody."""
    normalized: bool = False
    """Keypoints are shares of the picture's width and height, 0 to 1, and not px."""
    notes: tuple[str, ...] = ()
    """What the user should know of how the file was read."""
    fps: float | None = None
    """Frames per second, if the file tells; the last axis before the keypoints' is then time."""


def frame_rate(value: float, where: str) -> float:
    """Frames per second.

    Raises:
        InputError: no camera has this rate.
    """
    if not RATES[0] <= value <= RATES[1]:
        raise InputError(f"{where}: fps must be between {RATES[0]:g} and {RATES[1]:g}")
    return float(value)


def picture_size(width: float, height: float, where: str) -> tuple[float, float]:
    """Width and height in px.

    Raises:
        InputError: no picture has this size.
    """
    if not (0 < width <= _LARGEST_PICTURE and 0 < height <= _LARGEST_PICTURE):
        raise InputError(f"{where} has the size {width:g} x {height:g}")
    return width, height
