"""Where one shot ends and another begins, found on the frames as they are decoded.

The method is PySceneDetect's adaptive one: a frame differs from the one before it much more than
its neighbours do from theirs. Frames are compared by the correlation of small grey pictures, moved
over each other first, so that neither flickering light nor a shaking camera counts. Dissolves and
fades are not found.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import cv2
import numpy as np

from gridpose.core import AnyArray, FloatArray

FIRST_SHOT: Final = 1

_SIZE: Final = (64, 36)
_WINDOW: Final = np.outer(np.hanning(_SIZE[1]), np.hanning(_SIZE[0])).astype(np.float32)
_LEAST: Final = 0.35
"""Half of what frames of different scenes differ by at least; of one scene they stay below 0.2."""
_RATIO: Final = 2.0
_NEIGHBOURS: Final = 2
_FARTHEST: Final = np.array((12.0, 8.0))
"""What a camera may move by from one frame to the next, px of the small picture."""
_FLAT: Final = 4.0
"""Grey levels: what varies less is noise."""
_BLUR: Final = 1.0

Item = TypeVar("Item")


def numbered_shots(
    items: Iterable[Item], grey_of: Callable[[Item], AnyArray]
) -> Iterator[tuple[int, Item]]:
    """Each item with the number of its shot, from :data:`FIRST_SHOT`; two frames late.

    Args:
        items: frames in their order.
        grey_of: the (H, W) uint8 picture of one, as
            :func:`~gridpose.pipeline.video.stillness.small_grey` makes it.
    """
    finder = _CutFinder()
    waiting: deque[Item] = deque()
    shot = FIRST_SHOT
    for item in items:
        finder.add(grey_of(item))
        waiting.append(item)
        if len(waiting) > _NEIGHBOURS:
            shot += finder.next_is_cut()
            yield shot, waiting.popleft()
    for item in waiting:
        shot += finder.next_is_cut()
        yield shot, item


class _CutFinder:
    """Tells of one frame after another whether a shot begins with it."""

    def __init__(self) -> None:
        self._pictures: deque[FloatArray] = deque(maxlen=3)
        self._changes: deque[float] = deque([0.0] * _NEIGHBOURS)
        """To frames from the one before; of the frame asked for next, and its neighbours."""
        self._lasting: deque[float] = deque()
        """From the frame before each to the one after it; from the frame asked for next."""

    def add(self, grey: AnyArray) -> None:
        self._pictures.append(_smaller(grey))
        change = difference(*list(self._pictures)[-2:]) if len(self._pictures) > 1 else 0.0
        if len(self._pictures) > 2:
            self._lasting[-1] = difference(self._pictures[0], self._pictures[2])
        self._changes.append(change)
        self._lasting.append(change)

    def next_is_cut(self) -> bool:
        changes = list(self._changes)
        around = changes[:_NEIGHBOURS] + changes[_NEIGHBOURS + 1 : 2 * _NEIGHBOURS + 1]
        self._changes.popleft()
        # A flash is gone with the next frame.
        lasts = min(changes[_NEIGHBOURS], self._lasting.popleft())
        return lasts >= max(_LEAST, _RATIO * max(around))


def _smaller(grey: AnyArray) -> FloatArray:
    """A grey picture still smaller, slightly blurred, of mean 0."""
    small = cv2.resize(grey, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    blurred = cv2.GaussianBlur(small, (0, 0), _BLUR)
    return np.asarray(blurred - blurred.mean(), np.float32)


def difference(one: FloatArray, other: FloatArray) -> float:
    """0 for small grey pictures (36, 64) of one scene, about 1 for those of different ones.

    One less their correlation, of the better of the pictures as they are and moved over each other
    (phase correlation: Kuglin & Hines, 1975).
    """
    # OpenCV multiplies what it is given by the window.
    shift = np.array(cv2.phaseCorrelate(one.copy(), other.copy(), _WINDOW)[0])
    found = _correlation(one, other)
    if (np.abs(shift) <= _FARTHEST).all():
        move = np.array(((1, 0, shift[0]), (0, 1, shift[1])), np.float32)
        moved = cv2.warpAffine(one, move, _SIZE, borderMode=cv2.BORDER_REPLICATE)
        found = max(found, _correlation(np.asarray(moved - moved.mean(), np.float32), other))
    return 1 - found


def _correlation(one: FloatArray, other: FloatArray) -> float:
    """Of pictures of mean 0, of which each has the same noise besides."""
    floor = _FLAT**2 * one.size
    powers = [float((picture**2).sum()) for picture in (one, other)]
    noise = math.prod(max(0.0, floor - power) for power in powers) ** 0.5
    whole = math.prod(max(floor, power) for power in powers) ** 0.5
    return (float((one * other).sum()) + noise) / whole
