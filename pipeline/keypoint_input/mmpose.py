"""Predictions that mmpose 1.x saves as JSON.

Its demos (``--save-predictions``) write ``{"meta_info", "instance_info"}``, where
``instance_info`` has frames, ``[{"frame_id", "instances": [...]}]``, or the people of one picture.
Its inferencers (``pred_out_dir``) write these lists alone, without ``meta_info``.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from gridpose.core import AnyArray, DoubleArray, InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.json_values import (
    column,
    identifier,
    items,
    member,
    numbers,
    shown,
    single,
    whole,
)
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D
from gridpose.pipeline.keypoint_input.naming import (
    MAX_KEYPOINTS,
    Statement,
    by_layout,
    by_names,
    stack_poses,
)


def read_mmpose(
    file: Path, predictions: Any, meta_info: Any, asked: Convention | None
) -> Keypoints2D:
    """People of all frames, one after the other.

    Columns: ``frame``, as ``frame_id`` has it, where there are frames (demos count from 1,
    inferencers from 0); ``person``, which is ``track_id`` where all have one and else the number
    within the frame.

    Raises:
        InputError: not such predictions.
    """
    name = "predictions" if meta_info is None else "instance_info"
    entries = items(predictions, f"{file}: {name}")
    with_frames = bool(entries) and "instances" in entries[0]
    groups = [(f"{file}: {name}", entries)]
    frames: list[int | str] = []
    if with_frames:
        groups, frames = _frames(entries, f"{file}: {name}")
    people = [
        (f"{where}[{index}]", person)
        for where, group in groups
        for index, person in enumerate(group)
    ]
    ranks: list[int | str] = [index for _, group in groups for index in range(len(group))]
    placed = [(where, _pose(person, where)) for where, person in people]
    scores: list[DoubleArray] = []
    for (where, pose), (_, person) in zip(placed, people, strict=True):
        if person.get("keypoint_scores") is not None:
            score = numbers(person["keypoint_scores"], f"{where}.keypoint_scores")
            if len(score) != len(pose):
                raise InputError(f"{where} has {len(pose)} keypoints and {len(score)} scores")
            scores.append(score)
    statement = _statement(meta_info, file)
    poses, convention, stated = stack_poses(file, placed, 2, asked, statement)
    # Who is second in one frame may be first in the next.
    track: AnyArray | None = None
    if len(set(frames)) == len(people):
        track = np.zeros(len(people), int)
    if all("track_id" in person for _, person in people):
        ranks = [identifier(person["track_id"], f"{where}.track_id") for where, person in people]
        track = np.unique(column(ranks), return_inverse=True)[1]
    columns = {"person": column(ranks)}
    if with_frames:
        columns["frame"] = column(frames)
    count = len(convention.keypoints)
    confidence = single(scores, (count,)) if len(scores) == len(people) else None
    return Keypoints2D(poses, convention, stated, confidence, columns=columns, track=track)


def _frames(
    entries: list[dict[str, Any]], name: str
) -> tuple[list[tuple[str, list[dict[str, Any]]]], list[int | str]]:
    """The people of each frame, and the frame of each of them."""
    groups: list[tuple[str, list[dict[str, Any]]]] = []
    frames: list[int | str] = []
    for index, entry in enumerate(entries):
        where = f"{name}[{index}]"
        listed = items(member(entry, "instances", where), f"{where}.instances")
        groups.append((f"{where}.instances", listed))
        frames += [whole(member(entry, "frame_id", where), f"{where}.frame_id")] * len(listed)
    return groups, frames


def _pose(person: dict[str, Any], where: str) -> DoubleArray:
    """``[[x, y], ...]`` as (K, 2)."""
    rows = member(person, "keypoints", where)
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise InputError(f"{where}.keypoints must be pairs of numbers, not {shown(rows)}")
    widths = {len(row) for row in rows}
    if widths == {3}:
        raise InputError(f"{where}.keypoints are 3D already, or not mmpose's: three numbers each")
    if widths != {2} or len(rows) > MAX_KEYPOINTS:
        raise InputError(f"{where}.keypoints must be pairs of numbers, not {shown(rows)}")
    flat = list(chain.from_iterable(rows))
    return np.asarray(numbers(flat, f"{where}.keypoints").reshape(-1, 2))


def _statement(meta: Any, file: Path) -> Statement | None:
    """What ``meta_info`` says: the keypoints' names, else the data set's name."""
    if meta is None:
        return None
    if not isinstance(meta, dict):
        raise InputError(f"{file}: meta_info must be an object, not {shown(meta)}")
    names = meta.get("keypoint_id2name")
    if isinstance(names, dict) and names:
        ordered = [names.get(str(index)) for index in range(len(names))]
        if len(ordered) > MAX_KEYPOINTS or not all(isinstance(name, str) for name in ordered):
            raise InputError(f"{file}: meta_info.keypoint_id2name must name keypoints 0, 1, 2...")
        return by_names(ordered, str(file))
    dataset = meta.get("dataset_name")
    return by_layout(dataset, str(file)) if isinstance(dataset, str) else None
