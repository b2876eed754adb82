"""Lifting 2D keypoints that the user already has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import NUM_JOINTS, POSE_ARRAYS, FloatArray, InputError, UsageError
from gridpose.pipeline.keypoint_input import (
    Keypoints2D,
    convention_named,
    doubts,
    read_keypoints,
    to_human36m,
)
from gridpose.pipeline.keypoint_input.formats.arrays import frames_of
from gridpose.pipeline.keypoint_input.keypoints import RATES
from gridpose.pipeline.keypoint_input.recording import (
    Posed,
    frames_in,
    posed,
    recording_of,
    sure,
)
from gridpose.pipeline.keypoint_input.sequences import DEFAULT_FPS, lift_sequences, sequences_of
from gridpose.pipeline.keypoint_input.units import in_pixels
from gridpose.pipeline.motion.world import camera_to_world, lowest_below_hip
from gridpose.pipeline.options import VideoOptions
from gridpose.pipeline.poses.file import write_pose_list
from gridpose.storage import file_sha256

if TYPE_CHECKING:
    from gridpose.lifting import Lifter

__all__ = ["LiftedFile", "lift_file"]

_OF_PEOPLE: Final = [array for array in POSE_ARRAYS if array.person]


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


@dataclass(frozen=True)
class _Joints:
    """Human3.6M-17 joints (N, 17, 2) px of poses in a row, that are ``lead`` in the file.

    ``confidence`` (N, 17) in the file's scale, if it has any; ``size`` (2,) or (N, 2) px; ``meta``
    for the pose file.
    """

    data: Keypoints2D
    lead: tuple[int, ...]
    keypoints: FloatArray
    confidence: FloatArray | None
    size: FloatArray
    meta: dict[str, Any]

    @property
    def size_in_file(self) -> FloatArray:
        """(2,) or (..., 2) px."""
        return self.size.reshape(*self.lead, 2) if self.size.ndim == 2 else self.size

    @property
    def one_size(self) -> tuple[int, int] | None:
        """Width and height px, where all pictures have the same."""
        sizes = np.unique(self.size.reshape(-1, 2), axis=0)
        return (round(float(sizes[0, 0])), round(float(sizes[0, 1]))) if len(sizes) == 1 else None


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
        fps: frames per second; wins over what the file says. Poses are then frames, in order.
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
    keypoints, confidence = to_human36m(data)
    lead = keypoints.shape[:-2]
    joints = _Joints(
        data,
        lead,
        keypoints.reshape(-1, NUM_JOINTS, 2),
        None if confidence is None else confidence.reshape(-1, NUM_JOINTS),
        _image_size(known, data, lead, source),
        _meta(source, data, lifter, options),
    )
    if not data.columns:  # own arrays
        shape, more = _lift_arrays(joints, target, lifter, fps, options, source)
    elif (frames := frames_in(data, fps is not None)) is not None and joints.one_size:
        shape, more = _lift_video(joints, target, lifter, frames, fps, options, source)
    else:
        shape, more = _lift_list(joints, target, lifter, fps, options, source)
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
    joints: _Joints,
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
    notes += _few_joints(joints.keypoints, source)
    return (len(tracks), done.spool.frame_count, NUM_JOINTS, 3), [*notes, *done.notes]


def _rate(data: Keypoints2D, fps: float | None, source: Path) -> tuple[float, list[str]]:
    if fps is not None or data.fps is not None:
        return float(fps or data.fps or 0), []
    return DEFAULT_FPS, [
        f"{source}: does not say how many frames a second has; taken for {DEFAULT_FPS:g} (`fps`)"
    ]


def _few_joints(keypoints: FloatArray, source: Path) -> list[str]:
    from gridpose.pipeline.keypoint_input.guesses import LEAST_SEEN

    seen = np.isfinite(keypoints).all(-1).sum(1)
    few = int(((seen > 0) & (seen < LEAST_SEEN)).sum())
    if not few:
        return []
    return [f"{source}: {few} of {int((seen > 0).sum())} poses have too few keypoints to be lifted"]


def _lift_arrays(
    joints: _Joints,
    target: Path,
    lifter: Lifter,
    fps: float | None,
    options: VideoOptions,
    source: Path,
) -> tuple[tuple[int, ...], list[str]]:
    """Own arrays keep their shape; they are frames if a rate is known."""
    data, lead, size = joints.data, joints.lead, joints.one_size
    rate = fps or data.fps
    if rate is None or size is None or not lead:
        return _lift_list(joints, target, lifter, fps, options, source)
    if data.track_names:  # (P, T), as in pose files
        track, frame = np.divmod(np.arange(len(joints.keypoints), dtype=np.int64), lead[-1])
    else:
        track, frame = frames_of(joints.keypoints.reshape(*lead, NUM_JOINTS, 2))
    names = data.track_names or tuple(range(1, int(track.max(initial=-1)) + 2))
    frames = (0, max(int(frame.max(initial=0)), 0))
    followed = replace(data, track=track, track_names=names, frames=frames)
    recording = recording_of(followed, joints.keypoints, joints.confidence, frame, str(source))
    done = posed(recording, size, rate, lifter, options)
    _write_rows(target, joints, done, track, frame, names)
    return (*lead, NUM_JOINTS, 3), _few_joints(joints.keypoints, source) + done.notes


def _write_rows(
    target: Path,
    joints: _Joints,
    done: Posed,
    track: NDArray[np.int64],
    frame: NDArray[np.int64],
    names: tuple[int | str, ...],
) -> None:
    """People of a recording, each pose where it was in the file."""
    tracks = done.spool.tracks({**joints.meta, **done.meta})
    values: dict[str, Any] = {**vars(tracks), "image_size": joints.size_in_file}
    place = {number: row for row, number in enumerate(tracks.track_id.tolist())}
    rows = np.array([place.get(name, -1) for name in names], np.int64)[track]
    known = rows >= 0
    for array in _OF_PEOPLE:
        listed = np.full((len(track), *array.shape(0, 0)[2:]), array.absent, array.dtype)
        listed[known] = values[array.name][rows[known], frame[known]]
        values[array.name] = listed.reshape(*joints.lead, *listed.shape[1:])
    del values["present"]
    values["track_id"] = np.array(names, np.int64)
    write_pose_list(target, values, track, frame, joints.data.columns)


def _lift_list(
    joints: _Joints,
    target: Path,
    lifter: Lifter,
    fps: float | None,
    options: VideoOptions,
    source: Path,
) -> tuple[tuple[int, ...], list[str]]:
    """Poses that do not follow each other, or are of several recordings."""
    data, lead, flat, size = joints.data, joints.lead, joints.keypoints, joints.size
    found = sequences_of(data, fps) if lifter.sees_time else None
    if found is None:
        poses = lifter.lift(flat, size, options.fov)
    else:
        poses = lift_sequences(lifter, flat, joints.confidence, size, *found, options.fov)
    there = np.isfinite(poses).all((1, 2))
    world = np.full_like(poses, np.nan)
    world[there] = camera_to_world(poses[there])
    world[there, :, 2] += lowest_below_hip(world[there])[:, None].astype(np.float32)
    box = np.full((len(flat), 4), np.nan, np.float32)
    box[there] = np.concatenate((flat[there].min(1), flat[there].max(1)), axis=1)
    track, frame = _places_in_list(data, lead, len(flat))
    length = int(frame.max(initial=-1)) + 1
    rate = fps or data.fps or DEFAULT_FPS
    people: dict[str, FloatArray | NDArray[Any]] = {
        "bbox": box,
        "keypoints_2d": flat,
        "confidence": sure(joints.confidence, np.asarray(np.isfinite(flat).all(-1))),
        "poses_3d": poses,
        "poses_world": world,
        "repaired": np.zeros((len(flat), NUM_JOINTS), np.uint8),
        "contacts": np.zeros((len(flat), 2), np.bool_),
    }
    values = {
        "fps": rate,
        "frame_time": np.arange(length) / rate,
        # Of pictures each is a shot of its own.
        "shot": np.arange(1, length + 1) if data.columns else np.ones(length),
        "image_size": joints.size_in_file,
        "track_id": np.arange(1, int(track.max(initial=-1)) + 2),
        "meta": joints.meta,
        **{name: each.reshape(*lead, *each.shape[1:]) for name, each in people.items()},
    }
    more = {**data.columns, "is_sequence": np.array(found is not None)}
    write_pose_list(target, values, track, frame, more)
    notes = _incomplete(data, poses.reshape(*lead, NUM_JOINTS, 3), source)
    return (*lead, NUM_JOINTS, 3), notes


def _places_in_list(
    data: Keypoints2D, lead: tuple[int, ...], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Track and frame (N,) of each pose."""
    index = np.arange(count, dtype=np.int64)
    if data.columns:
        if "image_id" in data.columns:  # nobody is the same as in another picture
            return index, np.unique(data.columns["image_id"], return_inverse=True)[1].reshape(-1)
        if data.track is None:  # of one picture
            return index, np.zeros(count, np.int64)
        return np.asarray(data.track, np.int64), index  # recordings, one after the other
    if len(lead) < 2:
        return np.zeros(count, np.int64), index
    return index % lead[-1], index // lead[-1]  # (T, P), as `keypoints_2d` is documented


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
