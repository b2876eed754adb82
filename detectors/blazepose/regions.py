"""Rotated squares of a frame in which BlazePose sees one person, and the crops of them.

The geometry is MediaPipe's (``AlignmentPointsRectsCalculator``, ``RectTransformationCalculator``
and the OpenCV path of ``ImageToTensorCalculator``, at release 0.10.21): a square around a point
between the hips, as large as a second point tells and turned so that this point lies straight
above the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gridpose.core import BoolArray, DoubleArray, FloatArray, ImageArray

ENLARGED: Final = 1.25
"""``scale_x`` and ``scale_y`` of ``pose_detection_to_roi`` and ``pose_landmarks_to_roi``."""


_REACH: Final = 0.6
"""From the middle of a body downwards, as a share of the side; 0.4 if the region is right."""


@dataclass(frozen=True)
class Regions:
    """N squares: ``centers`` (N, 2) px, ``sides`` (N,) px, ``angles`` (N,) radians.

    An angle of 0 is a person who stands upright in the picture; it grows as they turn clockwise.
    """

    centers: DoubleArray
    sides: DoubleArray
    angles: DoubleArray

    def __len__(self) -> int:
        return len(self.sides)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Regions:
        return Regions(self.centers[index], self.sides[index], self.angles[index])

    @classmethod
    def from_points(cls, middle: FloatArray, top: FloatArray) -> Regions:
        """From the points (N, 2) between the hips and of full-body scale."""
        arm = np.asarray(top, np.float64) - middle
        sides = 2 * ENLARGED * np.hypot(arm[:, 0], arm[:, 1])
        angles = np.arctan2(arm[:, 0], -arm[:, 1])
        return cls(np.asarray(middle, np.float64), sides, angles)

    @classmethod
    def joined(cls, parts: Sequence[Regions]) -> Regions:
        """All of at least one part, in order."""
        return cls(
            np.concatenate([part.centers for part in parts]),
            np.concatenate([part.sides for part in parts]),
            np.concatenate([part.angles for part in parts]),
        )

    def reach_below(self, y: float) -> BoolArray:
        """(N,): whose body may reach below this y; of who is cut, regions tell too little."""
        return np.asarray(self.centers[:, 1] + _REACH * self.sides > y)

    def enlarged(self, factor: float) -> Regions:
        """So many times as large, downwards from where the person's head should be."""
        down = np.stack((-np.sin(self.angles), np.cos(self.angles)), -1)
        shift = (factor - 1) * self.sides / (2 * ENLARGED)
        return Regions(self.centers + shift[:, None] * down, factor * self.sides, self.angles)

    def matrices(self, crop: int) -> DoubleArray:
        """(N, 2, 3) affine maps from px in crops of ``crop`` px to px in the frame."""
        cos, sin = np.cos(self.angles), np.sin(self.angles)
        turn = np.stack((cos, -sin, sin, cos), -1).reshape(-1, 2, 2)
        linear = turn * (self.sides / crop)[:, None, None]
        corner = self.centers - linear.sum(-1) * (crop / 2)
        return np.concatenate((linear, corner[..., None]), -1)

    def cut(
        self, frames: Sequence[ImageArray], frame_of_region: Sequence[int], out: ImageArray
    ) -> None:
        """Fill ``out`` (N, S, S, 3) with the crops; outside the frames their edges go on."""
        for crop, index, matrix in zip(
            out, frame_of_region, self.matrices(out.shape[1]), strict=True
        ):
            cv2.warpAffine(
                frames[index],
                matrix,
                (crop.shape[1], crop.shape[0]),
                dst=crop,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )

    def to_frame(self, points: FloatArray) -> FloatArray:
        """(N, K, 2) from shares of the crops' side to px in the frame."""
        matrices = self.matrices(1)
        placed = np.einsum("nij,nkj->nki", matrices[:, :, :2], points) + matrices[:, None, :, 2]
        return np.asarray(placed, np.float32)


def differ(
    one: Regions, other: Regions, shift: float, scale: float, turn: float
) -> NDArray[np.bool_]:
    """(N,): where regions are more than this apart.

    Args:
        one: N regions.
        other: N regions.
        shift: of the centres, as a share of the first one's side.
        scale: ratio of the sides.
        turn: radians.
    """
    apart = np.hypot(*(other.centers - one.centers).T) / np.maximum(one.sides, 1e-6)
    ratio = np.abs(np.log(np.maximum(other.sides, 1e-6) / np.maximum(one.sides, 1e-6)))
    turned = np.abs((other.angles - one.angles + np.pi) % (2 * np.pi) - np.pi)
    return np.asarray((apart > shift) | (ratio > np.log(scale)) | (turned > turn))
