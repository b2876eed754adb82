"""Which convention the keypoints of a file have: as the user says, the file, or their number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import InputError, UsageError
from gridpose.detectors.conventions import (
    BLAZEPOSE_33,
    COCO_17,
    COCO_WHOLEBODY_133,
    CONVENTIONS,
    HALPE_26,
    HUMAN36M_17,
    OPENPOSE_18,
    OPENPOSE_25,
    Convention,
    convention_of,
)
from gridpose.pipeline.keypoint_input.keypoints import Stated

MAX_KEYPOINTS: Final = 1000

_BY_NAME: Final = {
    **CONVENTIONS,
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
    "body-25": OPENPOSE_25,
    "body25": OPENPOSE_25,
    "openpose-25": OPENPOSE_25,
    "coco-18": OPENPOSE_18,
    "openpose-18": OPENPOSE_18,
}
"""With what VideoPose3D (``layout_name``), mmpose (``dataset_name``) and people call them."""
_CHOICES: Final = ", ".join(CONVENTIONS)
_SIDES: Final = {"l": "left", "r": "right", "left": "left", "right": "right"}

Statement = Convention | InputError
"""What a file says of its convention; an error where that leads to no joints of Human3.6M."""


def _find(name: str) -> Convention | None:
    return _BY_NAME.get(name.strip().lower().replace("_", "-"))


def convention_named(name: str) -> Convention:
    """The convention that the user asks for.

    Raises:
        UsageError: there is none of this name.
    """
    found = _find(name)
    if found is None:
        raise UsageError(f"`convention` {name}: unknown; known are {_CHOICES}")
    return found


def by_layout(name: str, where: str) -> Statement:
    """From the name of a layout or data set."""
    unknown = InputError(f"{where}: its layout is {name[:80]!r}; known are {_CHOICES}")
    return _find(name) or unknown


def by_names(names: Sequence[object], where: str) -> Statement:
    """From the keypoints' names."""
    plain = tuple(_plain(str(name)) for name in names)
    for each in CONVENTIONS.values():
        if plain == tuple(map(_plain, each.keypoints)):
            return each
    try:
        found = convention_of(plain, where)
    except InputError as error:
        return error
    return next((each for each in CONVENTIONS.values() if _same_joints(each, found)), found)


def _plain(name: str) -> str:
    """A keypoint's name as conventions have it: ``LShoulder``, ``l_shoulder``, ``Shoulder-Left``
    are ``left_shoulder``.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=^[LR])(?=[A-Z][a-z])", "_", name.strip())
    words = [word for word in re.split(r"[\s_.-]+", spaced.lower()) if word]
    if len(words) > 1 and words[-1] in _SIDES:
        words = [words[-1], *words[:-1]]
    if len(words) > 1 and words[0] in _SIDES:
        words[0] = _SIDES[words[0]]
    return "_".join(words)


def _same_joints(first: Convention, second: Convention) -> bool:
    """Whether both turn keypoints into the same joints, whatever else they have."""
    return np.array_equal(first.matrix, second.matrix)


def agree(first: Statement | None, second: Statement | None, where: str) -> Statement | None:
    """Two statements of one file as one.

    Raises:
        InputError: they contradict each other.
    """
    if first is None or isinstance(second, InputError):
        return first if isinstance(first, InputError) else second
    if second is None or isinstance(first, InputError):
        return first
    if not _same_joints(first, second):
        raise InputError(
            f"{where}: says that its keypoints are {first.name} and that they are {second.name}"
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
    stated: Stated
    if asked is not None:
        if isinstance(statement, Convention) and not _same_joints(asked, statement):
            raise InputError(
                f"{file}: `convention` says {asked.name}, but the file says {statement.name}"
            )
        chosen, stated = asked, "user"
    elif isinstance(statement, InputError):
        raise statement
    elif statement is not None:
        chosen, stated = statement, "file"
    else:
        alike = [each for each in CONVENTIONS.values() if len(each.keypoints) == count]
        if count is not None and not alike:
            raise InputError(
                f"{file}: people have {count} keypoints, which no known convention has ({_CHOICES})"
            )
        chosen, stated = (usual if count is None or usual in alike else alike[0]), "count"
    expected = len(chosen.keypoints)
    if count not in (None, expected):
        raise InputError(f"{file}: people have {count} keypoints, but {chosen.name} has {expected}")
    return chosen, stated
