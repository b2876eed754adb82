"""Which convention the keypoints of a file have: as the user says, the file, or their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import DoubleArray, FloatArray, InputError, UsageError
from gridpose.detectors.conventions import (
    BLAZEPOSE_33,
    COCO_17,
    COCO_WHOLEBODY_133,
    CONVENTIONS,
    HALPE_26,
    HUMAN36M_17,
    Convention,
    convention_of,
)
from gridpose.pipeline.keypoint_input.json_values import single
from gridpose.pipeline.keypoint_input.keypoints import Stated

MAX_KEYPOINTS: Final = 1000

_ALIASES: Final = {
    "h36m": HUMAN36M_17,
    "human36m": HUMAN36M_17,
    "human36m-17": HUMAN36M_17,
    "human3.6m": HUMAN36M_17,
    "coco": COCO_17,
    "halpe26": HALPE_26,
    "coco-wholebody": COCO_WHOLEBODY_133,
    "wholebody": COCO_WHOLEBODY_133,
    "blazepose": BLAZEPOSE_33,
    "mediapipe": BLAZEPOSE_33,
}
"""What VideoPose3D (``layout_name``), mmpose (``dataset_name``) and people call them."""


def choices() -> str:
    """The names that a user may give."""
    return ", ".join(CONVENTIONS)


def find_convention(name: str) -> Convention | None:
    """By its name or by another that is in use; None for an unknown one."""
    plain = name.strip().lower().replace("_", "-")
    return CONVENTIONS.get(plain) or _ALIASES.get(plain)


def convention_named(name: str) -> Convention:
    """The convention that the user asks for.

    Raises:
        UsageError: there is none of this name.
    """
    found = find_convention(name)
    if found is None:
        raise UsageError(f"`convention` {name}: unknown; known are {choices()}")
    return found


def same_joints(first: Convention, second: Convention) -> bool:
    """Whether both turn keypoints into the same joints, whatever else they have."""
    return np.array_equal(first.matrix, second.matrix)


@dataclass(frozen=True)
class Statement:
    """What a file says of its convention.

    ``convention`` is None where it says something that cannot be turned into Human3.6M's joints;
    ``reason`` then tells why, in a sentence about the file.
    """

    convention: Convention | None
    reason: str = ""


def by_names(names: Sequence[object], where: str) -> Statement:
    """From the keypoints' names."""
    plain = tuple(str(name).strip().lower().replace(" ", "_") for name in names)
    try:
        found = convention_of(plain, where)
    except InputError as error:
        return Statement(None, str(error))
    known = (each for each in CONVENTIONS.values() if same_joints(each, found))
    return Statement(next(known, found))


def by_layout(name: str, where: str) -> Statement:
    """From the name of a layout or data set."""
    found = find_convention(name)
    if found is None:
        return Statement(None, f"{where}: its layout is {name[:80]!r}; known are {choices()}")
    return Statement(found)


def agree(first: Statement | None, second: Statement | None, where: str) -> Statement | None:
    """Two statements of one file as one.

    Raises:
        InputError: they contradict each other.
    """
    if first is None or second is None:
        return first or second
    if first.convention is None or second.convention is None:
        return first if first.convention is None else second
    if not same_joints(first.convention, second.convention):
        raise InputError(
            f"{where}: says that its keypoints are {first.convention.name} and that they are "
            f"{second.convention.name}"
        )
    return first


def choose(
    file: Path,
    count: int | None,
    asked: Convention | None,
    statement: Statement | None,
    usual: Convention = COCO_17,
) -> tuple[Convention, Stated]:
    """The convention of ``count`` keypoints, or of an empty file (None).

    Args:
        file: for messages.
        count: number of keypoints.
        asked: what the user says.
        statement: what the file says.
        usual: what 17 keypoints usually are in files of this kind.

    Raises:
        InputError: unknown, or user, file and number contradict each other.
    """
    stated: Stated = "count"
    if asked is not None:
        other = statement.convention if statement is not None else None
        if other is not None and not same_joints(asked, other):
            raise InputError(
                f"{file}: `convention` says {asked.name}, but the file says {other.name}"
            )
        chosen, stated = asked, "user"
    elif statement is not None:
        if statement.convention is None:
            raise InputError(statement.reason)
        chosen, stated = statement.convention, "file"
    else:
        alike = [each for each in CONVENTIONS.values() if len(each.keypoints) == count]
        if count is not None and not alike:
            raise InputError(
                f"{file}: people have {count} keypoints, which no known convention has "
                f"({choices()})"
            )
        chosen = usual if count is None or usual in alike else alike[0]
    expected = len(chosen.keypoints)
    if count is not None and count != expected:
        raise InputError(f"{file}: people have {count} keypoints, but {chosen.name} has {expected}")
    return chosen, stated


def stack_poses(
    file: Path,
    poses: Sequence[tuple[str, DoubleArray]],
    width: int,
    asked: Convention | None,
    statement: Statement | None,
) -> tuple[FloatArray, Convention, Stated]:
    """Poses (K, width), each with its place in the file, as (N, K, width), and their convention.

    Raises:
        InputError: they have different numbers of keypoints; and as :func:`choose`.
    """
    counts = [len(pose) for _, pose in poses]
    for (where, _), count in zip(poses, counts, strict=True):
        if count != counts[0]:
            raise InputError(f"{where} has {count} keypoints, others in the file {counts[0]}")
    convention, stated = choose(file, counts[0] if counts else None, asked, statement)
    stacked = single([pose for _, pose in poses], (len(convention.keypoints), width))
    return stacked, convention, stated
