"""Where each person stands in the drawing, and how much of it is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gridpose.core import DoubleArray, Person
from gridpose.visualize.look import Arrangement
from gridpose.visualize.views import View

SPACING_METRES = 1.4
_KEEP_SECONDS = 0.5
_MARGIN = 0.25
_LEAST_REACH = 0.6
_LEAST_HEIGHT = 2.25
_BELOW_FLOOR = 0.45
_STEP = 0.3
"""Bounds move to multiples of this, so that a swinging arm does not move the camera."""
_WIDEN_SECONDS, _NARROW_SECONDS = 0.15, 0.8
_STEEP_DEGREES = 45.0
DISTANCE = 6.0
"""Of the viewer, in metres, from a scene that is up to 3 m high; farther from higher ones."""


@dataclass(frozen=True)
class Framing:
    """What the picture shows, in metres.

    The point in its middle is ``across`` to the viewer's right, ``away`` from the viewer along the
    floor and ``height`` above it; ``span`` is from top to bottom, ``depth`` how far the people
    stand behind one another.
    """

    across: float
    away: float
    height: float
    span: float
    depth: float


class Stage:
    """Gives each person a place for as long as they are there.

    The framing takes in quickly who would be cut off and closes in slowly.

    Args:
        aspect: width of the picture over its height.
        arrangement: who stands where.
    """

    def __init__(self, aspect: float, arrangement: Arrangement = "row") -> None:
        self._aspect, self._arrangement = aspect, arrangement
        self._slots: dict[int, int] = {}
        self._unseen: dict[int, float] = {}
        self._bounds: DoubleArray | None = None
        """Left, right, top (z), near and far, metres."""
        self._view = View()

    def update(
        self, people: Sequence[Person], elapsed: float, view: View
    ) -> Mapping[int, DoubleArray]:
        """Take in who is there after ``elapsed`` seconds.

        Returns:
            By track id, the (3,) m by which the world pose is moved.
        """
        self._view = view
        places = self._places(people, elapsed)
        if people:
            self._follow(people, places, elapsed)
        return places

    def _places(self, people: Sequence[Person], elapsed: float) -> dict[int, DoubleArray]:
        if self._arrangement == "places":
            return {person.track_id: np.zeros(3) for person in people}
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
        # The row stays across the picture, from wherever it is seen; if the viewer walks round it
        # the row itself must not turn.
        along = View().axes[0] if self._view.turning else self._view.axes[0]
        return {
            person.track_id: self._slots[person.track_id] * SPACING_METRES * along
            - np.append(person.pose_world[0, :2].astype(np.float64), 0.0)
            for person in people
        }

    def _follow(
        self, people: Sequence[Person], places: Mapping[int, DoubleArray], elapsed: float
    ) -> None:
        """Move the bounds of what is shown towards those of the people."""
        low: DoubleArray = np.full(2, math.inf)
        high: DoubleArray = np.full(2, -math.inf)
        top = _LEAST_HEIGHT
        for person in people:
            world = person.pose_world + places[person.track_id]
            for axis, direction in enumerate((self._view.axes[0], self._view.away)):
                reach = world @ direction
                low[axis] = min(low[axis], reach.min(), reach[0] - _LEAST_REACH)
                high[axis] = max(high[axis], reach.max(), reach[0] + _LEAST_REACH)
            top = max(top, float(world[:, 2].max()) + _MARGIN)
        low, high = low - _MARGIN, high + _MARGIN
        wanted = np.array((low[0], high[0], top, low[1], high[1]))
        outwards = np.array((-1, 1, 1, -1, 1))
        if not self._view.turning:
            offset = np.array((0, 0, _LEAST_HEIGHT, 0, 0))
            steps = (wanted - offset) / _STEP
            wanted = offset + _STEP * np.where(outwards > 0, np.ceil(steps), np.floor(steps))
        if self._bounds is None:
            self._bounds = wanted
            return
        widens = (wanted - self._bounds) * outwards > 0
        seconds = np.where(widens, _WIDEN_SECONDS, _NARROW_SECONDS)
        self._bounds = self._bounds + (1 - np.exp(-elapsed / seconds)) * (wanted - self._bounds)

    @property
    def framing(self) -> Framing:
        """What to show now; rounded, so that it comes to rest."""
        bounds = np.array((-1, 1, _LEAST_HEIGHT, -1, 1)) if self._bounds is None else self._bounds
        left, right, top, near, far = (float(value) for value in bounds)
        elevation = math.radians(abs(self._view.elevation))
        # Somebody alone is as deep as wide, which a look from above shows more and more.
        depth = max(0.0, far - near - 2 * (_LEAST_REACH + _MARGIN))
        # As much of the picture is below the floor however high people are.
        tall = top * (_LEAST_HEIGHT + _BELOW_FLOOR) / _LEAST_HEIGHT
        # Who stands in front of the others is seen larger.
        larger = 1 + depth / 2 / (DISTANCE * max(1.0, tall / 3))
        upright = tall * math.cos(elevation) * larger
        lying = (far - near) * math.sin(elevation) ** 2 + depth * math.sin(elevation)
        wide = (right - left) / self._aspect * larger
        span = max(upright + lying * math.sin(elevation), wide)
        height = 1.0
        if abs(self._view.elevation) < _STEEP_DEGREES:
            # The floor stays at the same height of the picture however much is shown.
            height = span / 2 - _BELOW_FLOOR * span / (_LEAST_HEIGHT + _BELOW_FLOOR)
        return Framing(
            across=round((left + right) / 2, 2),
            away=round((near + far) / 2, 2),
            height=round(height, 2),
            span=round(span, 2),
            depth=round(depth, 1),
        )
