"""OpenPose's JSON (``--write_json``): a file for each frame, mostly in a folder.

``{"version", "people": [{"person_id", "pose_keypoints_2d": [x, y, score] * K}]}``. Files are called
``NAME_000000000012_keypoints.json``; K is 25 (BODY_25) or 18 (COCO). Keypoints that were not found
are 0, 0, 0. See 02_output.md in OpenPose's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gridpose.core import InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.json_values import entries, load_json, shown
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D
from gridpose.pipeline.keypoint_input.sightings import (
    Sighting,
    frame_number,
    name_of,
    seen_in_frames,
    triples,
    without_absent,
)

_POSES: Final = ("pose_keypoints_2d", "pose_keypoints")
"""Of today, and of before 1.1."""


def is_openpose(content: Any) -> bool:
    """Whether this is one frame."""
    return isinstance(content, dict) and "people" in content


def frames_in(folder: Path) -> list[Path]:
    """Files of frames in a folder, in their order.

    Raises:
        InputError: there is none, or the folder cannot be read.
    """
    try:
        files = [
            file
            for file in folder.iterdir()
            if file.suffix.lower() == ".json" and not file.name.startswith(".")
        ]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
    named = [file for file in files if file.stem.endswith("_keypoints")]
    if not (named or files):
        raise InputError(f"{folder}: has no JSON files of frames, such as 0001_keypoints.json")
    return sorted(named or files, key=_by_numbers)


def _by_numbers(file: Path) -> list[tuple[int, int, str]]:
    """``a_2`` comes before ``a_10``."""
    parts = re.split(r"([0-9]+)", file.name)
    return [(1, int(part[-18:]), part) if part.isdecimal() else (0, 0, part) for part in parts]


def read_frames(files: list[Path], source: Path, asked: Convention | None) -> Keypoints2D:
    """All people of frames that lie in a file each.

    Raises:
        InputError: one of them is none.
    """
    contents = ((file, load_json(file)) for file in files)
    numbers = _numbers(files)
    sightings: list[Sighting] = []
    for number, (file, content) in zip(numbers, contents, strict=True):
        if not is_openpose(content):
            raise InputError(f"{file}: not a frame of OpenPose: has no people")
        sightings += people_of(content, number, str(file))
    frames = (min(numbers), max(numbers)) if numbers else None
    return seen_in_frames(source, sightings, asked, frames=frames)


def _numbers(files: list[Path]) -> list[int]:
    """As the names have them; where they do not tell frames apart, their order."""
    try:
        numbers = [frame_number(file.name.removesuffix("_keypoints.json"), "") for file in files]
    except InputError:
        return list(range(len(files)))
    return numbers if len(set(numbers)) == len(files) else list(range(len(files)))


def people_of(content: dict[str, Any], frame: int, where: str) -> Iterator[Sighting]:
    """People of one frame; those of whom only face or hands were found are left out.

    Raises:
        InputError: damaged.
    """
    for person in entries(content.get("people"), f"{where}: people"):
        key = next((key for key in _POSES if key in person), _POSES[0])
        if person.value(key) == []:
            continue
        pose = triples(person, key)
        if (pose[:, 2] < 0).any():
            raise InputError(f"{person.where}.{key} has the score {shown(pose[:, 2].min())}")
        yield Sighting(frame, without_absent(pose), person.where, name_of(person))
