"""Legs that nobody sees: drawn still, and no evidence of how somebody stands."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.ndimage import binary_erosion, binary_opening, uniform_filter1d

from gridpose.core import JOINT_NAMES, AnyArray, BoolArray, FloatArray

_LEGS: Final = tuple(
    tuple(JOINT_NAMES.index(f"{side}_{joint}") for joint in ("hip", "knee", "ankle"))
    for side in ("right", "left")
)
_ANKLES: Final = [leg[2] for leg in _LEGS]
_UNSEEN_SECONDS: Final = 0.5
"""Lifters know better where legs are that are hidden for less."""
_FADE_SECONDS: Final = 0.3


def feet_seen(confidence: FloatArray) -> BoolArray:
    """(...,) whether somebody with confidence (..., 17) stands on feet one can see."""
    return np.asarray((confidence[..., _ANKLES] > 0).any(-1) | ~(confidence > 0).any(-1))


def with_still_legs(poses: FloatArray, confidence: FloatArray, fps: float) -> FloatArray:
    """Poses whose legs hang straight down where knee and ankle are unseen for half a second.

    Args:
        poses: (T, 17, 3) m, world axes (z up), finite.
        confidence: (T, 17), 0 where unseen.
        fps: frames per second.
    """
    stilled = poses
    unseen = ~(confidence > 0) & (confidence > 0).any(-1, keepdims=True)
    for hip, knee, ankle in _LEGS:
        share = _share(unseen[:, knee] & unseen[:, ankle], fps)[:, None]
        if not share.any():
            continue
        thigh, shin = (
            np.median(np.linalg.norm(poses[:, lower] - poses[:, upper], axis=-1))
            for upper, lower in ((hip, knee), (knee, ankle))
        )
        stilled = stilled.copy()
        for joint, length in ((knee, thigh), (ankle, thigh + shin)):
            hanging = poses[:, hip] - np.array((0, 0, length))
            stilled[:, joint] = (1 - share) * poses[:, joint] + share * hanging
    return np.asarray(stilled, np.float32)


def _share(unseen: AnyArray, fps: float) -> FloatArray:
    """(T,) how far a leg hangs, from 0 where it is seen to 1 in the midst of where it is not."""
    least, fade = max(2, round(_UNSEEN_SECONDS * fps)), max(1, round(_FADE_SECONDS * fps) // 2)
    # Before and after what is known it goes on as at the ends.
    padded = np.pad(unseen, least, mode="edge")
    lasting = binary_opening(padded, np.ones(least))
    within = binary_erosion(lasting, np.ones(2 * fade + 1), border_value=1)
    faded = uniform_filter1d(within.astype(np.float32), 2 * fade + 1, mode="nearest")
    return np.asarray(faded[least:-least], np.float32)
