"""What every part of gridpose shares: the skeleton, errors, and the result of a run.

This module sits at the bottom of the import graph, so it needs NumPy and nothing heavier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntFlag
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]
Index = Sequence[int] | slice | NDArray[np.bool_] | NDArray[np.int64]
"""What NumPy indexes an axis with."""
ImageArray = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""

JOINT_NAMES: Final = (
    "hip",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "spine",
    "thorax",
    "nose",
    "head",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
)
"""Human3.6M-17 order. Left and right are the person's own."""

PARENTS: Final = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
"""Parent of each joint; the hip (0) is the root."""

BONES: Final = tuple((parent, child) for child, parent in enumerate(PARENTS) if parent >= 0)

MIRRORED: Final = (0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13)
"""Index of each joint's counterpart on the other side of the body."""

NUM_JOINTS: Final = 17

SHIPPED_LIFTERS: Final = ("default", "default-frame")
"""Lifters that come with the package: one that sees time, and its part that sees single frames."""

Precision = Literal["fp32", "fp16", "bf16"]
"""Arithmetic of networks."""

PrecisionChoice = Literal["auto", "fp32", "fp16", "bf16"]
"""``auto`` is fp32, and where OpenVINO runs a detector what its keypoints survive."""


def unit_vectors(vectors: AnyArray) -> DoubleArray:
    """Vectors (..., D) over their lengths; those without length stay near zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), np.float64)


class GridposeError(Exception):
    """An error that a user can act on; its text is one clear sentence.

    It names parameters in backquotes, with a value or without ("`overwrite=True` replaces it"); the
    command line shows its options instead. ``exit_code`` is what the command line ends with.
    """

    exit_code = 1


class UsageError(GridposeError):
    """Options that contradict each other or a value out of range."""

    exit_code = 2


class InputError(GridposeError):
    """Bad input: not a video, unreadable or unsafe file, wrong shapes."""

    exit_code = 3


class MissingError(GridposeError):
    """Something that the user must provide: weights, data, a package, a device, disk space."""

    exit_code = 4


class Repair(IntFlag):
    """How a joint's 2D position differs from what the detector saw."""

    NONE = 0
    FILLED = 1
    """It was not seen, or far from where it was before and after: interpolated."""
    EXCHANGED = 2
    """Left and right were exchanged."""


@dataclass(frozen=True)
class Person:
    """One tracked person in one frame.

    ``bbox`` (4,) xyxy px; ``keypoints_2d`` (17, 2) px; ``confidence`` (17,) in [0, 1]; ``pose_3d``
    (17, 3) metres, hip at the origin, camera axes (x right, y down, z away); ``pose_world``
    (17, 3) metres, z up, floor at z = 0, hip where it is or above the origin. ``repaired`` (17,)
    uint8 flags of :class:`Repair`. ``contacts`` (2,) bool whether the right and the left foot stand
    on something.
    """

    track_id: int
    bbox: FloatArray
    keypoints_2d: FloatArray
    confidence: FloatArray
    pose_3d: FloatArray
    pose_world: FloatArray
    repaired: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(NUM_JOINTS, np.uint8))
    contacts: BoolArray = field(default_factory=lambda: np.zeros(2, np.bool_))


@dataclass(frozen=True)
class PoseArray:
    """What is known of an array of :class:`PoseTracks`, by its ``name``.

    ``axes`` are "track", "frame", or a length; ``person`` is the attribute of :class:`Person` that
    holds the value of one track in one frame, "" where there is none. ``absent`` is the value where
    somebody is absent, and everywhere in files of before there was such an array.
    """

    name: str
    dtype: DTypeLike
    axes: tuple[str | int, ...]
    person: str = ""
    absent: float = 0

    def shape(self, tracks: int, frames: int) -> tuple[int, ...]:
        """Of the array for so many tracks and frames."""
        lengths = {"track": tracks, "frame": frames}
        return tuple(lengths[axis] if isinstance(axis, str) else axis for axis in self.axes)


def _array(dtype: DTypeLike, *axes: str, absent: float = 0) -> dict[str, Any]:
    """Metadata of a field: those of :class:`PoseArray`."""
    return {"dtype": dtype, "axes": axes, "absent": absent}


def _of_person(attribute: str, *shape: int, dtype: DTypeLike = np.float32) -> dict[str, Any]:
    """Metadata of a field that has an attribute of :class:`Person` for each track and frame."""
    absent = np.nan if dtype is np.float32 else 0
    axes = ("track", "frame", *shape)
    return {"dtype": dtype, "axes": axes, "person": attribute, "absent": absent}


@dataclass(frozen=True)
class PoseTracks:
    """All people of a video: T frames, P tracks, 17 joints. Absent frames are NaN.

    The fields are those of the pose file; units and axes as in :class:`Person`.
    """

    fps: float
    frame_time: DoubleArray = field(metadata=_array(np.float64, "frame"))
    """(T,) presentation times in seconds."""
    shot: NDArray[np.int32] = field(metadata=_array(np.int32, "frame", absent=1))
    """(T,) number of the shot, from 1, that rises at every cut; no track goes on across one."""
    image_size: tuple[int, int]
    """Width and height as displayed."""
    track_id: NDArray[np.int64] = field(metadata=_array(np.int64, "track"))
    present: BoolArray = field(metadata=_array(np.bool_, "track", "frame"))
    bbox: FloatArray = field(metadata=_of_person("bbox", 4))
    keypoints_2d: FloatArray = field(metadata=_of_person("keypoints_2d", NUM_JOINTS, 2))
    confidence: FloatArray = field(metadata=_of_person("confidence", NUM_JOINTS))
    poses_3d: FloatArray = field(metadata=_of_person("pose_3d", NUM_JOINTS, 3))
    poses_world: FloatArray = field(metadata=_of_person("pose_world", NUM_JOINTS, 3))
    repaired: NDArray[np.uint8] = field(metadata=_of_person("repaired", NUM_JOINTS, dtype=np.uint8))
    """(P, T, 17) flags of :class:`Repair`; 0 where somebody is absent."""
    contacts: BoolArray = field(metadata=_of_person("contacts", 2, dtype=np.bool_))
    """(P, T, 2) whether the right and the left foot stand on something."""
    meta: dict[str, Any]

    @property
    def has_places(self) -> bool:
        """Whether world poses say where people are, rather than keep hips above the origin."""
        hips = self.poses_world[self.present][:, 0, :2]
        return bool((np.abs(hips) > 1e-3).any())

    def as_played(self) -> PoseTracks:
        """With times of the video, if that plays slower or faster than it was filmed."""
        slowdown = float(self.meta.get("slowdown", 1.0))
        return replace(self, fps=self.fps / slowdown, frame_time=self.frame_time * slowdown)

    def people(self, frame: int) -> list[Person]:
        """Who is present in a frame."""
        return [
            Person(
                track_id=int(self.track_id[row]),
                **{each.person: getattr(self, each.name)[row, frame] for each in PERSON_ARRAYS},
            )
            for row in np.flatnonzero(self.present[:, frame])
        ]

    def rows(self, track_ids: Sequence[int]) -> list[int]:
        """Where tracks of these numbers are.

        Raises:
            UsageError: there is no such track.
        """
        known = self.track_id.tolist()
        for track in track_ids:
            if track not in known:
                there = ", ".join(map(str, known))
                raise UsageError(f"there is no track {track}; there are {there}")
        return [known.index(track) for track in track_ids]

    def select(self, tracks: Index | None = None, frames: Index | None = None) -> PoseTracks:
        """Only some tracks and frames, in all fields together.

        Args:
            tracks: rows of tracks, as NumPy indexes an axis: numbers, a mask or a slice.
            frames: likewise, of frames.
        """
        chosen = {"track": tracks, "frame": frames}
        changed: dict[str, Any] = {}
        for array in POSE_ARRAYS:
            values: AnyArray = getattr(self, array.name)
            for place, axis in enumerate(array.axes):
                index = chosen.get(str(axis))
                if index is not None:
                    values = values[(slice(None),) * place + (index,)]
            changed[array.name] = values
        return replace(self, **changed)


POSE_ARRAYS: Final = tuple(
    PoseArray(each.name, **each.metadata) for each in fields(PoseTracks) if each.metadata
)
"""The arrays of :class:`PoseTracks`, in their order."""

PERSON_ARRAYS: Final = tuple(array for array in POSE_ARRAYS if array.person)
"""Those with a value of :class:`Person` for each track and frame."""
