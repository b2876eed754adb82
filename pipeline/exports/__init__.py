"""Pose files in the formats of other programs. Axes and units: docs/formats.md."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import (
    JOINT_NAMES,
    NUM_JOINTS,
    FloatArray,
    InputError,
    PoseTracks,
    UsageError,
)
from gridpose.pipeline.outputs import check_output
from gridpose.storage import replacing

FORMATS: Final = (".npz", ".json", ".csv", ".bvh", ".trc", ".c3d", ".glb")
_ONE_PERSON_A_FILE: Final = (".bvh",)


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
    overwrite: bool = False,
) -> Exported:
    """Write poses in the format that the file's suffix names.

    Args:
        tracks: as :func:`gridpose.pipeline.posefile.read_pose_file` gives them.
        file: with several people, formats for one person (BVH) get a file each, ``NAME_pN.bvh``.
        track_ids: only these people.
        overwrite: whether files may be replaced.

    Raises:
        UsageError: unknown suffix or track, or the file exists.
        InputError: there is nobody to write.
        MissingError: the folder cannot be written to.
    """
    check_format(file)
    suffix = file.suffix.lower()
    if track_ids is not None:
        tracks = select(tracks, track_ids)
    nobody = not tracks.present.any()
    if nobody and suffix in (".bvh", ".trc", ".c3d", ".glb"):
        raise InputError(f"{file}: there is nobody in these poses to write")
    notes: list[str] = []
    files = [file]
    if suffix in _ONE_PERSON_A_FILE and len(tracks.track_id) > 1:
        files = [file.with_name(f"{file.stem}_p{track}{file.suffix}") for track in tracks.track_id]
    for each in files:
        check_output(each, overwrite)
    for index, each in enumerate(files):
        some = tracks if len(files) == 1 else _rows(tracks, [index])
        with replacing(each) as partial:
            notes += _write(some, partial, suffix, each.name)
    return Exported(files, notes)


def check_format(file: Path) -> None:
    """Raises UsageError when the suffix names no format."""
    if file.suffix.lower() not in FORMATS:
        raise UsageError(f"{file}: the name must end in one of {', '.join(FORMATS)}")


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
            raise UsageError(f"{existing}: exists already; pass --overwrite to replace it")


def select(tracks: PoseTracks, track_ids: Sequence[int]) -> PoseTracks:
    """Only some people.

    Raises:
        UsageError: there is no such track.
    """
    known = tracks.track_id.tolist()
    for track in track_ids:
        if track not in known:
            raise UsageError(f"there is no track {track}; there are {', '.join(map(str, known))}")
    return _rows(tracks, [known.index(track) for track in track_ids])


def _rows(tracks: PoseTracks, rows: list[int]) -> PoseTracks:
    names = (
        "track_id", "present", "bbox", "keypoints_2d", "confidence", "poses_3d", "poses_world",
        "repaired",
    )  # fmt: skip
    return replace(tracks, **{name: getattr(tracks, name)[rows] for name in names})


def _write(tracks: PoseTracks, file: Path, suffix: str, name: str) -> list[str]:
    """Write one file; returns notes."""
    from gridpose.pipeline.exports.tables import csv_text, json_text

    if suffix == ".npz":
        _write_npz(tracks, file)
    elif suffix == ".json":
        file.write_text(json_text(tracks), encoding="utf-8")
    elif suffix == ".csv":
        file.write_text(csv_text(tracks), encoding="utf-8")
    elif suffix == ".trc":
        from gridpose.pipeline.exports.markers import trc_text

        file.write_text(trc_text(tracks, name), encoding="utf-8")
    elif suffix == ".c3d":
        from gridpose.pipeline.exports.markers import write_c3d

        write_c3d(tracks, file)
    else:
        return _write_animation(tracks, file, suffix)
    return []


def _write_npz(tracks: PoseTracks, file: Path) -> None:
    from gridpose.pipeline.posefile import small_arrays

    arrays: dict[str, Any] = small_arrays(
        fps=tracks.fps,
        frame_time=tracks.frame_time,
        image_size=tracks.image_size,
        track_id=tracks.track_id,
        present=tracks.present,
        joint_names=JOINT_NAMES,
        meta=tracks.meta,
    )
    for name in ("bbox", "keypoints_2d", "confidence", "poses_3d", "poses_world", "repaired"):
        arrays[name] = getattr(tracks, name)
    with file.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def _write_animation(tracks: PoseTracks, file: Path, suffix: str) -> list[str]:
    from gridpose.pipeline.exports.rig import rig_of

    notes, people = [], []
    for index, track in enumerate(tracks.track_id.tolist()):
        poses, frames, filled = without_gaps(tracks, index)
        if not len(frames):
            continue
        if filled:
            notes.append(f"track {track}: {filled} frames without them were interpolated")
        people.append((track, rig_of(poses), tracks.frame_time[frames]))
    if suffix == ".bvh":
        from gridpose.pipeline.exports.bvh import bvh_text

        file.write_text(bvh_text(people[0][1], tracks.fps), encoding="ascii")
    else:
        from gridpose.pipeline.exports.gltf import Animated, glb_bytes

        file.write_bytes(glb_bytes([Animated(f"p{t}", rig, times) for t, rig, times in people]))
    return notes


def without_gaps(tracks: PoseTracks, index: int) -> tuple[FloatArray, NDArray[np.int64], int]:
    """One person from the first to the last frame they are in, positions interpolated in between.

    Args:
        tracks: with that person.
        index: their row.

    Returns:
        World poses (N, 17, 3), the frames' numbers (N,), and how many were interpolated.
    """
    seen = np.flatnonzero(tracks.present[index])
    if not len(seen):
        return np.zeros((0, NUM_JOINTS, 3), np.float32), seen, 0
    frames = np.arange(seen[0], seen[-1] + 1)
    times = tracks.frame_time
    known = tracks.poses_world[index, seen].reshape(len(seen), -1)
    flat = [np.interp(times[frames], times[seen], column) for column in known.T]
    poses = np.stack(flat, -1).reshape(-1, NUM_JOINTS, 3).astype(np.float32)
    return poses, frames, len(frames) - len(seen)
