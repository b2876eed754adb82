"""Setting people upright one by one: what keeps its balance stands over its feet."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from gridpose.core import JOINT_NAMES, DoubleArray, FloatArray

_MASSES: Final = {
    "head": 0.08, "thorax": 0.25, "hip": 0.20, "spine": 0.05,
    **{f"{side}_{joint}": mass for side in ("left", "right") for joint, mass in (
        ("hip", 0.05), ("knee", 0.10), ("ankle", 0.045), ("elbow", 0.027), ("wrist", 0.013))},
}  # fmt: skip
"""Shares of the body's mass, set to the joints; segments' after Winter, "Biomechanics and Motor
Control of Human Movement"."""
_WEIGHTS: Final[DoubleArray] = np.array([_MASSES.get(name, 0.0) for name in JOINT_NAMES])
_RIGHT_HIP, _LEFT_HIP, _RIGHT_ANKLE, _LEFT_ANKLE = (
    JOINT_NAMES.index(name) for name in ("right_hip", "left_hip", "right_ankle", "left_ankle")
)

_AHEAD_METRES = 0.04
"""How far the middle of the feet is before the ankles."""
_SECONDS = 0.7
_GAIN_ACROSS, _GAIN_AWAY = 0.3, 0.75
"""Share of a lean that is the lifter's error: it tells the distance badly, the rest well."""
_LEAST_DEGREES, _MOST_DEGREES = 20.0, 35.0
"""Who leans by more than that does something else than to stand or walk."""
_LARGEST_DEGREES = 15.0
_DOUBT = 0.15


def balanced(poses: FloatArray, fps: float) -> FloatArray:
    """Poses (T, 17, 3) of one person, turned about the hip so that they keep their balance.

    Over a second or two the centre of mass of whoever stands, or walks steadily, is above the feet
    on average: the ground pushes up there, and a lean by an angle a would be a fall that speeds up
    by g tan a. It is turned by a mean over time, so nobody's sway is lost, and not where people
    bend, lie or fly.

    Args:
        poses: world axes (z up, y away from the camera), hip at the origin, finite.
        fps: frames per second.
    """
    across = poses[:, _LEFT_HIP] - poses[:, _RIGHT_HIP]
    ahead = np.column_stack((across[:, 1], -across[:, 0]))
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-3)
    feet = poses[:, (_RIGHT_ANKLE, _LEFT_ANKLE)].mean(1).astype(np.float64)
    feet[:, :2] += _AHEAD_METRES * ahead
    body = np.einsum("tjc,j->tc", poses, _WEIGHTS / _WEIGHTS.sum()) - feet
    lean = np.degrees(np.arctan2(np.linalg.norm(body[:, :2], axis=1), body[:, 2]))
    stands = np.clip((_MOST_DEGREES - lean) / (_MOST_DEGREES - _LEAST_DEGREES), 0, 1)
    tall = np.maximum(body[:, 2:], 0.3)

    def mean(values: DoubleArray) -> DoubleArray:
        # Beyond the ends nothing is known, and so nothing is turned.
        return np.asarray(gaussian_filter1d(values, _SECONDS * fps, axis=0, mode="nearest"))

    share = mean(stands)[:, None]
    # The mean of where the body is over that of how tall it is, as the balance is one of torques.
    slope = mean(body[:, :2] * stands[:, None]) / np.maximum(mean(tall * stands[:, None]), 1e-6)
    angle = np.arctan(slope) * (_GAIN_ACROSS, _GAIN_AWAY) * share / (share + _DOUBT)
    size = np.linalg.norm(angle, axis=1, keepdims=True)
    angle *= np.minimum(1, np.radians(_LARGEST_DEGREES) / np.maximum(size, 1e-9))
    # To turn by a vector (x, y, 0) moves what is above by (y, -x).
    turn = Rotation.from_rotvec(np.column_stack((angle[:, 1], -angle[:, 0], np.zeros(len(angle)))))
    return np.asarray(np.einsum("tac,tjc->tja", turn.as_matrix(), poses), np.float32)
