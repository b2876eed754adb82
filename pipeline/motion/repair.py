"""Repairing people's 2D keypoints over time, before they are lifted.

Detectors put a joint somewhere else for a moment, and miss people now and then. What is repaired is
marked, joint by joint: see :class:`gridpose.core.Repair`. Exchanged sides: :mod:`.sides`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import median_filter

from gridpose.core import (
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

LONGEST_GAP_SECONDS: Final = 0.35
LOOK_AHEAD_SECONDS: Final = 0.5
"""Longer than the longest gap, so that both of its ends are known."""
LOOK_BACK_SECONDS: Final = 0.5
CHUNK: Final = 8
FILLED_CONFIDENCE = 0.5
_PERSON_METRES = 2.0
"""Roughly what the diagonal of a person's box measures, for filters that know metres."""

HAMPEL_SECONDS: Final = 0.25
"""Width of the window in which a joint's median is taken."""
HAMPEL_SIGMAS: Final = 4.0
_LEAST_OUTLIER = 0.04
"""Closer to the median than this share of the person's size nothing is an outlier."""
_MAD_TO_SIGMA = 1.4826


def person_size(keypoints: AnyArray) -> float:
    """Median diagonal, px, of the boxes around (T, 17, 2) keypoints; NaN frames are left out."""
    seen = keypoints[np.isfinite(keypoints).all((1, 2))]
    if not len(seen):
        return 1.0
    return max(1.0, float(np.median(np.linalg.norm(np.ptp(seen, axis=1), axis=-1))))


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


def repaired(keypoints: FloatArray, fps: float) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Drop outliers, fill gaps.

    Args:
        keypoints: (T, 17, 2) px; NaN where the person is not seen.
        fps: frames per second.

    Returns:
        Keypoints, and flags (T, 17) of :class:`Repair`.
    """
    points = np.array(keypoints, np.float64)
    points[outliers(points, fps, person_size(points))] = np.nan
    points, marks = filled(points, fps)
    # An outlier at the end, which nothing can be put in place of, is better than nothing.
    alone = np.isnan(points) & np.isfinite(keypoints)
    points[alone] = keypoints[alone]
    return points.astype(np.float32), np.where(marks, Repair.FILLED, 0).astype(np.uint8)


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
        self._window: Window[Observation] = Window(
            self.look_ahead, look_back, CHUNK, longest=self.look_ahead
        )

    def add(self, people: Mapping[int, Observation]) -> None:
        """Take in the next frame: observations by track id."""
        self._window.add(people)

    def finished(self, at_end: bool = False) -> Iterator[dict[int, Observation]]:
        """People of every frame that is repaired by now; of all that are left ``at_end``."""
        for due in self._window.due(at_end):
            frames: dict[int, dict[int, Observation]] = {frame: {} for frame in due}
            for track_id, person in self._window.people().items():
                for frame, observation in self._repair(person, due):
                    frames[frame][track_id] = observation
            yield from frames.values()

    def _repair(
        self, person: Sequence[Observation | None], due: range
    ) -> Iterator[tuple[int, Observation]]:
        """A person's frames that are due, of all in the window."""
        keypoints = stacked([None if seen is None else seen.keypoints for seen in person])
        flags = np.zeros(keypoints.shape[:2], np.uint8)
        first = self._window.first
        if self._what == "gaps":
            points, gaps = filled(keypoints, self._fps)
            keypoints = points.astype(np.float32)
            flags[gaps] = Repair.FILLED
        elif self._what == "all":
            keypoints, flags = repaired(keypoints, self._fps)
        smoothed: FloatArray | None = None
        if self._smoothing != "none":
            scale = np.float32(_PERSON_METRES / person_size(keypoints))
            smoothed = smooth(keypoints * scale, self._fps, self._smoothing) / scale
        for frame in due:
            index = frame - first
            if np.isfinite(keypoints[index]).all():
                unsure = np.where(flags[index] & Repair.FILLED, FILLED_CONFIDENCE, 1)
                seen = _interpolated(person, index)
                yield (
                    frame,
                    replace(
                        seen,
                        keypoints=keypoints[index],
                        confidence=seen.confidence * unsure.astype(np.float32),
                        repaired=seen.repaired | flags[index],
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
