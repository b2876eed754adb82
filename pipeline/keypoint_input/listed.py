"""Poses that keep the shape of their file: lists of pictures, and ``gridpose``'s own arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import NUM_JOINTS, POSE_ARRAYS, FloatArray
from gridpose.pipeline.keypoint_input import Keypoints2D
from gridpose.pipeline.keypoint_input.formats.arrays import frames_of
from gridpose.pipeline.keypoint_input.guesses import LEAST_SEEN
from gridpose.pipeline.keypoint_input.recording import Posed, posed, recording_of, sure
from gridpose.pipeline.keypoint_input.sequences import DEFAULT_FPS, lift_sequences, sequences_of
from gridpose.pipeline.motion.world import camera_to_world, lowest_below_hip
from gridpose.pipeline.options import VideoOptions
from gridpose.pipeline.poses.file import write_pose_list

if TYPE_CHECKING:
    from gridpose.lifting import Lifter

_OF_PEOPLE: Final = [array for array in POSE_ARRAYS if array.person]


@dataclass(frozen=True)
class Joints:
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


def lift_arrays(
    joints: Joints,
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
        return lift_list(joints, target, lifter, fps, options, source)
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
    return (*lead, NUM_JOINTS, 3), few_joints(joints.keypoints, source) + done.notes


def _write_rows(
    target: Path,
    joints: Joints,
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


def lift_list(
    joints: Joints,
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


def few_joints(keypoints: FloatArray, source: Path) -> list[str]:
    """Says how many of the poses (N, 17, 2) were left out because too little of them is seen."""
    seen = np.isfinite(keypoints).all(-1).sum(1)
    few = int(((seen > 0) & (seen < LEAST_SEEN)).sum())
    if not few:
        return []
    return [f"{source}: {few} of {int((seen > 0).sum())} poses have too few keypoints to be lifted"]


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
