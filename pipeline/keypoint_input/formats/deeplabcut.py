"""Tables of DeepLabCut (CSV).

They have three or four rows of headings: ``scorer``, for several animals ``individuals``,
``bodyparts`` and ``coords`` (``x``, ``y``, ``likelihood``); then a row for each frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gridpose.core import InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.formats.csv_cells import (
    ENDS,
    Rows,
    is_number,
    name_in,
    pose_in,
)
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D
from gridpose.pipeline.keypoint_input.naming import MAX_KEYPOINTS, by_names
from gridpose.pipeline.keypoint_input.sightings import Sighting, frame_number, seen_in_frames


def is_deeplabcut(rows: Rows) -> bool:
    """Whether these are its headings."""
    heads = [row[0].strip().lower() for row in rows[:4]]
    return heads[0] == "scorer" or heads[1:3] == ["bodyparts", "coords"]


def read_deeplabcut(file: Path, rows: Rows, asked: Convention | None) -> Keypoints2D:
    """Every animal of every frame; parts of ``single``, which are nobody's, are left out.

    Raises:
        InputError: damaged.
    """
    labels = {row[0].strip().lower(): row for row in rows[:5] if not is_number(row[0])}
    parts, coords = labels.get("bodyparts"), labels.get("coords")
    if parts is None or coords is None:
        raise InputError(f"{file}: a table of DeepLabCut has the rows bodyparts and coords")
    individuals = labels.get("individuals", [""] * len(parts))
    start = rows.index(coords) + 1
    columns: dict[str, dict[str, list[int]]] = {}
    for index, (who, part, what) in enumerate(zip(individuals, parts, coords, strict=True)):
        axis = ENDS.get(what.strip().lower())
        if axis is not None and index:
            columns.setdefault(who, {}).setdefault(part, [-1, -1, -1])[axis] = index
    names = list(dict.fromkeys(part for found in columns.values() for part in found))
    if not names or len(names) > MAX_KEYPOINTS:
        raise InputError(f"{file}: has {len(names)} body parts")
    sightings = []
    for place, row in enumerate(rows[start:]):
        where = f"{file}: row {start + place + 1}"
        number = name_in(row[0])
        frame = frame_number(place if number is None else number, where)
        for who, found in columns.items():
            if any(min(found.get(name, [-1])[:2]) < 0 for name in names):
                continue  # "single": parts that are nobody's
            places = [(found[name][0], found[name][1], found[name][2]) for name in names]
            pose = pose_in(row, places, where)
            if np.isfinite(pose[:, 0]).any():
                sightings.append(Sighting(frame, pose, where, who.strip() or None))
    frames = len(rows) - start
    return seen_in_frames(
        file, sightings, asked, by_names(names, str(file)), frames=(0, frames - 1)
    )
