"""COCO's two kinds of JSON: annotations and results of keypoints.

See https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np

from gridpose.core import AnyArray, FloatArray, InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.json_values import Entry, column, entries, shown
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D, picture_size
from gridpose.pipeline.keypoint_input.naming import MAX_KEYPOINTS, Statement, agree, by_names
from gridpose.pipeline.keypoint_input.people import (
    all_have,
    person_column,
    stack_poses,
    tracks_of,
)
from gridpose.pipeline.keypoint_input.sightings import triples

_VISIBLE: Final = 2


def is_results(content: Any) -> bool:
    """Whether this is COCO's results and not mmpose's predictions."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and "image_id" in first


def read_results(file: Path, content: list[Any], asked: Convention | None) -> Keypoints2D:
    """``[{"image_id", "category_id", "keypoints": [x, y, score] * K, "score"}]``.

    Keypoints at (0, 0) without a score are absent. Columns: ``image_id``; ``person``, which is
    ``track_id`` or the like where all have one and else the number within the picture; ``score``,
    where all have one.

    Raises:
        InputError: not such a list.
    """
    people = entries(content, f"{file}: results")
    poses = [triples(person, "keypoints") for person in people]
    for pose in poses:
        pose[(pose == 0).all(1), :2] = np.nan
    columns = _columns(people)
    track, names = tracks_of(people)
    stacked, convention, stated = stack_poses(file, people, poses, asked, None)
    if all_have(people, "score"):
        columns["score"] = np.array([person.number("score") for person in people])
    return Keypoints2D(
        stacked[..., :2],
        convention,
        stated,
        stacked[..., 2],
        columns=columns,
        track=track,
        track_names=names,
    )


def read_annotations(file: Path, content: dict[str, Any], asked: Convention | None) -> Keypoints2D:
    """``{"images", "annotations", "categories"}``.

    People without a marked keypoint are left out. Columns: ``image_id``, ``annotation_id`` where
    all have one, and ``person`` as in :func:`read_results`.

    Raises:
        InputError: not such an object.
    """
    annotations = entries(content["annotations"], f"{file}: annotations")
    annotated = [entry for entry in annotations if "keypoints" in entry]
    if annotations and not annotated:
        raise InputError(f"{file}: its annotations have no keypoints")
    people, poses = [], []
    for person in annotated:
        pose = triples(person, "keypoints")
        absent = ~(pose[:, 2] > 0)
        pose[absent, :2] = np.nan
        if not absent.all():
            people.append(person)
            poses.append(pose)
    columns = _columns(people)
    statement = _keypoint_names(content.get("categories", []), people, file)
    stacked, convention, stated = stack_poses(file, people, poses, asked, statement)
    if all_have(people, "id"):
        columns["annotation_id"] = column([person.identifier("id") for person in people])
    track, names = tracks_of(people)
    visible = stacked[..., 2] == _VISIBLE
    return Keypoints2D(
        stacked[..., :2],
        convention,
        stated,
        (stacked[..., 2] > 0).astype(np.float32),
        _picture_sizes(content.get("images", []), people, file),
        visible if visible.any() else None,
        columns,
        track,
        names,
    )


def _columns(people: list[Entry]) -> dict[str, AnyArray]:
    images = [person.identifier("image_id") for person in people]
    before: Counter[int | str] = Counter()
    ranks = []
    for image in images:
        ranks.append(before[image])
        before[image] += 1
    return {"image_id": column(images), "person": person_column(people, ranks)}


def _keypoint_names(value: Any, people: list[Entry], file: Path) -> Statement | None:
    """What the names of keypoints say, in the categories that occur."""
    used = {person.whole("category_id") for person in people if "category_id" in person}
    statement = None
    for category in entries(value, f"{file}: categories"):
        if "keypoints" not in category or (used and category.whole("id") not in used):
            continue
        names = category.value("keypoints")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{category.where}.keypoints must be names, not {shown(names)}")
        if 0 < len(names) <= MAX_KEYPOINTS:
            statement = agree(statement, by_names(names, str(file)), str(file))
    return statement


def _picture_sizes(value: Any, people: list[Entry], file: Path) -> FloatArray | None:
    """(N, 2) of the people's pictures; None where the file does not tell all."""
    sizes = {
        image.identifier("id"): picture_size(
            image.number("width"), image.number("height"), image.where
        )
        for image in entries(value, f"{file}: images")
        if {"id", "width", "height"} <= image.members.keys()
    }
    images = [person.identifier("image_id") for person in people]
    if not all(image in sizes for image in images):
        return None
    return np.array([sizes[image] for image in images], np.float32).reshape(-1, 2)
