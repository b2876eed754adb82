"""Keypoint conventions as data, and their conversion to Human3.6M-17.

Every Human3.6M joint is a linear combination of a convention's keypoints; left and right are
always the person's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gridpose.core import JOINT_NAMES, FloatArray


@dataclass(frozen=True)
class Convention:
    """A named keypoint order and how Human3.6M-17 joints follow from it.

    Attributes:
        name: as users write it.
        keypoints: names in order.
        joints: for each Human3.6M-17 joint the weights of the keypoints it is made of; they sum
            to 1.
    """

    name: str
    keypoints: tuple[str, ...]
    joints: Mapping[str, Mapping[str, float]]

    @cached_property
    def matrix(self) -> FloatArray:
        """(17, K) weights."""
        matrix = np.zeros((len(JOINT_NAMES), len(self.keypoints)), np.float32)
        for row, joint in enumerate(JOINT_NAMES):
            for keypoint, weight in self.joints[joint].items():
                matrix[row, self.keypoints.index(keypoint)] = weight
        return matrix

    def to_human36m(
        self, keypoints: FloatArray, confidence: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Convert ``(..., K, 2)`` keypoints with ``(..., K)`` confidence.

        Returns:
            ``(..., 17, 2)`` and ``(..., 17)``. A joint made of several keypoints is as certain as
            the least certain of them.

        Raises:
            ValueError: K is not this convention's.
        """
        count = len(self.keypoints)
        if keypoints.shape[-2:] != (count, 2) or confidence.shape[-1] != count:
            raise ValueError(
                f"{self.name} has {count} keypoints, got {keypoints.shape} and {confidence.shape}"
            )
        used = self.matrix != 0
        joint_confidence = np.where(used, confidence[..., None, :], np.inf).min(-1)
        return (
            np.asarray(self.matrix @ keypoints, np.float32),
            joint_confidence.astype(np.float32),
        )


def _mean(*names: str) -> dict[str, float]:
    return {name: 1 / len(names) for name in names}


def _scaled(factor: float, weights: Mapping[str, float]) -> dict[str, float]:
    return {name: factor * weight for name, weight in weights.items()}


def _sum(*parts: Mapping[str, float]) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


_LIMBS = {name: {name: 1.0} for name in JOINT_NAMES if name.startswith(("left_", "right_"))}
_HIPS, _SHOULDERS = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")
_EARS, _MOUTH = ("left_ear", "right_ear"), ("mouth_left", "mouth_right")

# Detectors mark hips where bones articulate, lower and closer together than Human3.6M's hip
# joints: raise them along the trunk by 8 % of it and move them 30 % further apart.
_RAISE, _WIDEN = 0.08, 1.3


def _hip(side: str, other: str) -> dict[str, float]:
    return {
        f"{side}_hip": (1 - _RAISE + _WIDEN) / 2,
        f"{other}_hip": (1 - _RAISE - _WIDEN) / 2,
        **_scaled(_RAISE, _mean(*_SHOULDERS)),
    }


_RAISED_HIP = {**_scaled(1 - _RAISE, _mean(*_HIPS)), **_scaled(_RAISE, _mean(*_SHOULDERS))}
# Human3.6M's thorax lies a little above the shoulders, on the way to the ears.
_THORAX = {**_scaled(0.88, _mean(*_SHOULDERS)), **_scaled(0.12, _mean(*_EARS))}
_BODY = {
    **_LIMBS,
    "left_hip": _hip("left", "right"),
    "right_hip": _hip("right", "left"),
    "hip": _RAISED_HIP,
    "spine": _sum(_scaled(0.5, _RAISED_HIP), _scaled(0.5, _THORAX)),
    "thorax": _THORAX,
}

HUMAN36M_17 = Convention("human3.6m-17", JOINT_NAMES, {name: {name: 1.0} for name in JOINT_NAMES})

COCO_17 = Convention(
    "coco-17",
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    {
        **_BODY,
        # Human3.6M's "nose" and "head" lie nearer to the neck than nose and crown.
        "nose": {"nose": 0.67, **_scaled(0.33, _mean(*_SHOULDERS))},
        "head": {**_scaled(1.08, _mean(*_EARS)), **_scaled(-0.08, _mean(*_SHOULDERS))},
    },
)  # fmt: skip

BLAZEPOSE_33 = Convention(
    "blazepose-33",
    (
        "nose", "left_eye_inner", "left_eye", "left_eye_outer",
        "right_eye_inner", "right_eye", "right_eye_outer", "left_ear", "right_ear",
        "mouth_left", "mouth_right",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
        "left_heel", "right_heel", "left_foot_index", "right_foot_index",
    ),
    {
        **_BODY,
        "nose": {**_scaled(0.85, _mean(*_MOUTH)), **_scaled(0.15, _mean(*_SHOULDERS))},
        "head": {
            **_mean(*_EARS),
            **_scaled(0.25, _mean("left_eye", "right_eye")),
            **_scaled(-0.25, _mean(*_MOUTH)),
        },
    },
)  # fmt: skip

CONVENTIONS: Mapping[str, Convention] = {
    convention.name: convention for convention in (HUMAN36M_17, COCO_17, BLAZEPOSE_33)
}
