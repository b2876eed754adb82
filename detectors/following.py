"""Where people will be in the next frames, so that they need not be searched for in each.

As top-down trackers do, each person's box follows the keypoints found in it; a search for persons
is due on an interval, and at once when somebody is lost or nobody is known. Whom the network misses
in a frame is looked for where they should be for a moment longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gridpose.core import BoolArray, DoubleArray, FloatArray
from gridpose.detectors.boxes import overlaps

# COCO's keypoints end at the eyes and ankles; a person's box goes on to crown and soles.
_MARGIN = 0.12
_CONFIDENT = 0.3
_MIN_CONFIDENT = 4
_SHRINK_SECONDS = 0.5
_VELOCITY_SECONDS = 0.15
_PATIENCE_SECONDS = 0.3
_MISSED_SECONDS = 2.0
_SETTLED_STEPS = 4
_SAME_BOX = 0.35
_SAME_PERSON = 0.08
_OFF_CENTRE = 0.2
_OFF_SCALE = 1.5


def extent_of(keypoints: FloatArray, scores: FloatArray) -> FloatArray | None:
    """The (4,) xyxy box of the confident ones of (K, 2); None where there are too few."""
    sure = keypoints[scores >= _CONFIDENT]
    if len(sure) < _MIN_CONFIDENT:
        return None
    extent: FloatArray = np.concatenate((sure.min(0), sure.max(0)))
    return extent


def box_of(keypoints: FloatArray, scores: FloatArray) -> FloatArray | None:
    """The (4,) xyxy box of the whole person by their keypoints (K, 2), or None."""
    extent = extent_of(keypoints, scores)
    if extent is None:
        return None
    margin = _MARGIN * (extent[2:] - extent[:2]).max()
    box: FloatArray = extent + np.array((-margin, -margin, margin, margin), np.float32)
    return box


def needs_second_look(used: FloatArray, seen: FloatArray) -> bool:
    """Whether a person stood so differently in the (4,) box used that a better crop is worth it."""
    size = (used[2:] - used[:2]).max()
    seen_size = (seen[2:] - seen[:2]).max()
    apart = np.abs((used[2:] + used[:2]) - (seen[2:] + seen[:2])).max() / 2
    ratio = max(size, 1e-6) / max(seen_size, 1e-6)
    return bool(apart > _OFF_CENTRE * size or not 1 / _OFF_SCALE <= ratio <= _OFF_SCALE)


@dataclass
class _Person:
    person_id: int
    box: FloatArray
    hints: FloatArray
    """(H, 2) px, where the network wants to look; NaN where that is not known."""
    time: float
    confirmed: float
    """When a search last found somebody here."""
    keypoints: FloatArray | None = None
    """(K, 2) px as last seen; NaN where uncertain."""
    velocity: DoubleArray = field(default_factory=lambda: np.zeros(2))
    """(2,) px/s."""
    steps: int = 0
    """How often the velocity was measured."""
    missed: bool = False
    """Whether the network did not see them when it last looked."""

    def box_at(self, time: float) -> FloatArray:
        shift = np.tile(self.velocity * (time - self.time), 2)
        return (self.box + shift).astype(np.float32)

    def hints_at(self, time: float) -> FloatArray:
        return (self.hints + self.velocity * (time - self.time)).astype(np.float32)

    def see(
        self, keypoints: FloatArray, scores: FloatArray, hints: FloatArray, time: float
    ) -> None:
        """Take over where the person is, if that is certain."""
        seen = box_of(keypoints, scores)
        if seen is None:
            return
        expected, elapsed = self.box_at(time), time - self.time
        keypoints = np.where(scores[:, None] >= _CONFIDENT, keypoints, np.nan)
        self._measure_velocity(keypoints, elapsed)
        # What is larger counts at once, what is smaller little by little.
        old = np.exp(-elapsed / _SHRINK_SECONDS)
        smaller = old * expected + (1 - old) * seen
        low, high = np.minimum(seen, smaller)[:2], np.maximum(seen, smaller)[2:]
        self.box = np.concatenate((low, high)).astype(np.float32)
        self.time, self.keypoints, self.hints = time, keypoints, hints

    def _measure_velocity(self, keypoints: FloatArray, elapsed: float) -> None:
        if self.keypoints is None or elapsed <= 0:
            return
        moved = keypoints - self.keypoints
        both = np.isfinite(moved).all(-1)
        if not both.any():
            return
        # The median is the body's: an arm that is raised moves the box, but not the person.
        velocity = np.median(moved[both].astype(np.float64), axis=0) / elapsed
        weight = 1 - np.exp(-elapsed / _VELOCITY_SECONDS)
        # Keypoints jump about when somebody has just been found: one step is not trusted alone.
        self.steps += 1
        weight = max(weight, 1 / (self.steps + 1))
        self.velocity = (1 - weight) * self.velocity + weight * velocity


class Following:
    """The people of a video as far as it has been seen.

    Args:
        interval_seconds: how often to search although nobody was lost.
        max_persons: at most this many are followed; the largest are kept.
        min_score: whose keypoints score less on average is lost. The default is for heatmaps: a
            crop with nobody in it gets a few per cent, one with somebody 60 and more.
        hints: how many points (H) tell the network where to look, besides a box.
    """

    def __init__(
        self,
        interval_seconds: float = 0.5,
        max_persons: int = 6,
        min_score: float = 0.15,
        hints: int = 0,
    ) -> None:
        self._interval_seconds, self._max_persons = interval_seconds, max_persons
        self._min_score, self._hints = min_score, hints
        self._people: list[_Person] = []
        self._next_id = 1
        self._searched = self._lost = -np.inf
        self._somebody_lost = False

    def __len__(self) -> int:
        return len(self._people)

    @property
    def settled(self) -> bool:
        """Whether it is known of everybody where they are and how fast they move."""
        return all(person.steps >= _SETTLED_STEPS and not person.missed for person in self._people)

    @property
    def next_search(self) -> float:
        """When a search is due unless somebody is lost before, in seconds."""
        return float(self._searched + self._interval_seconds)

    def search_due(self, time: float) -> bool:
        """Whether a search for persons is worth its time in the frame at ``time``."""
        known = self._people and not self._somebody_lost
        return not known or time - self._searched >= self._interval_seconds

    def all_well(self, time: float) -> bool:
        """Whether somebody is known, and nobody was lost of late who might come back."""
        return bool(self._people) and time - self._lost >= _MISSED_SECONDS

    def found(self, boxes: FloatArray, time: float, hints: FloatArray | None = None) -> None:
        """Take in what a search of the frame at ``time`` found.

        Args:
            boxes: (N, 4) xyxy px.
            time: in seconds.
            hints: (N, H, 2) px, where the network wants to look, if the search can tell.
        """
        self._searched, self._somebody_lost = time, False
        known = self.expected([time])[:, 0]
        overlap, _ = overlaps(boxes, known)
        for index, (box, with_known) in enumerate(zip(boxes, overlap, strict=True)):
            if with_known.max(initial=0.0) >= _SAME_BOX:
                self._people[int(with_known.argmax())].confirmed = time
                continue
            points = np.full((self._hints, 2), np.nan) if hints is None else hints[index]
            self._people.append(
                _Person(self._next_id, np.asarray(box, np.float32), points, time, time)
            )
            self._next_id += 1
        self._people.sort(key=lambda person: -float((person.box[2:] - person.box[:2]).prod()))
        del self._people[self._max_persons :]

    @property
    def person_ids(self) -> list[int]:
        """Numbers of the people, in the order of all arrays; nobody else gets them."""
        return [person.person_id for person in self._people]

    def expected(self, times: Sequence[float]) -> FloatArray:
        """(P, T, 4) boxes where the people should be."""
        boxes = [[person.box_at(time) for time in times] for person in self._people]
        return np.array(boxes, np.float32).reshape(len(self._people), len(times), 4)

    def expected_hints(self, times: Sequence[float]) -> FloatArray:
        """(P, T, H, 2) px where the network wants to look; NaN where that is not known."""
        hints = [[person.hints_at(time) for time in times] for person in self._people]
        return np.array(hints, np.float32).reshape(len(hints), len(times), self._hints, 2)

    def seen(
        self,
        times: Sequence[float],
        keypoints: FloatArray,
        scores: FloatArray,
        hints: FloatArray | None = None,
    ) -> BoolArray:
        """Take in what was seen where people were expected.

        Args:
            times: T, in seconds.
            keypoints: (P, T, K, 2) px.
            scores: (P, T, K).
            hints: (P, T, H, 2) px, where the network wants to look next, if it can tell.

        Returns:
            (P, T): whether that is a person, and not one who is seen in another box as well.
        """
        if hints is None:
            hints = np.zeros((*scores.shape[:2], 0, 2), np.float32)
        for index, person in enumerate(self._people):
            for place, time in enumerate(times):
                person.see(keypoints[index, place], scores[index, place], hints[index, place], time)
        # Who is cut by the edge of the picture is as certain as what of them is in it.
        known = scores.sum(-1) / np.maximum((scores > 0).sum(-1), _MIN_CONFIDENT)
        certain = known >= self._min_score
        alone = self._alone(keypoints[:, -1], scores[:, -1])
        searched = np.array([person.confirmed >= times[0] for person in self._people], np.bool_)
        there = (scores > 0).any(-1) & (certain | searched[:, None])
        people, self._people = self._people, []
        for person, sure, only in zip(people, certain[:, -1], alone, strict=True):
            if not sure and not person.missed:
                self._somebody_lost, self._lost = True, times[-1]
            person.missed = not sure
            if only and (sure or times[-1] - person.time < _PATIENCE_SECONDS):
                self._people.append(person)
        return np.asarray(there & alone[:, None])

    def _alone(self, keypoints: FloatArray, scores: FloatArray) -> BoolArray:
        """(P,): False for the less certain one of two with the same (P, K, 2) keypoints.

        Those that are not in the picture, with a score of 0, do not count.
        """
        sizes = [float((person.box[2:] - person.box[:2]).max()) for person in self._people]
        alone = np.ones(len(keypoints), np.bool_)
        order = np.argsort(-scores.mean(-1), kind="stable").tolist()
        for place, index in enumerate(order):
            for better in order[:place]:
                both = (scores[index] > 0) & (scores[better] > 0)
                if not both.any():
                    continue
                distances = np.linalg.norm(keypoints[index] - keypoints[better], axis=-1)
                apart = np.median(distances[both])
                if alone[better] and apart < _SAME_PERSON * sizes[better]:
                    alone[index] = False
        return alone
