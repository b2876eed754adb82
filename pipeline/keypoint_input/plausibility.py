"""Whether keypoints look like people in the convention that they are said to have.

A picture shortens bones, but it does not lengthen them. Keypoints in a wrong order make some bones
far too long for the rest of the body, whatever the pose and the camera; that is what is measured.
The limits were set on BlazePose's keypoints in nine real videos, taken as COCO's and as
Human3.6M's, on COCO's annotations of 14 people, and on projected motion capture in both orders.
"""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np

from gridpose.core import PARENTS, AnyArray, DoubleArray, FloatArray, InputError
from gridpose.detectors.conventions import CONVENTIONS, HUMAN36M_17, Convention
from gridpose.lifting.body import BONE_LENGTHS
from gridpose.pipeline.keypoint_input.conversion import joints_of
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D

CLEARLY: Final = 0.1
"""By how much the misfit of another convention must be smaller. It never was for files of 1, 5 or
30 poses in their own convention; read in the wrong one of COCO-17 and Human3.6M-17, it was for 98 %
of single poses and for all files of 5 and of 30."""
IMPLAUSIBLE: Final = 0.22
"""The median misfit of videos is 0.03 to 0.09, that of clips of motion capture at most 0.18, and
99.7 % of single poses lie below this limit. Human3.6M's joints in a random order exceed it in 80 to
88 % of files, COCO's in 98 %."""
SAMPLE: Final = 1000
"""Poses that are looked at, from all over a file."""
LEAST: Final = 5
"""Poses from which the two sides of the body are judged; heads turn."""
_WIDE: Final = 0.35
"""Distance of the shoulders, in lengths of the trunk, from which left and right are told apart."""
_LIMIT: Final = 2.0

_FACE: Final = (
    ("nose", "left_eye", 0.045),
    ("nose", "right_eye", 0.045),
    ("left_eye", "right_eye", 0.065),
    ("left_eye", "left_ear", 0.1),
    ("right_eye", "right_ear", 0.1),
    ("left_ear", "right_ear", 0.15),
)
"""Distances within a face, in metres."""
_CHILDREN: Final = [child for child, parent in enumerate(PARENTS) if parent >= 0]
_PARENTS: Final = [PARENTS[child] for child in _CHILDREN]
_LENGTHS: Final = np.array([BONE_LENGTHS[child] for child in _CHILDREN])


def misfits(convention: Convention, keypoints: FloatArray) -> DoubleArray:
    """How much too long bones are: (N,) for keypoints (N, K, 2).

    The size of a person is the one at which half of the bones are longer than the average
    human's. The misfit is the mean logarithm of how much longer they are, shorter ones counting as
    0. Bones without both ends are left out; without any the misfit is NaN.
    """
    joints, _ = joints_of(convention, keypoints, None)
    bones = np.linalg.norm(joints[:, _CHILDREN] - joints[:, _PARENTS], axis=-1) / _LENGTHS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all bones NaN
        size = np.nanmedian(bones, axis=1, keepdims=True)
    size[~(size > 0)] = np.nan
    ratios = np.concatenate((bones, _face(convention, keypoints)), axis=1) / size
    known = np.isfinite(ratios)
    excess = np.clip(
        np.log(np.maximum(ratios, 1, where=known, out=np.ones_like(ratios))), 0, _LIMIT
    )
    count = known.sum(1)
    return np.where(count > 0, excess.sum(1) / np.maximum(count, 1), np.nan)


def _face(convention: Convention, keypoints: FloatArray) -> DoubleArray:
    place = {name: index for index, name in enumerate(convention.keypoints)}
    links = [(place[a], place[b], metres) for a, b, metres in _FACE if a in place and b in place]
    if not links:
        return np.empty((len(keypoints), 0))
    first, second, metres = (list(column) for column in zip(*links, strict=True))
    distance = np.linalg.norm(keypoints[:, first] - keypoints[:, second], axis=-1)
    return np.asarray(distance / np.array(metres), np.float64)


def _median(values: DoubleArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _likelier(convention: Convention, keypoints: FloatArray, own: float) -> str:
    """Another convention that fits keypoints (N, K, 2) clearly better than theirs; "": none."""
    others = {
        other.name: _median(misfits(other, keypoints))
        for other in CONVENTIONS.values()
        if len(other.keypoints) == keypoints.shape[1] and other.keypoints != convention.keypoints
    }
    best = min(others, key=lambda name: np.nan_to_num(others[name], nan=np.inf), default="")
    is_better = best and others[best] <= IMPLAUSIBLE and others[best] + CLEARLY < own
    return best if is_better else ""


def doubts_of_training(keypoints: FloatArray) -> list[str]:
    """Sentences about the 2D (N, 17, 2) px of a data set in the published format."""
    sample = keypoints[np.linspace(0, len(keypoints) - 1, min(len(keypoints), SAMPLE)).astype(int)]
    own = _median(misfits(HUMAN36M_17, sample))
    if best := _likelier(HUMAN36M_17, sample, own):
        return [
            f"the 2D's keypoints look like {best}, not {HUMAN36M_17.name} as the format has them: "
            "convert them before"
        ]
    if own > IMPLAUSIBLE:
        return [
            f"the 2D's keypoints do not look like people in the order of {HUMAN36M_17.name}: some "
            "bones are far too long for the others"
        ]
    return []


def doubts(data: Keypoints2D, where: str) -> list[str]:
    """Sentences for the user about keypoints that do not look like what they are said to be.

    Raises:
        InputError: nobody says which convention it is, and another one than the usual one of so
            many keypoints fits clearly better.
    """
    flat = data.keypoints.reshape(-1, *data.keypoints.shape[-2:])
    present = np.flatnonzero(np.isfinite(flat).all(-1).any(-1))
    chosen = present[np.linspace(0, len(present) - 1, min(len(present), SAMPLE)).astype(int)]
    sample, convention = flat[chosen], data.convention
    if not len(sample):
        return []
    own = _median(misfits(convention, sample))
    if best := _likelier(convention, sample, own):
        if data.stated == "count":
            raise InputError(
                f"{where}: its keypoints look like {best}, not {convention.name}; say which they "
                f"are with `convention={best}` or `convention={convention.name}`"
            )
        says = "`convention`" if data.stated == "user" else "the file"
        return [f"{where}: its keypoints look like {best}, not {convention.name} as {says} says"]
    if own > IMPLAUSIBLE:
        return [
            f"{where}: its keypoints do not look like people in the order of {convention.name}: "
            "some bones are far too long for the others"
        ]
    visible = data.visible
    seen = None if visible is None else visible.reshape(flat.shape[:2])[chosen]
    return _sides(convention, sample, seen, where)


def _sides(
    convention: Convention, keypoints: FloatArray, visible: AnyArray | None, where: str
) -> list[str]:
    """Doubts about left and right, which only a face can raise."""
    needed = {f"{side}_{part}" for side in ("left", "right") for part in ("ear", "shoulder", "hip")}
    if not needed <= set(convention.keypoints):
        return []
    point = {name: keypoints[:, index] for index, name in enumerate(convention.keypoints)}

    def across(part: str) -> FloatArray:
        return point[f"left_{part}"] - point[f"right_{part}"]

    def middle(part: str) -> FloatArray:
        return np.asarray((point[f"left_{part}"] + point[f"right_{part}"]) / 2, np.float32)

    ears, shoulders = across("ear"), across("shoulder")
    trunk = np.linalg.norm(middle("shoulder") - middle("hip"), axis=-1)
    wide = np.linalg.norm(shoulders, axis=-1) > _WIDE * trunk  # not where something is NaN
    wide &= np.isfinite(ears).all(-1)
    crossed = (ears * shoulders).sum(-1) < 0
    if wide.sum() >= LEAST and crossed[wide].mean() > 0.5:
        return [
            f"{where}: left and right of {crossed[wide].mean():.0%} of the people are exchanged in "
            "the face or in the body: their ears lie the other way round than their shoulders"
        ]
    if visible is None:
        return []
    # Whoever shows nose and both eyes looks at the camera: from the right eye to the left one to
    # the nose goes clockwise in the picture, however the head is turned.
    eyes = across("eye")
    down = point["nose"] - middle("eye")
    face = [convention.keypoints.index(name) for name in ("nose", "left_eye", "right_eye")]
    shown = visible[:, face].all(1) & np.isfinite(eyes + down).all(-1)
    mirrored = eyes[:, 0] * down[:, 1] - eyes[:, 1] * down[:, 0] < 0
    if shown.sum() >= LEAST and mirrored[shown].mean() > 0.5:
        return [
            f"{where}: left and right seem to be exchanged: {mirrored[shown].mean():.0%} of the "
            "people who show their face have their left eye where the right one is"
        ]
    return []
