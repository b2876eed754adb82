"""Per-person histories around the present, and what follows from looking at a stretch of them.

A frame is finished once some frames after it are known: then a short-lived false detection can be
told from a person, and smoothing and the floor see both sides. Only a window of frames is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from gridpose.core import NUM_JOINTS, DoubleArray, FloatArray, Person
from gridpose.pipeline.bone_lengths import bone_lengths, with_constant_lengths
from gridpose.pipeline.gravity import Gravity, GravityMode, upright
from gridpose.pipeline.options import Persons as Persons
from gridpose.pipeline.repair import filled, outliers
from gridpose.pipeline.smoothing import Smoothing, smooth
from gridpose.pipeline.tracking import Observation
from gridpose.pipeline.trajectory import hip_positions, steady_path
from gridpose.pipeline.world import FLIGHT_SECONDS, camera_to_world, place

MIN_OBSERVATIONS = 5
"""Who is seen in fewer frames than this before being lost again is taken for a false detection."""
LOST_FRAMES = 3
"""Missing in more frames than this, one after the other, is being lost."""
MAX_LOOK_AHEAD = 66
CHUNK = 12
_INCUMBENT_BONUS = 1.3
_SIZE_MEMORY = 0.2
_BODY_METRES = 2.0


@dataclass
class _History:
    """One person's frames ``first``, ``first + 1``, ...; None where unseen."""

    first: int
    observations: list[Observation | None] = field(default_factory=list)
    poses: list[FloatArray | None] = field(default_factory=list)
    steady: list[FloatArray | None] = field(default_factory=list)
    recent_size: float = 0.0
    lengths: DoubleArray | None = None
    """(17,) m, where bones are to have constant lengths."""

    def add(
        self, frame: int, observation: Observation, pose: FloatArray, steady: FloatArray
    ) -> None:
        missed = [None] * (frame - self.first - len(self.observations))
        self.observations.extend([*missed, observation])
        self.poses.extend([*missed, pose])
        self.steady.extend([*missed, steady])

    def credible(self, needed: int) -> list[int]:
        """Indices of the frames in which the person was seen, and not just for a moment."""
        seen = [i for i, observation in enumerate(self.observations) if observation is not None]
        breaks = [i for i in range(1, len(seen)) if seen[i] - seen[i - 1] > LOST_FRAMES + 1]
        kept: list[int] = []
        for start, stop in zip([0, *breaks], [*breaks, len(seen)], strict=True):
            run = seen[start:stop]
            if sum(self._really_seen(index) for index in run) >= needed:
                kept.extend(run)
        return kept

    def _really_seen(self, index: int) -> bool:
        observation = self.observations[index]
        return observation is not None and observation.seen

    def forget_before(self, frame: int) -> None:
        count = min(max(0, frame - self.first), len(self.observations))
        del self.observations[:count], self.poses[:count], self.steady[:count]
        self.first += count


def steadied(poses: FloatArray, fps: float, smoothing: Smoothing, repair: bool) -> FloatArray:
    """Poses (T, 17, 3) m, NaN where unseen: smoothed, and without outliers if ``repair``."""
    if repair:
        strange = outliers(poses, fps, _BODY_METRES)
        mended, _ = filled(np.where(strange[..., None], np.nan, poses), fps)
        # What cannot be mended stays; frames without the person stay so.
        usable = np.isfinite(poses) & np.isfinite(mended)
        poses = np.where(usable, mended, poses).astype(np.float32)
    return smooth(poses, fps, smoothing)


class Timeline:
    """Collects lifted people frame by frame and hands them out finished, in order.

    Args:
        fps: rate of the frames.
        image_size: width, height px.
        smoothing: of the world poses.
        persons: who is kept.
        repair: replace poses that are for a moment quite different from before and after.
        constant_bones: give each person's bones the median lengths of when they are first seen.
        gravity: whether up is where a level camera has it, or as people stand.
        trajectory_fov: put people where they are, in metres from where the first one is seen
            first, as a lens of this horizontal field of view shows them; None keeps every hip
            above the origin.
    """

    def __init__(
        self,
        fps: float,
        image_size: tuple[int, int],
        smoothing: Smoothing = "savgol",
        persons: Persons = "all",
        repair: bool = True,
        constant_bones: bool = False,
        gravity: GravityMode = "level",
        trajectory_fov: float | None = None,
    ) -> None:
        self._fps, self._image_size = fps, image_size
        self._smoothing, self._persons = smoothing, persons
        self._repair, self._constant_bones = repair, constant_bones
        self._gravity_mode, self._trajectory_fov = gravity, trajectory_fov
        self.gravity = Gravity()
        self._origin: DoubleArray | None = None
        self.look_ahead = max(2, min(MAX_LOOK_AHEAD, round(1.1 * FLIGHT_SECONDS * fps)))
        self._histories: dict[int, _History] = {}
        self._known = 0
        self._finished = 0
        self._kept: set[int] = set()
        self._placed: dict[int, tuple[int, FloatArray]] = {}
        self._public_ids: dict[int, int] = {}

    def add(
        self,
        people: Mapping[int, Observation],
        poses: Mapping[int, FloatArray],
        steady: Mapping[int, FloatArray] | None = None,
    ) -> None:
        """Take in the next frame: observations and camera-axes poses (17, 3) by track id.

        World poses come from ``steady`` where there is one: the poses of smoothed keypoints.
        """
        for track_id, observation in people.items():
            history = self._histories.setdefault(track_id, _History(first=self._known))
            if not history.observations:
                history.first = self._known
            pose = poses[track_id]
            history.add(
                self._known, observation, pose, pose if steady is None else steady[track_id]
            )
        if people:
            self.gravity.add(np.stack(list((steady or poses).values())))
        self._known += 1

    def finished(self, at_end: bool = False) -> Iterator[list[Person]]:
        """People of every frame that can be finished by now; all that are left ``at_end``."""
        while True:
            ready = self._known if at_end else self._known - self.look_ahead
            stop = min(self._finished + CHUNK, ready)
            if stop <= self._finished or (not at_end and stop - self._finished < CHUNK):
                return
            # In a clip of a few frames nobody can be seen often.
            needed = min(MIN_OBSERVATIONS, max(1, self._known // 2)) if at_end else MIN_OBSERVATIONS
            self._place(needed)
            for frame in range(self._finished, stop):
                yield self._people(frame)
            self._finished = stop
            self._forget()

    def _place(self, needed: int) -> None:
        """World poses of everybody seen often enough, over the whole window."""
        self._placed = {}
        if self._gravity_mode == "estimate":
            self.gravity.follow(CHUNK / self._fps)
        turn = upright(self.gravity.up)
        for track_id, history in self._histories.items():
            present = history.credible(needed)
            if not present:
                continue
            camera = np.full((len(history.poses), NUM_JOINTS, 3), np.nan, np.float32)
            keypoints = np.zeros((len(present), NUM_JOINTS, 2), np.float32)
            for row, index in enumerate(present):
                observation, pose = history.observations[index], history.steady[index]
                assert observation is not None
                assert pose is not None
                camera[index] = pose
                keypoints[row] = observation.keypoints
            steady = self._steady(camera, history)[present]
            world = np.full_like(camera, np.nan)
            world[present] = place(
                camera_to_world(steady @ turn.T), steady, keypoints, self._image_size[1], self._fps
            )
            if self._trajectory_fov is not None:
                positions = hip_positions(steady, keypoints, self._image_size, self._trajectory_fov)
                path = steady_path(positions, present, self._fps)
                if self._origin is None:
                    self._origin = path[0]
                moved = camera_to_world((path - self._origin) @ turn.T)
                world[present, :, :2] += moved[:, None, :2].astype(np.float32)
            self._placed[track_id] = (history.first, world)

    def _steady(self, poses: FloatArray, history: _History) -> FloatArray:
        """Camera-axes poses (T, 17, 3), NaN where unseen, made steady."""
        poses = steadied(poses, self._fps, self._smoothing, self._repair)
        if self._constant_bones:
            if history.lengths is None:
                history.lengths = bone_lengths(poses)
            poses = with_constant_lengths(poses, history.lengths).astype(np.float32)
        return poses

    def _people(self, frame: int) -> list[Person]:
        people: dict[int, Person] = {}
        for track_id, (first, world) in self._placed.items():
            history, index = self._histories[track_id], frame - first
            if not 0 <= index < len(world) or not np.isfinite(world[index]).all():
                continue
            observation, pose = history.observations[index], history.poses[index]
            assert observation is not None
            assert pose is not None
            size = float(np.prod(observation.bbox[2:] - observation.bbox[:2]))
            history.recent_size += _SIZE_MEMORY * (size - history.recent_size)
            people[track_id] = Person(
                # Numbers without holes where a false detection was.
                self._public_ids.setdefault(track_id, len(self._public_ids) + 1),
                observation.bbox,
                observation.keypoints,
                observation.confidence,
                pose,
                world[index],
                observation.repaired,
            )
        return [people[track_id] for track_id in self._chosen(people)]

    def _chosen(self, people: Mapping[int, Person]) -> list[int]:
        if self._persons == "all":
            return list(people)
        count = 1 if self._persons == "largest" else self._persons

        def rank(track_id: int) -> float:
            # Two people of like size must not take turns.
            bonus = _INCUMBENT_BONUS if track_id in self._kept else 1.0
            return -self._histories[track_id].recent_size * bonus

        self._kept = set(sorted(people, key=rank)[:count])
        return [track_id for track_id in people if track_id in self._kept]

    def _forget(self) -> None:
        keep_from = self._finished - self.look_ahead
        for track_id, history in list(self._histories.items()):
            history.forget_before(keep_from)
            if not history.observations and history.first < keep_from - self.look_ahead:
                del self._histories[track_id]
