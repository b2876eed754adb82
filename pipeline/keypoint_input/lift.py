"""Lifting 2D keypoints that the user already has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gridpose.core import JOINT_NAMES, NUM_JOINTS, FloatArray, InputError, UsageError
from gridpose.pipeline.keypoint_input import (
    Keypoints2D,
    convention_named,
    doubts,
    read_keypoints,
    to_human36m,
)
from gridpose.pipeline.keypoint_input.sequences import lift_sequences, sequences_of
from gridpose.storage import save_npz

if TYPE_CHECKING:
    from gridpose.lifting import Lifter

__all__ = ["LiftedFile", "lift_file"]


@dataclass(frozen=True)
class LiftedFile:
    """What was lifted.

    Attributes:
        shape: of ``poses_3d``, (..., 17, 3).
        convention: of the keypoints in the file, as in ``detectors.CONVENTIONS``.
        warnings: sentences for the user.
    """

    shape: tuple[int, ...]
    convention: str
    warnings: tuple[str, ...] = ()


def lift_file(
    source: Path,
    target: Path,
    lifter: Lifter,
    image_size: tuple[int, int] | None = None,
    fov_degrees: float | None = None,
    convention: str | None = None,
    fps: float | None = None,
) -> LiftedFile:
    """Lift the keypoints of ``source`` and write ``poses_3d`` to ``target``, an ``.npz``.

    Poses that follow each other in time are lifted together by a lifter that sees time: files with
    frames of one person or of tracks, pose files, and any file if ``fps`` is given.

    ``poses_3d`` is (..., 17, 3) metres, hip at the origin, camera axes; poses with a joint that is
    absent are NaN, unless those before and after tell where it is. Beside it are

    - ``keypoints_2d`` (..., 17, 2) px: the keypoints, converted to Human3.6M-17;
    - ``confidence`` (..., 17), where the file has it, in its own scale;
    - ``image_size`` (2,) or (..., 2), and ``joint_names`` (17,);
    - where the file is a list of N poses or sequences, where each comes from, (N,) each: COCO's
      ``image_id``, ``annotation_id`` and ``score``; mmpose's ``frame``; ``person`` of both, a
      track's number or that within the picture; VideoPose3D's ``subject``, ``action``, ``camera``
      and ``frame``. All are in the order of the file.

    Args:
        source: a file of a kind that :mod:`gridpose.pipeline.keypoint_input` knows.
        target: written when everything is done.
        lifter: see :func:`gridpose.lifting.load_lifter`.
        image_size: width and height in px; wins over what the file says.
        fov_degrees: horizontal field of view of the lens, if known.
        convention: of the keypoints; by default as the file says, or as its kind and the number
            of keypoints suggest.
        fps: frames per second; wins over what the file says. Poses are then frames, in order.

    Raises:
        InputError: not a keypoint file, no image size in it and none given, or an unknown or
            wrong convention.
        UsageError: there is no convention of this name, or a rate that is not positive.
    """
    if fps is not None and not 0 < fps < np.inf:
        raise UsageError(f"`fps` {fps}: must be positive")
    asked = None if convention is None else convention_named(convention)
    data = read_keypoints(source, asked)
    warnings = doubts(data, str(source))
    keypoints, confidence = to_human36m(data)
    lead = keypoints.shape[:-2]
    size = _image_size(data, lead, image_size, source)
    flat = keypoints.reshape(-1, NUM_JOINTS, 2)
    found = sequences_of(data, fps) if lifter.sees_time else None
    if found is None:
        poses = lifter.lift(flat, size, fov_degrees)
    else:
        rated = None if confidence is None else confidence.reshape(-1, NUM_JOINTS)
        poses = lift_sequences(lifter, flat, rated, size, *found, fov_degrees)
    poses = poses.reshape(*lead, NUM_JOINTS, 3)
    arrays: dict[str, Any] = {
        "poses_3d": poses,
        "keypoints_2d": keypoints,
        "image_size": size.reshape(*lead, 2) if size.ndim == 2 else size,
        "joint_names": np.array(JOINT_NAMES),
        **data.columns,
    }
    if confidence is not None:
        arrays["confidence"] = confidence
    save_npz(target, arrays)
    warnings += _incomplete(data, poses, source)
    return LiftedFile(poses.shape, data.convention.name, tuple(warnings))


def _image_size(
    data: Keypoints2D, lead: tuple[int, ...], given: tuple[int, int] | None, source: Path
) -> FloatArray:
    """(2,), or (N, 2) for all poses in a row."""
    size = data.image_size if given is None else np.asarray(given, np.float32)
    if size is None:
        raise InputError(f"{source}: has no image_size; give it with `image_size` WIDTHxHEIGHT")
    if size.shape == (2,):
        return size
    try:
        return np.broadcast_to(size.reshape((*size.shape[:-1], 2)), (*lead, 2)).reshape(-1, 2)
    except ValueError as error:
        raise InputError(
            f"{source}: image_size {size.shape} does not go with keypoints {data.keypoints.shape}"
        ) from error


def _incomplete(data: Keypoints2D, poses: FloatArray, source: Path) -> list[str]:
    """Says how many people who are there were not lifted."""
    there = np.isfinite(data.keypoints).all(-1).any(-1)
    lost = int((there & ~np.isfinite(poses).all((-1, -2))).sum())
    if not lost:
        return []
    return [
        f"{source}: {lost} of {int(there.sum())} people lack keypoints that 3D needs; "
        "their poses_3d are NaN"
    ]
