"""Repairing people's 2D keypoints over time, before they are lifted.

Detectors exchange left and right for some frames, put a joint somewhere else for a moment, and miss
people now and then. What is repaired is marked, joint by joint: see :class:`gridpose.core.Repair`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import median_filter

from gridpose.core import (
    MIRRORED,
    NUM_JOINTS,
    AnyArray,
    BoolArray,
    DoubleArray,
    FloatArray,
    Repair,
)
from gridpose.pipeline.motion.choices import Smoothing
from gridpose.pipeline.motion.smoothing import smooth
from gridpose.pipeline.motion.tracking import Observation
from gridpose.pipeline.motion.window import Window, stacked

What = Literal["nothing", "gaps", "all"]

LEGS: Final = (1, 2, 3, 4, 5, 6)
ARMS: Final = (11, 12, 13, 14, 15, 16)
LONGEST_GAP_SECONDS: Final = 0.35
LOOK_AHEAD_SECONDS: Final = 0.5
"""Longer than the longest gap, so that both of its ends are known."""
LOOK_BACK_SECONDS: Final = 0.5
CHUNK: Final = 8
_FILLED_CONFIDENCE = 0.5
_PERSON_METRES = 2.0
"""Roughly what the diagonal of a person's box measures, for filters that know metres."""

HAMPEL_SECONDS: Final = 0.25
"""Width of the window in which a joint's median is taken."""
HAMPEL_SIGMAS: Final = 4.0
_LEAST_OUTLIER = 0.04
"""Closer to the median than this share of the person's size nothing is an outlier."""
_MAD_TO_SIGMA = 1.4826

# Costs as shares of the person's size.
_EXCHANGE_COST = 0.02
"""Of exchanged limbs in one frame: the detector is right unless movement says otherwise."""
_TWIST_COST = 0.05
_LARGEST_STEP = 0.3
_PREDICTION_SECONDS = 0.12
"""Over longer gaps than this nothing is predicted."""


def person_size(keypoints: AnyArray) -> float:
    """Median diagonal, px, of the boxes around (T, 17, 2) keypoints; NaN frames are left out."""
    seen = keypoints[np.isfinite(keypoints).all((1, 2))]
    if not len(seen):
        return 1.0
    return max(1.0, float(np.median(np.linalg.norm(np.ptp(seen, axis=1), axis=-1))))


def side_exchanges(keypoints: AnyArray, fps: float, decided: BoolArray | None = None) -> BoolArray:
    """In which frames the detector exchanged left and right: ``(T, 2)`` for legs and arms.

    The sequence of exchanges under which the limbs accelerate least (Viterbi, 1967, over pairs of
    consecutive frames), at a cost for each exchange and for trunks twisted by more than a right
    angle. Acceleration, since limbs that cross in the picture keep their velocity.

    Args:
        keypoints: (T, 17, 2) px; NaN where the person is not seen.
        fps: frames per second.
        decided: (N, 2) what was found for the first N frames; it is kept.
    """
    exchanged = np.zeros((len(keypoints), 2), bool)
    seen = np.flatnonzero(np.isfinite(keypoints).all((1, 2)))
    if len(seen) < 2:
        return exchanged
    points = keypoints[seen] / person_size(keypoints)
    ways = np.stack([exchanged_back(points, np.tile(way, (len(seen), 1))) for way in _WAYS], 1)
    own = _own_costs(ways)
    if decided is not None:
        known = np.flatnonzero(seen < len(decided))
        wanted = (decided[seen[known], None] == _WAYS).all(-1)
        own[known] = np.where(wanted, own[known], np.inf)
    # cost[a, b]: of the best sequence that ends with ways a, b.
    cost = np.tile(own[0], (len(_WAYS), 1))
    back = np.zeros((len(seen), len(_WAYS), len(_WAYS)), np.int64)
    for index in range(1, len(seen)):
        total = cost[:, :, None] + _accelerations(ways, seen, index, fps)
        back[index] = total.argmin(0)
        cost = total.min(0) + own[index]
    path = list(np.unravel_index(cost.argmin(), cost.shape))
    for index in range(len(seen) - 1, 1, -1):
        path.insert(0, back[index, path[0], path[1]])
    exchanged[seen] = _WAYS[path]
    return exchanged


_WAYS: Final = np.array(((False, False), (True, False), (False, True), (True, True)))
"""Of exchanging (legs, arms)."""
_LIMBS: Final = (*LEGS, *ARMS)


def _own_costs(ways: AnyArray) -> DoubleArray:
    """(T, 4) what each way of (T, 4, 17, 2) costs by itself."""
    hips = ways[:, :, 1] - ways[:, :, 4]
    shoulders = ways[:, :, 14] - ways[:, :, 11]
    # Only where both lines are seen from the front or the back: then it is the smaller of them.
    clear = np.minimum(np.linalg.norm(hips, axis=-1), np.linalg.norm(shoulders, axis=-1))
    twisted = (hips * shoulders).sum(-1) < 0
    return np.asarray(
        _EXCHANGE_COST * _WAYS.sum(1) + _TWIST_COST * twisted * np.minimum(10 * clear, 1)
    )


def _accelerations(ways: AnyArray, frames: AnyArray, index: int, fps: float) -> DoubleArray:
    """(4, 4, 4) how far the limbs are from where two frames before have them.

    From where one frame before has them if the other is too long ago, or none; 0 if both are.
    """
    longest = _PREDICTION_SECONDS * fps + 1
    elapsed = frames[index] - frames[index - 1]
    if elapsed > longest:
        return np.zeros((len(_WAYS),) * 3)
    last, this = (ways[k][:, _LIMBS] for k in (index - 1, index))
    moved = np.zeros((len(_WAYS), *last.shape))
    if index > 1 and (before := frames[index - 1] - frames[index - 2]) <= longest:
        moved = elapsed / before * (last - ways[index - 2][:, None, _LIMBS])
    offsets = np.linalg.norm(this - (last + moved)[:, :, None], axis=-1)
    return np.asarray(np.minimum(offsets, _LARGEST_STEP).sum(-1))


def outliers(points: AnyArray, fps: float, size: float) -> BoolArray:
    """Joints ``(T, 17)`` that are for a moment where they are neither before nor after.

    Hampel's identifier (Hampel, JASA 69, 1974) on the distance from the running median.

    Args:
        points: (T, 17, 2) or (T, 17, 3); NaN where the person is not seen.
        fps: frames per second.
        size: of the person, in the unit of the points.
    """
    found = np.zeros(points.shape[:2], bool)
    seen = np.flatnonzero(np.isfinite(points).all((1, 2)))
    width = max(5, round(HAMPEL_SECONDS * fps) | 1)
    if len(seen) < width:
        return found
    centre = median_filter(points[seen], size=(width, 1, 1), mode="nearest")
    distance = np.linalg.norm(points[seen] - centre, axis=-1)
    spread = _MAD_TO_SIGMA * median_filter(distance, size=(width, 1), mode="nearest")
    found[seen] = distance > np.maximum(HAMPEL_SIGMAS * spread, _LEAST_OUTLIER * size)
    return found


def filled(points: AnyArray, fps: float) -> tuple[DoubleArray, BoolArray]:
    """Interpolate what is missing (NaN) for at most :data:`LONGEST_GAP_SECONDS`.

    Monotone cubics (Fritsch & Carlson 1980), which do not overshoot. Nothing is extrapolated.

    Returns:
        The points (T, 17, D), and which joints (T, 17) were filled.
    """
    result = np.array(points, np.float64)
    marks = np.zeros(result.shape[:2], bool)
    longest = max(1, round(LONGEST_GAP_SECONDS * fps))
    for joint in range(NUM_JOINTS):
        known = np.flatnonzero(np.isfinite(result[:, joint]).all(-1))
        if len(known) < 2:
            continue
        missing = np.setdiff1d(np.arange(known[0], known[-1]), known)
        end = np.searchsorted(known, missing)
        short = missing[known[end] - known[end - 1] <= longest + 1]
        if len(short):
            curve = PchipInterpolator(known, result[known, joint], axis=0)
            result[short, joint] = curve(short)
            marks[short, joint] = True
    return result, marks


def exchanged_back(values: AnyArray, exchanges: BoolArray) -> AnyArray:
    """What (T, 17, ...) is where sides are exchanged in the frames of (T, 2), legs and arms."""
    result = values.copy()
    for column, joints in enumerate((LEGS, ARMS)):
        rows = np.flatnonzero(exchanges[:, column])[:, None]
        result[rows, joints] = values[rows, [MIRRORED[joint] for joint in joints]]
    return result


def repaired(
    keypoints: FloatArray, fps: float, decided: BoolArray | None = None
) -> tuple[FloatArray, NDArray[np.uint8], BoolArray]:
    """Exchange sides back, drop outliers, fill gaps.

    Args:
        keypoints: (T, 17, 2) px; NaN where the person is not seen.
        fps: frames per second.
        decided: as in :func:`side_exchanges`.

    Returns:
        Keypoints; flags (T, 17) of :class:`Repair`; side exchanges (T, 2).
    """
    exchanges = side_exchanges(keypoints, fps, decided)
    points = exchanged_back(np.array(keypoints, np.float64), exchanges)
    flags = np.zeros(points.shape[:2], np.uint8)
    for column, joints in enumerate((LEGS, ARMS)):
        flags[:, joints] = exchanges[:, column, None] * int(Repair.EXCHANGED)
    points[outliers(points, fps, person_size(points))] = np.nan
    points, marks = filled(points, fps)
    # An outlier at the end, which nothing can be put in place of, is better than nothing.
    alone = np.isnan(points) & np.isfinite(keypoints)
    points[alone] = keypoints[alone]
    flags[marks] |= int(Repair.FILLED)
    return points.astype(np.float32), flags, exchanges


@dataclass
class _Followed:
    """A person in a frame, and whether sides (legs, arms) were exchanged, once it is decided."""

    observation: Observation
    exchanged: BoolArray = field(default_factory=lambda: np.zeros(2, bool))


class KeypointRepair:
    """Takes in followed people frame by frame and hands them out repaired and smoothed, in order.

    Both need to see what comes next, so frames come out some time after they went in.

    Args:
        fps: rate of the frames.
        what: to repair: ``all`` as :func:`repaired` does; ``gaps`` fills them only.
        smoothing: of :attr:`Observation.smoothed`.
    """

    def __init__(self, fps: float, what: What = "all", smoothing: Smoothing = "savgol") -> None:
        self._fps, self._what, self._smoothing = fps, what, smoothing
        ahead = LONGEST_GAP_SECONDS if what == "gaps" else 0.0
        if what == "all" or smoothing != "none":
            ahead = LOOK_AHEAD_SECONDS
        self.look_ahead = max(2, math.ceil(ahead * fps)) if ahead else 0
        look_back = max(2, round(LOOK_BACK_SECONDS * fps))
        self._window: Window[_Followed] = Window(
            self.look_ahead, look_back, CHUNK, longest=self.look_ahead
        )

    def add(self, people: Mapping[int, Observation]) -> None:
        """Take in the next frame: observations by track id."""
        self._window.add({track_id: _Followed(person) for track_id, person in people.items()})

    def finished(self, at_end: bool = False) -> Iterator[dict[int, Observation]]:
        """People of every frame that is repaired by now; of all that are left ``at_end``."""
        for due in self._window.due(at_end):
            frames: dict[int, dict[int, Observation]] = {frame: {} for frame in due}
            for track_id, person in self._window.people().items():
                for frame, observation in self._repair(person, due):
                    frames[frame][track_id] = observation
            yield from frames.values()

    def _repair(
        self, person: Sequence[_Followed | None], due: range
    ) -> Iterator[tuple[int, Observation]]:
        """A person's frames that are due, of all in the window."""
        followed = [None if entry is None else entry.observation for entry in person]
        keypoints = stacked([None if seen is None else seen.keypoints for seen in followed])
        flags = np.zeros(keypoints.shape[:2], np.uint8)
        first = self._window.first
        if self._what == "gaps":
            points, gaps = filled(keypoints, self._fps)
            keypoints = points.astype(np.float32)
            flags[gaps] = Repair.FILLED
        elif self._what == "all":
            decided = [
                (False, False) if entry is None else entry.exchanged
                for entry in person[: due.start - first]
            ]
            keypoints, flags, exchanges = repaired(
                keypoints, self._fps, np.array(decided, bool).reshape(-1, 2)
            )
            for entry, exchanged in zip(person, exchanges, strict=True):
                if entry is not None:
                    entry.exchanged = exchanged
        smoothed: FloatArray | None = None
        if self._smoothing != "none":
            scale = np.float32(_PERSON_METRES / person_size(keypoints))
            smoothed = smooth(keypoints * scale, self._fps, self._smoothing) / scale
        for frame in due:
            index = frame - first
            if np.isfinite(keypoints[index]).all():
                unsure = np.where(flags[index] & Repair.FILLED, _FILLED_CONFIDENCE, 1)
                seen = _interpolated(followed, index)
                yield (
                    frame,
                    replace(
                        seen,
                        keypoints=keypoints[index],
                        confidence=seen.confidence * unsure.astype(np.float32),
                        repaired=flags[index],
                        smoothed=None if smoothed is None else smoothed[index],
                    ),
                )


def _interpolated(observations: Sequence[Observation | None], index: int) -> Observation:
    """The observation of one frame; box and confidence from those before and after if missing."""
    found = observations[index]
    if found is not None:
        return found
    since = next(k for k in range(1, index + 1) if observations[index - k] is not None)
    until = next(k for k in range(1, len(observations)) if observations[index + k] is not None)
    before, after = observations[index - since], observations[index + until]
    assert before is not None
    assert after is not None
    weight = np.float32(since / (since + until))
    bbox = before.bbox + weight * (after.bbox - before.bbox)
    confidence = before.confidence + weight * (after.confidence - before.confidence)
    return Observation(bbox, before.keypoints, confidence, before.person_id)
