"""Pose files in the formats of other programs. Axes and units: docs/formats.md."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from gridpose.core import NUM_JOINTS, FloatArray, InputError, PoseTracks
from gridpose.pipeline.outputs import check_output, check_suffix
from gridpose.storage import replacing

if TYPE_CHECKING:
    from gridpose.pipeline.exports.clock import Clock

Skeleton = Literal["gridpose", "mixamo", "unreal"]
"""Whose names bones have: ours, Mixamo's, or those of Unreal's mannequins."""
FORMATS: Final = (".npz", ".json", ".csv", ".bvh", ".trc", ".c3d", ".glb")
_ONE_PERSON_A_FILE: Final = (".bvh",)
RATED: Final = (".bvh", ".trc", ".c3d")
"""Formats with a constant rate; the others have the time of each frame."""
RIGGED: Final = (".bvh", ".glb")
"""Formats with joint rotations, in which nobody can be absent."""
MOVING: Final = tuple(dict.fromkeys((*RATED, *RIGGED)))
"""Formats of one movement with a beginning and an end."""


@dataclass(frozen=True)
class Exported:
    """``files`` that were written, and ``notes`` for the user."""

    files: list[Path]
    notes: list[str]


def export_poses(
    tracks: PoseTracks,
    file: Path,
    *,
    track_ids: Sequence[int] | None = None,
    foot_lock: bool = False,
    fps: float | None = None,
    trim: bool = False,
    skeleton: Skeleton = "gridpose",
    separate: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write poses in the format that the file's suffix names.

    Args:
        tracks: as :func:`gridpose.pipeline.poses.file.read_pose_file` gives them.
        file: with several people, formats for one person (BVH) get a file each, ``NAME_pN.bvh``.
        track_ids: only these people.
        foot_lock: keep standing feet where they are, see
            :func:`gridpose.pipeline.motion.foot_lock.with_locked_feet`.
        fps: poses per second of formats with a constant rate (:data:`RATED`); else the video's
            nominal rate.
        trim: leave out, of formats for movement (:data:`MOVING`), what is before the first and
            after the last frame in which somebody of the file is seen. Else all begin and end as
            the video does; rigs are held still in their first and last pose.
        skeleton: whose names the bones of rigs (:data:`RIGGED`) have.
        separate: each person has a file of their own also in formats for several.
        overwrite: whether files may be replaced.

    Raises:
        UsageError: unknown suffix or track, the file exists, or `fps` is no rate.
        InputError: there is nobody to write, or the frames' times do not ascend.
        MissingError: the folder cannot be written to.
    """
    check_format(file)
    suffix = file.suffix.lower()
    if track_ids is not None:
        tracks = tracks.select(tracks=tracks.rows(track_ids))
    if suffix in MOVING:
        from gridpose.pipeline.exports.clock import for_movement

        tracks = for_movement(tracks)
        if not tracks.present.any():
            raise InputError(f"{file}: there is nobody in these poses to write")
    if foot_lock:
        from gridpose.pipeline.motion.foot_lock import with_locked_feet

        tracks = with_locked_feet(tracks)
    notes: list[str] = []
    if fps is not None and suffix not in RATED:
        notes.append(f"{file.name} has the frames' own times; `fps` does not change them")
    alone = separate or suffix in _ONE_PERSON_A_FILE
    parts = one_person_each(tracks, file) if alone else [(file, tracks)]
    for each, _ in parts:
        check_output(each, overwrite)
    for each, part in parts:
        notes += _write(part, each, suffix, fps, trim, skeleton)
    return Exported([each for each, _ in parts], list(dict.fromkeys(notes)))


def check_format(file: Path) -> None:
    """Raises UsageError when the suffix names no format."""
    check_suffix(file, FORMATS)


def check_export(file: Path, overwrite: bool) -> None:
    """Find out before any work whether poses could be written, whoever will be in them.

    Raises:
        UsageError: unknown suffix, or a file exists that may not be replaced.
        MissingError: the folder cannot be written to.
    """
    check_format(file)
    check_output(file, overwrite)
    if file.suffix.lower() in _ONE_PERSON_A_FILE and not overwrite:
        pattern = f"{glob.escape(file.stem)}_p[0-9]*{glob.escape(file.suffix)}"
        for existing in file.absolute().parent.glob(pattern):
            check_output(existing, overwrite)


def one_person_each(tracks: PoseTracks, file: Path) -> list[tuple[Path, PoseTracks]]:
    """Each person with a file of their own, ``NAME_pN``; who is alone has ``file`` itself."""
    if len(tracks.track_id) == 1:
        return [(file, tracks)]
    return [
        (file.with_name(f"{file.stem}_p{track}{file.suffix}"), tracks.select(tracks=[row]))
        for row, track in enumerate(tracks.track_id)
    ]


def _write(
    tracks: PoseTracks,
    file: Path,
    suffix: str,
    fps: float | None,
    trim: bool,
    skeleton: Skeleton,
) -> list[str]:
    """Write one file; returns notes."""
    from gridpose.pipeline.exports import markers, tables
    from gridpose.pipeline.exports.clock import at_constant_rate, constant_clock
    from gridpose.pipeline.poses.file import write_pose_file

    if suffix == ".npz":
        write_pose_file(file, vars(tracks))
        return []
    notes: list[str] = []
    if trim and suffix in MOVING:
        tracks, notes = _trimmed(tracks)
    clock = constant_clock(tracks, fps) if suffix in RATED else None
    if clock is not None and clock.resamples and fps is None:
        notes.append(
            f"the video's frame rate varies: {suffix} has {clock.rate:.6g} poses per second, "
            "interpolated; `gridpose export` takes another rate with `fps`"
        )
    with replacing(file) as partial:
        if suffix == ".json":
            partial.write_text(tables.json_text(tracks), encoding="utf-8")
        elif suffix == ".csv":
            partial.write_text(tables.csv_text(tracks), encoding="utf-8")
        elif suffix in RIGGED:
            notes += _write_animation(tracks, partial, clock, skeleton)
        elif clock is not None:
            even = at_constant_rate(tracks, clock)
            if suffix == ".trc":
                partial.write_text(markers.trc_text(even, file.name), encoding="utf-8")
            else:
                markers.write_c3d(even, partial)
    return notes


def _write_animation(
    tracks: PoseTracks, file: Path, clock: Clock | None, skeleton: Skeleton
) -> list[str]:
    """BVH, which has a clock, or glTF, which has the frames' times; returns notes."""
    from gridpose.pipeline.exports.bone_names import bone_names
    from gridpose.pipeline.exports.bvh import bvh_text
    from gridpose.pipeline.exports.clock import rig_at_constant_rate
    from gridpose.pipeline.exports.gltf import Animated, glb_bytes
    from gridpose.pipeline.exports.rig import rig_of
    from gridpose.pipeline.motion.bone_lengths import bone_lengths

    notes, people = [], []
    names = bone_names(skeleton)
    for row, track in enumerate(tracks.track_id.tolist()):
        notes += _about_absence(tracks, row)
        seen = tracks.poses_world[row, tracks.present[row]]
        rig = rig_of(without_gaps(tracks, row), bone_lengths(seen))
        own = [f"p{track}:{name}" for name in names] if skeleton == "gridpose" else names
        people.append(Animated(f"p{track}", own, rig, tracks.frame_time))
    if clock is None:
        file.write_bytes(glb_bytes(people, float(tracks.frame_time[0])))
    else:
        rig = rig_at_constant_rate(people[0].rig, clock)
        file.write_text(bvh_text(rig, clock.rate, names), encoding="ascii")
    return notes


def _trimmed(tracks: PoseTracks) -> tuple[PoseTracks, list[str]]:
    """From the first to the last frame in which somebody is there, and a note of what is lost."""
    seen = np.flatnonzero(tracks.present.any(0))
    begin, end = int(seen[0]), int(seen[-1]) + 1
    who, start = ", ".join(map(str, tracks.track_id.tolist())), tracks.frame_time[begin]
    notes = [f"track {who}: the file begins at second {start:.3f} of the video"] if begin else []
    return tracks.select(frames=slice(begin, end)), notes


def _about_absence(tracks: PoseTracks, row: int) -> list[str]:
    """What a rig shows while the person is absent, as notes."""
    seen, track = np.flatnonzero(tracks.present[row]), tracks.track_id[row]
    first, last = int(seen[0]), int(seen[-1])
    notes = []
    if filled := last - first + 1 - len(seen):
        notes.append(f"track {track}: {filled} frames without them were interpolated")
    if held := len(tracks.frame_time) - (last - first + 1):
        notes.append(
            f"track {track}: is held still in {held} frames before they come or after they go; "
            "`gridpose export` leaves out those in which nobody is there with `trim`"
        )
    return notes


def without_gaps(tracks: PoseTracks, row: int) -> FloatArray:
    """World poses (T, 17, 3) of one person; where they are absent, they are interpolated.

    Before the first frame they are in and after the last one they stay as in that one.

    Args:
        tracks: with that person.
        row: where they are in it.
    """
    seen = np.flatnonzero(tracks.present[row])
    times = tracks.frame_time
    known = tracks.poses_world[row, seen].reshape(len(seen), -1)
    flat = [np.interp(times, times[seen], column) for column in known.T]
    return np.stack(flat, -1).reshape(-1, NUM_JOINTS, 3).astype(np.float32)
