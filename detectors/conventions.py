"""Keypoint conventions as data, and their conversion to Human3.6M-17.

Every Human3.6M joint is a linear combination of a convention's keypoints; left and right are
always the person's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gridpose.core import JOINT_NAMES, DoubleArray, FloatArray, InputError

_LEAST_WEIGHT: Final = 0.1
"""Of a keypoint on whose confidence a joint's depends."""


@dataclass(frozen=True, eq=False)
class Convention:
    """A named keypoint order and how Human3.6M-17 joints follow from it.

    Attributes:
        name: as users write it.
        keypoints: names in order.
        matrix: (17, K) weights of the keypoints that each joint is made of; rows sum to 1.
    """

    name: str
    keypoints: tuple[str, ...]
    matrix: FloatArray

    def to_human36m(
        self, keypoints: FloatArray, confidence: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Convert ``(..., K, 2)`` keypoints with ``(..., K)`` confidence.

        Returns:
            ``(..., 17, 2)`` and ``(..., 17)``. A joint made of several keypoints is as certain as
            the least certain of them, and not seen (0) if one of them is not; those that weigh less
            than a tenth do not count: shoulders are seen without hips.

        Raises:
            ValueError: K is not this convention's.
        """
        count = len(self.keypoints)
        if keypoints.shape[-2:] != (count, 2) or confidence.shape[-1] != count:
            raise ValueError(
                f"{self.name} has {count} keypoints, got {keypoints.shape} and {confidence.shape}"
            )
        used = np.abs(self.matrix) >= _LEAST_WEIGHT
        joint_confidence = np.where(used, confidence[..., None, :], np.inf).min(-1)
        return (
            np.asarray(self.matrix @ keypoints, np.float32),
            joint_confidence.astype(np.float32),
        )

    def among(self, keypoints: tuple[str, ...], name: str) -> Convention:
        """The same joints from this convention's keypoints in another order, or with more."""
        matrix = np.zeros((len(JOINT_NAMES), len(keypoints)), np.float32)
        matrix[:, [keypoints.index(keypoint) for keypoint in self.keypoints]] = self.matrix
        return Convention(name, keypoints, matrix)


_Points = Mapping[str, DoubleArray]
"""For each keypoint, and places between them, their weights (K,) of a convention's keypoints."""


def _points_of(keypoints: tuple[str, ...]) -> _Points:
    points = dict(zip(keypoints, np.eye(len(keypoints)), strict=True))
    for part in ("hip", "shoulder", "ear", "eye"):
        points[f"mid_{part}"] = (points[f"left_{part}"] + points[f"right_{part}"]) / 2
    return points


def _moved(points: _Points, part: str, towards: str, shift: float, width: float) -> _Points:
    """Both sides of ``part``, set ``width`` times as far apart and moved.

    They move by the share ``shift`` of the trunk, towards the middle of the pair ``towards``.
    """
    middle = (1 - shift) * points[f"mid_{part}"] + shift * points[f"mid_{towards}"]
    half = width / 2 * (points[f"left_{part}"] - points[f"right_{part}"])
    return {f"left_{part}": middle + half, f"right_{part}": middle - half}


def _matrix(points: _Points, moved: _Points, nose: DoubleArray, head: DoubleArray) -> FloatArray:
    """(17, K) weights: hips and shoulders as ``moved``, limbs as they are, the trunk between."""
    joints = {**points, **moved, "nose": nose, "head": head}
    joints["hip"] = (joints["left_hip"] + joints["right_hip"]) / 2
    neck = (joints["left_shoulder"] + joints["right_shoulder"]) / 2
    # Human3.6M's thorax lies a little above the shoulders, on the way to the ears.
    joints["thorax"] = 0.88 * neck + 0.12 * points["mid_ear"]
    joints["spine"] = (joints["hip"] + joints["thorax"]) / 2
    return np.stack([joints[name] for name in JOINT_NAMES]).astype(np.float32)


def _coco() -> Convention:
    keypoints = (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    )  # fmt: skip
    points = _points_of(keypoints)
    shoulders, ears = points["mid_shoulder"], points["mid_ear"]
    matrix = _matrix(
        points,
        # Annotators of COCO mark hips where bones articulate, lower and closer together than
        # Human3.6M's hip joints.
        _moved(points, "hip", "shoulder", 0.08, 1.3),
        # Human3.6M's "nose" and "head" lie nearer to the neck than nose and crown.
        nose=0.67 * points["nose"] + 0.33 * shoulders,
        head=1.08 * ears - 0.08 * shoulders,
    )
    return Convention("coco-17", keypoints, matrix)


def _blazepose() -> Convention:
    keypoints = (
        "nose", "left_eye_inner", "left_eye", "left_eye_outer",
        "right_eye_inner", "right_eye", "right_eye_outer", "left_ear", "right_ear",
        "mouth_left", "mouth_right",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
        "left_heel", "right_heel", "left_foot_index", "right_foot_index",
    )  # fmt: skip
    points = _points_of(keypoints)
    mouth = (points["mouth_left"] + points["mouth_right"]) / 2
    # BlazePose's hips lie lower still and its shoulders high and far apart. Taken over from four
    # calibrated cameras, in mm and scaled to Human3.6M's limbs: shoulders 367 to 381 apart
    # (Human3.6M: 302) and the trunk from hips to shoulders 570 long (460).
    moved = {
        **_moved(points, "hip", "shoulder", 0.12, 1.3),
        **_moved(points, "shoulder", "hip", 0.06, 0.85),
    }
    matrix = _matrix(
        points,
        moved,
        nose=0.85 * mouth + 0.15 * points["mid_shoulder"],
        head=points["mid_ear"] + 0.25 * (points["mid_eye"] - mouth),
    )
    return Convention("blazepose-33", keypoints, matrix)


HUMAN36M_17 = Convention("human3.6m-17", JOINT_NAMES, np.eye(len(JOINT_NAMES), dtype=np.float32))
COCO_17 = _coco()
BLAZEPOSE_33 = _blazepose()

# Both begin with COCO's keypoints. The orders are those of mmpose 1.3 (configs/_base_/datasets:
# halpe26.py and coco_wholebody.py), which follow the data sets: Halpe-FullBody's body and feet
# (Fang et al., AlphaPose, TPAMI 2022) and COCO-WholeBody (Jin et al., ECCV 2020).
HALPE_26 = COCO_17.among(
    (
        *COCO_17.keypoints, "head", "neck", "hip", "left_big_toe", "right_big_toe",
        "left_small_toe", "right_small_toe", "left_heel", "right_heel",
    ),
    "halpe-26",
)  # fmt: skip

_SIDES = ("left", "right")
_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")

COCO_WHOLEBODY_133 = COCO_17.among(
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
    "coco-wholebody-133",
)

# Halpe-FullBody: body and feet, face and hands.
HALPE_136 = COCO_17.among(
    (*HALPE_26.keypoints, *COCO_WHOLEBODY_133.keypoints[23:]),
    "halpe-136",
)

_OPENPOSE_ARMS = (
    "nose", "neck",
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
_OPENPOSE_LEGS = (
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
)  # fmt: skip
_OPENPOSE_FACE = ("right_eye", "left_eye", "right_ear", "left_ear")

# OpenPose's two models of the body (Cao et al., TPAMI 2019); its documentation, 02_output.md.
OPENPOSE_18 = COCO_17.among((*_OPENPOSE_ARMS, *_OPENPOSE_LEGS, *_OPENPOSE_FACE), "openpose-coco-18")
OPENPOSE_25 = COCO_17.among(
    (
        *_OPENPOSE_ARMS, "hip", *_OPENPOSE_LEGS, *_OPENPOSE_FACE,
        "left_big_toe", "left_small_toe", "left_heel",
        "right_big_toe", "right_small_toe", "right_heel",
    ),
    "openpose-body-25",
)  # fmt: skip

CONVENTIONS: Mapping[str, Convention] = {
    convention.name: convention
    for convention in (
        HUMAN36M_17,
        COCO_17,
        HALPE_26,
        BLAZEPOSE_33,
        COCO_WHOLEBODY_133,
        OPENPOSE_25,
        OPENPOSE_18,
        HALPE_136,
    )
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
        return HUMAN36M_17.among(names, "human3.6m-17 in another order")
    if tuple(keypoints) == COCO_17.keypoints:
        return COCO_17
    missing = [name for name in COCO_17.keypoints if name not in keypoints]
    if missing and (body := _of_body(tuple(keypoints))) is not None:
        return body
    if missing:
        some = ", ".join(missing[:3]) + (" and others" if len(missing) > 3 else "")
        raise InputError(
            f"{source}: its {len(keypoints)} keypoints cannot be turned into Human3.6M's joints: "
            f"COCO's {some} are missing"
        )
    return COCO_17.among(tuple(keypoints), f"coco-17 of {len(keypoints)}")


_CROWNS = ("head_top", "headtop", "top_head", "top_of_head", "forehead", "head")


def _of_body(keypoints: tuple[str, ...]) -> Convention | None:
    """Of keypoints with all limbs and something of a head, but without ears, as MPII's have."""
    crown = next((name for name in _CROWNS if name in keypoints), None)
    points: dict[str, DoubleArray] = dict(zip(keypoints, np.eye(len(keypoints)), strict=True))
    limbs = set(COCO_17.keypoints[5:])
    if not limbs <= points.keys() or (crown is None and "nose" not in points):
        return None
    for part in ("hip", "shoulder"):
        points[f"mid_{part}"] = (points[f"left_{part}"] + points[f"right_{part}"]) / 2
    shoulders = points["mid_shoulder"]
    # Ears lie at the nose's height, and at about six tenths of the way from neck to crown.
    ears = points["nose"] if crown is None else 0.62 * points[crown] + 0.38 * shoulders
    points["mid_ear"] = ears
    matrix = _matrix(
        points,
        _moved(points, "hip", "shoulder", 0.08, 1.3),
        nose=0.67 * points.get("nose", ears) + 0.33 * shoulders,
        head=1.08 * ears - 0.08 * shoulders,
    )
    return Convention(f"body of {len(keypoints)}", keypoints, matrix)
