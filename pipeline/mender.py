"""The stage between following people and lifting them: 2D keypoints mended and smoothed.

Both need to see what comes next, so frames come out some time after they went in.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gridpose.core import NUM_JOINTS, BoolArray, FloatArray, Repair
from gridpose.pipeline.repair import LONGEST_GAP_SECONDS, filled, person_size, repaired
from gridpose.pipeline.smoothing import Smoothing, smooth
from gridpose.pipeline.tracking import Observation

Mending = Literal["none", "gaps", "all"]

LOOK_AHEAD_SECONDS = 0.5
"""Longer than the longest gap, so that both of its ends are known."""
LOOK_BACK_SECONDS = 0.5
CHUNK = 8
_FILLED_CONFIDENCE = 0.5
_PERSON_METRES = 2.0
"""Roughly what the diagonal of a person's box measures, for filters that know metres."""


@dataclass(frozen=True)
class Mended:
    """``observation`` with mended keypoints, and the ``steady`` (17, 2) px ones, smoothed."""

    observation: Observation
    steady: FloatArray


@dataclass
class _Track:
    """One person's frames ``first``, ``first + 1``, ...; None where unseen."""

    first: int
    observations: list[Observation | None] = field(default_factory=list)
    exchanges: BoolArray = field(default_factory=lambda: np.zeros((0, 2), bool))
    """(N, 2) side exchanges that were decided for the first N frames."""


class Mender:
    """Takes in followed people frame by frame and hands them out mended, in order.

    Args:
        fps: rate of the frames.
        mending: ``all``: exchange sides back, drop outliers and fill gaps, as
            :func:`gridpose.pipeline.repair.repaired` does; ``gaps``: fill them only.
        smoothing: of :attr:`Mended.steady`.
    """

    def __init__(
        self, fps: float, mending: Mending = "all", smoothing: Smoothing = "savgol"
    ) -> None:
        self._fps, self._mending, self._smoothing = fps, mending, smoothing
        ahead = 0.0 if mending == "none" else LONGEST_GAP_SECONDS
        if mending == "all" or smoothing != "none":
            ahead = LOOK_AHEAD_SECONDS
        self.look_ahead = max(2, math.ceil(ahead * fps)) if ahead else 0
        self._look_back = max(2, round(LOOK_BACK_SECONDS * fps))
        self._tracks: dict[int, _Track] = {}
        self._known = self._finished = 0

    def add(self, people: Mapping[int, Observation]) -> None:
        """Take in the next frame: observations by track id."""
        for track_id, observation in people.items():
            track = self._tracks.setdefault(track_id, _Track(self._known))
            missed = self._known - track.first - len(track.observations)
            track.observations.extend([None] * missed + [observation])
        self._known += 1

    def finished(self, at_end: bool = False) -> Iterator[dict[int, Mended]]:
        """People of every frame that is mended by now; of all that are left ``at_end``."""
        ready = self._known if at_end else self._known - self.look_ahead
        while ready - self._finished >= (1 if at_end else CHUNK):
            stop = min(ready, self._finished + max(CHUNK, self.look_ahead))
            frames: list[dict[int, Mended]] = [{} for _ in range(stop - self._finished)]
            for track_id, track in self._tracks.items():
                for frame, mended in self._mend(track, stop):
                    frames[frame - self._finished][track_id] = mended
            self._finished = stop
            self._forget()
            yield from frames

    def _mend(self, track: _Track, stop: int) -> Iterator[tuple[int, Mended]]:
        """Frames of one person that are due, up to ``stop``."""
        if track.first >= stop or not track.observations:
            return
        shape = (len(track.observations), NUM_JOINTS, 2)
        keypoints: FloatArray = np.full(shape, np.nan, np.float32)
        for index, observation in enumerate(track.observations):
            if observation is not None:
                keypoints[index] = observation.keypoints
        flags: NDArray[np.uint8] = np.zeros(keypoints.shape[:2], np.uint8)
        if self._mending == "gaps":
            points, gaps = filled(keypoints, self._fps)
            keypoints = points.astype(np.float32)
            flags[gaps] = Repair.FILLED
        elif self._mending == "all":
            keypoints, flags, exchanges = repaired(keypoints, self._fps, track.exchanges)
            track.exchanges = exchanges[: max(0, stop - track.first)]
        steady = keypoints
        if self._smoothing != "none":
            scale = np.float32(_PERSON_METRES / person_size(keypoints))
            steady = smooth(keypoints * scale, self._fps, self._smoothing) / scale
        for index in range(max(0, self._finished - track.first), stop - track.first):
            if index < len(keypoints) and np.isfinite(keypoints[index]).all():
                observation = _mended(track.observations, index, keypoints[index], flags[index])
                yield track.first + index, Mended(observation, steady[index])

    def _forget(self) -> None:
        keep_from = self._finished - self._look_back
        for track_id, track in list(self._tracks.items()):
            count = min(max(0, keep_from - track.first), len(track.observations))
            # A gap that is not over must keep its beginning.
            while count and track.observations[count - 1] is None:
                count -= 1
            track.observations = track.observations[count:]
            track.exchanges = track.exchanges[count:]
            track.first += count
            longest = round(LONGEST_GAP_SECONDS * self._fps) + self.look_ahead
            if track.first + len(track.observations) < self._finished - longest:
                del self._tracks[track_id]


def _mended(
    observations: list[Observation | None],
    index: int,
    keypoints: FloatArray,
    flags: NDArray[np.uint8],
) -> Observation:
    """The observation of one frame; a missing one from those before and after."""
    found = observations[index]
    if found is None:
        seen = [k for k, observation in enumerate(observations) if observation is not None]
        place = bisect(seen, index)
        before, after = observations[seen[place - 1]], observations[seen[place]]
        assert before is not None
        assert after is not None
        weight = np.float32((index - seen[place - 1]) / (seen[place] - seen[place - 1]))
        bbox = before.bbox + weight * (after.bbox - before.bbox)
        confidence = before.confidence + weight * (after.confidence - before.confidence)
    else:
        bbox, confidence = found.bbox, found.confidence
    unsure = np.where(flags & Repair.FILLED, _FILLED_CONFIDENCE, 1).astype(np.float32)
    return Observation(bbox, keypoints, confidence * unsure, flags)
