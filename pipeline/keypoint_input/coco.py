"""COCO's two kinds of JSON: annotations and results of keypoints.

See https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from gridpose.core import DoubleArray, InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.json_values import (
    column,
    identifier,
    items,
    member,
    number,
    numbers,
    shown,
    single,
    whole,
)
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D, picture_size
from gridpose.pipeline.keypoint_input.naming import (
    MAX_KEYPOINTS,
    Statement,
    agree,
    by_names,
    choose,
)

_VISIBLE: Final = 2


def is_results(content: list[Any]) -> bool:
    """Whether a list is COCO's results and not mmpose's predictions."""
    first = content[0] if content else None
    return isinstance(first, dict) and "image_id" in first


def _triples(entry: dict[str, Any], where: str, file: Path, before: int | None) -> DoubleArray:
    """``[x, y, v] * K`` as (K, 3)."""
    flat = numbers(member(entry, "keypoints", where), f"{where}.keypoints")
    count = len(flat) // 3
    if len(flat) % 3 or not 0 < count <= MAX_KEYPOINTS:
        raise InputError(
            f"{where}.keypoints must be x, y and a score of each keypoint, got {len(flat)} numbers"
        )
    if before is not None and count != before:
        raise InputError(f"{where} has {count} keypoints, others in the file {before}")
    return flat.reshape(count, 3)


def _rank(counted: dict[int | str, int], image: int | str) -> int:
    """How many people of this picture came before."""
    counted[image] = counted.get(image, -1) + 1
    return counted[image]


def read_results(file: Path, content: list[Any], asked: Convention | None) -> Keypoints2D:
    """``[{"image_id", "category_id", "keypoints": [x, y, score] * K, "score"}]``.

    Keypoints at (0, 0) without a score are absent. Columns: ``image_id``; ``person``, which is
    ``track_id`` where all have one and else the number within the picture; ``score``, where all
    have one.

    Raises:
        InputError: not such a list.
    """
    poses: list[DoubleArray] = []
    images: list[int | str] = []
    ranks: list[int | str] = []
    counted: dict[int | str, int] = {}
    entries = items(content, f"{file}: results")
    for index, entry in enumerate(entries):
        where = f"{file}: results[{index}]"
        pose = _triples(entry, where, file, len(poses[0]) if poses else None)
        pose[(pose == 0).all(1), :2] = np.nan
        poses.append(pose)
        image = identifier(member(entry, "image_id", where), f"{where}.image_id")
        images.append(image)
        ranks.append(_rank(counted, image))
    convention, stated = choose(file, len(poses[0]) if poses else None, asked, None)
    stacked = single(poses, (len(convention.keypoints), 3))
    columns = {"image_id": column(images), "person": column(_tracks(entries, file) or ranks)}
    if entries and all("score" in entry for entry in entries):
        scores = [
            number(entry["score"], f"{file}: results[{index}].score")
            for index, entry in enumerate(entries)
        ]
        columns["score"] = np.array(scores, np.float64)
    return Keypoints2D(stacked[..., :2], convention, stated, stacked[..., 2], columns=columns)


def _tracks(entries: list[dict[str, Any]], file: Path) -> list[int | str] | None:
    if not entries or not all("track_id" in entry for entry in entries):
        return None
    return [identifier(entry["track_id"], f"{file}: a track_id") for entry in entries]


def read_annotations(file: Path, content: dict[str, Any], asked: Convention | None) -> Keypoints2D:
    """``{"images", "annotations", "categories"}``.

    People without a marked keypoint are left out. Columns: ``image_id``, ``annotation_id`` where
    all have one, and ``person`` as in :func:`read_results`.

    Raises:
        InputError: not such an object.
    """
    every = items(content["annotations"], f"{file}: annotations")
    poses: list[DoubleArray] = []
    used: list[dict[str, Any]] = []
    images: list[int | str] = []
    ranks: list[int | str] = []
    categories: set[int] = set()
    counted: dict[int | str, int] = {}
    for index, entry in enumerate(every):
        where = f"{file}: annotations[{index}]"
        if "keypoints" not in entry:
            continue
        pose = _triples(entry, where, file, len(poses[0]) if poses else None)
        absent = ~(pose[:, 2] > 0)
        if absent.all():
            continue
        pose[absent, :2] = np.nan
        poses.append(pose)
        used.append(entry)
        image = identifier(member(entry, "image_id", where), f"{where}.image_id")
        images.append(image)
        ranks.append(_rank(counted, image))
        if "category_id" in entry:
            categories.add(whole(entry["category_id"], f"{where}.category_id"))
    if every and not any("keypoints" in entry for entry in every):
        raise InputError(f"{file}: its annotations have no keypoints")
    count = len(poses[0]) if poses else None
    statement = _categories(content.get("categories", []), categories, file)
    convention, stated = choose(file, count, asked, statement)
    stacked = single(poses, (len(convention.keypoints), 3))
    columns = {"image_id": column(images), "person": column(_tracks(used, file) or ranks)}
    if used and all("id" in entry for entry in used):
        columns["annotation_id"] = column(
            [identifier(entry["id"], f"{file}: the id of an annotation") for entry in used]
        )
    return Keypoints2D(
        stacked[..., :2],
        convention,
        stated,
        (stacked[..., 2] > 0).astype(np.float32),
        _sizes(content.get("images", []), images, file),
        stacked[..., 2] == _VISIBLE if (stacked[..., 2] == _VISIBLE).any() else None,
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
