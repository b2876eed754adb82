"""Tables of keypoints (CSV): DeepLabCut's, and any whose columns have plain names.

DeepLabCut's have three or four rows of headings: ``scorer``, for several animals ``individuals``,
``bodyparts`` and ``coords`` (``x``, ``y``, ``likelihood``); then a row for each frame. Others have
one row of headings and either a row for each person and frame, with columns ``NAME_x``, ``NAME_y``
and perhaps ``NAME_score``, or a row for each keypoint, as ``gridpose export`` writes them:
``joint``, ``x``, ``y`` (or ``u_px``, ``v_px``). ``frame`` and a person's number may be there.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import DoubleArray, InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.json_values import shown
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D
from gridpose.pipeline.keypoint_input.naming import MAX_KEYPOINTS, Statement, by_names
from gridpose.pipeline.keypoint_input.sightings import (
    Name,
    Sighting,
    frame_number,
    seen_in_frames,
)

MAX_CSV_BYTES: Final = 1 << 30
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
_ENDS: Final = {
    **dict.fromkeys(("x", "u", "x_px", "u_px"), 0),
    **dict.fromkeys(("y", "v", "y_px", "v_px"), 1),
    **dict.fromkeys(
        ("likelihood", "score", "confidence", "conf", "c", "p", "visibility", "prob"), 2
    ),
}
_Rows = list[list[str]]


def read_table(file: Path, asked: Convention | None) -> Keypoints2D:
    """A table of any of these kinds.

    Raises:
        InputError: none of them, or damaged.
    """
    rows = _rows(file)
    first = [cell.strip().lower() for cell in rows[0]]
    if first[0] == "scorer" or [row[0].strip().lower() for row in rows[1:3]] == [
        "bodyparts",
        "coords",
    ]:
        return _deeplabcut(file, rows, asked)
    if all(_is_number(cell) for cell in rows[0] if cell.strip()):
        return _bare(file, rows, asked)
    if any(name in first for name in _JOINT) and _column(first, ("x", "u", "u_px", "x_px")) >= 0:
        return _row_each_keypoint(file, first, rows[1:], asked)
    return _row_each_person(file, first, rows[1:], asked)


def _rows(file: Path) -> _Rows:
    try:
        if file.stat().st_size > MAX_CSV_BYTES:
            raise InputError(
                f"{file}: CSV of at most {MAX_CSV_BYTES >> 30} GB is read, so split it"
            )
        text = file.read_text("utf-8-sig")
        try:
            dialect: type[csv.Dialect] = csv.Sniffer().sniff(text[:4096], ",;\t")
        except csv.Error:
            dialect = csv.excel
        rows = [row for row in csv.reader(io.StringIO(text), dialect) if any(map(str.strip, row))]
    except (OSError, ValueError, csv.Error, MemoryError) as error:
        raise InputError(f"{file}: not a table of keypoints ({error})") from error
    if len(rows) < 2:
        raise InputError(f"{file}: not a table of keypoints: has {len(rows)} rows")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise InputError(
                f"{file}: row {number + 1} has {len(row)} cells, the first {len(rows[0])}"
            )
    return rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, where: str) -> float:
    """Empty cells are NaN."""
    if not cell.strip():
        return np.nan
    try:
        return float(cell)
    except ValueError as error:
        raise InputError(f"{where}: {shown(cell)} is no number") from error


def _name(cell: str) -> Name | None:
    """Of a person: ``3``, ``3.0`` and ``anna``; None where there is none."""
    cell = cell.strip()
    if re.fullmatch(r"-?[0-9]{1,18}(\.0*)?", cell):
        number = int(cell.partition(".")[0])
        return None if number == -1 else number
    return cell[:256] or None


def _column(heading: Sequence[str], names: Sequence[str]) -> int:
    """Where one of the names is; -1: nowhere."""
    return next((heading.index(name) for name in names if name in heading), -1)


def _pose(row: Sequence[str], places: Sequence[tuple[int, int, int]], where: str) -> DoubleArray:
    """(K, 3) of the columns of x, y and score (-1: none); NaN where a cell is empty."""
    pose = np.ones((len(places), 3))
    for index, columns in enumerate(places):
        for axis, column in enumerate(columns):
            if column >= 0:
                pose[index, axis] = _number(row[column], where)
    absent = ~np.isfinite(pose).all(1)
    pose[absent] = np.nan, np.nan, 0
    return pose


def _frame_of(row: Sequence[str], column: int, place: int, where: str) -> int:
    if column < 0:
        return place
    name = _name(row[column])
    if name is None:
        raise InputError(f"{where}: has no frame")
    return frame_number(name, where)


def _deeplabcut(file: Path, rows: _Rows, asked: Convention | None) -> Keypoints2D:
    labels = {row[0].strip().lower(): row for row in rows[:5] if not _is_number(row[0])}
    parts, coords = labels.get("bodyparts"), labels.get("coords")
    if parts is None or coords is None:
        raise InputError(f"{file}: a table of DeepLabCut has the rows bodyparts and coords")
    individuals = labels.get("individuals", [""] * len(parts))
    start = rows.index(coords) + 1
    columns: dict[str, dict[str, list[int]]] = {}
    for index, (who, part, what) in enumerate(zip(individuals, parts, coords, strict=True)):
        axis = _ENDS.get(what.strip().lower())
        if axis is not None and index:
            columns.setdefault(who, {}).setdefault(part, [-1, -1, -1])[axis] = index
    names = list(dict.fromkeys(part for found in columns.values() for part in found))
    if not names or len(names) > MAX_KEYPOINTS:
        raise InputError(f"{file}: has {len(names)} body parts")
    sightings = []
    for place, row in enumerate(rows[start:]):
        frame = frame_number(_name(row[0]) or place, f"{file}: row {start + place + 1}")
        for who, found in columns.items():
            if any(min(found.get(name, [-1])[:2]) < 0 for name in names):
                continue  # "single": parts that are nobody's
            places = [(found[name][0], found[name][1], found[name][2]) for name in names]
            where = f"{file}: row {start + place + 1}"
            pose = _pose(row, places, where)
            if np.isfinite(pose).any():
                sightings.append(Sighting(frame, pose, where, who.strip() or None))
    sightings = [each for each in sightings if np.isfinite(each.pose[:, 0]).any()]
    frames = len(rows) - start
    return seen_in_frames(
        file, sightings, asked, by_names(names, str(file)), frames=(0, frames - 1)
    )


def _row_each_person(
    file: Path, heading: list[str], rows: _Rows, asked: Convention | None
) -> Keypoints2D:
    frame, person = _column(heading, _FRAME), _column(heading, _PERSON)
    found: dict[str, list[int]] = {}
    for index, cell in enumerate(heading):
        match = re.fullmatch(r"(.+?)[_. -]([a-z]+(?:_px)?)", cell)
        axis = None if match is None else _ENDS.get(match[2])
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
        pose = _pose(row, places, where)
        number = _frame_of(row, frame, place, where)
        name = None if person < 0 else _name(row[person])
        if np.isfinite(pose[:, 0]).any():
            sightings.append(Sighting(number, pose, where, name))
    numbered = all(re.fullmatch(r"[a-z]*_?[0-9]+", name) for name in found)
    statement: Statement | None = None if numbered else by_names(list(found), str(file))
    scored = all(axes[2] >= 0 for axes in found.values())
    return seen_in_frames(file, sightings, asked, statement, scored=scored)


def _row_each_keypoint(
    file: Path, heading: list[str], rows: _Rows, asked: Convention | None
) -> Keypoints2D:
    frame, person, joint = (_column(heading, names) for names in (_FRAME, _PERSON, _JOINT))
    x, y, score = (
        _column(heading, [name for name, axis in _ENDS.items() if axis == wanted])
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
        who = (_frame_of(row, frame, place, where), None if person < 0 else _name(row[person]))
        if who not in poses:
            poses[who] = np.full((len(names), 3), (np.nan, np.nan, 0))
        index = order[row[joint].strip()]
        if np.isfinite(poses[who][index, 0]):
            raise InputError(f"{where}: {shown(names[index])} is there twice in frame {who[0]}")
        poses[who][index] = _pose(row, [(x, y, score)], where)[0]
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


def _bare(file: Path, rows: _Rows, asked: Convention | None) -> Keypoints2D:
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
        Sighting(place, _pose(row, places, f"{file}: row {place + 1}"), f"{file}: row {place + 1}")
        for place, row in enumerate(rows)
    ]
    return seen_in_frames(file, sightings, asked, scored=each == 3)


_KNOWN_WIDTHS: Final = {
    size: {size * count for count in (17, 18, 25, 26, 33, 133, 136)} for size in (2, 3)
}
