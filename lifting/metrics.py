"""Errors of 3D poses, in the unit of the input."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gridpose.core import DoubleArray


def _pair(predicted: ArrayLike, target: ArrayLike) -> tuple[DoubleArray, DoubleArray]:
    first, second = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    if first.shape != second.shape or first.ndim != 3 or first.shape[2] != 3:
        raise ValueError(f"poses must both be (N, J, 3), got {first.shape} and {second.shape}")
    return first, second


def mpjpe(predicted: ArrayLike, target: ArrayLike) -> DoubleArray:
    """Mean per-joint position error of each pose: ``(N, J, 3)`` twice -> ``(N,)``.

    All joints count, the pelvis too, and nothing is re-centred (Human3.6M protocol 1 on
    hip-relative poses).

    Raises:
        ValueError: shapes differ or are not ``(N, J, 3)``.
    """
    first, second = _pair(predicted, target)
    return np.asarray(np.linalg.norm(first - second, axis=-1).mean(axis=-1))


def pa_mpjpe(predicted: ArrayLike, target: ArrayLike) -> DoubleArray:
    """MPJPE after the best similarity transform of each prediction (Human3.6M protocol 2).

    The rotation is proper, as in Umeyama (1991): a mirrored prediction stays wrong. A collapsed
    prediction (all joints equal) is moved to the target's mean.

    Raises:
        ValueError: shapes differ or are not ``(N, J, 3)``.
    """
    first, second = _pair(predicted, target)
    return mpjpe(procrustes_align(first, second), second)


def procrustes_align(predicted: ArrayLike, target: ArrayLike) -> DoubleArray:
    """Predictions ``(N, J, 3)`` after rotation, scaling and translation onto ``target``."""
    first, second = _pair(predicted, target)
    first_mean, second_mean = first.mean(1, keepdims=True), second.mean(1, keepdims=True)
    a, b = first - first_mean, second - second_mean
    u, singular, vt = np.linalg.svd(a.transpose(0, 2, 1) @ b)
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    u[:, :, -1] *= sign[:, None]
    singular[:, -1] *= sign
    spread = (a**2).sum((1, 2))
    # Below rounding noise there is no shape to scale.
    scale = np.divide(singular.sum(1), spread, out=np.zeros_like(spread), where=spread > 1e-12)
    return np.asarray(scale[:, None, None] * (a @ (u @ vt)) + second_mean)
