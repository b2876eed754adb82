"""Poses of a video at a constant rate, for formats that know no times of frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation, Slerp

from gridpose.core import AnyArray, BoolArray, DoubleArray, InputError, PoseTracks, UsageError
from gridpose.pipeline.exports.rig import Rig
from gridpose.pipeline.motion.smoothing import present_runs

_JITTER: Final = 0.1
"""Of a frame: times that miss those of a constant rate by less are rounded ones of it."""
_MOST_FPS: Final = 1000.0
_MOST_POSES: Final = 2_000_000


@dataclass(frozen=True)
class Clock:
    """``times`` (N,) s of poses at a constant ``rate`` per second, the first one the video's.

    ``frame_time`` (T,) s are the video's own: the same numbers where its rate is that one.
    """

    rate: float
    times: DoubleArray
    frame_time: DoubleArray

    @property
    def resamples(self) -> bool:
        """Whether poses at the frames' times are not those wanted already."""
        return self.times is not self.frame_time

    def rotations(self, quaternions: DoubleArray) -> DoubleArray:
        """Rotations (T, 4) x, y, z, w of the frames, at the clock's times (N, 4), by slerp."""
        slerp = Slerp(self.frame_time, Rotation.from_quat(quaternions))
        return np.asarray(slerp(self._within(self.frame_time)).as_quat())

    def positions(self, values: AnyArray, present: BoolArray) -> DoubleArray:
        """Values (T, ...) of the frames at the clock's times, (N, ...); NaN where one is absent.

        Cubic between frames without overshoot, so that feet stand still before they move
        (Fritsch and Carlson, "Monotone piecewise cubic interpolation", 1980). Who is absent in a
        frame stays so; before and after they are held for half a step at most.

        Args:
            values: finite where ``present``.
            present: (T,).
        """
        result = np.full((len(self.times), *values.shape[1:]), np.nan)
        for start, stop in present_runs(present):
            known = self.frame_time[start:stop]
            half = 0.5 / self.rate
            inside = (self.times >= known[0] - half) & (self.times < known[-1] + half)
            if stop - start == 1:
                result[inside] = values[start]
            else:
                at = self._within(known)[inside]
                result[inside] = PchipInterpolator(known, values[start:stop])(at)
        return result

    def _within(self, known: DoubleArray) -> DoubleArray:
        return np.clip(self.times, known[0], known[-1])


def for_movement(tracks: PoseTracks) -> PoseTracks:
    """Only who is there at all, and no frames that are shown at the time of the one before.

    Somebody is absent where a joint has no place.

    Raises:
        InputError: times fall, or are no numbers.
    """
    steps = np.diff(tracks.frame_time)
    if not np.isfinite(tracks.frame_time).all() or (steps < 0).any():
        raise InputError("the times of the frames (`frame_time`) of these poses do not ascend")
    present = tracks.present & np.isfinite(tracks.poses_world).all((-1, -2))
    return replace(tracks, present=present).select(
        np.flatnonzero(present.any(1)), np.flatnonzero(np.append(True, steps > 0))
    )


def constant_clock(tracks: PoseTracks, fps: float | None = None) -> Clock:
    """The clock of a format with one rate.

    Args:
        tracks: with frames, whose times ascend.
        fps: the rate, else the video's nominal one.

    Raises:
        UsageError: no rate can be that.
        InputError: the video's own can be none, or its frames are too far apart for it.
    """
    rate = tracks.fps if fps is None else fps
    if not 0 < rate <= _MOST_FPS:
        wrong = InputError if fps is None else UsageError
        raise wrong(f"`fps={rate:g}`: a rate is above 0 and at most {_MOST_FPS:g} per second")
    frame_time = tracks.frame_time
    steps = (frame_time - frame_time[0]) * rate
    if (np.abs(steps - np.arange(len(steps))) < _JITTER).all():
        even = frame_time[0] + np.arange(len(steps)) / rate
        return Clock(rate, even, even)
    count = round(float(steps[-1])) + 1
    if count > max(_MOST_POSES, 10 * len(frame_time)):
        raise InputError(
            f"{len(frame_time)} frames in {frame_time[-1] - frame_time[0]:.0f} s are too far apart "
            f"for {rate:g} poses per second; `fps` takes a lower rate"
        )
    return Clock(rate, frame_time[0] + np.arange(count) / rate, frame_time)


def rig_at_constant_rate(rig: Rig, clock: Clock) -> Rig:
    """The movement at the clock's times."""
    if not clock.resamples:
        return rig
    return replace(
        rig,
        rotations=np.stack([clock.rotations(each) for each in rig.rotations.swapaxes(0, 1)], 1),
        root=clock.positions(rig.root, np.ones(len(rig.root), np.bool_)),
    )


def at_constant_rate(tracks: PoseTracks, clock: Clock) -> PoseTracks:
    """World poses at the clock's times; what else is known is that of the nearest frame."""
    if not clock.resamples:
        return replace(tracks, fps=clock.rate, frame_time=clock.times)
    nearest = np.searchsorted((clock.frame_time[1:] + clock.frame_time[:-1]) / 2, clock.times)
    world = np.stack(
        [
            clock.positions(poses, present)
            for poses, present in zip(tracks.poses_world, tracks.present, strict=True)
        ]
    ).astype(np.float32)
    return replace(
        tracks.select(frames=nearest),
        fps=clock.rate,
        frame_time=clock.times,
        present=np.asarray(np.isfinite(world).all((-1, -2))),
        poses_world=world,
    )
