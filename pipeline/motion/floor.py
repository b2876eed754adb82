"""The floor that people share, found from what carries each of them."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np

from gridpose.core import DoubleArray

CAMERA_METRES: Final = 1.4
"""Height of a camera, where everybody stands higher than it does."""
_ABOVE_METRES = 0.3
"""Whoever stands higher than this over the camera stands on something."""
_MEMORY = 1500
_LEVEL_METRES = 0.35
"""Supports that are so close in height are one level."""
_NOISE_METRES = 0.1
_TILT: Final = math.tan(math.radians(3.0))
"""Deviation of the floor's slope, as the direction of gravity is not known better."""
_SETTLE_SECONDS = 1.0
_INDEPENDENT = 20.0
"""As many observations, at most, as all are worth."""


class Floor:
    """A plane below everybody: the lowest level on which people stand.

    Heights of what is far away are wrong by what gravity is; the plane may slope as much as that.
    """

    def __init__(self) -> None:
        self._supports: deque[DoubleArray] = deque(maxlen=_MEMORY)
        self._plane: DoubleArray | None = None
        """Height at the origin, slope along x and y."""

    def add(self, points: DoubleArray) -> None:
        """Take in points (N, 3) m, camera axes, that carried somebody."""
        self._supports.extend(points)

    def settle(self, to_world: DoubleArray, seconds: float) -> None:
        """Fit the plane anew: at once at first, ``seconds`` later as far as that goes.

        Args:
            to_world: (3, 3) takes camera axes to world axes, z up.
            seconds: since the last time.
        """
        if not self._supports:
            return
        wanted = _fitted(np.array(self._supports) @ to_world.T)
        if self._plane is None:
            self._plane = wanted
        self._plane += (1 - math.exp(-seconds / _SETTLE_SECONDS)) * (wanted - self._plane)

    def heights(self, places: DoubleArray) -> DoubleArray:
        """Of the floor at places (T, 3), world axes from the camera: (T,) m over the camera."""
        plane = np.array((-CAMERA_METRES, 0, 0)) if self._plane is None else self._plane
        return np.asarray(plane[0] + places[:, :2] @ plane[1:])


def _fitted(points: DoubleArray) -> DoubleArray:
    """The lowest level of points (N, 3): height at the origin and slopes.

    Iteratively reweighted least squares with the slopes held near zero.
    """
    lowest = float(np.percentile(points[:, 2], 10))
    if lowest > _ABOVE_METRES:
        return np.array((-CAMERA_METRES, 0.0, 0.0))
    # Slopes are about the middle of the lowest level, so that they leave its height alone.
    middle = points[points[:, 2] < lowest + _LEVEL_METRES, :2].mean(0)
    design = np.column_stack((np.ones(len(points)), points[:, :2] - middle))
    # Consecutive heights err alike: all of them together weigh as much as a few.
    prior = np.diag((0.0, 1.0, 1.0)) * (_NOISE_METRES / _TILT) ** 2
    plane = np.array((lowest, 0.0, 0.0))
    for _ in range(8):
        off = points[:, 2] - design @ plane
        weights = 1 / (1 + (off / _LEVEL_METRES) ** 4)
        weights *= min(1.0, _INDEPENDENT / weights.sum())
        normal = (design * weights[:, None]).T @ design + prior
        plane = np.linalg.solve(normal, (design * weights[:, None]).T @ points[:, 2])
    return np.array((plane[0] - plane[1:] @ middle, *plane[1:]))
