"""Following people from frame to frame, so that one track is one person."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gridpose.core import NUM_JOINTS, DoubleArray, FloatArray, Repair
from gridpose.detectors.boxes import overlaps

if TYPE_CHECKING:
    from gridpose.detectors import Convention, Detection

# Two observations further apart than this (see `similarities`) are not the same person.
MIN_SIMILARITY: Final = 0.12
DUPLICATE_SIMILARITY: Final = 0.5
_SAME_ID: Final = 0.3
"""How much more alike are those whom the detector takes for the same person. It follows better
through quick turns, but where people cross, its box of one may have slid onto the other."""
_OKS_WIDTH: Final = 0.12
_VELOCITY_MEMORY_SECONDS: Final = 0.25
_DOUBLE_SIMILARITY: Final = 0.3
_DOUBLE_SECONDS: Final = 0.25
"""Who appears in the place of somebody who vanishes within this time is the same person: after a
quick turn detectors find people anew, while they follow the old view for some frames more."""


@dataclass(frozen=True)
class Observation:
    """A detected person with Human3.6M-17 joints: ``bbox`` (4,) xyxy, (17, 2) px, (17,).

    ``person_id`` is that of the :class:`gridpose.detectors.Detection`; ``repaired`` (17,) uint8
    flags of :class:`gridpose.core.Repair`; ``smoothed`` (17, 2) px what the world pose is lifted
    from, if that is not ``keypoints``.
    """

    bbox: FloatArray
    keypoints: FloatArray
    confidence: FloatArray
    person_id: int | None = None
    repaired: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(NUM_JOINTS, np.uint8))
    smoothed: FloatArray | None = None

    @property
    def seen(self) -> bool:
        """Whether the detector saw the person in this frame."""
        return not (self.repaired & Repair.FILLED).all()


def observed(people: Sequence[Detection], convention: Convention) -> list[Observation]:
    """Detections with keypoints of a convention as observations."""
    return [
        Observation(
            person.bbox,
            *convention.to_human36m(person.keypoints, person.confidence),
            person.person_id,
        )
        for person in people
    ]


def has_left(keypoints: FloatArray, image_size: tuple[int, int]) -> bool:
    """Whether somebody with these (17, 2) px keypoints is more out of the picture than in it.

    What a detector says of somebody who walks out of it is guesswork. Legs below the lower edge
    do not count as long as head and shoulders are seen: that is how people are filmed.
    """
    x, y = keypoints[:, 0], keypoints[:, 1]
    beside = (x < 0) | (x >= image_size[0]) | (y < 0)
    below = y >= image_size[1]
    return bool(beside.mean() > 0.5 or (beside | below).sum() > NUM_JOINTS - 4)


def oks(first: FloatArray, second: FloatArray, size: float) -> float:
    """Object keypoint similarity in [0, 1] of (J, 2) keypoints, one width for all joints."""
    squared = ((first - second) ** 2).sum(-1)
    return float(np.exp(-squared / (2 * (size * _OKS_WIDTH) ** 2)).mean())


def similarities(first: Sequence[Observation], second: Sequence[Observation]) -> DoubleArray:
    """(N, M) how much each two observations look like the same person: mean of IoU and OKS."""
    boxes, others = (
        np.array([person.bbox for person in people]).reshape(-1, 4) for people in (first, second)
    )
    similarity, _ = overlaps(boxes, others)
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            size = max(1.0, _size(one.bbox), _size(other.bbox))
            similarity[row, column] += oks(one.keypoints, other.keypoints, size)
    return similarity / 2


def _size(bbox: FloatArray) -> float:
    """Square root of a box's area."""
    return float(np.sqrt(np.prod(np.maximum(bbox[2:] - bbox[:2], 0))))


@dataclass
class _Track:
    track_id: int
    last: Observation
    last_time: float
    velocity: DoubleArray = field(default_factory=lambda: np.zeros(2))
    """(2,) px/s of the person as a whole."""
    person_id: int | None = None
    """Whom the detector takes them for."""
    born: float = 0.0
    double_of: int | None = None
    """Track id of whom they looked like when they appeared."""

    def predicted(self, time: float) -> Observation:
        shift = (self.velocity * (time - self.last_time)).astype(np.float32)
        return Observation(
            self.last.bbox + np.tile(shift, 2), self.last.keypoints + shift, self.last.confidence
        )

    def add(self, observation: Observation, time: float) -> None:
        elapsed = max(time - self.last_time, 1e-3)
        moved = np.median(observation.keypoints - self.last.keypoints, axis=0) / elapsed
        weight = 1 - np.exp(-elapsed / _VELOCITY_MEMORY_SECONDS)
        self.velocity = (1 - weight) * self.velocity + weight * moved
        self.last, self.last_time = observation, time
        self.person_id = observation.person_id


class Tracker:
    """Gives each observation the id of its person.

    Each frame is matched as a whole (linear assignment) against where the known people should be
    by now, and whom the detector takes them for.

    Args:
        image_size: width, height px; who leaves the picture is dropped, None: nobody does.
        max_gap: a person may be unseen for so many seconds and is then forgotten.
    """

    def __init__(self, image_size: tuple[int, int] | None = None, max_gap: float = 1.0) -> None:
        self._image_size, self._max_gap = image_size, max_gap
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._last_time = -math.inf

    def update(self, observations: Sequence[Observation], time: float) -> dict[int, Observation]:
        """Take in one frame; times must not fall.

        Returns:
            Observations by track id; of two that are the same person the surer one is kept.
        """
        self._tracks = [t for t in self._tracks if time - t.last_time <= self._max_gap]
        people = without_duplicates(self._in_picture(observations))
        # Someone who stops or turns is near the last place rather than the predicted one.
        alike = np.maximum(
            similarities([track.predicted(time) for track in self._tracks], people),
            0.9 * similarities([track.last for track in self._tracks], people),
        )
        for row, track in enumerate(self._tracks):
            if track.person_id is not None:
                alike[row, [person.person_id == track.person_id for person in people]] += _SAME_ID
        found: dict[int, Observation] = {}
        new = dict(enumerate(people))
        for row, column in zip(*linear_sum_assignment(alike, maximize=True), strict=True):
            if alike[row, column] >= MIN_SIMILARITY:
                track, person = self._tracks[row], new.pop(column)
                track.add(person, time)
                found[track.track_id] = person
        self._succeed(found, time)
        seen = dict(found)
        for person in new.values():
            track = _Track(self._next_id, person, time, person_id=person.person_id, born=time)
            track.double_of = _looks_like(person, seen)
            self._tracks.append(track)
            found[self._next_id] = person
            self._next_id += 1
        self._last_time = time
        return found

    def _succeed(self, found: dict[int, Observation], time: float) -> None:
        """Give those who vanish just now to their doubles, whose own tracks end."""
        lost = {
            track.track_id: track
            for track in self._tracks
            if track.track_id not in found and track.last_time == self._last_time
        }
        for double in list(self._tracks):
            recent = double.track_id in found and time - double.born <= _DOUBLE_SECONDS
            if recent and double.double_of is not None and double.double_of in lost:
                track, person = lost.pop(double.double_of), found.pop(double.track_id)
                track.add(person, time)
                found[track.track_id] = person
                self._tracks.remove(double)

    def _in_picture(self, observations: Sequence[Observation]) -> list[Observation]:
        """Those who have not left the picture."""
        if self._image_size is None:
            return list(observations)
        there = []
        for person in observations:
            if not has_left(person.keypoints, self._image_size):
                there.append(person)
                continue
            # The detector may go on to follow what is seen in their place.
            for track in self._tracks:
                if track.person_id == person.person_id:
                    track.person_id = None
        return there


def _looks_like(person: Observation, others: Mapping[int, Observation]) -> int | None:
    """Track id of whoever may be the same person, if anybody."""
    if not others:
        return None
    (alike,) = similarities([person], list(others.values()))
    best = int(alike.argmax())
    return list(others)[best] if alike[best] >= _DOUBLE_SIMILARITY else None


def without_duplicates(observations: Sequence[Observation]) -> list[Observation]:
    """Drop observations of a person who is there already with more confidence."""
    kept: list[Observation] = []
    for person in sorted(observations, key=lambda o: -float(o.confidence.mean())):
        if (similarities([person], kept) < DUPLICATE_SIMILARITY).all():
            kept.append(person)
    return kept
