"""Lifting repaired people, in the order of frames.

A lifter of single frames answers at once; one that sees time needs to know what follows, so that
frames come out some time after they went in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gridpose.core import NUM_JOINTS, FloatArray, Repair
from gridpose.pipeline.motion.tracking import Observation
from gridpose.pipeline.motion.window import Window

if TYPE_CHECKING:
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter
    from gridpose.lifting.sequences import SequenceStream

FORGOTTEN_SECONDS = 1.0
"""Who is missing for longer is lifted as somebody new."""
LEAST_CONFIDENCE = 1e-3
"""Of a joint that was found; 0 would mean that it was not."""


def rated(person: Observation) -> FloatArray:
    """Confidence (17,) for a lifter, where 0 is unseen: as the detector says, if it saw any."""
    known = (person.confidence > 0) | ~(person.confidence > 0).any()
    return np.where(known, np.clip(person.confidence, LEAST_CONFIDENCE, 1), np.float32(0))


@dataclass(frozen=True)
class Lifted:
    """A person in a frame.

    ``pose`` (17, 3) m in camera axes, hip at the origin; ``steady`` (17, 3) the one that the world
    pose is made of.
    """

    observation: Observation
    pose: FloatArray
    steady: FloatArray


class FrameByFrame:
    """Takes in people frame by frame and hands them out, each frame lifted by itself.

    Keypoints are lifted, and the smoothed ones where there are some.

    To smooth poses only would save half of it, but almost double their errors of acceleration.

    Args:
        lifter: what lifts.
        image_size: width, height px.
        fov_degrees: the lens's horizontal field of view, if known.
    """

    def __init__(
        self, lifter: Lifter, image_size: tuple[int, int], fov_degrees: float | None
    ) -> None:
        self._lifter, self._image_size, self._fov_degrees = lifter, image_size, fov_degrees
        self._frames: list[Mapping[int, Observation]] = []

    def add(self, people: Mapping[int, Observation]) -> None:
        """Take in the next frame: observations by track id."""
        self._frames.append(people)

    def finished(self, at_end: bool = False) -> Iterator[dict[int, Lifted]]:
        """People of every frame that has come in."""
        frames, self._frames = self._frames, []
        seen = [person for people in frames for person in people.values()]
        keypoints = [self._with_guesses(person.keypoints, person) for person in seen]
        smoothed = [
            self._with_guesses(person.smoothed, person)
            for person in seen
            if person.smoothed is not None
        ]
        poses = self._lift(keypoints + smoothed)
        steady = poses[len(seen) :] if smoothed else poses
        lifted = map(Lifted, seen, poses, steady)
        for people in frames:
            yield dict(zip(people, lifted, strict=False))

    def _with_guesses(self, keypoints: FloatArray, person: Observation) -> FloatArray:
        """(17, 2) px with guesses where joints are outside of the picture or nowhere.

        What detectors say of hidden joints inside of it is better.
        """
        from gridpose.lifting.unseen import guess_unseen

        inside = ((keypoints >= 0) & (keypoints < self._image_size)).all(-1)
        known = np.asarray(inside | (rated(person) > 0))
        (shown,), _ = guess_unseen(keypoints[None], known[None])
        return np.asarray(shown)

    def _lift(self, keypoints: list[FloatArray]) -> FloatArray:
        if not keypoints:
            return np.empty((0, NUM_JOINTS, 3), np.float32)
        return self._lifter.lift(np.stack(keypoints), self._image_size, self._fov_degrees)


@dataclass
class _Waiting:
    observation: Observation
    pose: FloatArray | None = None


@dataclass
class _Sequence:
    """One person's frames on their way through the lifter."""

    stream: SequenceStream
    next: int
    """The frame whose pose comes out next."""
    last_seen: int


class OverTime:
    """Takes in people frame by frame and hands them out, lifted with the frames around them.

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
        self._sequences: dict[int, _Sequence] = {}
        self._window: Window[_Waiting] = Window()

    def add(self, people: Mapping[int, Observation]) -> None:
        """Take in the next frame: observations by track id."""
        from gridpose.lifting.sequences import SequenceStream

        frame = self._window.known
        self._window.add({track_id: _Waiting(person) for track_id, person in people.items()})
        for track_id in people.keys() - self._sequences.keys():
            stream = SequenceStream(self._lifter.lift_windows, self._fps)
            self._sequences[track_id] = _Sequence(stream, frame, frame)
        for track_id, sequence in list(self._sequences.items()):
            sequence.stream.add(*self._seen(people.get(track_id)))
            if track_id in people:
                sequence.last_seen = frame
            elif frame - sequence.last_seen > self._longest_gap:
                self._lift(track_id, at_end=True)
                del self._sequences[track_id]

    def _seen(self, person: Observation | None) -> tuple[FloatArray, FloatArray]:
        """Joints (1, 17, 2) on a flat image and their confidence (1, 17), 0 where unseen."""
        from gridpose.lifting.sequences import flat_image

        if person is None:
            return np.zeros((1, NUM_JOINTS, 2), np.float32), np.zeros((1, NUM_JOINTS), np.float32)
        confidence = rated(person)
        # What was put in is not there: the lifter fills gaps better.
        confidence = np.where(person.repaired & Repair.FILLED, np.float32(0), confidence)
        flat = flat_image(person.keypoints, self._image_size, self._fov_degrees)
        return flat[None], confidence[None]

    def finished(self, at_end: bool = False) -> Iterator[dict[int, Lifted]]:
        """People of every frame that is lifted by now; of all that are left ``at_end``."""
        for track_id in self._sequences:
            self._lift(track_id, at_end)
        known = self._window.known
        ready = min((sequence.next for sequence in self._sequences.values()), default=known)
        for frame in range(self._window.done, ready):
            people = {}
            for track_id, waiting in self._window[frame].items():
                assert waiting.pose is not None
                people[track_id] = Lifted(waiting.observation, waiting.pose, waiting.pose)
            self._window.hand_on(frame + 1)
            yield people

    def _lift(self, track_id: int, at_end: bool) -> None:
        """Lift one person's frames that are due."""
        sequence = self._sequences[track_id]
        for pose in sequence.stream.finished(at_end):
            waiting = self._window[sequence.next].get(track_id)
            if waiting is not None:
                waiting.pose = pose
            sequence.next += 1
