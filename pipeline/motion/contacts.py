"""When feet stand on something: they are low, and stay where they are."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.ndimage import binary_opening, median_filter, minimum_filter1d
from scipy.signal import savgol_filter

from gridpose.core import JOINT_NAMES, BoolArray, DoubleArray, FloatArray
from gridpose.pipeline.motion.smoothing import present_runs

FEET: Final = tuple(JOINT_NAMES.index(f"{side}_ankle") for side in ("right", "left"))
"""Joints of the columns of contacts."""

# A contact is where ankles are surely slow and low for a moment, and as far around as they are
# slow and low enough.
_SPEEDS: Final = (0.3, 0.45)
"""m/s."""
_HEIGHTS: Final = (0.05, 0.09)
"""m above where the lower foot is within a second."""
_LOWEST_SECONDS: Final = 1.0
_BODY_REACH: Final = 0.35
"""m above the lowest joint feet may be: a stair higher, but not in the air of a handstand."""
_VELOCITY_SECONDS: Final = 0.23
_CARRIED_SECONDS: Final = 0.3
_LEAST_SECONDS: Final = 0.1
_LOWER: Final = 0.02
"""m by which the lower foot must be lower to be clearly the one that carries."""


def foot_contacts(poses: FloatArray, fps: float, travels: bool) -> BoolArray:
    """Whether the right and the left foot stand on something, (T, 2).

    Args:
        poses: (T, 17, 3) m, world axes (z up); NaN where unseen.
        fps: frames per second.
        travels: whether poses say where people are; else hips stay in one place, and bodies are
            taken to move as their lower foot does not.
    """
    contacts = np.zeros((len(poses), 2), np.bool_)
    for start, stop in present_runs(np.asarray(np.isfinite(poses).all((1, 2)))):
        contacts[start:stop] = _of_run(poses[start:stop].astype(np.float64), fps, travels)
    return contacts


def _of_run(poses: DoubleArray, fps: float, travels: bool) -> BoolArray:
    window = _frames(_VELOCITY_SECONDS, fps)
    if len(poses) < window:
        return np.zeros((len(poses), 2), np.bool_)
    feet = poses[:, FEET]
    velocity = savgol_filter(feet, window, 2, deriv=1, delta=1 / fps, axis=0)
    if not travels:
        velocity[..., :2] -= _carried(feet[..., 2], velocity[..., :2], fps)[:, None]
    speed = np.linalg.norm(velocity, axis=-1)
    lowest = minimum_filter1d(feet[..., 2].min(1), _frames(_LOWEST_SECONDS, fps))
    height = feet[..., 2] - lowest[:, None]
    near = feet[..., 2] < poses[..., 2].min(1)[:, None] + _BODY_REACH
    sure, possible = (
        near & (speed < fast) & (height < high)
        for fast, high in zip(_SPEEDS, _HEIGHTS, strict=True)
    )
    contacts = np.zeros_like(sure)
    for foot in range(2):
        for start, stop in present_runs(possible[:, foot]):
            contacts[start:stop, foot] = sure[start:stop, foot].any()
    least = max(1, round(_LEAST_SECONDS * fps))
    # Frames beside the run speak for contact as those at its ends do.
    padded = np.pad(contacts, ((least, least), (0, 0)), mode="edge")
    opened = binary_opening(padded, np.ones((least, 1), np.bool_))
    return np.asarray(opened[least:-least], np.bool_)


def _carried(heights: DoubleArray, velocity: DoubleArray, fps: float) -> DoubleArray:
    """(T, 2) m/s at which what stands still moves past the hip: as the lower foot does."""
    right = 1 / (1 + np.exp(np.clip((heights[:, :1] - heights[:, 1:]) / _LOWER, -50, 50)))
    carried = right * velocity[:, 0] + (1 - right) * velocity[:, 1]
    window = min(_frames(_CARRIED_SECONDS, fps), (len(heights) - 1) | 1)
    return np.asarray(savgol_filter(median_filter(carried, (window, 1)), window, 1, axis=0))


def _frames(seconds: float, fps: float) -> int:
    return max(3, round(seconds * fps) | 1)
