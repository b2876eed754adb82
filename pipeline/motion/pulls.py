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
_CONTEXT_SECONDS: Final = 0.5
"""How far around a limb that is not shown a lifter looks."""
_CHUNK: Final = 16

# As shares of the person's size; chosen on simulated sequences of the training clips.
_LEAST_LEAP: Final = 0.035
_LEAPS_OF_NOISE: Final = 1.6
"""A leap is so many times larger than their median."""
_PEAK: Final = 0.7
"""A leap is at least such a share of those in the frames beside it."""
_LEAST_EXCURSION: Final = 0.05
_SUDDEN: Final = 0.5
"""Share of an excursion that both its leaps make up at least."""
_LEAST_DISTANCE: Final = 0.07
"""From where the lifter expects the limb."""
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
    found[1:] = np.linalg.norm(across, axis=-1).sum(1) < np.linalg.norm(steps, axis=-1).sum(1)
    return found


def excursions(points: AnyArray, leap: AnyArray, longest: int) -> list[tuple[int, int]]:
    """Runs of at most ``longest`` frames in which a limb leaps out and back.

    Args:
        points: (T, J, 2) from where the limb begins, as shares of the person's size.
        leap: (T,) as of :func:`leaps`; NaN where there is none.
        longest: in frames.
    """
    if not np.isfinite(leap).any():
        return []
    least = max(_LEAST_LEAP, _LEAPS_OF_NOISE * float(np.nanmedian(leap)))
    peak = maximum_filter1d(np.nan_to_num(leap), 3)
    sudden = np.flatnonzero((leap > least) & (leap >= _PEAK * peak))
    found = []
    for start in sudden:
        for stop in sudden[(sudden > start) & (sudden <= start + longest)]:
            share = (np.arange(1, stop - start + 1) / (stop - start + 1))[:, None, None]
            straight = points[start - 1] * (1 - share) + points[stop] * share
            away = np.linalg.norm(points[start:stop] - straight, axis=-1).mean(0).max()
            if away > _LEAST_EXCURSION and min(leap[start], leap[stop]) > _SUDDEN * away:
                found.append((int(start), int(stop)))
    return found


def pulled(keypoints: AnyArray, expected: AnyArray, suspects: BoolArray) -> BoolArray:
    """Which joints (T, 17) of suspected limbs are not where they are expected.

    Not those that are where the other side is expected while that one is here: see :mod:`.sides`.

    Args:
        keypoints: (T, 17, 2) px.
        expected: the same, by a lifter that was not shown the suspects.
        suspects: (T, 4) of :data:`LIMBS`.
    """
    size = person_size(keypoints)
    away = np.linalg.norm(keypoints - expected, axis=-1) / size
    exchanged = np.linalg.norm(keypoints[:, list(MIRRORED)] - expected, axis=-1) / size
    found = np.zeros(away.shape, np.bool_)
    for column, (_, *joints) in enumerate(LIMBS):
        both = [*joints, *(MIRRORED[joint] for joint in joints)]
        hit = suspects[:, column] & (away[:, joints].max(1) > _LEAST_DISTANCE)
        hit &= exchanged[:, both].sum(1) > _EXCHANGED * away[:, both].sum(1)
        found[:, joints] = hit[:, None] & (away[:, joints] > _LEAST_DISTANCE / 2)
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
        suspects = np.zeros((len(person), len(LIMBS)), np.bool_)
        for column, (root, *joints) in enumerate(LIMBS):
            limb = points[:, joints] - points[:, [root]]
            leap = leaps(limb)
            sides = [root, *joints, *(MIRRORED[joint] for joint in (root, *joints))]
            leap[maximum_filter1d(exchanging(points[:, sides]), 3)] = np.nan
            for start, stop in excursions(limb, leap, self._longest):
                if start in due:
                    suspects[start:stop, column] = True
        frames = np.flatnonzero(suspects.any(1))
        if not len(frames):
            return
        part = slice(max(0, frames[0] - self._context), frames[-1] + self._context + 1)
        for column, (_, *joints) in enumerate(LIMBS):
            for joint in joints:
                confidence[suspects[:, column], joint] = 0
        expected = self._expected(keypoints[part], confidence[part])
        found = pulled(keypoints[part], expected, suspects[part])
        for one, where, which in zip(person[part], expected, found, strict=True):
            if one is not None:
                one.expected[which] = where[which]

    def _expected(self, keypoints: FloatArray, confidence: FloatArray) -> FloatArray:
        """Where the camera would see joints (T, 17, 2) px whose confidence is 0."""
        shown = np.where(confidence[..., None] > 0, keypoints, np.nan)
        poses = self._lifter.lift_sequence(
            shown, self._image_size, confidence, self._fps, self._fov_degrees
        )
        # The hip is looked for with joints in all places.
        between = filled(shown, self._fps)[0]
        whole = np.where(np.isfinite(between), between, keypoints).astype(np.float32)
        expected = np.full(keypoints.shape, np.nan, np.float32)
        there = np.isfinite(whole).all((1, 2)) & np.isfinite(poses).all((1, 2))
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
