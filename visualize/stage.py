"""Where each person stands in the drawing, and how much of it is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gridpose.core import Person

SPACING_METRES = 1.4
_ROOM_BESIDE = 0.85
_ROOM_HEIGHT = 2.6
"""Somebody who stretches their arms up, and jumps."""
_KEEP_SECONDS = 1.5
_CAMERA_SECONDS = 0.35


@dataclass(frozen=True)
class Framing:
    """What the picture shows, in metres: the middle's ``centre`` (x) and ``height`` (z), and the
    ``span`` from top to bottom.
    """

    centre: float
    height: float
    span: float


class Stage:
    """Gives each person a place in a row for as long as they are there.

    The framing follows who is there, smoothly, and rests when nobody comes or goes.

    Args:
        aspect: width of the picture over its height.
    """

    def __init__(self, aspect: float) -> None:
        self._aspect = aspect
        self._slots: dict[int, int] = {}
        self._unseen: dict[int, float] = {}
        self._low, self._high = 0.0, 0.0
        self._started = False

    def update(self, people: Sequence[Person], elapsed: float) -> Mapping[int, float]:
        """Take in who is there after ``elapsed`` seconds; x of everyone's place by track id."""
        for track_id in list(self._slots):
            self._unseen[track_id] = self._unseen.get(track_id, 0.0) + elapsed
            if self._unseen[track_id] > _KEEP_SECONDS:
                del self._slots[track_id], self._unseen[track_id]
        # Newcomers line up as they stand in the image.
        for person in sorted(people, key=lambda p: float(p.keypoints_2d[0, 0])):
            if person.track_id not in self._slots:
                taken = set(self._slots.values())
                self._slots[person.track_id] = next(
                    slot for slot in range(len(taken) + 1) if slot not in taken
                )
            self._unseen[person.track_id] = 0.0
        self._follow(elapsed)
        return {track_id: slot * SPACING_METRES for track_id, slot in self._slots.items()}

    def _follow(self, elapsed: float) -> None:
        if not self._slots:
            return
        low, high = (f(self._slots.values()) * SPACING_METRES for f in (min, max))
        pull = 1 - math.exp(-elapsed / _CAMERA_SECONDS) if self._started else 1.0
        self._started = True
        self._low += pull * (low - self._low)
        self._high += pull * (high - self._high)

    @property
    def framing(self) -> Framing:
        """What to show now; rounded, so that it comes to rest."""
        width = self._high - self._low + 2 * _ROOM_BESIDE
        span = max(_ROOM_HEIGHT, width / self._aspect)
        return Framing(
            centre=round((self._low + self._high) / 2, 2),
            height=round(0.40 * span, 2),
            span=round(span, 2),
        )
