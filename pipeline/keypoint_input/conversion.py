"""From the keypoints of a file to Human3.6M-17."""

from __future__ import annotations

from typing import Final

import numpy as np

from gridpose.core import NUM_JOINTS, FloatArray
from gridpose.detectors.conventions import HUMAN36M_17, Convention
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D

_BLOCK: Final = 4096
"""Poses converted at once; whole bodies take 20 KB each meanwhile."""
_EARS: Final = ("left_ear", "right_ear")


def to_human36m(data: Keypoints2D) -> tuple[FloatArray, FloatArray | None]:
    """Joints (..., 17, 2) px and, where it is known, their confidence (..., 17).

    A joint is NaN when a keypoint that it is made of is absent; other absent keypoints do not
    matter. One ear alone stands for both: annotators mark one where they see a head from the side,
    and there the two lie close together.
    """
    if data.convention is HUMAN36M_17:
        return data.keypoints, data.confidence
    keypoints, confidence = data.keypoints, data.confidence
    if set(_EARS) <= set(data.convention.keypoints):
        keypoints, confidence = _one_ear(keypoints, confidence, data.convention)
    return joints_of(data.convention, keypoints, confidence)


def joints_of(
    convention: Convention, keypoints: FloatArray, confidence: FloatArray | None
) -> tuple[FloatArray, FloatArray | None]:
    """As ``Convention.to_human36m``, where keypoints may be NaN and confidence unknown."""
    lead, count = keypoints.shape[:-2], keypoints.shape[-2]
    flat = keypoints.reshape(-1, count, 2)
    there = np.asarray(np.isfinite(flat).all(-1))
    known = np.ones_like(there, np.float32) if confidence is None else confidence
    certain = np.where(there, known.reshape(-1, count), np.float32(0))
    # Not only what joints mostly consist of: absent keypoints are nowhere, not at a guessed place.
    absent = ~there @ (convention.matrix != 0).T
    joints: FloatArray = np.empty((len(flat), NUM_JOINTS, 2), np.float32)
    joint_confidence = np.empty((len(flat), NUM_JOINTS), np.float32)
    for start in range(0, len(flat), _BLOCK):
        block = slice(start, start + _BLOCK)
        filled = np.where(there[block, :, None], flat[block], np.float32(0))
        joints[block], joint_confidence[block] = convention.to_human36m(filled, certain[block])
    joints[absent] = np.nan
    joint_confidence[absent] = 0
    joints = joints.reshape(*lead, NUM_JOINTS, 2)
    return joints, None if confidence is None else joint_confidence.reshape(*lead, NUM_JOINTS)


def _one_ear(
    keypoints: FloatArray, confidence: FloatArray | None, convention: Convention
) -> tuple[FloatArray, FloatArray | None]:
    ears = [convention.keypoints.index(ear) for ear in _EARS]
    there = np.asarray(np.isfinite(keypoints[..., ears, :]).all(-1))
    keypoints = keypoints.copy()
    confidence = None if confidence is None else confidence.copy()
    for own, other, place in ((0, 1, ears[0]), (1, 0, ears[1])):
        alone = ~there[..., own] & there[..., other]
        keypoints[alone, place] = keypoints[alone, ears[other]]
        if confidence is not None:
            confidence[alone, place] = confidence[alone, ears[other]]
    return keypoints, confidence
