"""The stage between mended keypoints and the timeline: people are lifted, in the order of frames.

A lifter of single frames answers at once; one that sees time needs to know what follows, so that
frames come out some time after they went in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gridpose.core import NUM_JOINTS, FloatArray, Repair
from gridpose.pipeline.mender import Mended, Mender
from gridpose.pipeline.smoothing import Smoothing

if TYPE_CHECKING:
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter
    from gridpose.lifting.sequences import SequenceStream

FORGOTTEN_SECONDS = 1.0
"""Who is missing for longer is lifted as somebody new."""


@dataclass(frozen=True)
class Lifted:
    """A frame's people by track id.

    ``poses`` (17, 3) m in camera axes, hip at the origin; ``steady`` are those that world poses are
    made of.
    """

    people: Mapping[int, Mended]
    poses: Mapping[int, FloatArray]
    steady: Mapping[int, FloatArray]


class LiftingStage(Protocol):
    """Takes in people frame by frame and hands them out lifted, in order."""

    def add(self, people: Mapping[int, Mended]) -> None:
        """Take in the next frame."""

    def finished(self, at_end: bool = False) -> Iterator[Lifted]:
        """Every frame that is lifted by now; all that are left ``at_end``."""


class FrameByFrame:
    """Lifts each frame by itself.

    Args:
        lifter: what lifts.
        image_size: width, height px.
        fov_degrees: the lens's horizontal field of view, if known.
        smoothed: lift the smoothed keypoints, too, for the world poses.
    """

    def __init__(
        self,
        lifter: Lifter,
        image_size: tuple[int, int],
        fov_degrees: float | None,
        smoothed: bool,
    ) -> None:
        self._lifter, self._image_size = lifter, image_size
        self._fov_degrees, self._smoothed = fov_degrees, smoothed
        self._frames: list[Mapping[int, Mended]] = []

    def add(self, people: Mapping[int, Mended]) -> None:
        """Take in the next frame."""
        self._frames.append(people)

    def finished(self, at_end: bool = False) -> Iterator[Lifted]:
        """All frames."""
        frames, self._frames = self._frames, []
        everybody = [mended for people in frames for mended in people.values()]
        keypoints = [mended.observation.keypoints for mended in everybody]
        if self._smoothed:
            keypoints += [mended.steady for mended in everybody]
        pairs: Iterator[tuple[FloatArray, FloatArray]] = iter(())
        if everybody:
            poses = self._lifter.lift(np.stack(keypoints), self._image_size, self._fov_degrees)
            pairs = zip(poses, poses[-len(everybody) :], strict=False)
        for people in frames:
            found = {track_id: next(pairs) for track_id in people}
            yield Lifted(
                people,
                {track_id: pose for track_id, (pose, _) in found.items()},
                {track_id: steady for track_id, (_, steady) in found.items()},
            )


@dataclass
class _Track:
    """One person's stream, from frame ``first`` on."""

    first: int
    stream: SequenceStream
    flat: list[FloatArray] = field(default_factory=list)
    confidence: list[FloatArray] = field(default_factory=list)
    lifted: int = 0
    """How many frames have come out."""
    missing: int = 0
    """For how many frames the person has not been seen."""


class OverTime:
    """Lifts each person's frames with those before and after them.

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
        self._longest_gap = round(FORGOTTEN_SECONDS * fps)
        self._tracks: dict[int, _Track] = {}
        self._known = self._finished = 0
        # Of the frames that are not finished.
        self._people: deque[Mapping[int, Mended]] = deque()
        self._poses: deque[dict[int, FloatArray]] = deque()

    def add(self, people: Mapping[int, Mended]) -> None:
        """Take in the next frame."""
        from gridpose.lifting.sequences import SequenceStream, flat_image

        self._people.append(people)
        self._poses.append({})
        for track_id, mended in people.items():
            track = self._tracks.get(track_id)
            if track is None:
                stream = SequenceStream(self._lifter.lift_windows, self._fps)
                track = self._tracks[track_id] = _Track(self._known, stream)
            seen = mended.observation
            track.flat.append(flat_image(seen.keypoints, self._image_size, self._fov_degrees))
            confidence = np.clip(seen.confidence, _LEAST_CONFIDENCE, 1)
            # What was put in is not there: the lifter fills gaps better.
            track.confidence.append(np.where(seen.repaired & Repair.FILLED, 0, confidence))
            track.missing = 0
        for track_id, track in list(self._tracks.items()):
            if track_id in people:
                continue
            track.missing += 1
            track.flat.append(np.zeros((NUM_JOINTS, 2), np.float32))
            track.confidence.append(np.zeros(NUM_JOINTS, np.float32))
            if track.missing > self._longest_gap:
                self._lift(track_id, track, at_end=True)
                del self._tracks[track_id]
        self._known += 1

    def finished(self, at_end: bool = False) -> Iterator[Lifted]:
        """Every frame that is lifted by now; all that are left ``at_end``."""
        for track_id, track in self._tracks.items():
            self._lift(track_id, track, at_end)
        ready = min(
            (track.first + track.lifted for track in self._tracks.values()), default=self._known
        )
        while self._finished < ready:
            people, poses = self._people.popleft(), self._poses.popleft()
            self._finished += 1
            yield Lifted(people, poses, poses)

    def _lift(self, track_id: int, track: _Track, at_end: bool) -> None:
        """Lift one person's frames that are due."""
        if track.flat:
            track.stream.add(np.stack(track.flat), np.stack(track.confidence))
            track.flat, track.confidence = [], []
        for pose in track.stream.finished(at_end):
            place = track.first + track.lifted - self._finished
            if track_id in self._people[place]:
                self._poses[place][track_id] = pose
            track.lifted += 1


_LEAST_CONFIDENCE = 1e-3
"""Of a joint that was found; 0 would mean that it was not."""


@dataclass(frozen=True)
class Stages:
    """What people go through from detection to the timeline; ``mends_poses``: and in it."""

    mender: Mender
    lifting: LiftingStage
    mends_poses: bool


def stages(
    lifter: Lifter | ConvertedLifter,
    image_size: tuple[int, int],
    fov_degrees: float | None,
    fps: float,
    repair: bool,
    smoothing: Smoothing,
) -> Stages:
    """The stages that suit a lifter.

    Args:
        lifter: what lifts.
        image_size: width, height px.
        fov_degrees: the lens's horizontal field of view, if known.
        fps: rate of the frames.
        repair: mend what the detector gets wrong.
        smoothing: how what moves is smoothed.
    """
    from gridpose.lifting.converted import ConvertedLifter

    if isinstance(lifter, ConvertedLifter) or lifter.sees_time:
        over_time = OverTime(lifter, image_size, fov_degrees, fps)
        # Such a lifter tells exchanged sides, outliers and noise from movement by itself, better
        # than what mends keypoints for lifters of single frames.
        return Stages(Mender(fps, "gaps" if repair else "none", "none"), over_time, False)
    one_by_one = FrameByFrame(lifter, image_size, fov_degrees, smoothing != "none")
    mender = Mender(fps, "all" if repair else "none", smoothing)
    return Stages(mender, one_by_one, mends_poses=repair)
