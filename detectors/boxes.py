"""Where people are in single frames: what a top-down keypoint detector is given.

A finder treats each frame on its own. Whoever calls it does so on an interval, or after losing
somebody, and follows people in between by their keypoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridpose.core import AnyArray, BoolArray, DoubleArray, FloatArray, ImageArray


@dataclass(frozen=True)
class PersonBoxes:
    """The people of one frame, the largest first.

    ``boxes`` (N, 4) float32 xyxy px, inside the frame; ``scores`` (N,) float32 in [0, 1], which
    compare only within one finder; ``hints`` (N, H, 2) px where the finder knows more than a box
    of where the keypoint network should look.
    """

    boxes: FloatArray
    scores: FloatArray
    hints: FloatArray | None = None


class PersonFinder(ABC):
    """Finds people in single frames. A context manager: leaving it frees the model."""

    name: str

    @abstractmethod
    def find(self, frames: Sequence[ImageArray]) -> list[PersonBoxes]:
        """The people of each frame. Frames are (H, W, 3) uint8 RGB; sizes may differ."""

    def __enter__(self) -> PersonFinder:
        return self

    def __exit__(self, *exception: object) -> None:  # noqa: B027
        """Most have nothing to free."""


class FullFrame(PersonFinder):
    """One person who fills the frame: for pictures that are crops of a person already."""

    name = "full-frame"

    def find(self, frames: Sequence[ImageArray]) -> list[PersonBoxes]:
        """See :class:`PersonFinder`."""
        corners = [[[0, 0, frame.shape[1], frame.shape[0]]] for frame in frames]
        return [PersonBoxes(np.array(box, np.float32), np.ones(1, np.float32)) for box in corners]


def inside(points: AnyArray, image_size: AnyArray) -> BoolArray:
    """Which points (..., 2) px lie in pictures of (..., 2) px, width and height."""
    return np.asarray(((points >= 0) & (points < image_size)).all(-1))


def overlaps(first: AnyArray, second: AnyArray) -> tuple[DoubleArray, DoubleArray]:
    """How far boxes (N, 4) and (M, 4), xyxy, cover each other.

    Returns:
        (N, M) intersection over union, and (N, M) intersection over the smaller of the two areas,
        which is 1 where one box lies inside the other. Empty boxes overlap nothing.
    """
    one, other = np.asarray(first, np.float64)[:, None], np.asarray(second, np.float64)[None]
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    of_one, of_other = (np.maximum(box[..., 2:] - box[..., :2], 0).prod(-1) for box in (one, other))

    def part(whole: DoubleArray) -> DoubleArray:
        shares = np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)
        return np.asarray(shares)

    return part(of_one + of_other - shared), part(np.minimum(of_one, of_other))


def non_maximum_suppression(
    boxes: FloatArray, scores: FloatArray, max_iou: float
) -> NDArray[np.int64]:
    """Indices of the boxes (N, 4) to keep, best score first.

    Greedy: a box goes when a better one that stays overlaps it by ``max_iou`` or more.
    """
    rivals = overlaps(boxes, boxes)[0] >= max_iou
    kept: list[int] = []
    for index in np.argsort(-np.asarray(scores), kind="stable").tolist():
        if not rivals[index, kept].any():
            kept.append(index)
    return np.array(kept, np.int64)


def person_boxes(
    boxes: FloatArray,
    scores: FloatArray,
    frame_size: tuple[int, int],
    max_persons: int,
    hints: FloatArray | None = None,
) -> PersonBoxes:
    """Boxes (N, 4) clipped to a frame of (width, height) px, the ``max_persons`` largest of them.

    Those with less than 2 px inside the frame are left out.
    """
    width, height = frame_size
    limits = np.array([width, height, width, height], np.float32)
    clipped = np.asarray(boxes, np.float32).reshape(-1, 4).clip(0, limits)
    sides = clipped[:, 2:] - clipped[:, :2]
    order = np.argsort(-sides.prod(-1), kind="stable")
    order = order[(sides[order] >= 2).all(-1)][:max_persons]
    scores = np.asarray(scores, np.float32).reshape(-1)[order]
    return PersonBoxes(clipped[order], scores, None if hints is None else hints[order])
