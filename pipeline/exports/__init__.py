"""Pose files in the formats of other programs. Axes and units: docs/formats.md."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import NUM_JOINTS, FloatArray, InputError, PoseTracks
from gridpose.pipeline.outputs import check_output, check_suffix
from gridpose.storage import replacing

FORMATS: Final = (".npz", ".json", ".csv", ".bvh", ".trc", ".c3d", ".glb")
_ONE_PERSON_A_FILE: Final = (".bvh",)
_MAY_BE_EMPTY: Final = (".npz", ".json", ".csv")


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
    overwrite: bool = False,
) -> Exported:
    """Write poses in the format that the file's suffix names.

    Args:
        tracks: as :func:`gridpose.pipeline.poses.file.read_pose_file` gives them.
        file: with several people, formats for one person (BVH) get a file each, ``NAME_pN.bvh``.
        track_ids: only these people.
        foot_lock: keep standing feet where they are, see
            :func:`gridpose.pipeline.motion.foot_lock.with_locked_feet`.
        overwrite: whether files may be replaced.

    Raises:
        UsageError: unknown suffix or track, or the file exists.
        InputError: there is nobody to write.
        MissingError: the folder cannot be written to.
    """
    check_format(file)
    suffix = file.suffix.lower()
    if track_ids is not None:
        tracks = tracks.select(tracks=tracks.rows(track_ids))
    if suffix not in _MAY_BE_EMPTY and not tracks.present.any():
        raise InputError(f"{file}: there is nobody in these poses to write")
    if foot_lock:
        from gridpose.pipeline.motion.foot_lock import with_locked_feet

        tracks = with_locked_feet(tracks)
    parts = one_person_each(tracks, file) if suffix in _ONE_PERSON_A_FILE else [(file, tracks)]
    for each, _ in parts:
        check_output(each, overwrite)
    notes: list[str] = []
    for each, part in parts:
        notes += _write(part, each, suffix)
    return Exported([each for each, _ in parts], notes)


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


def _write(tracks: PoseTracks, file: Path, suffix: str) -> list[str]:
    """Write one file; returns notes."""
    from gridpose.pipeline.exports import markers, tables
    from gridpose.pipeline.poses.file import write_pose_file

    if suffix == ".npz":
        write_pose_file(file, vars(tracks))
        return []
    notes: list[str] = []
    with replacing(file) as partial:
        if suffix == ".json":
            partial.write_text(tables.json_text(tracks), encoding="utf-8")
        elif suffix == ".csv":
            partial.write_text(tables.csv_text(tracks), encoding="utf-8")
        elif suffix == ".trc":
            partial.write_text(markers.trc_text(tracks, file.name), encoding="utf-8")
        elif suffix == ".c3d":
            markers.write_c3d(tracks, partial)
        else:
            notes = _write_animation(tracks, partial, suffix)
    return notes


def _write_animation(tracks: PoseTracks, file: Path, suffix: str) -> list[str]:
    from gridpose.pipeline.exports.bvh import bvh_text
    from gridpose.pipeline.exports.gltf import Animated, glb_bytes
    from gridpose.pipeline.exports.rig import rig_of

    notes, people = [], []
    for row, track in enumerate(tracks.track_id.tolist()):
        poses, frames, filled = without_gaps(tracks, row)
        if not len(frames):
            continue
        if filled:
            notes.append(f"track {track}: {filled} frames without them were interpolated")
        people.append(Animated(f"p{track}", rig_of(poses), tracks.frame_time[frames]))
    if suffix == ".bvh":
        file.write_text(bvh_text(people[0].rig, tracks.fps), encoding="ascii")
    else:
        file.write_bytes(glb_bytes(people))
    return notes


def without_gaps(tracks: PoseTracks, row: int) -> tuple[FloatArray, NDArray[np.int64], int]:
    """One person from the first to the last frame they are in, positions interpolated in between.

    Args:
        tracks: with that person.
        row: where they are in it.

    Returns:
        World poses (N, 17, 3), the frames' numbers (N,), and how many were interpolated.
    """
    seen = np.flatnonzero(tracks.present[row])
    if not len(seen):
        return np.zeros((0, NUM_JOINTS, 3), np.float32), seen, 0
    frames = np.arange(seen[0], seen[-1] + 1)
    times = tracks.frame_time
    known = tracks.poses_world[row, seen].reshape(len(seen), -1)
    flat = [np.interp(times[frames], times[seen], column) for column in known.T]
    poses = np.stack(flat, -1).reshape(-1, NUM_JOINTS, 3).astype(np.float32)
    return poses, frames, len(frames) - len(seen)
