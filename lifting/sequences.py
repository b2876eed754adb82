"""Lifting a person's whole sequence, chunk by chunk, with a network that sees time.

Each chunk of frames is lifted from a window around it, which reaches as far back and ahead as is
worth its cost. So no frame waits for more than :attr:`SequenceStream.look_ahead` others, the cost
is the same for each, and a whole sequence comes out as if it had come in frame by frame.
Sequences of any frame rate are seen at that of the training; nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline

from gridpose.core import NUM_JOINTS, AnyArray, DoubleArray, FloatArray, InputError, UsageError
from gridpose.lifting.unseen import guess_unseen

WINDOW_FPS = 30.0
"""Frame rate that the network knows."""
CHUNK, FIRST_CHUNK = 40, 8
"""Frames of a chunk, at that rate."""
BACK, AHEAD, FADE = 16, 12, 3
"""Frames seen before and after it, and over which it fades into the next."""
_SHORTEST = 15
"""Frames of a window; where fewer are known the first and the last one stand still before and after
them: windows of one to five frames are lifted worse than single frames."""
_LENGTHS = 8
"""Windows at the ends of a track are made longer in the same way, to every eighth length: OpenVINO
keeps a megabyte or more for each length it has seen. Those in the middle of a track have one of
these lengths already."""
NEWEST_SECONDS = (_SHORTEST - 1) / WINDOW_FPS
"""Of the past that :func:`lift_newest` sees."""
_SAME_RATE = 0.04
"""Frame rates that differ by less are taken for equal."""
_WINDOWS_AT_ONCE = 16
_TRUNK = [0, 1, 4, 7, 8, 9, 10, 11, 14]
"""Hips, spine, shoulders and head. Where all of them are seen the network, which learnt with limbs
hidden, does better without guesses."""
_GUESSED_CONFIDENCE = 0.05

LiftWindows = Callable[[FloatArray, FloatArray], FloatArray]
"""Joints (B, T, 17, 2) on an image of focal length 1 and confidence (B, T, 17), 0 where unseen, to
poses (B, T, 17, 3)."""


def flat_image(keypoints_px: FloatArray, image_size: ArrayLike, fov_degrees: float) -> FloatArray:
    """Pixels (..., 17, 2) on an image of focal length 1, its middle at the origin.

    Args:
        image_size: width, height in the last dimension; goes with the keypoints' others.

    Raises:
        UsageError: no lens has this field of view.
    """
    if not 0 < fov_degrees < 180:
        raise UsageError(
            f"the field of view must lie between 0 and 180 degrees, not at {fov_degrees}"
        )
    size = np.asarray(image_size, np.float32)[..., None, :]
    focal = 0.5 * size[..., :1] / math.tan(math.radians(fov_degrees) / 2)
    return np.asarray((keypoints_px - size / 2) / focal, np.float32)


def seen_joints(
    keypoints: ArrayLike, confidence: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Finite keypoints (T, 17, 2), and confidence (T, 17) in [0, 1], 0 where unseen.

    Raises:
        InputError: other shapes.
    """
    given = np.asarray(keypoints, np.float32)
    if given.ndim != 3 or given.shape[1:] != (NUM_JOINTS, 2):
        raise InputError(f"keypoints must be (T, 17, 2), got {given.shape}")
    rated = np.ones(given.shape[:2], np.float32)
    if confidence is not None:
        rated = np.asarray(confidence, np.float32)
        if rated.shape != given.shape[:2]:
            raise InputError(f"confidence must be {given.shape[:2]}, got {rated.shape}")
    seen = np.isfinite(given).all(-1) & (rated > 0)
    return (
        np.where(seen[..., None], given, np.float32(0)),
        np.where(seen, np.clip(rated, 0, 1), np.float32(0)),
    )


def with_guesses(flat: FloatArray, confidence: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Joints (T, 17, 2) and confidence (T, 17) with guesses at joints that no frame shows.

    There are none where some frame shows each joint of trunk and head.
    """
    seen = confidence > 0
    if seen[:, _TRUNK].any(0).all():
        return flat, confidence
    points, guessed = guess_unseen(flat, seen)
    is_guess = guessed & seen.any(1, keepdims=True)
    return points, np.where(is_guess, np.float32(_GUESSED_CONFIDENCE), confidence)


class SequenceStream:
    """One person's frames come in, poses come out once enough of what follows is known.

    Args:
        lift: what lifts windows.
        fps: rate of the frames.
        first_chunk: frames of the first chunk, at :data:`WINDOW_FPS`: short, so that something
            comes out soon.

    Raises:
        UsageError: a rate that is not positive.
    """

    def __init__(self, lift: LiftWindows, fps: float, first_chunk: int = FIRST_CHUNK) -> None:
        if not 0 < fps < math.inf:
            raise UsageError(f"the frame rate must be positive, not {fps}")
        self._lift = lift
        self._step = 1.0 if abs(fps / WINDOW_FPS - 1) < _SAME_RATE else fps / WINDOW_FPS
        self._chunk = max(1, round(CHUNK * self._step))
        self._first_chunk = max(1, round(first_chunk * self._step))
        self._fade = round(FADE * self._step)
        # Between frames a window may reach as far as the next but one of those it knows.
        ahead = AHEAD if self._step == 1 else math.ceil((AHEAD + 1) * self._step)
        self.look_ahead = self._fade + ahead
        """Frames that must be known after those that come out."""
        self._flat: FloatArray = np.empty((0, NUM_JOINTS, 2), np.float32)
        self._confidence: FloatArray = np.empty((0, NUM_JOINTS), np.float32)
        self._first = 0  # the first frame kept
        self._done = 0
        self._tail: FloatArray = np.empty((0, NUM_JOINTS, 3), np.float32)

    def add(self, flat: FloatArray, confidence: FloatArray) -> None:
        """Take in the next frames: (N, 17, 2) as of :func:`flat_image`, (N, 17)."""
        self._flat = np.concatenate((self._flat, flat))
        self._confidence = np.concatenate((self._confidence, confidence))

    def finished(self, at_end: bool = False) -> FloatArray:
        """Poses (N, 17, 3) of the next N frames: of all chunks that are due, or left ``at_end``."""
        known = self._first + len(self._flat)
        due: list[tuple[int, int]] = []
        start = self._done
        while start < known:
            stop = start + (self._chunk if start else self._first_chunk)
            if not at_end and stop + self.look_ahead > known:
                break
            stop = min(stop, known)
            due.append((start, stop))
            start = stop
        answers = []
        for (start, stop), poses in zip(due, self._chunks(due, known), strict=True):
            fade = min(len(self._tail), stop - start)
            share = (np.arange(1, fade + 1, dtype=np.float32) / (len(self._tail) + 1))[
                :, None, None
            ]
            poses[:fade] = (1 - share) * self._tail[:fade] + share * poses[:fade]
            answers.append(poses[: stop - start])
            self._tail = poses[stop - start :]
            self._done = stop
        self._forget()
        return np.concatenate(answers) if answers else np.empty((0, NUM_JOINTS, 3), np.float32)

    def _chunks(self, due: list[tuple[int, int]], known: int) -> Iterator[FloatArray]:
        """Poses of each chunk's frames, and of those over which it fades out."""
        spans = [(start, min(stop + self._fade, known)) for start, stop in due]
        windows = [(span, self._times(*span, known)) for span in spans]
        for _, group in groupby(windows, lambda window: len(window[1])):
            alike = list(group)
            for first in range(0, len(alike), _WINDOWS_AT_ONCE):
                some = alike[first : first + _WINDOWS_AT_ONCE]
                lacking = _lacking(len(some[0][1]))
                still = lacking // 2, lacking - lacking // 2
                seen = [with_guesses(*self._at(np.pad(times, still, "edge"))) for _, times in some]
                flat, rated = zip(*seen, strict=True)
                answers = self._lift(np.stack(flat), np.stack(rated))
                for (span, times), poses in zip(some, answers, strict=True):
                    known_poses = poses[still[0] : still[0] + len(times)]
                    yield _between(np.arange(*span), times, known_poses)

    def _times(self, start: int, stop: int, known: int) -> DoubleArray:
        """When, in frames, a window around frames ``start`` to ``stop`` sees them."""
        last = math.floor((known - 1) / self._step + 1e-6)
        first = math.floor(start / self._step) - BACK
        end = math.ceil((stop - 1) / self._step) + AHEAD
        oldest = math.ceil(self._first / self._step - 1e-6)
        return np.arange(max(first, oldest), min(end, last) + 1).astype(np.float64) * self._step

    def _at(self, times: DoubleArray) -> tuple[FloatArray, FloatArray]:
        return _sampled(self._flat, self._confidence, times - self._first)

    def _forget(self) -> None:
        """Drop what no later window sees."""
        oldest = math.floor((math.floor(self._done / self._step) - BACK) * self._step) - 1
        count = max(0, oldest - self._first)
        self._flat, self._confidence = self._flat[count:], self._confidence[count:]
        self._first += count


def _sampled(
    flat: FloatArray, confidence: FloatArray, places: DoubleArray
) -> tuple[FloatArray, FloatArray]:
    """Joints and confidence at places between frames; the nearer frame's if one is unseen."""
    before = np.floor(places + 1e-6).astype(int)
    after = np.minimum(before + 1, len(flat) - 1)
    share = np.clip(places - before, 0, 1)[:, None].astype(np.float32)
    both = (confidence[before] > 0) & (confidence[after] > 0)
    share = np.where(both, share, (share >= 0.5).astype(np.float32))
    mixed = _mixed(flat[before], flat[after], share[..., None])
    return mixed, _mixed(confidence[before], confidence[after], share)


def _lacking(frames: int) -> int:
    """By how many frames a window is to be made longer."""
    return _SHORTEST - frames if frames < _SHORTEST else (_SHORTEST - frames) % _LENGTHS


def _mixed(first: FloatArray, second: FloatArray, share: FloatArray) -> FloatArray:
    return np.asarray(first * (1 - share) + second * share, np.float32)


def _between(frames: AnyArray, times: DoubleArray, poses: FloatArray) -> FloatArray:
    """Poses at whole frames, from those at ``times``; the last ones' beyond them."""
    inside = np.clip(frames, times[0], times[-1])
    if len(times) < 2 or np.isin(inside, times).all():
        return np.array(poses[np.searchsorted(times, inside)])
    return np.asarray(CubicSpline(times, poses, axis=0)(inside), np.float32)


def lift_newest(
    lift: LiftWindows, times: DoubleArray, flat: FloatArray, confidence: FloatArray
) -> FloatArray:
    """Poses of people in the newest frame, lifted with those before it and without look-ahead.

    Everybody's window is as short as the network knows any (:data:`NEWEST_SECONDS`), so that all
    come out of one call that takes the same time for every frame.

    Args:
        lift: what lifts windows.
        times: (T,) s of the frames; rising, as unevenly as they like.
        flat: (N, T, 17, 2) joints as of :func:`flat_image`.
        confidence: (N, T, 17), 0 where unseen; everybody is seen in some frame.

    Returns:
        (N, 17, 3) m, camera axes, hip at the origin.
    """
    wanted = times[-1] - np.arange(_SHORTEST - 1, -1, -1) / WINDOW_FPS
    windows, newest = [], []
    for joints, rated in zip(flat, confidence, strict=True):
        first = int(rated.any(-1).argmax())
        known = wanted[wanted >= times[first] - 1e-4]
        still = (_SHORTEST - len(known)) // 2
        places = np.interp(known, times, np.arange(len(times), dtype=np.float64))
        padding = still, _SHORTEST - len(known) - still
        windows.append(_sampled(joints, rated, np.pad(places, padding, mode="edge")))
        newest.append(still + len(known) - 1)
    seen, certain = (np.stack(each) for each in zip(*windows, strict=True))
    return lift(seen, certain)[np.arange(len(newest)), newest]


def lift_keypoints(
    lift: LiftWindows,
    keypoints_px: ArrayLike,
    image_size: ArrayLike,
    confidence: ArrayLike | None,
    fps: float,
    fov_degrees: float,
) -> FloatArray:
    """Lift a whole sequence; see :meth:`gridpose.lifting.Lifter.lift_sequence`."""
    keypoints, rated = seen_joints(keypoints_px, confidence)
    size = np.asarray(image_size, np.float32)
    if size.shape != (2,) or not (size > 0).all():
        raise InputError(f"image_size must be (2,) positive width, height; got {size.shape}")
    stream = SequenceStream(lift, fps)
    stream.add(flat_image(keypoints, size, fov_degrees), rated)
    poses = stream.finished(at_end=True)
    poses[(rated == 0).all(1)] = np.nan
    return poses
