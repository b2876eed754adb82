"""Cells of tables (CSV), read and checked."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import DoubleArray, InputError
from gridpose.pipeline.keypoint_input.json_values import shown
from gridpose.pipeline.keypoint_input.sightings import Name, frame_number

MAX_CSV_BYTES: Final = 1 << 30
ENDS: Final = {
    **dict.fromkeys(("x", "u", "x_px", "u_px"), 0),
    **dict.fromkeys(("y", "v", "y_px", "v_px"), 1),
    **dict.fromkeys(
        ("likelihood", "score", "confidence", "conf", "c", "p", "visibility", "prob"), 2
    ),
}
"""Which number of a keypoint a heading, or its end, says: x, y or how sure it is."""
Rows = list[list[str]]


def read_rows(file: Path) -> Rows:
    """Rows that are not empty, all of the same length; separated by commas, semicolons or tabs.

    Raises:
        InputError: no such table.
    """
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


def is_number(cell: str) -> bool:
    """Whether a cell is one."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def number(cell: str, where: str) -> float:
    """Of a cell; empty ones are NaN.

    Raises:
        InputError: none.
    """
    if not cell.strip():
        return np.nan
    try:
        return float(cell)
    except ValueError as error:
        raise InputError(f"{where}: {shown(cell)} is no number") from error


def name_in(cell: str) -> Name | None:
    """Of a person: ``3``, ``3.0`` and ``anna``; None where there is none."""
    cell = cell.strip()
    if re.fullmatch(r"-?[0-9]{1,18}(\.0*)?", cell):
        number = int(cell.partition(".")[0])
        return None if number == -1 else number
    return cell[:256] or None


def column_of(heading: Sequence[str], names: Sequence[str]) -> int:
    """Where one of the names is; -1: nowhere."""
    return next((heading.index(name) for name in names if name in heading), -1)


def pose_in(row: Sequence[str], places: Sequence[tuple[int, int, int]], where: str) -> DoubleArray:
    """(K, 3) of the columns of x, y and score (-1: none); NaN where a cell is empty."""
    pose = np.ones((len(places), 3))
    for index, columns in enumerate(places):
        for axis, column in enumerate(columns):
            if column >= 0:
                pose[index, axis] = number(row[column], where)
    absent = ~np.isfinite(pose).all(1)
    pose[absent] = np.nan, np.nan, 0
    return pose


def frame_in(row: Sequence[str], column: int, place: int, where: str) -> int:
    """Number of the frame that a row is of: as the column has it, or ``place`` if that is -1.

    Raises:
        InputError: it has none.
    """
    if column < 0:
        return place
    name = name_in(row[column])
    if name is None:
        raise InputError(f"{where}: has no frame")
    return frame_number(name, where)
