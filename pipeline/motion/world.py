"""From camera axes to a world for drawing: z up, standing on a floor.

Convention: world axes are x right and y away as the camera looks, z up; the camera is taken to be
upright. The hip stays above the origin; only its height over the floor is estimated.
"""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter, minimum_filter1d
from scipy.signal import savgol_filter

from gridpose.core import BoolArray, DoubleArray, FloatArray

CAMERA_TO_WORLD: Final[DoubleArray] = np.array(((1.0, 0, 0), (0, 0, 1), (0, -1, 0)))
"""(x, y, z) -> (x, z, -y); determinant +1, so nobody is mirrored."""

# Height of a joint's centre over the floor when the body rests on it, by Human3.6M-17 joint.
CLEARANCE: Final[DoubleArray] = np.array(
    (0.10, 0.10, 0.06, 0.08, 0.10, 0.06, 0.08, 0.10, 0.10, 0.08, 0.02, *(0.08, 0.05, 0.04) * 2)
)

FLIGHT_SECONDS: Final = 1.0
"""Who is above the floor for less than this is jumping; for longer, standing on something."""
GRAVITY: Final = 9.81
_SCALE_SECONDS = 0.5
_RISE_NOISE = 0.06
_HEIGHT_SECONDS = 0.25

_Real = TypeVar("_Real", np.float32, np.float64)


def camera_to_world(poses: NDArray[_Real]) -> NDArray[_Real]:
    """Rotate ``(..., 3)`` camera-axes points to world axes."""
    return np.asarray(poses @ CAMERA_TO_WORLD.T.astype(poses.dtype))


def pixels_per_metre(keypoints: FloatArray, poses: FloatArray) -> DoubleArray:
    """Least-squares image scale ``(T,)`` of poses ``(T, 17, 3)`` seen at ``(T, 17, 2)`` px."""
    seen = keypoints - keypoints.mean(1, keepdims=True)
    flat = poses[..., :2] - poses[..., :2].mean(1, keepdims=True)
    scale = (seen * flat).sum((1, 2)) / np.maximum((flat**2).sum((1, 2)), 1e-6)
    return np.asarray(np.maximum(scale, 1e-3), np.float64)


def place(
    poses_world: NDArray[_Real],
    poses_camera: FloatArray,
    keypoints: FloatArray,
    image_height: int,
    fps: float,
) -> NDArray[_Real]:
    """Consecutive poses ``(T, 17, 3)`` of one person raised so that z = 0 is the floor.

    The lowest point of the body rests on the floor, except while the image shows the whole person
    rise and come down again within :data:`FLIGHT_SECONDS`: that is a jump, and its height is kept.
    The floor under a person is the lower envelope of how high the image shows their lowest point,
    see :func:`support`; it follows slopes, steps and slow drift.

    Args:
        poses_world: (T, 17, 3) world axes, hip at the origin, finite.
        poses_camera: (T, 17, 3) camera axes.
        keypoints: (T, 17, 2) px.
        image_height: px.
        fps: frames per second.
    """
    drop = lowest_below_hip(poses_world)
    scale = _steady(pixels_per_metre(keypoints, poses_camera), _SCALE_SECONDS, fps)
    hip_px = keypoints[:, (1, 4), 1].mean(1)
    # Measured from the middle of the image, an error of scale matters least.
    _, rise = rise_over_support((image_height / 2 - hip_px) / scale - drop, fps)
    placed = poses_world.copy()
    placed[..., 2] += steady(drop + rise, fps)[:, None].astype(np.float32)
    return placed


def lowest_below_hip(poses_world: NDArray[_Real]) -> DoubleArray:
    """How far the floor would be below the hips of poses (T, 17, 3) that rest on it: (T,) m."""
    return np.asarray(-(poses_world[..., 2] - CLEARANCE).min(1))


def rise_over_support(lowest: DoubleArray, fps: float) -> tuple[DoubleArray, DoubleArray]:
    """What carries a body, and how far above that it is.

    Args:
        lowest: (T,) m, height of its lowest point in consecutive frames.
        fps: frames per second.

    Returns:
        (T,) m height of :func:`support`, and (T,) m above it, 0 but in jumps.
    """
    lowest = _median(lowest, 0.1, fps)
    carried = support(lowest, max(2, round(FLIGHT_SECONDS * fps)))
    rise = lowest - carried
    rise = np.minimum(rise, flight_limit(rise <= _RISE_NOISE, fps))
    # Errors of a few centimetres are no jump; from there on fade in to the full height.
    return carried, rise * np.clip(rise / _RISE_NOISE - 1, 0, 1)


def steady(heights: DoubleArray, fps: float) -> DoubleArray:
    """Heights (T,) of a hip over the floor, without trembling."""
    return _steady(heights, _HEIGHT_SECONDS, fps)


def support(heights: DoubleArray, window: int) -> DoubleArray:
    """Height of what carries a body whose lowest point is at ``heights`` (T,): ``(T,)``.

    The higher of the lowest points within ``window`` frames before and after: only what rises and
    comes down again is above it, not what just ends lower or begins higher.
    """
    half = window // 2
    padded = np.pad(heights, window, constant_values=np.inf)
    before = minimum_filter1d(padded, window, origin=window - half - 1)
    after = minimum_filter1d(padded, window, origin=-half)
    return np.asarray(np.maximum(before, after)[window:-window])


def flight_limit(grounded: BoolArray, fps: float) -> DoubleArray:
    """Greatest height (m) that gravity allows between contacts with the floor: ``(T,)``.

    A body in free flight t0 s after leaving the floor and t1 s before meeting it again is at
    g/2 t0 t1. Someone who seems to be higher was detected wrongly for a moment.
    """
    index = np.arange(len(grounded))
    last = np.maximum.accumulate(np.where(grounded, index, 0))
    following = np.where(grounded, index, len(grounded) - 1)[::-1]
    following = np.minimum.accumulate(following)[::-1]
    # Contact ends and begins somewhere between two frames.
    since, until = (index - last + 1) / fps, (following - index + 1) / fps
    return np.asarray(GRAVITY / 2 * since * until)


def _median(values: DoubleArray, seconds: float, fps: float) -> DoubleArray:
    size = min(round(seconds * fps), len(values)) | 1
    return np.asarray(median_filter(values, size=size, mode="nearest"))


def _steady(values: DoubleArray, seconds: float, fps: float) -> DoubleArray:
    """Median, then a linear Savitzky-Golay filter of the same width: outliers, then noise."""
    window = max(3, round(seconds * fps) | 1)
    values = _median(values, seconds, fps)
    if len(values) < window:
        return np.full_like(values, np.median(values))
    return np.asarray(savgol_filter(values, window, 1))
