"""Where each person stands in the drawing, and how much of it is shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gridpose.core import DoubleArray, Person
from gridpose.visualize.camera import BELOW_FLOOR, Camera, Framing
from gridpose.visualize.look import Arrangement
from gridpose.visualize.views import View

SPACING_METRES = 1.4
LOOK_AHEAD_SECONDS = 1.5
"""How long before somebody would be cut off the view begins to widen, if that is foreseen."""
Moment = tuple[float, Sequence[Person]]
"""A time in seconds, and who is there then."""
_KEEP_SECONDS = 0.5
_MARGIN, _CLOSEST = 0.16, 0.05
_LEAST_REACH = 0.4
_LEAST_HEIGHT = 2.2
_ABOVE_HEAD = 0.25
_SAME_MOMENT = 1e-6
_TOO_WIDE = 4.0
"""Who fills less than one part in so many of the picture is followed instead."""


@dataclass(frozen=True)
class _Foreseen:
    """Who stands where at a time, the box of what is to be seen then, and that of the joints."""

    time: float
    places: Mapping[int, DoubleArray]
    wanted: DoubleArray | None = None
    tight: DoubleArray | None = None


class Stage:
    """Gives each person a place for as long as they are there, and moves the camera.

    Args:
        aspect: width of the picture over its height.
        view: where from; only its azimuth changes later.
        arrangement: who stands where.
    """

    def __init__(self, aspect: float, view: View, arrangement: Arrangement = "row") -> None:
        self._aspect, self._view, self._arrangement = aspect, view, arrangement
        self._time = 0.0
        self.cut()

    def cut(self) -> None:
        """Forget everything: what comes next has nothing to do with what was."""
        self._slots: dict[int, int] = {}
        self._stays_until: dict[int, float] = {}
        self._planned: dict[int, int] = {}
        """Slots that were chosen with all moments in view."""
        self._foreseen: deque[_Foreseen] = deque()
        self._camera = Camera(self._aspect, self._view)

    def frame_all(self, moments: Iterable[Moment]) -> None:
        """Show the people of all moments from now on, without any movement of the camera.

        Everybody keeps one slot of the row, too. Where people come to be so far apart that hardly
        anything could be seen of them, the camera follows them nevertheless.
        """
        ahead = Stage(self._aspect, self._view, self._arrangement)
        ahead._stays_until = {each.track_id: time for time, people in moments for each in people}
        boxes = []
        for time, people in moments:
            box = ahead._foresee(time, people).wanted
            self._planned.update(ahead._slots)
            if box is not None:
                boxes.append(box)
        if boxes:
            spans = [self._camera.span_of(box) for box in boxes[:: 1 + len(boxes) // 100]]
            union = np.array(boxes)
            if self._camera.span_of(union.max(0)) <= _TOO_WIDE * float(np.median(spans)):
                self._camera.fix(union)

    def update(
        self, people: Sequence[Person], elapsed: float, upcoming: Sequence[Moment] = ()
    ) -> Mapping[int, DoubleArray]:
        """Take in who is there after ``elapsed`` seconds, and, if known, who will be.

        Args:
            people: who is there.
            elapsed: seconds since the last time.
            upcoming: who will be there, in seconds from now.

        Returns:
            By track id, the (3,) m by which the world pose is moved.
        """
        self._time += elapsed
        foreseen = self._foreseen
        while foreseen and foreseen[0].time < self._time - _SAME_MOMENT:
            foreseen.popleft()
        known = foreseen and foreseen[0].time < self._time + _SAME_MOMENT
        now = foreseen.popleft() if known else self._foresee(self._time, people)
        for seconds, those in upcoming:
            if not foreseen or self._time + seconds > foreseen[-1].time + _SAME_MOMENT:
                foreseen.append(self._foresee(self._time + seconds, those))
        ahead = [each.wanted for each in (now, *foreseen) if each.wanted is not None]
        horizon = foreseen[-1].time - self._time if foreseen else 0.0
        union = np.max(ahead, axis=0) if ahead else None
        self._camera.follow(elapsed, now.tight, union, horizon)
        return now.places

    def framing(self, view: View) -> Framing:
        """What to show, seen from a view."""
        return self._camera.framing(view)

    def _foresee(self, time: float, people: Sequence[Person]) -> _Foreseen:
        places = self._places(people, time)
        if not people:
            return _Foreseen(time, places)
        worlds = np.array([person.pose_world + places[person.track_id] for person in people])
        across, away = (worlds @ axis for axis in self._camera.axes)
        up = worlds[..., 2]
        reaches = np.array(
            [-across.min(), across.max(), -away.min(), away.max(), -up.min(), up.max()]
        )
        hips = across[:, 0]
        wanted = reaches + _MARGIN
        wanted[0] = max(wanted[0], _LEAST_REACH + _MARGIN - hips.min())
        wanted[1] = max(wanted[1], _LEAST_REACH + _MARGIN + hips.max())
        wanted[4] = max(wanted[4], BELOW_FLOOR)
        wanted[5] = max(reaches[5] + _ABOVE_HEAD, _LEAST_HEIGHT)
        return _Foreseen(time, places, wanted, reaches + _CLOSEST)

    def _places(self, people: Sequence[Person], time: float) -> dict[int, DoubleArray]:
        if self._arrangement == "places":
            return {person.track_id: np.zeros(3) for person in people}
        for track_id in list(self._slots):
            if time - self._stays_until[track_id] > _KEEP_SECONDS:
                del self._slots[track_id], self._stays_until[track_id]
        # Newcomers line up as they stand in the image.
        for person in sorted(people, key=lambda p: float(p.keypoints_2d[0, 0])):
            number = person.track_id
            if number not in self._slots:
                taken = set(self._slots.values())
                free = next(slot for slot in range(len(taken) + 1) if slot not in taken)
                self._slots[number] = self._planned.get(number, free)
            self._stays_until[number] = max(time, self._stays_until.get(number, time))
        # The row stays across the picture, from wherever it is seen; if the viewer walks round it
        # the row itself must not turn.
        along = View().axes[0] if self._view.turning else self._view.axes[0]
        return {
            person.track_id: self._slots[person.track_id] * SPACING_METRES * along
            - np.append(person.pose_world[0, :2].astype(np.float64), 0.0)
            for person in people
        }
