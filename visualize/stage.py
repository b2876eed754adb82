"""Where each person stands in the drawing, and how much of it is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gridpose.core import Person

SPACING_METRES = 1.4
_KEEP_SECONDS = 0.5
_MARGIN = 0.25
_LEAST_REACH = 0.6
_LEAST_HEIGHT = 2.25
_BELOW_FLOOR = 0.45
_STEP = 0.3
"""Bounds move to multiples of this, so that a swinging arm does not move the camera."""
_WIDEN_SECONDS, _NARROW_SECONDS = 0.15, 0.8


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

    The framing takes in quickly who would be cut off and closes in slowly.

    Args:
        aspect: width of the picture over its height.
    """

    def __init__(self, aspect: float) -> None:
        self._aspect = aspect
        self._slots: dict[int, int] = {}
        self._unseen: dict[int, float] = {}
        self._bounds: tuple[float, float, float] | None = None

    def update(self, people: Sequence[Person], elapsed: float) -> Mapping[int, float]:
        """Take in who is there after ``elapsed`` seconds; x of everyone's place by track id."""
        for track_id in list(self._slots):
            self._unseen[track_id] += elapsed
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
        places = {track_id: slot * SPACING_METRES for track_id, slot in self._slots.items()}
        if people:
            self._follow(people, places, elapsed)
        return places

    def _follow(
        self, people: Sequence[Person], places: Mapping[int, float], elapsed: float
    ) -> None:
        """Move the left, right and upper bounds of what is shown towards those of the people."""
        left, right, top = math.inf, -math.inf, _LEAST_HEIGHT
        for person in people:
            place = places[person.track_id]
            reach = person.pose_world[:, 0]
            left = min(left, place + min(float(reach.min()), -_LEAST_REACH) - _MARGIN)
            right = max(right, place + max(float(reach.max()), _LEAST_REACH) + _MARGIN)
            top = max(top, float(person.pose_world[:, 2].max()) + _MARGIN)
        left, right, top = (
            _STEP * math.floor(left / _STEP),
            _STEP * math.ceil(right / _STEP),
            _LEAST_HEIGHT + _STEP * math.ceil((top - _LEAST_HEIGHT) / _STEP),
        )
        if self._bounds is None:
            self._bounds = (left, right, top)
            return

        def moved(now: float, wanted: float, outwards: bool) -> float:
            seconds = _WIDEN_SECONDS if outwards else _NARROW_SECONDS
            return now + (1 - math.exp(-elapsed / seconds)) * (wanted - now)

        old_left, old_right, old_top = self._bounds
        self._bounds = (
            moved(old_left, left, left < old_left),
            moved(old_right, right, right > old_right),
            moved(old_top, top, top > old_top),
        )

    @property
    def framing(self) -> Framing:
        """What to show now; rounded, so that it comes to rest."""
        left, right, top = self._bounds or (-1.0, 1.0, _LEAST_HEIGHT)
        span = max(top + _BELOW_FLOOR, (right - left) / self._aspect)
        return Framing(
            centre=round((left + right) / 2, 2),
            # The floor stays at the same height of the picture however much is shown.
            height=round(span / 2 - _BELOW_FLOOR * span / (_LEAST_HEIGHT + _BELOW_FLOOR), 2),
            span=round(span, 2),
        )
