"""AlphaPose's JSON, in all its forms; see output.md in its documentation.

The default is a list like COCO's results, whose ``image_id`` is a picture's name, with ``box`` and,
if people were tracked, ``idx``. ``--format cmu`` and ``open`` write ``{picture: {"bodies":
[{"joints"}]}}`` and ``{picture: {"people": [{"pose_keypoints_2d"}]}}``, or one such object for each
picture, with OpenPose's 18 keypoints. PoseFlow writes ``{picture: [{"keypoints", "scores",
"idx"}]}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gridpose.core import InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.formats.openpose import people_of
from gridpose.pipeline.keypoint_input.json_values import entries, shown
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D
from gridpose.pipeline.keypoint_input.sightings import (
    Sighting,
    frame_number,
    name_of,
    seen_in_frames,
    triples,
    without_absent,
)


def is_alphapose_list(content: Any) -> bool:
    """Whether this is the default form, not COCO's results."""
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict) or "image_id" not in first:
        return False
    named = isinstance(first["image_id"], str) and "track_id" not in first
    return named or not {"box", "idx"}.isdisjoint(first)


def is_alphapose_by_picture(content: Any) -> bool:
    """Whether this has pictures by their names."""
    if not isinstance(content, dict) or not content:
        return False
    return all(map(_is_picture, content.values()))


def _is_picture(value: Any) -> bool:
    if isinstance(value, dict):
        return "bodies" in value or "people" in value
    return isinstance(value, list) and all(
        isinstance(each, dict) and "keypoints" in each for each in value
    )


def is_alphapose_picture(content: Any) -> bool:
    """Whether this is a picture of ``--format cmu``."""
    return isinstance(content, dict) and "bodies" in content


def read_list(file: Path, content: list[Any], asked: Convention | None) -> Keypoints2D:
    """The default form.

    Raises:
        InputError: not such a list.
    """
    sightings = []
    for person in entries(content, f"{file}: results"):
        frame = frame_number(person.identifier("image_id"), f"{person.where}.image_id")
        pose = without_absent(triples(person, "keypoints"))
        sightings.append(Sighting(frame, pose, person.where, name_of(person)))
    return seen_in_frames(file, sightings, asked)


def read_by_picture(file: Path, content: dict[str, Any], asked: Convention | None) -> Keypoints2D:
    """The other forms, all pictures in one file.

    Raises:
        InputError: not such an object.
    """
    sightings: list[Sighting] = []
    for name, picture in content.items():
        frame = frame_number(name, str(file))
        sightings += _people_of(picture, frame, f"{file}: {shown(name)}")
    return seen_in_frames(file, sightings, asked)


def read_picture(file: Path, content: dict[str, Any], asked: Convention | None) -> Keypoints2D:
    """One picture of ``--format cmu``.

    Raises:
        InputError: not such an object.
    """
    return seen_in_frames(file, list(_people_of(content, 0, str(file))), asked)


def _people_of(picture: Any, frame: int, where: str) -> Iterator[Sighting]:
    if isinstance(picture, list):
        for person in entries(picture, where):
            pose = without_absent(triples(person, "keypoints"))
            yield Sighting(frame, pose, person.where, name_of(person))
    elif isinstance(picture, dict) and "bodies" in picture:
        for person in entries(picture["bodies"], f"{where}: bodies"):
            pose = without_absent(triples(person, "joints"))
            yield Sighting(frame, pose, person.where, name_of(person))
    elif isinstance(picture, dict) and "people" in picture:
        yield from people_of(picture, frame, where)
    else:
        raise InputError(f"{where}: must have bodies or people, not {shown(picture)}")
