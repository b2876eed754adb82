"""Where people are, in metres: from a pose, the same pose in the picture, and the lens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import savgol_filter

from gridpose.core import AnyArray, DoubleArray, FloatArray

_DEPTH_MEDIAN_SECONDS = 0.5
_DEPTH_SECONDS, _DEPTH_SHARE = 0.5, 0.25
_LEAST_SPREAD = 1e-3
_RAY_SECONDS = 0.3
_NEAREST_METRES = 0.3
_NEAREST_JOINT_METRES = 0.1


def hip_positions(
    poses: FloatArray, keypoints: FloatArray, image_size: tuple[int, int], fov_degrees: float
) -> DoubleArray:
    """Where the hip is, (T, 3) m in camera axes from the camera.

    The translation that brings the projection of the pose closest to the keypoints, by linear
    least squares: x (Z + tz) = X + tx for normalised picture coordinates x, and so for y. Only as
    right as the size of the body and the field of view: a person 5 % taller is 5 % farther away.

    Args:
        poses: (T, 17, 3) m, hip at the origin, camera axes.
        keypoints: (T, 17, 2) px.
        image_size: width, height px.
        fov_degrees: horizontal field of view.
    """
    rays = _rays(keypoints, image_size, fov_degrees)
    count, joints = rays.shape[:2]
    rows = np.zeros((count, 2, joints, 3))
    rows[:, 0, :, 0] = rows[:, 1, :, 1] = 1
    rows[..., 2] = -rays.transpose(0, 2, 1)
    values = (rays * poses[..., 2:] - poses[..., :2]).transpose(0, 2, 1)
    design, values = rows.reshape(count, -1, 3), values.reshape(count, -1)
    normal = design.transpose(0, 2, 1) @ design
    # Keypoints that are all in one place say nothing of the distance.
    normal[:, np.arange(3), np.arange(3)] += 1e-9
    moved = np.linalg.solve(normal, design.transpose(0, 2, 1) @ values[..., None])[..., 0]
    depth = np.maximum(moved[:, 2], _NEAREST_METRES)
    return np.asarray(np.column_stack((moved[:, :2], depth)))


def hip_path(
    poses: FloatArray,
    keypoints: FloatArray,
    frames: Sequence[int],
    image_size: tuple[int, int],
    fov_degrees: float,
    fps: float,
) -> DoubleArray:
    """:func:`hip_positions` of the given ``frames``, smoothed without delay.

    What a picture tells badly, the distance, is smoothed over a second and more; the direction,
    which it tells well, over a third of that.
    """
    every = np.arange(frames[0], frames[-1] + 1)
    index = np.asarray(frames) - frames[0]

    def filled(values: DoubleArray) -> DoubleArray:
        """Values (T, N) of ``frames`` for every frame between the first and the last."""
        return np.column_stack([np.interp(every, frames, column) for column in values.T])

    positions = hip_positions(poses, keypoints, image_size, fov_degrees)
    depth = filled(np.log(positions[:, 2:]))
    size = min(round(_DEPTH_MEDIAN_SECONDS * fps), len(every)) | 1
    depth = median_filter(depth, size=(size, 1), mode="nearest")
    depth = np.exp(bilateral(depth, fps, _DEPTH_SECONDS, _DEPTH_SHARE))[index]
    # At that distance, where the picture has it: a wrong one puts the hip beside its ray.
    offsets = _rays(keypoints, image_size, fov_degrees) * (poses[:, :, 2:] + depth[:, None])
    hips = filled(np.median(offsets - poses[:, :, :2], 1) / depth)
    return np.column_stack((_fitted(hips, _RAY_SECONDS, fps)[index] * depth, depth))


def projected(points: AnyArray, image_size: tuple[int, int], fov_degrees: float) -> DoubleArray:
    """Where the lens shows points (..., 3) m from the camera, camera axes: (..., 2) px."""
    depth = np.maximum(points[..., 2:], _NEAREST_JOINT_METRES)
    focal = _focal_length(image_size, fov_degrees)
    return np.asarray(points[..., :2] / depth * focal + np.array(image_size) / 2)


def _rays(keypoints: FloatArray, image_size: tuple[int, int], fov_degrees: float) -> DoubleArray:
    """Keypoints (..., 2) px on an image of focal length 1, its middle at the origin."""
    middle = np.array(image_size) / 2
    return (keypoints.astype(np.float64) - middle) / _focal_length(image_size, fov_degrees)


def _focal_length(image_size: tuple[int, int], fov_degrees: float) -> float:
    """In px."""
    return image_size[0] / 2 / math.tan(math.radians(fov_degrees) / 2)


def bilateral(values: DoubleArray, fps: float, seconds: float, similar: float) -> DoubleArray:
    """Mean over time of (T, N) values, of each with those like it: what stays is still, steps stay.

    Tomasi & Manduchi, "Bilateral filtering for gray and color images", ICCV 1998, with a straight
    line in the place of a constant, so that what moves steadily is not held back at the ends.

    Args:
        values: (T, N), consecutive.
        fps: frames per second.
        seconds: deviation over time of the Gaussian window, which ends at twice that.
        similar: deviation of the Gaussian of differences.
    """
    reach = min(round(2 * seconds * fps), len(values) - 1)
    result = np.empty_like(values)
    for frame in range(len(values)):
        near = np.arange(max(0, frame - reach), min(len(values), frame + reach + 1))
        off = (near[:, None] - frame) / (seconds * fps)
        weights = np.exp(-(off**2 + ((values[near] - values[frame]) / similar) ** 2) / 2)
        weights /= weights.sum(0)
        middle, centre = (weights * off).sum(0), (weights * values[near]).sum(0)
        spread = (weights * (off - middle) ** 2).sum(0)
        slope = (weights * (off - middle) * (values[near] - centre)).sum(0)
        # Few that are alike, on one side, tell no slope.
        slope /= spread + _LEAST_SPREAD / weights.shape[0]
        result[frame] = centre - slope * middle
    return result


def _fitted(values: AnyArray, seconds: float, fps: float) -> AnyArray:
    """Savitzky-Golay along axis 0, quadratic."""
    window = min(max(5, round(seconds * fps) | 1), (len(values) - 1) | 1)
    return np.asarray(savgol_filter(values, window, 2, axis=0)) if window >= 5 else values
