"""Following people from frame to frame, so that one track is one person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gridpose.core import NUM_JOINTS, DoubleArray, FloatArray, Repair

# Two observations further apart than this (see `similarity`) are not the same person.
MIN_SIMILARITY = 0.12
DUPLICATE_SIMILARITY = 0.5
_OKS_WIDTH = 0.12
_VELOCITY_MEMORY_SECONDS = 0.25


@dataclass(frozen=True)
class Observation:
    """A detected person with Human3.6M-17 joints: ``bbox`` (4,) xyxy, (17, 2) px, (17,).

    ``repaired`` (17,) uint8 flags of :class:`gridpose.core.Repair`.
    """

    bbox: FloatArray
    keypoints: FloatArray
    confidence: FloatArray
    repaired: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(NUM_JOINTS, np.uint8))

    @property
    def seen(self) -> bool:
        """Whether the detector saw the person in this frame."""
        return not (self.repaired & Repair.FILLED).all()


def has_left(keypoints: FloatArray, image_size: tuple[int, int]) -> bool:
    """Whether somebody with these (17, 2) px keypoints is more out of the picture than in it.

    What a detector says of somebody who walks out of it is guesswork. Legs below the lower edge
    do not count as long as head and shoulders are seen: that is how people are filmed.
    """
    x, y = keypoints[:, 0], keypoints[:, 1]
    beside = (x < 0) | (x >= image_size[0]) | (y < 0)
    below = y >= image_size[1]
    return bool(beside.mean() > 0.5 or (beside | below).sum() > NUM_JOINTS - 4)


def iou(first: FloatArray, second: FloatArray) -> float:
    """Intersection over union of two xyxy boxes."""
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[2:], second[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    areas = [float(np.prod(np.maximum(box[2:] - box[:2], 0))) for box in (first, second)]
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0


def oks(first: FloatArray, second: FloatArray, size: float) -> float:
    """Object keypoint similarity in [0, 1] of (17, 2) keypoints, one width for all joints."""
    squared = ((first - second) ** 2).sum(-1)
    return float(np.exp(-squared / (2 * (size * _OKS_WIDTH) ** 2)).mean())


def similarity(first: Observation, second: Observation) -> float:
    """How much two observations look like the same person: mean of IoU and OKS."""
    size = max(1.0, _size(first.bbox), _size(second.bbox))
    return 0.5 * iou(first.bbox, second.bbox) + 0.5 * oks(first.keypoints, second.keypoints, size)


def _size(bbox: FloatArray) -> float:
    """Square root of a box's area."""
    return float(np.sqrt(np.prod(np.maximum(bbox[2:] - bbox[:2], 0))))


@dataclass
class _Track:
    track_id: int
    last: Observation
    last_time: float
    velocity: DoubleArray
    """(2,) px/s of the person as a whole."""

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


class Tracker:
    """Gives each observation the id of its person.

    Each frame is matched as a whole (linear assignment) against where the known people should be
    by now; a person may be unseen for ``max_gap`` seconds and is then forgotten.
    """

    def __init__(self, max_gap: float = 1.0) -> None:
        self.max_gap = max_gap
        self._tracks: list[_Track] = []
        self._next_id = 1

    def update(self, observations: Sequence[Observation], time: float) -> dict[int, Observation]:
        """Take in one frame; times must not fall.

        Returns:
            Observations by track id; of two that are the same person the surer one is kept.
        """
        people = without_duplicates(observations)
        self._tracks = [t for t in self._tracks if time - t.last_time <= self.max_gap]
        scores = np.zeros((len(self._tracks), len(people)))
        for row, track in enumerate(self._tracks):
            expected = track.predicted(time)
            for column, person in enumerate(people):
                # Someone who stops or turns is near the last place rather than the predicted one.
                scores[row, column] = max(
                    similarity(expected, person), 0.9 * similarity(track.last, person)
                )
        rows, columns = linear_sum_assignment(scores, maximize=True)
        found: dict[int, Observation] = {}
        matched: set[int] = set()
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if scores[row, column] >= MIN_SIMILARITY:
                self._tracks[row].add(people[column], time)
                found[self._tracks[row].track_id] = people[column]
                matched.add(column)
        for column, person in enumerate(people):
            if column not in matched:
                found[self._next_id] = person
                self._tracks.append(_Track(self._next_id, person, time, np.zeros(2)))
                self._next_id += 1
        return found


def without_duplicates(observations: Sequence[Observation]) -> list[Observation]:
    """Drop observations of a person who is there already with more confidence."""
    kept: list[Observation] = []
    for person in sorted(observations, key=lambda o: -float(o.confidence.mean())):
        if all(similarity(person, other) < DUPLICATE_SIMILARITY for other in kept):
            kept.append(person)
    return kept
