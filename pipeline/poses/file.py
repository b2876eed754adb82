"""The pose file (``.npz``, format version 1): everything known about the people of a video."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridpose.core import (
    JOINT_NAMES,
    POSE_ARRAYS,
    AnyArray,
    BoolArray,
    InputError,
    PoseArray,
    PoseTracks,
)
from gridpose.storage import NPZ_ERRORS, ArrayInPieces, save_npz

FORMAT_VERSION = 1
_NOT_IN_FIRST_RELEASE = ("shot", "repaired", "contacts")
_LARGEST_LIST = 1 << 21
"""People times frames of a list of poses that are read; each takes about 700 bytes."""


def write_pose_file(file: Path, values: Mapping[str, Any]) -> None:
    """Write a pose file.

    Args:
        file: the result.
        values: the fields of :class:`PoseTracks` by name (of one in memory, ``vars(tracks)``);
            arrays may come in pieces.

    Raises:
        MissingError: the disk said no.
    """
    arrays: dict[str, AnyArray | ArrayInPieces] = {
        **_head(values),
        "image_size": np.array(values["image_size"], np.int64),
    }
    for array in POSE_ARRAYS:
        value = values[array.name]
        in_pieces = isinstance(value, ArrayInPieces)
        arrays[array.name] = value if in_pieces else np.asarray(value, array.dtype)
    save_npz(file, arrays)


def write_pose_list(
    file: Path,
    values: Mapping[str, Any],
    row_track: NDArray[np.int64],
    row_frame: NDArray[np.int64],
    more: Mapping[str, AnyArray],
) -> None:
    """Write a pose file whose arrays of people are a list, in the order of what was lifted.

    :func:`read_pose_file` puts every pose of the list where it belongs, so that programs that know
    pose files know these.

    Args:
        file: the result.
        values: the fields of :class:`PoseTracks` by name, without ``present``; those with a value
            for each track and frame have one for each pose instead, (..., D) with N leading
            elements; poses that are NaN are absent.
        row_track: (N,) rows of the poses' tracks.
        row_frame: (N,) their frames.
        more: further arrays.

    Raises:
        MissingError: the disk said no.
    """
    arrays: dict[str, AnyArray | ArrayInPieces] = {
        **_head(values),
        "image_size": np.asarray(values["image_size"]),
        "row_track": row_track,
        "row_frame": row_frame,
    }
    for array in POSE_ARRAYS:
        if array.name in values:
            arrays[array.name] = np.asarray(values[array.name], array.dtype)
    save_npz(file, {**arrays, **more})


def _head(values: Mapping[str, Any]) -> dict[str, AnyArray]:
    return {
        "format_version": np.array(FORMAT_VERSION),
        "fps": np.array(values["fps"], np.float64),
        "joint_names": np.array(JOINT_NAMES),
        "meta": np.array(json.dumps(values["meta"])),
    }


def read_pose_file(file: Path) -> PoseTracks:
    """Read a pose file; nothing in it is executed.

    Raises:
        InputError: not a pose file of a known version.
    """
    try:
        with np.load(file, allow_pickle=False) as data:
            version = int(data["format_version"])
            if version != FORMAT_VERSION:
                raise InputError(f"{file}: pose file version {version}; this program reads 1")
            sizes = np.asarray(data["image_size"])  # of a list each picture may have its own
            width, height = (int(value) for value in sizes.reshape(-1, sizes.shape[-1]).max(0))
            lead = len(data["track_id"]), len(data["frame_time"])
            arrays: dict[str, AnyArray] = {}
            rows = _Rows.of(data, lead, file) if "row_track" in data else None
            for array in POSE_ARRAYS:
                if rows is not None and array.person:
                    arrays[array.name] = rows.placed(data[array.name], array)
                elif rows is not None and array.name == "present":
                    arrays[array.name] = rows.present(data["poses_3d"])
                elif array.name in _NOT_IN_FIRST_RELEASE and array.name not in data:
                    arrays[array.name] = np.full(array.shape(*lead), array.absent, array.dtype)
                else:
                    arrays[array.name] = data[array.name]
                found, expected = arrays[array.name].shape, array.shape(*lead)
                if found != expected:
                    raise InputError(
                        f"{file}: not a pose file ({array.name} is {found}, expected {expected})"
                    )
            return PoseTracks(
                fps=float(data["fps"]),
                image_size=(width, height),
                meta=json.loads(str(data["meta"])),
                **arrays,
            )
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except (KeyError, *NPZ_ERRORS) as error:
        raise InputError(f"{file}: not a pose file ({error})") from error


@dataclass(frozen=True)
class _Rows:
    """Where poses of a list belong: ``track`` and ``frame`` (N,), of ``lead`` tracks and frames."""

    lead: tuple[int, int]
    track: NDArray[np.int64]
    frame: NDArray[np.int64]

    @classmethod
    def of(cls, data: Any, lead: tuple[int, int], file: Path) -> _Rows:
        if lead[0] * lead[1] > _LARGEST_LIST:
            raise InputError(
                f"{file}: has {lead[0]} people in {lead[1]} pictures, which is too much to be shown"
                " together"
            )
        track, frame = (np.asarray(data[name], np.int64) for name in ("row_track", "row_frame"))
        if track.shape != frame.shape or track.ndim != 1:
            raise ValueError(f"row_track is {track.shape}, row_frame {frame.shape}")
        for index, length in ((track, lead[0]), (frame, lead[1])):
            if len(index) and not 0 <= index.min() <= index.max() < length:
                raise ValueError("row_track or row_frame is out of range")
        return cls(lead, track, frame)

    def placed(self, values: AnyArray, array: PoseArray) -> AnyArray:
        """An array of people: (P, T, ...)."""
        shape = array.shape(*self.lead)
        dense = np.full(shape, array.absent, array.dtype)
        dense[self.track, self.frame] = values.reshape(len(self.track), *shape[2:])
        return dense

    def present(self, poses: AnyArray) -> BoolArray:
        """(P, T) who has a pose."""
        dense = np.zeros(self.lead, np.bool_)
        there = np.isfinite(poses).all((-1, -2)).reshape(len(self.track))
        dense[self.track[there], self.frame[there]] = True
        return dense
