"""A lifter measured on sequences: known 3D poses over time, seen by known cameras.

Metres in, millimetres out; hip at the origin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gridpose.core import AnyArray, FloatArray, InputError
from gridpose.lifting.metrics import (
    acceleration_error,
    aligned_joint_errors,
    joint_errors,
    velocity_errors,
)
from gridpose.lifting.npz import read_arrays

_MM = 1000.0
_ARRAYS = (
    "sequence", "keypoints_px", "keypoints_noisy_px", "confidence", "image_size", "poses_camera",
    "fps",
)  # fmt: skip

LiftSequence = Callable[[FloatArray, AnyArray, FloatArray, float], FloatArray]
"""Keypoints (T, 17, 2), image size (2,), confidence (T, 17), frames per second -> (T, 17, 3)."""


@dataclass(frozen=True)
class Sequence:
    """T frames of one person and camera."""

    keypoints_px: FloatArray
    keypoints_noisy_px: FloatArray
    confidence: FloatArray
    image_size: FloatArray
    poses_camera: FloatArray


@dataclass(frozen=True)
class SequenceErrors:
    """Means over frames: mm, mm a frame, mm a frame squared."""

    mpjpe: float
    pa_mpjpe: float
    mpjve: float
    acceleration: float


def read_sequences(file: Path) -> tuple[list[Sequence], float]:
    """Sequences of a benchmark file, and their frames per second.

    Raises:
        InputError: not such a file, or arrays do not fit together.
    """
    arrays = read_arrays(file, _ARRAYS)
    number, fps = arrays.pop("sequence"), float(arrays.pop("fps"))
    shapes = {name: value.shape[1:] for name, value in arrays.items()}
    wanted = {
        "keypoints_px": (17, 2),
        "keypoints_noisy_px": (17, 2),
        "confidence": (17,),
        "image_size": (2,),
        "poses_camera": (17, 3),
    }
    if shapes != wanted or any(len(value) != len(number) for value in arrays.values()):
        raise InputError(f"{file}: arrays do not fit together ({shapes})")
    if not len(number) or not fps > 0:
        raise InputError(f"{file}: has no sequences")
    sequences = []
    for part in np.split(np.arange(len(number)), np.flatnonzero(np.diff(number)) + 1):
        values = {name: value[part].astype(np.float32) for name, value in arrays.items()}
        values["image_size"] = values["image_size"][0]
        sequences.append(Sequence(**values))
    return sequences, fps


def measure_sequences(
    lift: LiftSequence, sequences: list[Sequence], fps: float, *, exact: bool
) -> SequenceErrors:
    """Errors of a lifter on sequences, given exact or disturbed 2D.

    Raises:
        InputError: an answer is not finite.
    """
    answers = []
    for each in sequences:
        shown = each.keypoints_px if exact else each.keypoints_noisy_px
        rated = np.ones_like(each.confidence) if exact else each.confidence
        answers.append(lift(shown, each.image_size, rated, fps))
    return sequence_errors(answers, [each.poses_camera for each in sequences])


def sequence_errors(answers: list[FloatArray], targets: list[FloatArray]) -> SequenceErrors:
    """Errors of poses over time, (T, 17, 3) metres for each sequence.

    Raises:
        InputError: an answer is not finite.
    """
    poses, truth = np.concatenate(answers), np.concatenate(targets)
    if not np.isfinite(poses).all():
        raise InputError("the lifter's answers are not all finite; no mean can be taken")
    lengths = [len(target) for target in targets]
    acceleration = acceleration_error(poses, truth, lengths)
    return SequenceErrors(
        mpjpe=float(joint_errors(poses, truth).mean() * _MM),
        pa_mpjpe=float(aligned_joint_errors(poses, truth).mean() * _MM),
        mpjve=float(velocity_errors(poses, truth, lengths).mean() * _MM),
        acceleration=math.nan if acceleration is None else acceleration * _MM,
    )
