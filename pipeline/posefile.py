"""The pose file (``.npz``, format version 1): everything known about the people of a video."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gridpose.core import NUM_JOINTS, AnyArray, InputError, PoseTracks

FORMAT_VERSION = 1
NPZ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a foreign, cut or damaged file as npz may raise."""


def small_arrays(
    *,
    fps: float,
    frame_time: AnyArray,
    image_size: tuple[int, int],
    track_id: AnyArray,
    present: AnyArray,
    joint_names: Sequence[str],
    meta: dict[str, Any],
) -> dict[str, AnyArray]:
    """The arrays of a pose file that do not grow with joints."""
    return {
        "format_version": np.array(FORMAT_VERSION),
        "fps": np.array(fps, np.float64),
        "frame_time": frame_time.astype(np.float64),
        "image_size": np.array(image_size, np.int64),
        "track_id": track_id.astype(np.int64),
        "present": present.astype(np.bool_),
        "joint_names": np.array(joint_names),
        "meta": np.array(json.dumps(meta)),
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
            width, height = (int(value) for value in data["image_size"])
            tracks = PoseTracks(
                fps=float(data["fps"]),
                frame_time=data["frame_time"],
                image_size=(width, height),
                track_id=data["track_id"],
                present=data["present"],
                bbox=data["bbox"],
                keypoints_2d=data["keypoints_2d"],
                confidence=data["confidence"],
                poses_3d=data["poses_3d"],
                poses_world=data["poses_world"],
                # Files of the first release do not have it.
                repaired=data["repaired"]
                if "repaired" in data
                else np.zeros((*data["present"].shape, NUM_JOINTS), np.uint8),
                meta=json.loads(str(data["meta"])),
            )
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except KeyError as error:
        raise InputError(f"{file}: not a pose file ({error})") from error
    except NPZ_ERRORS as error:
        raise InputError(f"{file}: not a pose file ({error})") from error
    _check_shapes(file, tracks)
    return tracks


def _check_shapes(file: Path, tracks: PoseTracks) -> None:
    lead = (len(tracks.track_id), len(tracks.frame_time))
    expected = {
        "present": lead,
        "bbox": (*lead, 4),
        "keypoints_2d": (*lead, NUM_JOINTS, 2),
        "confidence": (*lead, NUM_JOINTS),
        "poses_3d": (*lead, NUM_JOINTS, 3),
        "poses_world": (*lead, NUM_JOINTS, 3),
        "repaired": (*lead, NUM_JOINTS),
    }
    for name, shape in expected.items():
        found = getattr(tracks, name).shape
        if found != shape:
            raise InputError(f"{file}: not a pose file ({name} is {found}, expected {shape})")
