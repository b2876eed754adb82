"""Steady world poses, by looking at a stretch of frames around the present.

A frame is finished once some frames after it are known: then a short-lived false detection can be
told from a person, and smoothing and the floor see both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gridpose.core import NUM_JOINTS, BoolArray, DoubleArray, FloatArray, Person
from gridpose.pipeline.motion.balance import balanced
from gridpose.pipeline.motion.bone_lengths import bone_lengths, with_constant_lengths
from gridpose.pipeline.motion.choices import GravityMode, Persons, Smoothing
from gridpose.pipeline.motion.contacts import foot_contacts
from gridpose.pipeline.motion.gravity import LEVEL_SHARES, Gravity, upright
from gridpose.pipeline.motion.left_out import LeftOut
from gridpose.pipeline.motion.lifting_stage import Lifted
from gridpose.pipeline.motion.phantoms import Phantoms, plausible
from gridpose.pipeline.motion.places import Places
from gridpose.pipeline.motion.repair import filled, outliers
from gridpose.pipeline.motion.smoothing import smooth
from gridpose.pipeline.motion.unseen_legs import feet_seen, with_still_legs
from gridpose.pipeline.motion.window import Window, stacked
from gridpose.pipeline.motion.world import (
    CAMERA_TO_WORLD,
    FLIGHT_SECONDS,
    place,
)

MIN_OBSERVATIONS = 5
"""Stretches in which somebody is seen in fewer frames than this, before being lost again, are left
out."""
LOST_FRAMES = 3
"""Missing in more frames than this, one after the other, is being lost."""
MAX_LOOK_AHEAD = 66
CHUNK = 12
_INCUMBENT_BONUS = 1.3
_SIZE_MEMORY = 0.2
_BODY_METRES = 2.0


def steadied(poses: FloatArray, fps: float, smoothing: Smoothing, repair: bool) -> FloatArray:
    """Poses (T, 17, 3) m, NaN where unseen: smoothed, and without outliers if ``repair``."""
    if repair:
        strange = outliers(poses, fps, _BODY_METRES)
        mended, _ = filled(np.where(strange[..., None], np.nan, poses), fps)
        # What cannot be mended stays; frames without the person stay so.
        usable = np.isfinite(poses) & np.isfinite(mended)
        poses = np.where(usable, mended, poses).astype(np.float32)
    return smooth(poses, fps, smoothing)


def credible(person: Sequence[Lifted | None], needed: int, fps: float) -> list[Lifted | None]:
    """A person's frames without stretches in which they were seen just for a moment, or nobody was.

    Where somebody was lost, their track may go on with what networks see in foliage.

    Args:
        person: their frames; None where unseen.
        needed: how often the detector must have seen them from when they appear to when they are
            lost.
        fps: rate of the frames.
    """
    there = np.flatnonzero([lifted is not None for lifted in person])
    kept: list[Lifted | None] = [None] * len(person)
    for run in np.split(there, np.flatnonzero(np.diff(there) > LOST_FRAMES + 1) + 1):
        if not len(run):
            continue
        stretch = person[run[0] : run[-1] + 1]
        seen = sum(lifted is not None and lifted.observation.seen for lifted in stretch)
        if seen >= needed and plausible(stretch, fps):
            kept[run[0] : run[-1] + 1] = stretch
    return kept


@dataclass
class _Known:
    """What is remembered of a person: ``lengths`` (17,) m, where bones keep them."""

    recent_size: float = 0.0
    lengths: DoubleArray | None = None


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
        places: put people where they are, in metres from where the first one is seen first, if it
            says so; else every hip stays above the origin.
        first_track: number of the first person.
    """

    def __init__(
        self,
        fps: float,
        image_size: tuple[int, int],
        smoothing: Smoothing = "savgol",
        persons: Persons = "all",
        repair: bool = True,
        constant_bones: bool = False,
        gravity: GravityMode = "auto",
        places: Places | None = None,
        first_track: int = 1,
    ) -> None:
        self._fps, self._image_size = fps, image_size
        self._smoothing, self._persons = smoothing, persons
        self._repair, self._constant_bones = repair, constant_bones
        self._gravity_mode, self._places = gravity, places
        self.gravity = Gravity(LEVEL_SHARES[gravity])
        self.look_ahead = max(2, min(MAX_LOOK_AHEAD, round(1.1 * FLIGHT_SECONDS * fps)))
        self._window: Window[Lifted] = Window(self.look_ahead, self.look_ahead, CHUNK)
        self._known: dict[int, _Known] = {}
        self._kept: set[int] = set()
        self._phantoms = Phantoms(fps, compare_sizes=persons == "all")
        self._public_ids: dict[int, int] = {}
        self._first_track = first_track

    @property
    def next_track(self) -> int:
        """What the next new person will be called."""
        return self._first_track + len(self._public_ids)

    @property
    def numbers(self) -> Mapping[int, int]:
        """What people are called, by track id."""
        return self._public_ids

    def add(self, people: Mapping[int, Lifted]) -> None:
        """Take in the next frame: people by track id."""
        for track_id, person in people.items():
            if feet_seen(person.observation.confidence):
                self.gravity.add(track_id, person.steady)
        self._window.add(people)

    def finished(self, at_end: bool = False) -> Iterator[list[Person]]:
        """People of every frame that can be finished by now; all that are left ``at_end``."""
        for due in self._window.due(at_end):
            # In a clip of a few frames nobody can be seen often.
            possible = max(1, self._window.known // 2) if at_end else self._window.known
            worlds = self._worlds(possible)
            contacts = {
                track_id: foot_contacts(world, self._fps, self._travels)
                for track_id, world in worlds.items()
            }
            for frame in due:
                for track_id in self._window[frame].keys() - worlds.keys():
                    self._phantoms.leave_out(track_id, frame)
                yield self._people(frame, worlds, contacts)

    @property
    def left_out(self) -> list[LeftOut]:
        """Whom nothing was shown of, in the order in which they appear."""
        return self._phantoms.left_out

    @property
    def _travels(self) -> bool:
        """Whether world poses say where people are."""
        return self._places is not None and self._places.are_shown

    def _worlds(self, possible: int) -> dict[int, FloatArray]:
        """World poses (T, 17, 3) in the whole window of those who are shown; NaN where unseen.

        Nobody can be asked to be seen in more than ``possible`` frames.
        """
        if self._gravity_mode != "level":
            self.gravity.follow(CHUNK / self._fps)
        people: Mapping[int, Sequence[Lifted | None]] = self._window.people()
        self._known = {track_id: self._known.get(track_id, _Known()) for track_id in people}
        if self._persons != "everyone":
            needed = min(MIN_OBSERVATIONS, possible)
            sure = {
                track_id: credible(person, needed, self._fps) for track_id, person in people.items()
            }
            shown = self._phantoms.judge(people, sure, possible, CHUNK / self._fps)
            people = {track_id: sure[track_id] for track_id in shown}
        return self._set_into_world(people)

    def _set_into_world(
        self, people: Mapping[int, Sequence[Lifted | None]]
    ) -> dict[int, FloatArray]:
        """World poses (T, 17, 3) of people in the window; NaN where unseen."""
        to_world = CAMERA_TO_WORLD @ upright(self.gravity.up)
        there = {
            track_id: [index for index, lifted in enumerate(person) if lifted is not None]
            for track_id, person in people.items()
        }
        poses, keypoints = {}, {}
        for track_id, person in people.items():
            camera = self._steadied(person, self._known[track_id])[there[track_id]]
            poses[track_id] = np.asarray(camera @ to_world.T, np.float32)
            confidence = np.stack([each.observation.confidence for each in person if each])
            if self._gravity_mode == "auto" and feet_seen(confidence).mean() > 0.5:
                poses[track_id] = balanced(poses[track_id], self._fps)
            poses[track_id] = with_still_legs(poses[track_id], confidence, self._fps)
            keypoints[track_id] = np.stack([each.observation.keypoints for each in person if each])
        if self._places is not None and self._travels:
            placed = self._places.placed_together(poses, keypoints, there, to_world, CHUNK)
        else:
            placed = {
                track_id: place(
                    world,
                    (world @ CAMERA_TO_WORLD).astype(np.float32),
                    keypoints[track_id],
                    self._image_size[1],
                    self._fps,
                )
                for track_id, world in poses.items()
            }
        worlds: dict[int, FloatArray] = {}
        for track_id, person in people.items():
            worlds[track_id] = np.full((len(person), NUM_JOINTS, 3), np.nan, np.float32)
            worlds[track_id][there[track_id]] = placed[track_id]
        return worlds

    def _steadied(self, person: Sequence[Lifted | None], known: _Known) -> FloatArray:
        """Camera-axes poses (T, 17, 3) of a person in the window; NaN where unseen."""
        camera = stacked([None if lifted is None else lifted.steady for lifted in person])
        poses = steadied(camera, self._fps, self._smoothing, self._repair)
        if not self._constant_bones:
            return poses
        if known.lengths is None:
            known.lengths = bone_lengths(poses)
        return with_constant_lengths(poses, known.lengths).astype(np.float32)

    def _people(
        self, frame: int, worlds: Mapping[int, FloatArray], contacts: Mapping[int, BoolArray]
    ) -> list[Person]:
        """Whoever is kept of those in a frame that have a world pose."""
        people: dict[int, Person] = {}
        for track_id, world in worlds.items():
            pose_world = world[frame - self._window.first]
            if not np.isfinite(pose_world).all():
                continue
            lifted = self._window[frame][track_id]
            seen, known = lifted.observation, self._known[track_id]
            size = float(np.prod(seen.bbox[2:] - seen.bbox[:2]))
            known.recent_size += _SIZE_MEMORY * (size - known.recent_size)
            people[track_id] = Person(
                # Numbers without holes where a false detection was.
                self._public_ids.setdefault(track_id, self.next_track),
                seen.bbox,
                seen.keypoints,
                seen.confidence,
                lifted.pose,
                pose_world,
                seen.repaired,
                contacts[track_id][frame - self._window.first],
            )
        return [people[track_id] for track_id in self._chosen(people)]

    def _chosen(self, people: Mapping[int, Person]) -> list[int]:
        if self._persons in ("all", "everyone"):
            return list(people)
        count = self._persons if isinstance(self._persons, int) else 1

        def rank(track_id: int) -> float:
            # Two people of like size must not take turns.
            bonus = _INCUMBENT_BONUS if track_id in self._kept else 1.0
            return -self._known[track_id].recent_size * bonus

        self._kept = set(sorted(people, key=rank)[:count])
        return [track_id for track_id in people if track_id in self._kept]
