"""Errors of 3D poses, in the unit of the input.

Every function takes predicted and true poses ``(N, J, 3)``, in any unit and axes, and computes in
float64. Nothing is re-centred but by Procrustes alignment. A pose with a number that is not finite
has the error NaN and does not disturb the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from gridpose.core import AnyArray, BoolArray, DoubleArray
from gridpose.lifting.procrustes import CHUNK, align

PCK_MM = 150.0
"""The threshold of 3DPCK: about half a head (Mehta et al. 2017)."""

AUC_STEPS = 31
"""Thresholds of AUC: 0, 5, ... 150 mm."""


def _pair(predicted: ArrayLike, target: ArrayLike) -> tuple[AnyArray, AnyArray]:
    first, second = np.asarray(predicted), np.asarray(target)
    if first.shape != second.shape or first.ndim != 3 or first.shape[2] != 3:
        raise ValueError(f"poses must both be (N, J, 3), got {first.shape} and {second.shape}")
    if first.shape[1] == 0:
        raise ValueError("poses without joints have no error")
    return first, second


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))


def _lengths(vectors: DoubleArray) -> DoubleArray:
    """``(N, J, 3) -> (N, J)``; several times faster than ``np.linalg.norm`` on so short an axis."""
    return np.asarray(np.sqrt(np.einsum("njk,njk->nj", vectors, vectors)))


def joint_errors(predicted: ArrayLike, target: ArrayLike) -> DoubleArray:
    """Distance of each joint from where it should be: ``(N, J, 3)`` twice -> ``(N, J)``.

    Raises:
        ValueError: shapes differ or are not ``(N, J, 3)``.
    """
    first, second = _pair(predicted, target)
    errors = np.empty(first.shape[:2])
    for part in _parts(len(first)):
        errors[part] = _lengths(np.subtract(first[part], second[part], dtype=np.float64))
    return errors


def axis_errors(predicted: ArrayLike, target: ArrayLike) -> DoubleArray:
    """Mean absolute error along x, y and z of each pose: ``(N, J, 3)`` twice -> ``(N, 3)``.

    Raises:
        ValueError: shapes differ or are not ``(N, J, 3)``.
    """
    first, second = _pair(predicted, target)
    errors = np.empty((len(first), 3))
    for part in _parts(len(first)):
        difference = np.subtract(first[part], second[part], dtype=np.float64)
        errors[part] = np.einsum("njk->nk", np.abs(difference)) / first.shape[1]
    return errors


def mpjpe(predicted: ArrayLike, target: ArrayLike) -> DoubleArray:
    """Mean per-joint position error of each pose: ``(N, J, 3)`` twice -> ``(N,)``.

    All joints count, the pelvis too, and nothing is re-centred (Human3.6M protocol 1 on
    hip-relative poses).

    Raises:
        ValueError: shapes differ or are not ``(N, J, 3)``.
    """
    return np.asarray(joint_errors(predicted, target).mean(axis=-1))


def aligned_joint_errors(predicted: ArrayLike, target: ArrayLike) -> DoubleArray:
    """:func:`joint_errors` after :func:`procrustes_align`: ``(N, J, 3)`` twice -> ``(N, J)``.

    Raises:
        ValueError: shapes differ or are not ``(N, J, 3)``.
    """
    first, second = _pair(predicted, target)
    errors = np.empty(first.shape[:2])
    for part in _parts(len(first)):
        # Converted piece by piece, all of it stays in the processor's cache.
        wanted = second[part].astype(np.float64)
        errors[part] = _lengths(align(first[part].astype(np.float64), wanted) - wanted)
    return errors


def pa_mpjpe(predicted: ArrayLike, target: ArrayLike) -> DoubleArray:
    """MPJPE after the best similarity transform of each prediction (Human3.6M protocol 2).

    The rotation is proper, as in Umeyama (1991): a mirrored prediction stays wrong. A collapsed
    prediction (all joints equal) is moved to the target's mean.

    Raises:
        ValueError: shapes differ or are not ``(N, J, 3)``.
    """
    return np.asarray(aligned_joint_errors(predicted, target).mean(axis=-1))


def procrustes_align(predicted: ArrayLike, target: ArrayLike) -> DoubleArray:
    """Predictions ``(N, J, 3)`` after rotation, scaling and translation onto ``target``.

    Each has its own transform, which minimises the squared distances (Umeyama 1991).

    Raises:
        ValueError: shapes differ or are not ``(N, J, 3)``.
    """
    first, second = _pair(predicted, target)
    return align(first.astype(np.float64), second.astype(np.float64))


def pck(errors: ArrayLike, threshold: float) -> DoubleArray:
    """3DPCK of each pose: the share, 0 to 1, of its joints nearer than ``threshold``.

    Args:
        errors: ``(N, J)`` as :func:`joint_errors` gives them.
        threshold: in the same unit; 150 mm in MPI-INF-3DHP (Mehta et al., 3DV 2017,
            arXiv 1611.09813), whose program asks for less than it, not for at most it.
    """
    values = np.asarray(errors, np.float64)
    return np.where(np.isnan(values).any(-1), np.nan, (values < threshold).mean(axis=-1))


def auc(errors: ArrayLike, threshold: float) -> DoubleArray:
    """Area under the 3DPCK curve of each pose, 0 to 1.

    The mean of :func:`pck` at 31 thresholds from 0 to ``threshold``, as in MPI-INF-3DHP's program,
    where they are 0, 5, ... 150 mm. No error is less than 0, so the most one can get is 30/31.

    Args:
        errors: ``(N, J)`` as :func:`joint_errors` gives them.
        threshold: the largest, in the same unit.
    """
    steps = AUC_STEPS - 1
    # A joint counts at every threshold greater than its error, and they are evenly spaced.
    below = np.floor(np.asarray(errors, np.float64) * steps / threshold)
    return np.asarray(np.clip(steps - below, 0, steps).mean(axis=-1) / AUC_STEPS)


def velocity_errors(
    predicted: ArrayLike, target: ArrayLike, lengths: Sequence[int] | None = None
) -> DoubleArray:
    """Mean per-joint velocity error of consecutive frames (Pavllo et al. 2019, arXiv 1811.11742).

    The distance between predicted and true movement from a frame to the next, mean over the
    joints; its mean is MPJVE, in the unit of the input per frame.

    Args:
        predicted: ``(N, J, 3)`` frames in the order of time.
        target: the same.
        lengths: frames of each sequence, one after the other; all are one sequence without it.

    Returns:
        ``(M,)``: one for each frame that has a next one in its sequence.

    Raises:
        ValueError: shapes differ or are not ``(N, J, 3)``, or the lengths do not add up to N.
    """
    first, second = _pair(predicted, target)
    difference = np.subtract(first, second, dtype=np.float64)
    # The difference of movements is the movement of the difference.
    errors = _lengths(np.diff(difference, axis=0)).mean(axis=-1)
    if lengths is None:
        return np.asarray(errors)
    return np.asarray(errors[_within(lengths, len(first))])


def acceleration_error(
    predicted: ArrayLike, target: ArrayLike, lengths: Sequence[int] | None = None
) -> float | None:
    """Mean distance between predicted and true accelerations (Kanazawa et al. 2019, 1812.01601).

    Accelerations are second differences; the unit is that of the input per frame squared.

    Args:
        predicted, target, lengths: as of :func:`velocity_errors`.

    Returns:
        The mean over joints and frames; None if no sequence has three frames.

    Raises:
        ValueError: as :func:`velocity_errors`.
    """
    first, second = _pair(predicted, target)
    steps = np.diff(np.subtract(first, second, dtype=np.float64), axis=0)
    within = _within([len(first)] if lengths is None else lengths, len(first))
    errors = _lengths(np.diff(steps, axis=0))[within[1:] & within[:-1]]
    return float(errors.mean()) if errors.size else None


def _within(lengths: Sequence[int], frames: int) -> BoolArray:
    """Which of ``frames - 1`` steps do not lead from one sequence to another."""
    ends = np.cumsum(np.asarray(lengths, np.int64))
    if sum(lengths) != frames or min(lengths, default=0) < 0:
        raise ValueError(f"sequences of {sum(lengths)} frames for {frames} poses")
    keep = np.ones(max(0, frames - 1), bool)
    borders = ends[(ends > 0) & (ends < frames)]
    keep[borders - 1] = False
    return keep


def mpjve(
    predicted: ArrayLike, target: ArrayLike, lengths: Sequence[int] | None = None
) -> float | None:
    """Mean of :func:`velocity_errors`; None if no sequence has two frames."""
    errors = velocity_errors(predicted, target, lengths)
    return float(errors.mean()) if len(errors) else None
