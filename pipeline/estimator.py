"""Poses of people in frames that come one at a time, as arrays: nothing is read or written."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gridpose.core import (
    NUM_JOINTS,
    SHIPPED_LIFTERS,
    FloatArray,
    ImageArray,
    InputError,
    Person,
    UsageError,
)
from gridpose.pipeline.models import Models
from gridpose.pipeline.motion.lifting_stage import FORGOTTEN_SECONDS, rated
from gridpose.pipeline.motion.smoothing import OneEuro
from gridpose.pipeline.motion.tracking import Observation, Tracker, observed
from gridpose.pipeline.motion.world import CLEARANCE, camera_to_world
from gridpose.pipeline.options import VideoOptions

if TYPE_CHECKING:
    from gridpose.detectors import Detector
    from gridpose.detectors.options import DetectorName, HRNetOptions
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter


_ONE_EURO = (2.5, 6.0)
"""Lowest cut-off and beta. Poses lifted without look-ahead lag already: on simulated sequences
errors of acceleration fall to a half, and those of place rise by 2.5 mm at 30 fps and by none at
15."""


@dataclass(frozen=True)
class _Seen:
    """Who was seen in a frame, by track."""

    time: float
    people: dict[int, Observation]


@dataclass
class _Smoothed:
    """What is known of a person whose pose is smoothed; ``time`` is that of the last one."""

    time: float
    euro: OneEuro = field(default_factory=lambda: OneEuro(*_ONE_EURO))


class PoseEstimator:
    """Called with one frame after another, it answers who is in it, in 3D.

    It follows people from frame to frame. Each frame is answered at once, from itself and those
    before it; :func:`gridpose.pipeline.run_video` also sees what comes next, so its poses are
    steadier, false detections are left out, and gaps filled. A context manager: leaving it frees
    what it has loaded.

    Args:
        detector: by name, or loaded; then it stays open.
        lifter: by name or file, or loaded.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        hrnet: further options of the detector of that name.
        fps: how many frames come in a second.
        fov: horizontal field of view of the lens in degrees, if known.
        smooth: let poses tremble less, by a One-Euro filter, which lags a little.

    Raises:
        UsageError: options that do not go together.
        MissingError: weights, a package or a device are missing.
        InputError: weights cannot be used.
    """

    def __init__(
        self,
        detector: Detector | DetectorName = "auto",
        lifter: Lifter | ConvertedLifter | str | Path = SHIPPED_LIFTERS[0],
        device: str = "auto",
        *,
        hrnet: HRNetOptions | None = None,
        fps: float = 30.0,
        fov: float | None = None,
        smooth: bool = False,
    ) -> None:
        options = VideoOptions(
            detector=detector, hrnet=hrnet, lifter=lifter, device=device, fov=fov
        )
        options.check()
        if not 0 < fps < math.inf:
            raise UsageError(f"`fps` {fps}: must be a number above 0")
        self._models = Models(options)
        self._models.load()
        self._fps, self._fov, self._smooth = fps, fov, smooth
        self.reset()

    @property
    def detector(self) -> Detector:
        """What finds keypoints."""
        return self._models.detector

    @property
    def lifter(self) -> Lifter | ConvertedLifter:
        """What makes poses of them."""
        return self._models.lifter

    def reset(self) -> None:
        """Forget who was seen: another video follows."""
        self._models.detector.forget()
        self._tracker: Tracker | None = None
        self._size: tuple[int, int] | None = None
        self._recent: deque[_Seen] = deque()
        self._smoothed: dict[int, _Smoothed] = {}

    def __call__(self, frame: ImageArray, time: float | None = None) -> list[Person]:
        """Who is in the next frame.

        Args:
            frame: (H, W, 3) uint8, RGB; of one size until :meth:`reset`.
            time: of the frame, s, above the last one's; if not given it follows by the rate.

        Returns:
            Everybody who is seen, by rising ``track_id``, which stays that person's. The hip of
            ``pose_world`` is above the origin, and whoever jumps stands on the floor.

        Raises:
            InputError: no such frame, or a time that does not rise.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InputError(f"a frame must be (H, W, 3) uint8, got {frame.shape} {frame.dtype}")
        size = (frame.shape[1], frame.shape[0])
        before = self._recent[-1].time if self._recent else None
        if time is None:
            time = 0.0 if before is None else before + 1 / self._fps
        if not math.isfinite(time) or (before is not None and time <= before):
            raise InputError(f"a frame of second {time} after that of second {before}")
        if self._tracker is None:
            self._tracker, self._size = Tracker(size), size
        elif size != self._size:
            raise InputError(f"a frame of {size} after those of {self._size}; reset() goes between")
        detector = self._models.detector
        (detections,) = detector.detect([frame], [time])
        people = self._tracker.update(observed(detections, detector.convention), time)
        people = {track_id: people[track_id] for track_id in sorted(people)}
        self._remember(_Seen(time, people))
        if not people:
            return []
        poses = self._steady(dict(zip(people, self._lifted(size), strict=True)), time)
        return [_person(track_id, people[track_id], pose) for track_id, pose in poses.items()]

    def _remember(self, seen: _Seen) -> None:
        """Keep what is lifted together with this frame: one frame may be from before that."""
        from gridpose.lifting.sequences import NEWEST_SECONDS

        self._recent.append(seen)
        begin = seen.time - NEWEST_SECONDS + 1e-4
        while len(self._recent) > 1 and self._recent[1].time <= begin:
            self._recent.popleft()

    def _lifted(self, size: tuple[int, int]) -> FloatArray:
        """(N, 17, 3) poses of those in the newest frame."""
        people, lifter = self._recent[-1].people, self._models.lifter
        if not lifter.sees_time:
            poses = [
                lifter.lift_sequence(one.keypoints[None], size, rated(one)[None], 1.0, self._fov)
                for one in people.values()
            ]
            return np.concatenate(poses)
        from gridpose.lifting.sequences import flat_image, lift_newest

        shape = (len(people), len(self._recent), NUM_JOINTS)
        keypoints: FloatArray = np.zeros((*shape, 2), np.float32)
        confidence: FloatArray = np.zeros(shape, np.float32)
        for row, track_id in enumerate(people):
            for column, seen in enumerate(self._recent):
                if (one := seen.people.get(track_id)) is not None:
                    keypoints[row, column], confidence[row, column] = one.keypoints, rated(one)
        flat = flat_image(keypoints, size, lifter.horizontal_fov(size, self._fov))
        times = np.array([seen.time for seen in self._recent])
        return lift_newest(lifter.lift_windows, times, flat, confidence)

    def _steady(self, poses: dict[int, FloatArray], time: float) -> dict[int, FloatArray]:
        """The same poses by track, smoothed if that is wanted."""
        if not self._smooth:
            return poses
        for track_id, last in list(self._smoothed.items()):
            if time - last.time > FORGOTTEN_SECONDS:
                del self._smoothed[track_id]
        for track_id, pose in poses.items():
            last = self._smoothed.setdefault(track_id, _Smoothed(time))
            poses[track_id] = last.euro(pose, time - last.time).astype(np.float32)
            last.time = time
        return poses

    def __enter__(self) -> PoseEstimator:
        return self

    def __exit__(self, *exception: object) -> None:
        self._models.__exit__(*exception)


def _person(track_id: int, seen: Observation, pose: FloatArray) -> Person:
    world = camera_to_world(pose)
    world[:, 2] -= (world[:, 2] - CLEARANCE).min()
    return Person(track_id, seen.bbox, seen.keypoints, seen.confidence, pose, world)
