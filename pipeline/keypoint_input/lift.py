"""Lifting 2D keypoints that the user already has."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gridpose.core import NUM_JOINTS, FloatArray, InputError, UsageError
from gridpose.pipeline.keypoint_input import (
    Keypoints2D,
    convention_named,
    doubts,
    read_keypoints,
    to_human36m,
)
from gridpose.pipeline.keypoint_input.keypoints import RATES
from gridpose.pipeline.keypoint_input.listed import (
    Joints,
    few_joints,
    lift_arrays,
    lift_list,
)
from gridpose.pipeline.keypoint_input.recording import frames_in, posed, recording_of
from gridpose.pipeline.keypoint_input.sequences import DEFAULT_FPS
from gridpose.pipeline.keypoint_input.units import in_pixels
from gridpose.pipeline.options import VideoOptions
from gridpose.storage import file_sha256

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
    *,
    normalized: bool = False,
    options: VideoOptions | None = None,
) -> LiftedFile:
    """Lift the keypoints of ``source`` and write a pose file to ``target``, an ``.npz``.

    Frames of a video go through all that follows a detector in :func:`run_video`: people are
    followed, unless the file knows them apart, repaired, lifted over time, smoothed and set on a
    floor. ``poses_3d`` is (P, T, 17, 3), as in every pose file. Files of tracks, of programs that
    process videos, pose files, and any with frames if ``fps`` is given are such.

    All others are lists of poses: each is lifted by itself (those of several recordings with those
    around it) and stands on a floor of its own. They and ``gridpose``'s own arrays keep their
    shape: ``poses_3d`` is (..., 17, 3), beside which ``row_track`` and ``row_frame`` (N,) say where
    each of the N poses belongs in a pose file, as which it can be read; and

    - ``keypoints_2d`` (..., 17, 2) px: the keypoints, converted to Human3.6M-17;
    - ``confidence`` (..., 17), 0 to 1;
    - ``image_size`` (2,) or (..., 2), and ``joint_names`` (17,);
    - ``is_sequence``, False where poses were lifted each by itself;
    - where the file is a list, where each comes from, (N,) each: COCO's ``image_id``,
      ``annotation_id`` and ``score``; ``person``, a track's number or that within the picture;
      VideoPose3D's ``subject``, ``action``, ``camera`` and ``frame``. All are in the order of the
      file.

    Args:
        source: a file or folder of a kind that :mod:`gridpose.pipeline.keypoint_input` knows.
        target: written when everything is done.
        lifter: see :func:`gridpose.lifting.load_lifter`.
        image_size: width and height in px; wins over what the file says.
        fov_degrees: horizontal field of view of the lens, if known.
        convention: of the keypoints; by default as the file says, or as its kind and the number
            of keypoints suggest.
        fps: frames per second, where the file does not say. Poses are then frames, in order.
        normalized: the keypoints are shares of the picture, 0 to 1.
        options: of the stages after detection; ``persons=all`` keeps all whom the file names.

    Raises:
        InputError: not a keypoint file, no image size in it and none given, an unknown or wrong
            convention, or keypoints that are not px.
        UsageError: there is no convention of this name, or a rate that is not positive.
    """
    if fps is not None and not RATES[0] <= fps <= RATES[1]:
        raise UsageError(f"`fps` {fps}: must be between {RATES[0]:g} and {RATES[1]:g}")
    asked = None if convention is None else convention_named(convention)
    options = options or VideoOptions()
    options = replace(options, lifter=lifter, fov=fov_degrees or options.fov)
    data = read_keypoints(source, asked)
    known = data.image_size if image_size is None else np.asarray(image_size, np.float32)
    data = in_pixels(data, known, normalized, source)
    warnings = [*data.notes, *doubts(data, str(source))]
    if fps is not None and data.fps is not None and not math.isclose(fps, data.fps, rel_tol=1e-3):
        warnings.append(f"{source}: says it has {data.fps:g} frames a second, so not `fps={fps:g}`")
        fps = data.fps
    keypoints, confidence = to_human36m(data)
    lead = keypoints.shape[:-2]
    joints = Joints(
        data,
        lead,
        keypoints.reshape(-1, NUM_JOINTS, 2),
        None if confidence is None else confidence.reshape(-1, NUM_JOINTS),
        _image_size(known, data, lead, source),
        _meta(source, data, lifter, options),
    )
    if not data.columns:  # own arrays
        shape, more = lift_arrays(joints, target, lifter, fps, options, source)
    elif (frames := frames_in(data, fps is not None, str(source))) is not None and joints.one_size:
        shape, more = _lift_video(joints, target, lifter, frames, fps, options, source)
    else:
        shape, more = lift_list(joints, target, lifter, fps, options, source)
    return LiftedFile(shape, data.convention.name, (*warnings, *more))


def _meta(source: Path, data: Keypoints2D, lifter: Lifter, options: VideoOptions) -> dict[str, Any]:
    return {
        "source": source.name,
        "source_sha256": file_sha256(source) if source.is_file() else "",
        "gridpose": version("gridpose"),
        "detector": {"name": f"keypoints of {data.convention.name}", "sha256": ""},
        "lifter": {"name": lifter.name, "sha256": lifter.weights_sha256},
        "device": str(lifter.device),
        "cameras": [],
        "options": options.to_dict(),
        "left_out": [],
    }


def _lift_video(
    joints: Joints,
    target: Path,
    lifter: Lifter,
    frames: NDArray[np.int64],
    fps: float | None,
    options: VideoOptions,
    source: Path,
) -> tuple[tuple[int, ...], list[str]]:
    """The shape of ``poses_3d``, and sentences for the user."""
    data, size = joints.data, joints.one_size
    assert size is not None
    rate, notes = _rate(data, fps, source)
    recording = recording_of(data, joints.keypoints, joints.confidence, frames, str(source))
    done = posed(recording, size, rate, lifter, options)
    done.spool.write_npz(target, {**joints.meta, **done.meta})
    tracks = done.spool.track_ids
    if not tracks:
        notes.append(f"{source}: nobody was found in it; the result shows no skeletons")
    notes += few_joints(joints.keypoints, source)
    return (len(tracks), done.spool.frame_count, NUM_JOINTS, 3), [*notes, *done.notes]


def _rate(data: Keypoints2D, fps: float | None, source: Path) -> tuple[float, list[str]]:
    if fps is not None or data.fps is not None:
        return float(fps or data.fps or 0), []
    return DEFAULT_FPS, [
        f"{source}: does not say how many frames a second has; taken for {DEFAULT_FPS:g} (`fps`)"
    ]


def _image_size(
    size: FloatArray | None, data: Keypoints2D, lead: tuple[int, ...], source: Path
) -> FloatArray:
    """(2,), or (N, 2) for all poses in a row."""
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
