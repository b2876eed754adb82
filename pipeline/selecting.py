"""Choosing people by where they are at some moment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gridpose.core import InputError, PoseTracks, UsageError

_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_FORM: Final = re.compile(rf"{_NUMBER},{_NUMBER}(?:@{_NUMBER})?")
_NEAR: Final = 0.25
"""How far beside somebody's box a point may be, as part of the box's height."""


@dataclass(frozen=True)
class Selection:
    """Whoever is at ``x``, ``y`` px of the frame at ``time`` s."""

    x: float
    y: float
    time: float


def parse_selection(text: str) -> Selection:
    """``x,y@t``, or ``x,y`` for the first frame.

    Raises:
        UsageError: it is neither.
    """
    found = _FORM.fullmatch(text.replace(" ", ""))
    if found is None:
        raise UsageError(
            f"`select={text}`: must be x,y@t, in pixels and seconds, as in 640,360@2.5"
        )
    return Selection(float(found[1]), float(found[2]), float(found[3] or 0))


def selected(tracks: PoseTracks, selections: Sequence[Selection]) -> list[int]:
    """Numbers of the tracks at these places and times, each once.

    Raises:
        InputError: nobody is there.
    """
    chosen = [_at(tracks.as_played(), one) for one in selections]
    return list(dict.fromkeys(chosen))


def _at(tracks: PoseTracks, where: Selection) -> int:
    frame = int(np.argmin(np.abs(tracks.frame_time - where.time)))
    rows = np.flatnonzero(tracks.present[:, frame])
    point = np.array((where.x, where.y))
    boxes = tracks.bbox[rows, frame]
    beside = np.maximum(boxes[:, :2] - point, point - boxes[:, 2:]).max(1, initial=0)
    near = beside <= _NEAR * (boxes[:, 3] - boxes[:, 1])
    if not near.any():
        middles = ((boxes[:, :2] + boxes[:, 2:]) / 2).round().astype(int)
        people = ", ".join(f"{x},{y}" for x, y in middles)
        raise InputError(
            f"`select`: nobody is at {where.x:g},{where.y:g} at second {where.time:g}; "
            + (f"people are at {people}" if people else "nobody is in that frame")
        )
    joints = tracks.keypoints_2d[rows, frame]
    distance = np.linalg.norm(joints - point, axis=2).min(1)
    return int(tracks.track_id[rows[np.argmin(np.where(near, distance, np.inf))]])
