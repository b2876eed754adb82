"""Tables of keypoints (CSV): DeepLabCut's, and any whose columns have plain names.

Those have one row of headings and either a row for each person and frame, with columns ``NAME_x``,
``NAME_y`` and perhaps ``NAME_score``, or a row for each keypoint, as ``gridpose export`` writes
them: ``joint``, ``x``, ``y`` (or ``u_px``, ``v_px``). ``frame`` and a person's number may be there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import DoubleArray, InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.formats.csv_cells import (
    ENDS,
    Rows,
    column_of,
    frame_in,
    is_number,
    name_in,
    pose_in,
    read_rows,
)
from gridpose.pipeline.keypoint_input.formats.deeplabcut import is_deeplabcut, read_deeplabcut
from gridpose.pipeline.keypoint_input.json_values import shown
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D
from gridpose.pipeline.keypoint_input.naming import MAX_KEYPOINTS, Statement, by_names
from gridpose.pipeline.keypoint_input.sightings import Name, Sighting, seen_in_frames

_FRAME: Final = (
    "frame",
    "frame_id",
    "frame_idx",
    "frame_number",
    "image_id",
    "image",
    "time_index",
)
_PERSON: Final = ("track_id", "track", "person_id", "person", "idx", "id", "instance", "individual")
_JOINT: Final = ("joint", "keypoint", "bodypart", "part", "name", "landmark")


def read_table(file: Path, asked: Convention | None) -> Keypoints2D:
    """A table of any of these kinds.

    Raises:
        InputError: none of them, or damaged.
    """
    rows = read_rows(file)
    first = [cell.strip().lower() for cell in rows[0]]
    if is_deeplabcut(rows):
        return read_deeplabcut(file, rows, asked)
    if all(is_number(cell) for cell in rows[0] if cell.strip()):
        return _bare(file, rows, asked)
    if any(name in first for name in _JOINT) and column_of(first, ("x", "u", "u_px", "x_px")) >= 0:
        return _row_each_keypoint(file, first, rows[1:], asked)
    return _row_each_person(file, first, rows[1:], asked)


def _row_each_person(
    file: Path, heading: list[str], rows: Rows, asked: Convention | None
) -> Keypoints2D:
    frame, person = column_of(heading, _FRAME), column_of(heading, _PERSON)
    found: dict[str, list[int]] = {}
    for index, cell in enumerate(heading):
        match = re.fullmatch(r"(.+?)[_. -]([a-z]+(?:_px)?)", cell)
        axis = None if match is None else ENDS.get(match[2])
        if match is not None and axis is not None and index not in (frame, person):
            found.setdefault(match[1], [-1, -1, -1])[axis] = index
    found = {name: axes for name, axes in found.items() if min(axes[:2]) >= 0}
    if not found or len(found) > MAX_KEYPOINTS:
        raise InputError(
            f"{file}: not a table of keypoints: its columns must be NAME_x, NAME_y and perhaps "
            "NAME_score, or joint, x, y"
        )
    places = [(x, y, score) for x, y, score in found.values()]
    sightings = []
    for place, row in enumerate(rows):
        where = f"{file}: row {place + 2}"
        pose = pose_in(row, places, where)
        number = frame_in(row, frame, place, where)
        name = None if person < 0 else name_in(row[person])
        if np.isfinite(pose[:, 0]).any():
            sightings.append(Sighting(number, pose, where, name))
    numbered = all(re.fullmatch(r"[a-z]*_?[0-9]+", name) for name in found)
    statement: Statement | None = None if numbered else by_names(list(found), str(file))
    scored = all(axes[2] >= 0 for axes in found.values())
    return seen_in_frames(file, sightings, asked, statement, scored=scored)


def _row_each_keypoint(
    file: Path, heading: list[str], rows: Rows, asked: Convention | None
) -> Keypoints2D:
    frame, person, joint = (column_of(heading, names) for names in (_FRAME, _PERSON, _JOINT))
    x, y, score = (
        column_of(heading, [name for name, axis in ENDS.items() if axis == wanted])
        for wanted in (0, 1, 2)
    )
    if min(frame, joint, x, y) < 0:
        raise InputError(f"{file}: a table of a row for each keypoint has frame, joint, x and y")
    names = list(dict.fromkeys(row[joint].strip() for row in rows))
    if len(names) > MAX_KEYPOINTS:
        raise InputError(f"{file}: has {len(names)} names of keypoints")
    order = {name: index for index, name in enumerate(names)}
    poses: dict[tuple[int, Name | None], DoubleArray] = {}
    for place, row in enumerate(rows):
        where = f"{file}: row {place + 2}"
        who = (frame_in(row, frame, place, where), None if person < 0 else name_in(row[person]))
        if who not in poses:
            poses[who] = np.full((len(names), 3), (np.nan, np.nan, 0))
        index = order[row[joint].strip()]
        if np.isfinite(poses[who][index, 0]):
            raise InputError(f"{where}: {shown(names[index])} is there twice in frame {who[0]}")
        poses[who][index] = pose_in(row, [(x, y, score)], where)[0]
    sightings = [
        Sighting(number, pose, f"{file}: frame {number}", name)
        for (number, name), pose in poses.items()
        if np.isfinite(pose[:, 0]).any()
    ]
    numbered = all(name.isdecimal() for name in names)
    if numbered:
        order_of = sorted(range(len(names)), key=lambda index: int(names[index]))
        sightings = [
            Sighting(each.frame, each.pose[order_of], each.where, each.name) for each in sightings
        ]
    statement = None if numbered else by_names(names, str(file))
    return seen_in_frames(file, sightings, asked, statement, scored=score >= 0)


def _bare(file: Path, rows: Rows, asked: Convention | None) -> Keypoints2D:
    """Numbers only: a row for each frame of one person."""
    width = len(rows[0])
    each = next((size for size in (2, 3) if width in _KNOWN_WIDTHS[size]), None)
    if each is None:
        raise InputError(
            f"{file}: has {width} numbers in a row and no headings; name the columns NAME_x, NAME_y"
        )
    places = [
        (each * k, each * k + 1, each * k + 2 if each == 3 else -1) for k in range(width // each)
    ]
    sightings = [
        Sighting(
            place, pose_in(row, places, f"{file}: row {place + 1}"), f"{file}: row {place + 1}"
        )
        for place, row in enumerate(rows)
    ]
    return seen_in_frames(file, sightings, asked, scored=each == 3)


_KNOWN_WIDTHS: Final = {
    size: {size * count for count in (17, 18, 25, 26, 33, 133, 136)} for size in (2, 3)
}
