"""Keypoint conventions as data, and their conversion to Human3.6M-17.

Every Human3.6M joint is a linear combination of a convention's keypoints; left and right are
always the person's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gridpose.core import JOINT_NAMES, FloatArray, InputError


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
_SIDES = ("left", "right")
_HIPS, _SHOULDERS = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")
_EARS, _MOUTH = ("left_ear", "right_ear"), ("mouth_left", "mouth_right")


def _pair(part: str, towards: str, shift: float, width: float) -> dict[str, dict[str, float]]:
    """Both sides of ``part``, moved and set ``width`` times as far apart.

    They move by the share ``shift`` of the trunk, towards the middle of the pair ``towards``.
    """
    moved = _scaled(shift, _mean(f"left_{towards}", f"right_{towards}"))
    return {
        f"{side}_{part}": {
            f"{side}_{part}": (1 - shift + width) / 2,
            f"{other}_{part}": (1 - shift - width) / 2,
            **moved,
        }
        for side, other in (("left", "right"), ("right", "left"))
    }


def _middle(pair: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return _scaled(1 / len(pair), _sum(*pair.values()))


def _body(
    hips: Mapping[str, Mapping[str, float]], shoulders: Mapping[str, Mapping[str, float]]
) -> dict[str, Mapping[str, float]]:
    """All joints but nose and head."""
    pelvis = _middle(hips)
    # Human3.6M's thorax lies a little above the shoulders, on the way to the ears.
    thorax = _sum(_scaled(0.88, _middle(shoulders)), _scaled(0.12, _mean(*_EARS)))
    return {
        **_LIMBS,
        **hips,
        **shoulders,
        "hip": pelvis,
        "spine": _sum(_scaled(0.5, pelvis), _scaled(0.5, thorax)),
        "thorax": thorax,
    }


# Annotators of COCO mark hips where bones articulate, lower and closer together than Human3.6M's
# hip joints.
_COCO_HIPS = _pair("hip", "shoulder", 0.08, 1.3)
_COCO_SHOULDERS = {name: _LIMBS[name] for name in _SHOULDERS}

# BlazePose's hips lie lower still and its shoulders high and far apart. Taken over from four
# calibrated cameras, in mm and scaled to Human3.6M's limbs: shoulders 367 to 381 apart (Human3.6M:
# 302) and the trunk from hips to shoulders 570 long (460).
_BLAZEPOSE_HIPS = _pair("hip", "shoulder", 0.12, 1.3)
_BLAZEPOSE_SHOULDERS = _pair("shoulder", "hip", 0.06, 0.85)

HUMAN36M_17 = Convention("human3.6m-17", JOINT_NAMES, {name: {name: 1.0} for name in JOINT_NAMES})

COCO_17 = Convention(
    "coco-17",
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    {
        **_body(_COCO_HIPS, _COCO_SHOULDERS),
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
        **_body(_BLAZEPOSE_HIPS, _BLAZEPOSE_SHOULDERS),
        "nose": {**_scaled(0.85, _mean(*_MOUTH)), **_scaled(0.15, _mean(*_SHOULDERS))},
        "head": {
            **_mean(*_EARS),
            **_scaled(0.25, _mean("left_eye", "right_eye")),
            **_scaled(-0.25, _mean(*_MOUTH)),
        },
    },
)  # fmt: skip

# Both begin with COCO's keypoints. The orders are those of mmpose 1.3 (configs/_base_/datasets:
# halpe26.py and coco_wholebody.py), which follow the data sets: Halpe-FullBody's body and feet
# (Fang et al., AlphaPose, TPAMI 2022) and COCO-WholeBody (Jin et al., ECCV 2020).
HALPE_26 = Convention(
    "halpe-26",
    (
        *COCO_17.keypoints, "head", "neck", "hip", "left_big_toe", "right_big_toe",
        "left_small_toe", "right_small_toe", "left_heel", "right_heel",
    ),
    COCO_17.joints,
)  # fmt: skip

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")

COCO_WHOLEBODY_133 = Convention(
    "coco-wholebody-133",
    (
        *COCO_17.keypoints,
        *(f"{side}_{part}" for side in _SIDES for part in ("big_toe", "small_toe", "heel")),
        *(f"face-{index}" for index in range(68)),
        *(
            name
            for side in _SIDES
            for name in (
                f"{side}_hand_root",
                *(f"{side}_{finger}{knuckle}" for finger in _FINGERS for knuckle in range(1, 5)),
            )
        ),
    ),
    COCO_17.joints,
)

CONVENTIONS: Mapping[str, Convention] = {
    convention.name: convention
    for convention in (HUMAN36M_17, COCO_17, HALPE_26, BLAZEPOSE_33, COCO_WHOLEBODY_133)
}

_MMPOSE_HUMAN36M = {
    "root": "hip",
    "right_foot": "right_ankle",
    "left_foot": "left_ankle",
    "neck_base": "nose",
}


def convention_of(keypoints: Sequence[str], source: str) -> Convention:
    """The convention of keypoints by their names.

    That is Human3.6M-17, COCO-17, or one with COCO's keypoints and more.

    Raises:
        InputError: the names, which ``source`` has, lead to no Human3.6M-17 joints.
    """
    names = tuple(_MMPOSE_HUMAN36M.get(name, name) for name in keypoints)
    if names == JOINT_NAMES:
        return HUMAN36M_17
    if sorted(names) == sorted(JOINT_NAMES):
        return Convention("human3.6m-17 in another order", names, HUMAN36M_17.joints)
    if tuple(keypoints) == COCO_17.keypoints:
        return COCO_17
    missing = [name for name in COCO_17.keypoints if name not in keypoints]
    if missing:
        some = ", ".join(missing[:3]) + (" and others" if len(missing) > 3 else "")
        raise InputError(
            f"{source}: its {len(keypoints)} keypoints cannot be turned into Human3.6M's joints: "
            f"COCO's {some} are missing"
        )
    return Convention(f"coco-17 of {len(keypoints)}", tuple(keypoints), COCO_17.joints)
