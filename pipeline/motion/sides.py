"""Which of two limbs is the left one: detectors take left for right for some frames.

A lifter that sees time sees through it: it has learned how bodies move, and what detectors get
wrong. Its pose, seen by the camera again, tells which limb is where; how limbs move in the picture
tells where that leaves doubt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from gridpose.core import (
    MIRRORED,
    AnyArray,
    BoolArray,
    DoubleArray,
    FloatArray,
    Repair,
)
from gridpose.pipeline.motion.lifting_stage import Lifted
from gridpose.pipeline.motion.repair import person_size
from gridpose.pipeline.motion.tracking import Observation
from gridpose.pipeline.motion.trajectory import hip_positions, projected
from gridpose.pipeline.motion.window import Window, stacked

LEGS: Final = (1, 2, 3, 4, 5, 6)
ARMS: Final = (11, 12, 13, 14, 15, 16)
LIMBS: Final = (LEGS, ARMS)
LOOK_SECONDS: Final = 0.5
"""How far around a frame is looked before it is decided."""
_CHUNK = 8

# Costs as shares of the person's size.
_SHARE: Final = 0.3
"""Of what the pose says against what movement says; chosen, as the next, on simulated sequences of
the training clips."""
_CHANGE: Final = 0.2
"""Of an exchange's beginning and end: where nothing tells sides apart nothing is exchanged."""
_LARGEST_STEP: Final = 0.3
_PREDICTION_SECONDS: Final = 0.12
"""Over longer gaps than this nothing is predicted."""


def support(lifted: Lifted, image_size: tuple[int, int], fov_degrees: float) -> DoubleArray:
    """How much nearer a pose is to legs and to arms as detected than to them exchanged, (2,).

    Sums of distances in the picture over the person's size; below 0 where exchanged limbs fit
    better. Joints that are unseen on either side do not count.

    Args:
        lifted: whose ``pose`` a lifter made that sees time.
        image_size: width, height px.
        fov_degrees: the horizontal field of view it was lifted with.
    """
    seen = lifted.observation
    hip = hip_positions(lifted.pose[None], seen.keypoints[None], image_size, fov_degrees)
    expected = projected(lifted.pose + hip, image_size, fov_degrees)
    distance = np.linalg.norm(seen.keypoints - expected, axis=-1)
    exchanged = np.linalg.norm(seen.keypoints[list(MIRRORED)] - expected, axis=-1)
    both = (seen.confidence > 0) & (seen.confidence[list(MIRRORED)] > 0)
    nearer = np.where(both, exchanged - distance, 0) / person_size(seen.keypoints[None])
    return np.array([nearer[list(limbs)].sum() for limbs in LIMBS])


def side_exchanges(
    keypoints: AnyArray, supports: AnyArray, fps: float, decided: BoolArray
) -> BoolArray:
    """In which frames the detector exchanged left and right: ``(T, 2)`` for legs and arms.

    For each the sequence of exchanges of least cost (Viterbi, 1967, over pairs of consecutive
    frames): what the pose says against it, and how much limbs accelerate. Acceleration, since limbs
    that cross in the picture keep their velocity.

    Args:
        keypoints: (T, 17, 2) px; NaN where the person is not seen.
        supports: (T, 2) as :func:`support` tells; NaN likewise.
        fps: frames per second.
        decided: (N, 2) what was found for the first N frames; it is kept.
    """
    exchanged = np.zeros((len(keypoints), 2), np.bool_)
    seen = np.flatnonzero(np.isfinite(keypoints).all((1, 2)))
    if not len(seen):
        return exchanged
    points = keypoints[seen] / person_size(keypoints)
    known = np.flatnonzero(seen < len(decided))
    for column, limbs in enumerate(LIMBS):
        mirrored = [MIRRORED[joint] for joint in limbs]
        ways = np.stack((points[:, limbs], points[:, mirrored]), 1)
        own = np.column_stack((np.zeros(len(seen)), _SHARE * supports[seen, column]))
        own[known, 1 - decided[seen[known], column].astype(int)] = np.inf
        exchanged[seen, column] = _cheapest(own, ways, seen, fps)
    return exchanged


def _cheapest(own: DoubleArray, ways: AnyArray, frames: AnyArray, fps: float) -> BoolArray:
    """(T,) whether limbs (T, 2, 6, 2), as seen and exchanged, are so; ``own`` (T, 2) costs."""
    change = _CHANGE * (1 - np.eye(2))
    # cost[a, b]: of the best sequence that ends with ways a, b.
    cost = np.tile(own[0], (2, 1))
    back = np.zeros((len(own), 2, 2), np.int64)
    for index in range(1, len(own)):
        total = cost[:, :, None] + _accelerations(ways, frames, index, fps) + change
        back[index] = total.argmin(0)
        cost = total.min(0) + own[index]
    path = [int(way) for way in np.unravel_index(cost.argmin(), cost.shape)]
    for index in range(len(own) - 1, 1, -1):
        path.insert(0, int(back[index, path[0], path[1]]))
    return np.array(path[-len(own) :], np.bool_)


def _accelerations(ways: AnyArray, frames: AnyArray, index: int, fps: float) -> DoubleArray:
    """(2, 2, 2) how far limbs are from where two frames before have them.

    From where one frame before has them if the other is too long ago, or none; 0 if both are.
    """
    longest = _PREDICTION_SECONDS * fps + 1
    elapsed = frames[index] - frames[index - 1]
    if elapsed > longest:
        return np.zeros((2, 2, 2))
    last, this = ways[index - 1], ways[index]
    moved = np.zeros((2, *last.shape))
    if index > 1 and (before := frames[index - 1] - frames[index - 2]) <= longest:
        moved = elapsed / before * (last - ways[index - 2][:, None])
    offsets = np.linalg.norm(this - (last + moved)[:, :, None], axis=-1)
    return np.asarray(np.minimum(offsets, _LARGEST_STEP).sum(-1))


@dataclass
class _Judged:
    """A person in a frame; ``exchanged`` (2,) once it is decided."""

    lifted: Lifted
    support: DoubleArray
    exchanged: BoolArray = field(default_factory=lambda: np.zeros(2, np.bool_))


class Sides:
    """Takes in lifted people frame by frame and hands them out with their sides set right.

    Poses stay as they are: whoever lifted them saw through exchanges.

    Args:
        image_size: width, height px.
        fov_degrees: the horizontal field of view that people were lifted with.
        fps: rate of the frames.
    """

    def __init__(self, image_size: tuple[int, int], fov_degrees: float, fps: float) -> None:
        self._image_size, self._fov_degrees, self._fps = image_size, fov_degrees, fps
        look = max(2, math.ceil(LOOK_SECONDS * fps))
        self._window: Window[_Judged] = Window(look, look, _CHUNK, longest=look)

    def add(self, people: Mapping[int, Lifted]) -> None:
        """Take in the next frame: people by track id."""
        self._window.add(
            {
                track_id: _Judged(person, support(person, self._image_size, self._fov_degrees))
                for track_id, person in people.items()
            }
        )

    def finished(self, at_end: bool = False) -> Iterator[dict[int, Lifted]]:
        """People of every frame that is decided by now; of all that are left ``at_end``."""
        for due in self._window.due(at_end):
            for person in self._window.people().values():
                self._decide(person, due.start - self._window.first)
            for frame in due:
                yield {
                    track_id: replace(
                        judged.lifted,
                        observation=_exchanged(judged.lifted.observation, judged.exchanged),
                    )
                    for track_id, judged in self._window[frame].items()
                }

    def _decide(self, person: Sequence[_Judged | None], before: int) -> None:
        """Decide on one person's frames but the first ones, which are decided."""
        keypoints: FloatArray = stacked(
            [None if judged is None else judged.lifted.observation.keypoints for judged in person]
        )
        unseen = np.full(2, np.nan)
        supports = np.stack([unseen if judged is None else judged.support for judged in person])
        undecided = np.zeros(2, np.bool_)
        decided = [undecided if judged is None else judged.exchanged for judged in person[:before]]
        known = np.array(decided, np.bool_).reshape(-1, 2)
        found = side_exchanges(keypoints, supports, self._fps, known)
        for judged, exchanged in zip(person, found, strict=True):
            if judged is not None:
                judged.exchanged = exchanged


def _exchanged(seen: Observation, exchanges: BoolArray) -> Observation:
    """An observation with legs, arms, or both exchanged, and marked so."""
    order, marked = np.arange(len(MIRRORED)), np.zeros(len(MIRRORED), np.bool_)
    for limbs, exchange in zip(LIMBS, exchanges, strict=True):
        if exchange:
            order[list(limbs)] = [MIRRORED[joint] for joint in limbs]
            marked[list(limbs)] = True
    if not marked.any():
        return seen
    flags = seen.repaired[order] | np.where(marked, np.uint8(Repair.EXCHANGED), np.uint8(0))
    return replace(
        seen,
        keypoints=seen.keypoints[order],
        confidence=seen.confidence[order],
        repaired=flags.astype(np.uint8),
    )
