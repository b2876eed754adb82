"""The pose file (``.npz``, format version 1): everything known about the people of a video."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gridpose.core import JOINT_NAMES, POSE_ARRAYS, AnyArray, InputError, PoseTracks
from gridpose.storage import NPZ_ERRORS, ArrayInPieces, save_npz

FORMAT_VERSION = 1
_NOT_IN_FIRST_RELEASE = ("shot", "repaired", "contacts")


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
        "format_version": np.array(FORMAT_VERSION),
        "fps": np.array(values["fps"], np.float64),
        "image_size": np.array(values["image_size"], np.int64),
        "joint_names": np.array(JOINT_NAMES),
        "meta": np.array(json.dumps(values["meta"])),
    }
    for array in POSE_ARRAYS:
        value = values[array.name]
        in_pieces = isinstance(value, ArrayInPieces)
        arrays[array.name] = value if in_pieces else np.asarray(value, array.dtype)
    save_npz(file, arrays)


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
            width, height = (int(value) for value in data["image_size"])
            lead = len(data["track_id"]), len(data["frame_time"])
            arrays: dict[str, AnyArray] = {}
            for array in POSE_ARRAYS:
                if array.name in _NOT_IN_FIRST_RELEASE and array.name not in data:
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
