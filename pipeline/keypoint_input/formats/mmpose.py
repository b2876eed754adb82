"""Predictions of mmpose as JSON.

The demos of 1.x (``--save-predictions``) write ``{"meta_info", "instance_info"}``, where
``instance_info`` has frames, ``[{"frame_id", "instances": [...]}]``, or the people of one picture.
Its inferencers (``pred_out_dir``) write these lists alone, without ``meta_info``. What 0.x answers
for a picture is a list of people whose keypoints have a score as third number, ``[{"keypoints":
[[x, y, score]], "bbox", "track_id"}]``, and for a video a list of those.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from gridpose.core import DoubleArray, InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.json_values import Entry, column, entries, numbers, shown
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D
from gridpose.pipeline.keypoint_input.naming import MAX_KEYPOINTS, Statement, by_layout, by_names
from gridpose.pipeline.keypoint_input.people import person_column, stack_poses, tracks_of


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
    name = f"{file}: {'predictions' if meta_info is None else 'instance_info'}"
    frames: list[int] | None = None
    if isinstance(predictions, list) and predictions and isinstance(predictions[0], list):  # 0.x
        groups = [entries(each, f"{name}[{index}]") for index, each in enumerate(predictions)]
        frames = list(range(len(groups)))
    else:
        listed = entries(predictions, name)
        groups = [listed]
        if listed and "instances" in listed[0]:
            groups = [frame.entries("instances") for frame in listed]
            frames = [frame.whole("frame_id") for frame in listed]
    people = list(chain.from_iterable(groups))
    ranks = [rank for group in groups for rank in range(len(group))]
    columns = {"person": person_column(people, ranks)}
    if frames is not None:
        columns["frame"] = np.repeat(column(frames), [len(group) for group in groups])
    poses = [_pose(person) for person in people]
    statement = _statement(meta_info, file)
    stacked, convention, stated = stack_poses(file, people, poses, asked, statement)
    track, names = tracks_of(people)
    if track is None and frames is not None and len(np.unique(columns["frame"])) == len(people):
        # One a frame; of several, who is second in one frame may be first in the next.
        track = np.zeros(len(people), np.int64)
    return Keypoints2D(
        stacked[..., :2],
        convention,
        stated,
        stacked[..., 2] if all(_has_scores(person) for person in people) else None,
        columns=columns,
        track=track,
        track_names=names,
        frames=(min(frames), max(frames)) if frames else None,
    )


def _has_scores(person: Entry) -> bool:
    return person.members.get("keypoint_scores") is not None or _has_thirds(person)


def _has_thirds(person: Entry) -> bool:
    """Whether keypoints have a score as third number: 0.x has no list of scores."""
    rows = person.members.get("keypoints")
    return (
        "keypoint_scores" not in person
        and isinstance(rows, list)
        and all(isinstance(row, list) and len(row) == 3 for row in rows)
    )


def _pose(person: Entry) -> DoubleArray:
    """``[[x, y], ...]`` and the scores, NaN where there are none, as (K, 3)."""
    rows, where = person.value("keypoints"), f"{person.where}.keypoints"
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise InputError(f"{where} must be pairs of numbers, not {shown(rows)}")
    widths = {len(row) for row in rows}
    if len(rows) > MAX_KEYPOINTS:
        raise InputError(f"{where} must be pairs of numbers, not {shown(rows)}")
    if widths == {3} and _has_thirds(person):
        return numbers(list(chain.from_iterable(rows)), where).reshape(-1, 3)
    if widths == {3}:
        raise InputError(f"{where} are 3D already, or not mmpose's: three numbers each")
    if widths != {2}:
        raise InputError(f"{where} must be pairs of numbers, not {shown(rows)}")
    points = numbers(list(chain.from_iterable(rows)), where).reshape(-1, 2)
    scores = (
        person.numbers("keypoint_scores") if _has_scores(person) else np.full(len(rows), np.nan)
    )
    if len(scores) != len(rows):
        raise InputError(f"{person.where} has {len(rows)} keypoints and {len(scores)} scores")
    return np.column_stack((points, scores))


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
