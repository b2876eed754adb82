"""A camera that keeps everybody in the picture, and is otherwise at rest.

It is an envelope follower with look-ahead, as in audio limiters (Giannoulis et al. 2012): extents
of people grow at once and are forgotten slowly, and what comes of it is averaged over as long as
is looked ahead. Every frame in that average shows who is there now, and so does the average.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from gridpose.core import DoubleArray
from gridpose.visualize.views import View

BELOW_FLOOR = 0.4
"""Metres that are shown at least below the floor."""
_FLOOR_SHARE = 1 / 6
"""The floor stays at this height of the picture however much is shown."""
_STEEP_DEGREES = 45.0
_WIDENING, _NARROWING = 0.12, 0.1
"""Of the span in a second; who walks away faster is rather followed."""
_MEMORY_SECONDS, _BIN_SECONDS = 1.0, 0.5
_CLOSE_BELOW, _CLOSED_BELOW = 0.75, 0.95
_EMPTY_SECONDS = 4.0
_CENTRING_SECONDS = 5.0
_ASIDE, _CENTRED = 0.22, 0.04
"""Parts of the width: people farther from the middle are brought there, until they are as near."""
_LEAST_SMOOTHING = 0.15
_LONGEST_STEP_SECONDS = 60.0


@dataclass(frozen=True)
class Framing:
    """What the picture shows, in metres.

    The point in its middle is ``across`` to the viewer's right, ``away`` from the viewer along the
    floor and ``height`` above it, as far away as what is nearest; ``span`` is from top to bottom
    there. People reach over ``depth`` along the floor, the middle of which is ``behind`` the point.
    """

    across: float
    away: float
    height: float
    span: float
    depth: float
    behind: float


@dataclass(frozen=True)
class _Rectangle:
    """A framing that can be averaged: ``values`` are the floor point in its middle across and
    away in axes that do not turn, how far the point it shows is from there along the floor and
    upwards, span and depth, m.
    """

    values: DoubleArray

    @property
    def middle(self) -> DoubleArray:
        return np.asarray(self.values[:2])

    @property
    def span(self) -> float:
        return float(self.values[4])


class Camera:
    """Frames boxes of space.

    A box is (6,) metres: how far it reaches to the left, right, towards the viewer, away, down and
    up; those to the left, towards the viewer and down are negated coordinates, so that the union
    of boxes is their maximum.

    Args:
        aspect: width of the picture over its height.
        view: from where; only its azimuth may change later.
    """

    def __init__(self, aspect: float, view: View) -> None:
        self._aspect, self._turning = aspect, bool(view.turning)
        self._elevation = math.radians(view.elevation)
        base = View(0.0) if self._turning else view
        self.axes = (base.axes[0], base.away)
        """Across and away: those of the boxes. With a view that turns, those of the world."""
        self._held: DoubleArray | None = None
        self._goal: _Rectangle | None = None
        self._shown: _Rectangle | None = None
        self._goals: deque[tuple[float, DoubleArray]] = deque()
        self._recent: deque[tuple[float, DoubleArray]] = deque()
        self._closing, self._empty = False, 0.0
        self._fixed = False
        self._time = 0.0
        self._smoothing = _LEAST_SMOOTHING

    def fix(self, boxes: DoubleArray) -> None:
        """Show all boxes (N, 6) from now on, whatever else comes."""
        self._shown = self._placed(boxes.max(0), None)
        self._fixed = True

    def span_of(self, box: DoubleArray) -> float:
        """Metres from top to bottom of a picture that shows a box."""
        return self._placed(box, None).span

    def follow(
        self, elapsed: float, now: DoubleArray | None, ahead: DoubleArray | None, horizon: float
    ) -> None:
        """Take in what there is to be seen.

        Args:
            elapsed: seconds since the last time.
            now: box of what is there; None for nothing.
            ahead: box of all that will be there in the next ``horizon`` seconds; now included.
            horizon: for how long ahead is known.
        """
        self._time += elapsed
        if self._fixed:
            return
        if ahead is not None:
            self._decide(elapsed, ahead)
        self._smoothing = max(self._smoothing, horizon)
        if self._goal is not None:
            self._ease(self._goal)
        if now is not None and self._shown is not None:
            self._shown = self._containing(self._shown, now)

    def _decide(self, elapsed: float, needed: DoubleArray) -> None:
        """What to show in the end, given what must be seen."""
        if self._held is None or self._goal is None:
            self._held, self._goal = needed, self._placed(needed, None)
            return
        recent = self._remembered(needed)
        held = np.maximum(self._held, needed)
        wanted = self._placed(recent, None)
        # Where it would soon be too empty there is no use in widening.
        most = max(self._goal.span, wanted.span / _CLOSED_BELOW)
        limit = min(
            most, self._goal.span * math.exp(_WIDENING * min(elapsed, _LONGEST_STEP_SECONDS))
        )
        if self.span_of(held) > limit:
            held = self._shrunk(held, needed, limit)
        across = self._goal.middle[0]
        aside = abs(wanted.middle[0] - across) / (self._aspect * self._goal.span)
        small = wanted.span / self.span_of(held)
        empty = small < _CLOSE_BELOW or aside > _ASIDE
        self._empty = self._empty + elapsed if empty else 0.0
        if self._closing:
            self._closing = small < _CLOSED_BELOW or aside > _CENTRED
        else:
            self._closing = self._empty > _EMPTY_SECONDS
        if self._closing:
            limit = self._goal.span * math.exp(-_NARROWING * elapsed)
            held = self._shrunk(held, np.minimum(held, recent), limit)
            share = 1 - math.exp(-elapsed / _CENTRING_SECONDS)
            across += share * (wanted.middle[0] - across)
        self._held, self._goal = held, self._placed(held, across)

    def _remembered(self, needed: DoubleArray) -> DoubleArray:
        """What was needed lately."""
        if self._recent and self._time - self._recent[-1][0] < _BIN_SECONDS:
            begun, box = self._recent.pop()
            self._recent.append((begun, np.maximum(box, needed)))
        else:
            self._recent.append((self._time, needed))
        while self._recent[0][0] < self._time - _MEMORY_SECONDS:
            self._recent.popleft()
        return np.asarray(np.max([box for _, box in self._recent], axis=0))

    def _shrunk(self, held: DoubleArray, needed: DoubleArray, limit: float) -> DoubleArray:
        """As much of ``held`` beside what is needed as a span allows."""
        low, high = 0.0, 1.0
        for _ in range(14):
            share = (low + high) / 2
            fits = self.span_of(needed + share * (held - needed)) <= limit
            low, high = (share, high) if fits else (low, share)
        return np.asarray(needed + low * (held - needed))

    def _ease(self, goal: _Rectangle) -> None:
        """Average the goals of as long as is looked ahead; a step becomes a smoothstep."""
        self._goals.append((self._time, goal.values))
        while len(self._goals) > 1 and self._goals[0][0] < self._time - self._smoothing:
            self._goals.popleft()
        ages = self._time - np.array([time for time, _ in self._goals])
        parts = np.clip(ages / self._smoothing, 0, 1)
        below = parts**2 * (3 - 2 * parts)
        weights = np.append(1.0, below[:-1]) - below
        self._shown = _Rectangle(weights @ np.array([values for _, values in self._goals]))

    def _seen(self, box: DoubleArray, middle: DoubleArray) -> tuple[float, ...]:
        """Left, right, bottom, top and nearest of a box as seen, from a floor point."""
        left, near, bottom = -box[0] - middle[0], -box[2] - middle[1], -box[4]
        right, far, top = box[1] - middle[0], box[3] - middle[1], box[5]
        if self._turning:
            far = right = math.hypot(max(-left, right), max(-near, far))
            left = near = -right
        sine, cosine = math.sin(self._elevation), math.cos(self._elevation)
        return (
            left,
            right,
            bottom * cosine + min(near * sine, far * sine),
            top * cosine + max(near * sine, far * sine),
            near * cosine - max(top * sine, bottom * sine),
        )

    def _placed(self, box: DoubleArray, across: float | None) -> _Rectangle:
        """The smallest rectangle that shows a box, its middle as near to ``across`` as can be."""
        middle = np.array((box[1] - box[0], box[3] - box[2])) / 2
        left, right, bottom, top, nearest = self._seen(box, middle)
        span = max((right - left) / self._aspect, top - bottom)
        if across is not None and not self._turning:
            room = max(0.0, span * self._aspect - (right - left)) / 2
            middle[0] = np.clip(across, middle[0] - room, middle[0] + room)
        level = (bottom + top) / 2
        if abs(self._elevation) < math.radians(_STEEP_DEGREES):
            floor = bottom + BELOW_FLOOR * math.cos(self._elevation)
            level = np.clip(floor + (0.5 - _FLOOR_SHARE) * span, top - span / 2, bottom + span / 2)
        return self._rectangle(middle, level, nearest, span, box[2] + box[3])

    def _rectangle(
        self, middle: DoubleArray, level: float, nearest: float, span: float, depth: float
    ) -> _Rectangle:
        sine, cosine = math.sin(self._elevation), math.cos(self._elevation)
        along = level * sine + nearest * cosine
        height = level * cosine - nearest * sine
        return _Rectangle(np.array((*middle, along, height, span, depth)))

    def _containing(self, shown: _Rectangle, box: DoubleArray) -> _Rectangle:
        """Wider where a box would be cut off, which nobody could foresee."""
        sine, cosine = math.sin(self._elevation), math.cos(self._elevation)
        along, height, span, depth = (float(value) for value in shown.values[2:])
        level, plane = along * sine + height * cosine, along * cosine - height * sine
        left, right, bottom, top, nearest = self._seen(box, shown.middle)
        bottom, top = min(bottom, level - span / 2), max(top, level + span / 2)
        wide = max(span, 2 * max(-left, right) / self._aspect, top - bottom)
        if wide <= span and nearest >= plane:
            return shown
        level = float(np.clip(level, top - wide / 2, bottom + wide / 2))
        return self._rectangle(shown.middle, level, min(plane, nearest), wide, depth)

    def framing(self, view: View) -> Framing:
        """What to show now; rounded, so that it comes to rest."""
        shown = self._shown or self._placed(np.array((1, 1, 0.5, 0.5, BELOW_FLOOR, 2.2)), None)
        along, height, span, depth = (float(value) for value in shown.values[2:])
        point = shown.middle @ np.array(self.axes)
        return Framing(
            across=round(float(point @ view.axes[0]), 3),
            away=round(float(point @ view.away) + along, 3),
            height=round(height, 3),
            span=round(span, 3),
            depth=round(depth, 1),
            behind=round(-along, 3),
        )
