"""People in a JSON file, each an object in a list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import AnyArray, DoubleArray, FloatArray, InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.json_values import Entry, column
from gridpose.pipeline.keypoint_input.keypoints import Stated
from gridpose.pipeline.keypoint_input.naming import Statement, choose
from gridpose.pipeline.keypoint_input.sightings import name_of

PERSON_KEYS: Final = ("track_id", "idx", "person_id", "instance_id")
"""What says who somebody is; ``id`` is an annotation's."""


def all_have(people: Sequence[Entry], key: str) -> bool:
    """Whether there is somebody, and nobody lacks ``key``."""
    return bool(people) and all(key in person for person in people)


def person_column(people: Sequence[Entry], ranks: Sequence[int]) -> AnyArray:
    """Who they are (N,) where all have a name, else their ranks within a picture or frame."""
    names = [name_of(person, PERSON_KEYS) for person in people]
    known = [name for name in names if name is not None]
    return column(known if people and len(known) == len(people) else ranks)


def tracks_of(people: Sequence[Entry]) -> tuple[AnyArray | None, tuple[int | str, ...]]:
    """Numbers (N,) of people from 0 and what the file calls them, if it names all."""
    names = [name_of(person, PERSON_KEYS) for person in people]
    known = [name for name in names if name is not None]
    if not people or len(known) < len(people):
        return None, ()
    unique, track = np.unique(column(known), return_inverse=True)
    return track, tuple(unique.tolist())


def stack_poses(
    file: Path,
    people: Sequence[Entry],
    poses: Sequence[DoubleArray],
    asked: Convention | None,
    statement: Statement | None,
) -> tuple[FloatArray, Convention, Stated]:
    """Poses (K, 3) of people as one array (N, K, 3), and their convention.

    Raises:
        InputError: they have different numbers of keypoints; and as :func:`choose`.
    """
    for person, pose in zip(people, poses, strict=True):
        if len(pose) != len(poses[0]):
            raise InputError(
                f"{person.where} has {len(pose)} keypoints, others in the file {len(poses[0])}"
            )
    count = len(poses[0]) if poses else None
    convention, stated = choose(file, count, asked, statement)
    stacked = np.stack(poses) if poses else np.empty((0, len(convention.keypoints), 3))
    with np.errstate(over="ignore"):  # too large is not finite, and that is absent
        return stacked.astype(np.float32), convention, stated
