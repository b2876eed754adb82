"""Which way is up, from how people stand: for cameras that are not level."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from gridpose.core import JOINT_NAMES, BoolArray, DoubleArray, FloatArray, unit_vectors

LEVEL: Final[DoubleArray] = np.array((0.0, -1.0, 0.0))
"""Up in the axes of a level camera (x right, y down, z away)."""

MOST_FLEXED_DEGREES: Final = 35.0
MOST_BENT_DEGREES: Final = 25.0
LEAST_POSES: Final = 10
_PRIOR_POSES = 10
"""As many poses as these speak for a level camera."""
_MEMORY_POSES = 3000
_NEAR = 0.03
_TURN_DEGREES_PER_SECOND = 3.0

_HIPS, _KNEES, _ANKLES = (
    [JOINT_NAMES.index(f"{side}_{joint}") for side in ("right", "left")]
    for joint in ("hip", "knee", "ankle")
)
_THORAX: Final = JOINT_NAMES.index("thorax")


def body_axes(poses: FloatArray) -> DoubleArray:
    """Unit vectors (N, 3) from between the ankles to the thorax of poses (N, 17, 3)."""
    return unit_vectors(poses[:, _THORAX] - poses[:, _ANKLES].mean(1))


def stands(poses: FloatArray) -> BoolArray:
    """(N,) whether poses (N, 17, 3) have straight legs in line with the trunk.

    However the body is turned: somebody who lies stretched out counts too.
    """
    knees = poses[:, _KNEES]
    flexed = _angle(knees - poses[:, _HIPS], poses[:, _ANKLES] - knees).max(1)
    bent = _angle(poses[:, 0] - poses[:, _ANKLES].mean(1), poses[:, _THORAX] - poses[:, 0])
    return np.asarray((flexed < MOST_FLEXED_DEGREES) & (bent < MOST_BENT_DEGREES))


class Gravity:
    """Collects poses and estimates the direction against gravity.

    It is the geometric median of the axes of bodies that stand, over the last few thousand
    poses; those who bend, or lie now and then, hardly move it. With few of them it stays near
    level. On motion capture before simulated cameras it is 2.6° off in the median, where level is
    10.6° (cameras tilted by -30° to 5°), and 1.8° where level is 2.8° (cameras within about 3°).
    """

    def __init__(self) -> None:
        self._axes: deque[DoubleArray] = deque(maxlen=_MEMORY_POSES)
        self.up = LEVEL
        """(3,) unit vector in camera axes, as of the last :meth:`follow`."""
        self._began = False

    def add(self, poses: FloatArray) -> None:
        """Take in camera-axes poses (N, 17, 3)."""
        self._axes.extend(body_axes(poses)[stands(poses)])

    def estimate(self) -> DoubleArray:
        """(3,) unit vector in camera axes; level while there is too little to tell."""
        count = len(self._axes)
        if count < LEAST_POSES:
            return LEVEL
        axes = np.array(self._axes)
        up = unit_vectors(np.median(axes, 0))
        for _ in range(10):  # Weiszfeld's iteration
            weights = 1 / np.maximum(np.linalg.norm(axes - up, axis=-1), _NEAR)
            up = unit_vectors((axes * weights[:, None]).sum(0))
        return _towards(LEVEL, up, fraction=count / (count + _PRIOR_POSES))

    @property
    def tilt_degrees(self) -> float:
        """How far the estimate is from level."""
        return float(_angle(self.estimate(), LEVEL))

    def follow(self, seconds: float) -> None:
        """Bring :attr:`up` to the estimate: at once at first, later in a slow turn."""
        wanted = self.estimate()
        angle = float(_angle(self.up, wanted))
        most = _TURN_DEGREES_PER_SECOND * seconds if self._began else angle
        self._began = True
        self.up = _towards(self.up, wanted, min(1.0, most / max(angle, 1e-9)))


def upright(up: DoubleArray) -> DoubleArray:
    """The smallest rotation (3, 3) that takes ``up`` to that of a level camera: ``R @ point``."""
    return np.asarray(_turn(up, LEVEL).as_matrix())


def _towards(start: DoubleArray, end: DoubleArray, fraction: float) -> DoubleArray:
    whole = _turn(start, end).as_rotvec()
    return np.asarray(Rotation.from_rotvec(fraction * whole).apply(start))


def _turn(start: DoubleArray, end: DoubleArray) -> Rotation:
    axis = np.cross(start, end)
    length = float(np.linalg.norm(axis))
    if length < 1e-12:  # upside down is as good as level: there is no telling where to turn
        return Rotation.identity()
    return Rotation.from_rotvec(axis / length * math.atan2(length, float(start @ end)))


def _angle(first: FloatArray | DoubleArray, second: FloatArray | DoubleArray) -> DoubleArray:
    """Degrees between vectors (..., 3)."""
    cosine = (unit_vectors(first) * unit_vectors(second)).sum(-1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
