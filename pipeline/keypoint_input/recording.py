"""Keypoints of a video's frames, made whole poses by the stages that follow a detector."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import BoolArray, FloatArray, InputError, Repair
from gridpose.pipeline.keypoint_input.guesses import LEAST_SEEN, completed
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D
from gridpose.pipeline.keypoint_input.sightings import frame_number
from gridpose.pipeline.motion.left_out import LeftOut, left_out_note
from gridpose.pipeline.motion.post_detection import PostDetection
from gridpose.pipeline.motion.tracking import Observation, Tracker
from gridpose.pipeline.options import VideoOptions
from gridpose.pipeline.poses.spool import PoseSpool

if TYPE_CHECKING:
    from gridpose.lifting import Lifter

_SPARSE: Final = 20, 10_000
"""A recording has at most so many frames for each in which somebody is, and so many more."""
_EMPTY_START: Final = 10, 300
_MOST_CONFIDENT: Final = 1.5
"""Programs whose scores reach a little more than 1 mean probabilities all the same."""
_MARGIN: Final = 0.1


@dataclass(frozen=True)
class Recording:
    """Poses of people in frames of one video.

    ``joints`` (N, 17, 2) px, NaN where unseen; ``confidence`` (N, 17) 0 to 1; ``frame`` (N,) from
    0; ``track`` (N,) who it is from 0, None where that is unknown, and ``names`` of those;
    ``length`` in frames.
    """

    joints: FloatArray
    confidence: FloatArray
    frame: NDArray[np.int64]
    track: NDArray[np.int64] | None
    names: tuple[int | str, ...]
    length: int


@dataclass
class Posed:
    """What was made of a recording: ``spool`` has the poses, ``meta`` what was found out."""

    spool: PoseSpool
    meta: dict[str, Any]
    notes: list[str]


def frames_in(data: Keypoints2D, timed: bool, source: str) -> NDArray[np.int64] | None:
    """Frames (N,) of poses that come from one video; None where that is not said.

    Args:
        data: what a file holds.
        timed: whether the user says that the poses are frames.
        source: for messages.

    Raises:
        InputError: they are said to be frames, but have no numbers.
    """
    columns = data.columns
    if "frame" in columns:
        recordings = [columns[name] for name in ("subject", "action", "camera") if name in columns]
        several = any(len(np.unique(each)) > 1 for each in recordings)
        frames = np.asarray(columns["frame"])
        return None if several or frames.dtype.kind not in "iu" else frames.astype(np.int64)
    if "image_id" in columns and (timed or data.track is not None):
        names = columns["image_id"].tolist()
        return np.array([frame_number(each, f"{source}: image_id") for each in names], np.int64)
    return None


def recording_of(
    data: Keypoints2D,
    joints: FloatArray,
    confidence: FloatArray | None,
    frames: NDArray[np.int64],
    source: str,
) -> Recording:
    """Poses (N, 17, 2) px with their confidence (N, 17), on a time line from the first frame.

    Raises:
        InputError: most of the frames would be empty.
    """
    seen = np.asarray(np.isfinite(joints).all(-1))
    rated = sure(confidence, seen)
    enough = seen.sum(1) >= LEAST_SEEN
    track = None if data.track is None else np.asarray(data.track, np.int64)[enough]
    known = [*(data.frames or ()), *([int(frames.min()), int(frames.max())] if len(frames) else ())]
    first, last = min(known, default=0), max(known, default=-1)
    distinct = len(np.unique(frames))
    # Of programs that list people only, the frames before the first of them are there too.
    if data.frames is None and 1 < first <= _EMPTY_START[0] * distinct + _EMPTY_START[1]:
        first = 0
    length = last - first + 1
    if length > _SPARSE[0] * distinct + _SPARSE[1]:
        raise InputError(
            f"{source}: frames are numbered {first} to {last}, but only {distinct} have anybody"
        )
    kept = Recording(
        joints[enough], rated[enough], frames[enough] - first, track, data.track_names, length
    )
    return kept if track is None else _once_a_frame(kept, track)


def _once_a_frame(recording: Recording, track: NDArray[np.int64]) -> Recording:
    """The surest of those poses of a person that are in the same frame."""
    order = np.lexsort((-recording.confidence.sum(1), recording.frame, track))
    where = np.stack((track, recording.frame))[:, order]
    first = np.append(True, (np.diff(where) != 0).any(0))[: len(order)]
    rows = np.sort(order[first])
    return replace(
        recording,
        joints=recording.joints[rows],
        confidence=recording.confidence[rows],
        frame=recording.frame[rows],
        track=track[rows],
    )


def sure(confidence: FloatArray | None, seen: BoolArray) -> FloatArray:
    """Confidence 0 to 1 as a file has it; 1 where it has none, or in another scale; 0 unseen."""
    rated = np.ones(seen.shape, np.float32)
    known = np.empty(0) if confidence is None else confidence[seen]
    # NaN is in no range.
    in_scale = known.size and known.min() >= 0 and known.max() <= _MOST_CONFIDENT
    if confidence is not None and in_scale:
        rated = np.clip(confidence, 0, 1)
    return np.where(seen, rated, np.float32(0))


def posed(
    recording: Recording,
    size: tuple[int, int],
    fps: float,
    lifter: Lifter,
    options: VideoOptions,
) -> Posed:
    """Follow people, where the file does not, lift them, and set them into the world.

    People whom the file knows apart, or who are alone, are all kept.
    """
    tracks = recording.track
    if tracks is None:
        tracks = _followed(recording, size, fps)
    elif options.persons == "all":
        options = replace(options, persons="everyone")
    people: dict[int, dict[int, Observation]] = defaultdict(dict)
    for track in np.unique(tracks[tracks >= 0]).tolist():
        rows = np.flatnonzero(tracks == track)
        rows = rows[np.argsort(recording.frame[rows], kind="stable")]
        whole, seen = completed(recording.joints[rows], recording.frame[rows])
        for row, joints, there in zip(rows, whole, seen, strict=True):
            flags = np.where(there, 0, Repair.FILLED).astype(np.uint8)
            box = _box(recording.joints[row])
            people[int(recording.frame[row])][track] = Observation(
                box, joints, recording.confidence[row], repaired=flags
            )
    judge = None
    if options.repair and not lifter.sees_time:
        from gridpose.lifting import load_lifter

        judge = load_lifter(device=str(lifter.device))
    stages = PostDetection(lifter, size, fps, options, judge)
    spool = PoseSpool(fps, size)
    called = _Called(stages, recording.names)
    for frame in range(recording.length):
        stages.add_followed(people.pop(frame, {}))
        if frame % 8 == 7:
            stages.advance()
            called.spend(spool, fps)
    stages.advance(at_end=True)
    called.spend(spool, fps, at_end=True)
    meta = {
        "cameras": [{"still": stages.places.camera_still, "up": stages.up.round(4).tolist()}],
        "left_out": [person.to_dict(spool.times) for person in stages.left_out],
        "track_names": {str(number): name for number, name in called.names().items()},
    }
    return Posed(spool, meta, _notes(stages.left_out))


def _notes(left_out: list[LeftOut]) -> list[str]:
    return [left_out_note(left_out)] if left_out else []


class _Called:
    """Hands people on under the numbers that a file has for them, or under new ones."""

    def __init__(self, stages: PostDetection, names: tuple[int | str, ...]) -> None:
        self._stages, self._names = stages, names
        self._numbered = all(isinstance(name, int) and 0 <= name < 2**31 for name in names)

    def spend(self, spool: PoseSpool, fps: float, at_end: bool = False) -> None:
        for people in self._stages.finished(at_end):
            own = {number: track for track, number in self._stages.numbers.items()}
            named = [
                replace(person, track_id=self._number(own[person.track_id], person.track_id))
                for person in people
            ]
            spool.add(spool.frame_count / fps, named)

    def _number(self, track: int, number: int) -> int:
        return int(self._names[track]) if self._names and self._numbered else number

    def names(self) -> dict[int, int | str]:
        """What the file calls people, by their numbers, where it has names."""
        if not self._names:
            return {}
        return {
            self._number(track, number): self._names[track]
            for track, number in self._stages.numbers.items()
        }


def _followed(recording: Recording, size: tuple[int, int], fps: float) -> NDArray[np.int64]:
    """Who each pose (N,) is of, by where people are; -1: out of the picture, or there twice."""
    tracker = Tracker(size)
    tracks = np.full(len(recording.frame), -1, np.int64)
    order = np.argsort(recording.frame, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(recording.frame[order])) + 1):
        observations = {}
        for row in rows.tolist():
            whole, _ = completed(recording.joints[row : row + 1], recording.frame[row : row + 1])
            seen = Observation(_box(recording.joints[row]), whole[0], recording.confidence[row])
            observations[id(seen)] = row, seen
        if observations:
            time = float(recording.frame[rows[0]]) / fps
            found = tracker.update([seen for _, seen in observations.values()], time)
            for track, seen in found.items():
                tracks[observations[id(seen)][0]] = track
    return tracks


def _box(joints: FloatArray) -> FloatArray:
    """(4,) xyxy px around the seen of (17, 2) joints, with a margin."""
    low, high = np.nanmin(joints, axis=0), np.nanmax(joints, axis=0)
    margin = _MARGIN * float((high - low).max())
    return np.array((*(low - margin), *(high + margin)), np.float32)
