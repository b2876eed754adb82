"""COCO's two kinds of JSON: annotations and results of keypoints.

See https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from gridpose.core import AnyArray, DoubleArray, InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.json_values import (
    column,
    identifier,
    items,
    member,
    number,
    numbers,
    shown,
    whole,
)
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D, picture_size
from gridpose.pipeline.keypoint_input.naming import (
    MAX_KEYPOINTS,
    Statement,
    agree,
    by_names,
    stack_poses,
)

_VISIBLE: Final = 2


def is_results(content: list[Any]) -> bool:
    """Whether a list is COCO's results and not mmpose's predictions."""
    first = content[0] if content else None
    return isinstance(first, dict) and "image_id" in first


@dataclass(frozen=True)
class _Person:
    """An entry with keypoints: where it stands in the file, and its (K, 3) x, y and score."""

    where: str
    entry: dict[str, Any]
    pose: DoubleArray


def _person(entry: dict[str, Any], where: str) -> _Person:
    flat = numbers(member(entry, "keypoints", where), f"{where}.keypoints")
    count = len(flat) // 3
    if len(flat) % 3 or not 0 < count <= MAX_KEYPOINTS:
        raise InputError(
            f"{where}.keypoints must be x, y and a score of each keypoint, got {len(flat)} numbers"
        )
    return _Person(where, entry, flat.reshape(count, 3))


def _identifiers(people: list[_Person], key: str) -> list[int | str]:
    return [
        identifier(member(person.entry, key, person.where), f"{person.where}.{key}")
        for person in people
    ]


def _have_all(people: list[_Person], key: str) -> bool:
    return bool(people) and all(key in person.entry for person in people)


def _columns(people: list[_Person]) -> dict[str, AnyArray]:
    """``image_id``, and ``person``: ``track_id`` or else the number within the picture."""
    images = _identifiers(people, "image_id")
    before: Counter[int | str] = Counter()
    persons: list[int | str] = []
    for image in images:
        persons.append(before[image])
        before[image] += 1
    if _have_all(people, "track_id"):
        persons = _identifiers(people, "track_id")
    return {"image_id": column(images), "person": column(persons)}


def read_results(file: Path, content: list[Any], asked: Convention | None) -> Keypoints2D:
    """``[{"image_id", "category_id", "keypoints": [x, y, score] * K, "score"}]``.

    Keypoints at (0, 0) without a score are absent. Columns: ``image_id``; ``person``, which is
    ``track_id`` where all have one and else the number within the picture; ``score``, where all
    have one.

    Raises:
        InputError: not such a list.
    """
    name = f"{file}: results"
    people = [
        _person(entry, f"{name}[{index}]") for index, entry in enumerate(items(content, name))
    ]
    for person in people:
        person.pose[(person.pose == 0).all(1), :2] = np.nan
    columns = _columns(people)
    placed = [(person.where, person.pose) for person in people]
    poses, convention, stated = stack_poses(file, placed, 3, asked, None)
    if _have_all(people, "score"):
        scores = [number(person.entry["score"], f"{person.where}.score") for person in people]
        columns["score"] = np.array(scores, np.float64)
    return Keypoints2D(poses[..., :2], convention, stated, poses[..., 2], columns=columns)


def read_annotations(file: Path, content: dict[str, Any], asked: Convention | None) -> Keypoints2D:
    """``{"images", "annotations", "categories"}``.

    People without a marked keypoint are left out. Columns: ``image_id``, ``annotation_id`` where
    all have one, and ``person`` as in :func:`read_results`.

    Raises:
        InputError: not such an object.
    """
    name = f"{file}: annotations"
    every = items(content["annotations"], name)
    annotated = [
        _person(entry, f"{name}[{index}]")
        for index, entry in enumerate(every)
        if "keypoints" in entry
    ]
    if every and not annotated:
        raise InputError(f"{file}: its annotations have no keypoints")
    people = []
    for person in annotated:
        absent = ~(person.pose[:, 2] > 0)
        person.pose[absent, :2] = np.nan
        if not absent.all():
            people.append(person)
    columns = _columns(people)
    categories = {
        whole(person.entry["category_id"], f"{person.where}.category_id")
        for person in people
        if "category_id" in person.entry
    }
    statement = _categories(content.get("categories", []), categories, file)
    placed = [(person.where, person.pose) for person in people]
    poses, convention, stated = stack_poses(file, placed, 3, asked, statement)
    if _have_all(people, "id"):
        columns["annotation_id"] = column(_identifiers(people, "id"))
    visible = poses[..., 2] == _VISIBLE
    return Keypoints2D(
        poses[..., :2],
        convention,
        stated,
        (poses[..., 2] > 0).astype(np.float32),
        _sizes(content.get("images", []), _identifiers(people, "image_id"), file),
        visible if visible.any() else None,
        columns,
    )


def _categories(value: Any, used: set[int], file: Path) -> Statement | None:
    """What the names of keypoints say, in the categories that occur."""
    statement = None
    for index, category in enumerate(items(value, f"{file}: categories")):
        where = f"{file}: categories[{index}]"
        if "keypoints" not in category:
            continue
        if used and whole(member(category, "id", where), f"{where}.id") not in used:
            continue
        names = category["keypoints"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{where}.keypoints must be names, not {shown(names)}")
        if 0 < len(names) <= MAX_KEYPOINTS:
            statement = agree(statement, by_names(names, str(file)), str(file))
    return statement


def _sizes(value: Any, images: list[int | str], file: Path) -> Any:
    """(N, 2) of the poses' pictures; None where the file does not tell all."""
    sizes: dict[int | str, tuple[float, float]] = {}
    for index, image in enumerate(items(value, f"{file}: images")):
        where = f"{file}: images[{index}]"
        if not {"id", "width", "height"} <= image.keys():
            continue
        width, height = (number(image[key], f"{where}.{key}") for key in ("width", "height"))
        sizes[identifier(image["id"], f"{where}.id")] = picture_size(width, height, where)
    if not all(image in sizes for image in images):
        return None
    return np.array([sizes[image] for image in images], np.float32).reshape(-1, 2)
