"""People in a JSON file, each an object in a list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gridpose.core import AnyArray, DoubleArray, FloatArray, InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.json_values import Entry, column
from gridpose.pipeline.keypoint_input.keypoints import Stated
from gridpose.pipeline.keypoint_input.naming import Statement, choose


def all_have(people: Sequence[Entry], key: str) -> bool:
    """Whether there is somebody, and nobody lacks ``key``."""
    return bool(people) and all(key in person for person in people)


def person_column(people: Sequence[Entry], ranks: Sequence[int]) -> AnyArray:
    """``track_id`` (N,) where all have one, else their ranks within a picture or frame."""
    if all_have(people, "track_id"):
        return column([person.identifier("track_id") for person in people])
    return column(ranks)


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
