"""Places for joints that nobody saw, so that a body is whole."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import NUM_JOINTS, BoolArray, FloatArray

LEAST_SEEN: Final = 4
"""Joints; with fewer nothing tells where somebody is."""
_STANDING: Final[FloatArray] = np.array(
    [
        (0, 0), (-0.13, 0), (-0.13, 0.44), (-0.13, 0.89), (0.13, 0), (0.13, 0.44), (0.13, 0.89),
        (0, -0.23), (0, -0.49), (0, -0.58), (0, -0.69),
        (0.15, -0.45), (0.2, -0.17), (0.22, 0.08), (-0.15, -0.45), (-0.2, -0.17), (-0.22, 0.08),
    ],
    np.float32,
)  # fmt: skip
"""Somebody who stands and looks at the camera, metres from the hip, y down."""


def completed(joints: FloatArray, frames: NDArray[np.int64]) -> tuple[FloatArray, BoolArray]:
    """Joints of a person, all there, and which of them were (N, 17).

    What is missing is where it was before and will be after, as seen from the joints that are
    there; what was never seen is where somebody who stands has it. Lifters that see time do not
    look at these places.

    Args:
        joints: (N, 17, 2) px, NaN where unseen; at least one seen in each pose.
        frames: (N,) when, rising.
    """
    seen = np.asarray(np.isfinite(joints).all(-1))
    if seen.all():
        return joints, seen
    whole = joints.copy()
    standing = np.stack([_stood(pose, there) for pose, there in zip(joints, seen, strict=True)])
    away = joints - standing
    for joint in range(NUM_JOINTS):
        known = np.flatnonzero(seen[:, joint])
        missing = np.flatnonzero(~seen[:, joint])
        shift = np.zeros((len(missing), 2), np.float32)
        if len(known) and len(missing):
            for axis in range(2):
                shift[:, axis] = np.interp(frames[missing], frames[known], away[known, joint, axis])
        whole[missing, joint] = standing[missing, joint] + shift
    return whole, seen


def _stood(pose: FloatArray, seen: BoolArray) -> FloatArray:
    """The standing body (17, 2), scaled and moved onto the seen joints by least squares."""
    body, there = _STANDING[seen], pose[seen]
    centre, middle = body.mean(0), there.mean(0)
    spread = float(((body - centre) ** 2).sum())
    scale = float(((body - centre) * (there - middle)).sum()) / max(spread, 1e-6)
    if scale <= 0:  # head down
        scale = float(np.sqrt(((there - middle) ** 2).sum() / max(spread, 1e-6)))
    return np.asarray((_STANDING - centre) * np.float32(scale) + middle, np.float32)
