"""Where joints that are never seen should be, by those that are: half of a body tells of the rest.

Least squares on motion capture seen by made cameras (``scripts/draw_unseen_joints.py``).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
from scipy.ndimage import uniform_filter1d

from gridpose.core import MIRRORED, NUM_JOINTS, BoolArray, DoubleArray, FloatArray

_LEAST_KNOWN = 3
_STEADY_FRAMES = 15
_NOISE = 0.03


def guess_unseen(points: FloatArray, seen: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Put joints that no frame shows where they probably are.

    Args:
        points: (T, 17, 2) of one person over time, x right, y down, in any unit.
        seen: (T, 17).

    Returns:
        Points (T, 17, 2), and which joints (17,) are guesses: none by less than three others.
    """
    unseen: BoolArray = np.asarray(~seen.any(0))
    if not unseen.any() or (~unseen).sum() < _LEAST_KNOWN:
        return points, np.zeros(NUM_JOINTS, np.bool_)
    known = np.flatnonzero(~unseen)
    filled = np.array(points, np.float64)
    frames = np.arange(len(points))
    for joint in known[~seen[:, known].all(0)]:
        there = seen[:, joint]
        for axis in range(2):
            filled[:, joint, axis] = np.interp(frames, frames[there], points[there, joint, axis])
    centre, size = _frame(filled[:, known])
    shape = ((filled[:, known] - centre) / size).reshape(len(points), -1)
    guesses = (_with_one(shape) @ _weights(unseen.tobytes())).reshape(len(points), -1, 2)
    filled[:, unseen] = centre + uniform_filter1d(
        size * guesses, _STEADY_FRAMES, axis=0, mode="nearest"
    )
    return np.where(unseen[:, None], filled, points).astype(np.float32), unseen


@cache
def _weights(unseen: bytes) -> DoubleArray:
    """(2 K + 1, 2 U): the shape of K known joints, and 1, times this are U unseen ones."""
    hidden = np.frombuffer(unseen, np.bool_)
    poses = _poses()
    centre, size = _frame(poses[:, ~hidden])
    shapes = (poses - centre) / size
    given = _with_one(shapes[:, ~hidden].reshape(len(poses), -1))
    # As if the known joints had errors of this size.
    ridge = _NOISE**2 * len(poses) * np.eye(given.shape[1])
    ridge[-1, -1] = 0
    wanted = shapes[:, hidden].reshape(len(poses), -1)
    return np.asarray(np.linalg.solve(given.T @ given + ridge, given.T @ wanted))


def _frame(points: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """The centre (N, 1, 2) and RMS size (N, 1, 1) of points (N, K, 2)."""
    centre = points.mean(1, keepdims=True)
    size = np.sqrt(np.square(points - centre).sum(-1).mean(-1))
    return centre, np.maximum(size, 1e-9)[:, None, None]


def _with_one(rows: DoubleArray) -> DoubleArray:
    return np.concatenate((rows, np.ones((len(rows), 1))), 1)


@cache
def _poses() -> DoubleArray:
    """(N, 17, 2) of many people as cameras see them, and mirrored."""
    from safetensors.numpy import load

    file = files("gridpose.lifting.weights") / "unseen-joints.safetensors"
    poses = load(file.read_bytes())["poses"].astype(np.float64)
    return np.concatenate((poses, poses[:, MIRRORED] * (-1, 1)))
