"""People seen in frames of a video, as most programs list them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import AnyArray, DoubleArray, FloatArray, InputError
from gridpose.detectors.conventions import COCO_17, Convention
from gridpose.pipeline.keypoint_input.json_values import Entry, column, shown
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D
from gridpose.pipeline.keypoint_input.naming import MAX_KEYPOINTS, Statement, choose

Name = int | str

ID_KEYS: Final = ("track_id", "idx", "person_id", "instance_id", "id")
"""What programs call the number of a person, in the order in which they are looked for."""
_LARGEST_FRAME: Final = 10**15
"""Some data sets number pictures by sequence and frame."""


@dataclass(frozen=True)
class Sighting:
    """Somebody in a frame: ``pose`` (K, 3) x, y and confidence; NaN where a keypoint is absent.

    ``where`` stands for them in messages; ``name`` is what the file calls them.
    """

    frame: int
    pose: DoubleArray
    where: str
    name: Name | None = None


def name_of(person: Entry, keys: Sequence[str] = ID_KEYS) -> Name | None:
    """Who somebody is: the first of ``keys`` that says so; None where none does.

    A number may be in a list, and a whole number written with a point; -1 is nobody's.
    """
    for key in keys:
        value = person.members.get(key)
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None or value == [] or value == -1:
            continue
        return Entry(person.where, {key: value}).identifier(key)
    return None


def triples(person: Entry, key: str) -> DoubleArray:
    """x, y and a score of each keypoint in a row, as (K, 3)."""
    flat = person.numbers(key)
    if len(flat) % 3 or not 0 < len(flat) // 3 <= MAX_KEYPOINTS:
        raise InputError(
            f"{person.where}.{key} must be x, y and a score of each keypoint, "
            f"got {len(flat)} numbers"
        )
    return flat.reshape(-1, 3)


def without_absent(pose: DoubleArray) -> DoubleArray:
    """Keypoints (K, 3) that a program did not find, all 0, become NaN with confidence 0."""
    pose = pose.copy()
    pose[(pose == 0).all(1), :2] = np.nan
    return pose


def frame_number(name: Name, where: str) -> int:
    """Of a picture: itself, or the last number in its name (``0.jpg``, ``walk_0012.png``).

    Raises:
        InputError: there is none.
    """
    if isinstance(name, int):
        number = name
    else:
        digits = re.findall(r"[0-9]+", Path(name).stem) or re.findall(r"[0-9]+", name)
        if not digits:
            raise InputError(f"{where}: {shown(name)} has no number of a frame")
        number = int(digits[-1][-18:])
    if not 0 <= number <= _LARGEST_FRAME:
        raise InputError(f"{where}: {shown(name)} is no number of a frame")
    return number


def seen_in_frames(
    file: Path,
    sightings: Sequence[Sighting],
    asked: Convention | None,
    statement: Statement | None = None,
    usual: Convention = COCO_17,
    *,
    scored: bool = True,
    frames: tuple[int, int] | None = None,
    image_size: FloatArray | None = None,
    fps: float | None = None,
    normalized: bool = False,
    notes: tuple[str, ...] = (),
) -> Keypoints2D:
    """All sightings as keypoints; people are tracks if all have a name.

    Args:
        file: for messages.
        sightings: everybody in every frame.
        asked: the convention that the user says it is.
        statement: what the file says of it.
        usual: what 17 keypoints usually are in files of this kind.
        scored: whether there are confidences.
        frames: first and last frame, where that is more than those in which somebody was seen.
        image_size: (2,) px.
        fps: of the frames.
        normalized: whether keypoints are shares of the picture.
        notes: for the user.

    Raises:
        InputError: different numbers of keypoints, or as :func:`choose`.
    """
    count = len(sightings[0].pose) if sightings else None
    for each in sightings:
        if len(each.pose) != count:
            raise InputError(
                f"{each.where} has {len(each.pose)} keypoints, others in the file {count}"
            )
    convention, stated = choose(file, count, asked, statement, usual)
    poses = np.empty((len(sightings), len(convention.keypoints), 3))
    for place, each in enumerate(sightings):
        poses[place] = each.pose
    with np.errstate(over="ignore"):  # too large is not finite, and that is absent
        stacked = poses.astype(np.float32)
    track: AnyArray | None = None
    names: tuple[Name, ...] = ()
    at = np.array([each.frame for each in sightings], np.int64)
    if sightings and all(each.name is not None for each in sightings):
        named = [each.name for each in sightings if each.name is not None]
        unique, track = np.unique(column(named), return_inverse=True)
        names = tuple(unique.tolist())
    elif len(np.unique(at)) == len(at):  # one a frame; of several, who is second may be first next
        track = np.zeros(len(at), np.int64)
    return Keypoints2D(
        stacked[..., :2],
        convention,
        stated,
        stacked[..., 2] if scored else None,
        image_size,
        columns={"frame": at},
        track=track,
        track_names=names,
        fps=fps,
        frames=frames,
        normalized=normalized,
        notes=notes,
    )
