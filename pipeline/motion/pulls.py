"""Limbs that something else pulls away for some frames, as a glare or another person does.

The detector is sure of them, and a lifter that sees time believes it: people kick who stand still.
A limb is pulled that leaps out and back within a moment, from and to where it moved smoothly, and
that a lifter which is not shown it expects elsewhere. Kicks begin and end less suddenly, or the
rest of the body tells of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.ndimage import maximum_filter1d

from gridpose.core import MIRRORED, NUM_JOINTS, AnyArray, BoolArray, DoubleArray, FloatArray, Repair
from gridpose.pipeline.motion.lifting_stage import rated
from gridpose.pipeline.motion.repair import FILLED_CONFIDENCE, filled, person_size
from gridpose.pipeline.motion.tracking import Observation
from gridpose.pipeline.motion.trajectory import hip_positions, projected
from gridpose.pipeline.motion.window import Window, stacked

if TYPE_CHECKING:
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter

LIMBS: Final = ((1, 2, 3), (4, 5, 6), (11, 12, 13), (14, 15, 16))
"""Where a limb begins, and its two joints that can be pulled away."""
LONGEST_SECONDS: Final = 0.3
_CONTEXT_SECONDS: Final = 0.4
"""How far around a limb that is not shown a lifter looks."""
_CHUNK: Final = 24

# As shares of the person's size; chosen on simulated sequences of the training clips.
_LEAST_LEAP: Final = 0.035
_LEAPS_OF_NOISE: Final = 1.6
"""A leap is so many times larger than their median."""
_PEAK: Final = 0.7
"""A leap is at least such a share of those in the frames beside it."""
_LEAST_EXCURSION: Final = 0.05
_EXCURSIONS_OF_NOISE: Final = 1.2
_SUDDEN: Final = 0.35
"""Share of an excursion that both its leaps make up at least."""
_LEAST_DISTANCE: Final = 0.06
"""From where the lifter expects the limb."""
_STEADY: Final = 0.06
"""A leap that does not tell of anything."""
_MENDED: Final = 0.6
"""Share of its leaps that are left at most where a limb that was pulled is put back."""
_EXCHANGED: Final = 0.7
"""Limbs that are so much nearer if exchanged are that."""


def leaps(points: AnyArray) -> DoubleArray:
    """How suddenly a limb (T, J, 2) moves from the frame before: (T,), of the joint that does most.

    Mean second difference of before and after, in which a leap of one frame is as high as it is
    wide; NaN where any of the four frames is unseen.
    """
    bent = np.full(points.shape[:2], np.nan)
    bent[1:-1] = np.linalg.norm(points[2:] - 2 * points[1:-1] + points[:-2], axis=-1)
    between = np.full(points.shape[:2], np.nan)
    between[1:] = (bent[:-1] + bent[1:]) / 2
    return np.asarray(between.max(1))


def exchanging(points: AnyArray) -> BoolArray:
    """(T,) whether joints (T, J, 2) are nearer to the other side's of the frame before.

    The second half of the joints are the other side's of the first.
    """
    steps = points[1:] - points[:-1]
    across = points[1:] - np.roll(points[:-1], points.shape[1] // 2, axis=1)
    found = np.zeros(len(points), np.bool_)
    found[1:] = np.linalg.norm(across, axis=-1).sum(1) < _EXCHANGED * np.linalg.norm(
        steps, axis=-1
    ).sum(1)
    return np.asarray(maximum_filter1d(found, 3))


def _suspicious(
    points: AnyArray, limb: tuple[int, int, int], longest: int
) -> list[tuple[int, int]]:
    """:func:`excursions` of a limb of (T, 17, 2), and not of both sides' that are exchanged."""
    root, *joints = limb
    relative = points[:, joints] - points[:, [root]]
    leap = leaps(relative)
    leap[exchanging(points[:, [*limb, *(MIRRORED[joint] for joint in limb)]])] = np.nan
    return excursions(relative, leap, longest)


def excursions(points: AnyArray, leap: AnyArray, longest: int) -> list[tuple[int, int]]:
    """Runs of at most ``longest`` frames in which a limb leaps out and back.

    Args:
        points: (T, J, 2) from where the limb begins, as shares of the person's size.
        leap: (T,) as of :func:`leaps`; NaN where there is none.
        longest: in frames.
    """
    if not np.isfinite(leap).any():
        return []
    noise = float(np.nanmedian(leap))
    least = max(_LEAST_LEAP, _LEAPS_OF_NOISE * noise)
    least_away = max(_LEAST_EXCURSION, _EXCURSIONS_OF_NOISE * noise)
    peak = maximum_filter1d(np.nan_to_num(leap), 3)
    sudden = np.flatnonzero((leap > least) & (leap >= _PEAK * peak))
    found = []
    for start in sudden:
        for stop in sudden[(sudden > start) & (sudden <= start + longest)]:
            share = (np.arange(1, stop - start + 1) / (stop - start + 1))[:, None, None]
            straight = points[start - 1] * (1 - share) + points[stop] * share
            away = np.linalg.norm((points[start:stop] - straight).mean(0), axis=-1).max()
            if away > least_away and min(leap[start], leap[stop]) > _SUDDEN * away:
                found.append((int(start), int(stop)))
    return found


def pulled(
    keypoints: AnyArray, expected: AnyArray, runs: Sequence[tuple[int, int, int]]
) -> BoolArray:
    """Which joints (T, 17) of suspected limbs are not where they are expected.

    Those of runs that would not leap if they were there.

    Args:
        keypoints: (T, 17, 2) px.
        expected: the same, by a lifter that was not shown the suspects.
        runs: which of :data:`LIMBS`, and the first frame and that after the last one.
    """
    size = person_size(keypoints)
    away = np.linalg.norm(keypoints - expected, axis=-1) / size
    exchanged = np.linalg.norm(keypoints[:, list(MIRRORED)] - expected, axis=-1) / size
    found = np.zeros(away.shape, np.bool_)
    for number, start, stop in runs:
        root, *joints = LIMBS[number]
        far = np.flatnonzero(away[start:stop, joints].max(1) > _LEAST_DISTANCE / 2)
        if not len(far):
            continue
        run = slice(start + far[0], start + far[-1] + 1)
        limb = (keypoints[:, joints] - keypoints[:, [root]]) / size
        mended = limb.copy()
        mended[run] = (expected[run][:, joints] - keypoints[run][:, [root]]) / size
        before = leaps(limb)
        noise = float(np.nanmedian(before))
        allowed = np.maximum(
            _MENDED * maximum_filter1d(before, 3), max(_STEADY, _LEAPS_OF_NOISE * noise)
        )
        ends = [run.start, run.stop]
        if (leaps(mended)[ends] > allowed[ends]).any():
            continue
        both = [*joints, *(MIRRORED[joint] for joint in joints)]
        hit = away[run][:, joints].max(1) > _LEAST_DISTANCE
        hit &= exchanged[run][:, both].sum(1) > _EXCHANGED * away[run][:, both].sum(1)
        for joint in joints:
            found[run, joint] |= hit & (away[run, joint] > _LEAST_DISTANCE / 2)
    return found


@dataclass
class _Judged:
    """A person in a frame; where pulled joints are expected, NaN elsewhere."""

    observation: Observation
    expected: FloatArray = field(
        default_factory=lambda: np.full((NUM_JOINTS, 2), np.nan, np.float32)
    )

    @property
    def pulled(self) -> BoolArray:
        return np.asarray(np.isfinite(self.expected).all(-1))


class Pulls:
    """Takes in people frame by frame and hands them out with pulled limbs where they are expected.

    These are marked as filled in: whoever lifts them next is not shown them.

    Args:
        lifter: one that sees time.
        image_size: width, height px.
        fov_degrees: the lens's horizontal field of view, if known.
        fps: rate of the frames.
    """

    def __init__(
        self,
        lifter: Lifter | ConvertedLifter,
        image_size: tuple[int, int],
        fov_degrees: float | None,
        fps: float,
    ) -> None:
        self._lifter, self._image_size, self._fps = lifter, image_size, fps
        self._fov_degrees = lifter.horizontal_fov(image_size, fov_degrees)
        self._longest = max(1, round(LONGEST_SECONDS * fps))
        self._context = math.ceil(_CONTEXT_SECONDS * fps)
        look_ahead = self._longest + self._context
        self._window: Window[_Judged] = Window(look_ahead, self._context, _CHUNK, look_ahead)

    def add(self, people: Mapping[int, Observation]) -> None:
        """Take in the next frame: observations by track id."""
        self._window.add({track_id: _Judged(person) for track_id, person in people.items()})

    def finished(self, at_end: bool = False) -> Iterator[dict[int, Observation]]:
        """People of every frame that is decided by now; of all that are left ``at_end``."""
        for due in self._window.due(at_end):
            first = self._window.first
            for person in self._window.people().values():
                self._judge(person, range(due.start - first, due.stop - first))
            for frame in due:
                yield {
                    track_id: _put_back(judged) for track_id, judged in self._window[frame].items()
                }

    def _judge(self, person: Sequence[_Judged | None], due: range) -> None:
        """Decide on one person's excursions that begin in frames that are ``due``."""
        keypoints = stacked([None if one is None else one.observation.keypoints for one in person])
        unseen = np.zeros(NUM_JOINTS, np.float32)
        confidence = np.stack([unseen if one is None else _shown(one) for one in person])
        points = np.where(confidence[..., None] > 0, keypoints, np.nan) / person_size(keypoints)
        runs = [
            (number, start - 1, stop + 1)
            for number, limb in enumerate(LIMBS)
            for start, stop in _suspicious(points, limb, self._longest)
            if start in due
        ]
        if not runs:
            return
        first = max(0, min(start for _, start, _ in runs) - self._context)
        part = slice(first, max(stop for _, _, stop in runs) + self._context)
        for number, start, stop in runs:
            confidence[start:stop, LIMBS[number][1:]] = 0
        expected = self._expected(keypoints[part], confidence[part])
        here = [(number, start - first, stop - first) for number, start, stop in runs]
        found = pulled(keypoints[part], expected, here)
        for one, where, which in zip(person[part], expected, found, strict=True):
            if one is not None:
                one.expected[which] = where[which]

    def _expected(self, keypoints: FloatArray, confidence: FloatArray) -> FloatArray:
        """Where the camera would see joints (T, 17, 2) px whose confidence is 0."""
        from gridpose.lifting.sequences import CHUNK, SequenceStream, flat_image

        shown = np.where(confidence[..., None] > 0, keypoints, np.nan)
        seen = flat_image(np.nan_to_num(shown), self._image_size, self._fov_degrees)
        stream = SequenceStream(self._lifter.lift_windows, self._fps, first_chunk=CHUNK)
        stream.add(seen, confidence)
        poses = stream.finished(at_end=True)
        # The hip is looked for with joints in all places.
        between = filled(shown, self._fps)[0]
        whole = np.where(np.isfinite(between), between, keypoints).astype(np.float32)
        expected = np.full(keypoints.shape, np.nan, np.float32)
        there = np.isfinite(whole).all((1, 2))
        hips = hip_positions(poses[there], whole[there], self._image_size, self._fov_degrees)
        expected[there] = projected(
            poses[there] + hips[:, None], self._image_size, self._fov_degrees
        )
        return expected


def _shown(judged: _Judged) -> FloatArray:
    """Confidence (17,) for the lifter; 0 where a joint is filled in, or pulled."""
    seen = judged.observation
    hidden = ((seen.repaired & Repair.FILLED) > 0) | judged.pulled
    return np.where(hidden, np.float32(0), rated(seen))


def _put_back(judged: _Judged) -> Observation:
    """An observation with its pulled joints where they are expected, and marked."""
    seen, which = judged.observation, judged.pulled
    if not which.any():
        return seen
    return replace(
        seen,
        keypoints=np.where(which[:, None], judged.expected, seen.keypoints),
        confidence=np.where(
            which, seen.confidence * np.float32(FILLED_CONFIDENCE), seen.confidence
        ),
        repaired=np.where(which, seen.repaired | np.uint8(Repair.FILLED), seen.repaired),
    )
