"""Poses of people in frames that come one at a time, as arrays: nothing is read or written."""

from __future__ import annotations

import math
from collections import deque
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
from gridpose.pipeline.motion.lifting_stage import rated
from gridpose.pipeline.motion.tracking import Observation, Tracker, observed
from gridpose.pipeline.motion.world import CLEARANCE, camera_to_world
from gridpose.pipeline.options import VideoOptions

if TYPE_CHECKING:
    from gridpose.detectors import Detector
    from gridpose.detectors.options import DetectorName, HRNetOptions
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter

_SEEN_SECONDS = 0.5
"""Of the past that is lifted together with a frame; a lifter looks no further back."""


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
    ) -> None:
        options = VideoOptions(
            detector=detector, hrnet=hrnet, lifter=lifter, device=device, fov=fov
        )
        options.check()
        if not 0 < fps < math.inf:
            raise UsageError(f"`fps` {fps}: must be a number above 0")
        self._models = Models(options)
        self._models.load()
        self._fps, self._fov = fps, fov
        self._memory = round(_SEEN_SECONDS * fps) + 1 if self._models.lifter.sees_time else 1
        self.reset()

    def reset(self) -> None:
        """Forget who was seen: another video follows."""
        self._models.detector.forget()
        self._tracker: Tracker | None = None
        self._size: tuple[int, int] | None = None
        self._time = 0.0
        self._recent: dict[int, deque[Observation | None]] = {}

    def __call__(self, frame: ImageArray) -> list[Person]:
        """Who is in the next frame.

        Args:
            frame: (H, W, 3) uint8, RGB; of one size until :meth:`reset`.

        Returns:
            Everybody who is seen, by rising ``track_id``, which stays that person's. The hip of
            ``pose_world`` is above the origin, and whoever jumps stands on the floor.

        Raises:
            InputError: no such frame.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InputError(f"a frame must be (H, W, 3) uint8, got {frame.shape} {frame.dtype}")
        size = (frame.shape[1], frame.shape[0])
        if self._tracker is None:
            self._tracker, self._size = Tracker(size), size
        elif size != self._size:
            raise InputError(f"a frame of {size} after those of {self._size}; reset() goes between")
        detector = self._models.detector
        (detections,) = detector.detect([frame], [self._time])
        people = self._tracker.update(observed(detections, detector.convention), self._time)
        self._time += 1 / self._fps
        self._remember(people)
        return [self._person(track_id, people[track_id], size) for track_id in sorted(people)]

    def _remember(self, people: dict[int, Observation]) -> None:
        for track_id in people.keys() - self._recent.keys():
            self._recent[track_id] = deque(maxlen=self._memory)
        for track_id, recent in list(self._recent.items()):
            recent.append(people.get(track_id))
            if not any(recent):
                del self._recent[track_id]

    def _person(self, track_id: int, seen: Observation, size: tuple[int, int]) -> Person:
        recent = self._recent[track_id]
        keypoints: FloatArray = np.zeros((len(recent), NUM_JOINTS, 2), np.float32)
        confidence: FloatArray = np.zeros((len(recent), NUM_JOINTS), np.float32)
        for row, observation in enumerate(recent):
            if observation is not None:
                keypoints[row] = observation.keypoints
                confidence[row] = rated(observation)
        lift = self._models.lifter.lift_sequence
        pose = lift(keypoints, size, confidence, self._fps, self._fov)[-1]
        world = camera_to_world(pose)
        world[:, 2] -= (world[:, 2] - CLEARANCE).min()
        return Person(track_id, seen.bbox, seen.keypoints, seen.confidence, pose, world)

    def __enter__(self) -> PoseEstimator:
        return self

    def __exit__(self, *exception: object) -> None:
        self._models.__exit__(*exception)
