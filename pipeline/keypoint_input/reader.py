"""Which kind of file it is, told by its content, and its reader."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gridpose.core import InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.formats import alphapose, coco, mediapipe, mmpose, openpose
from gridpose.pipeline.keypoint_input.formats.arrays import read_arrays, read_npy
from gridpose.pipeline.keypoint_input.formats.deeplabcut import read_deeplabcut
from gridpose.pipeline.keypoint_input.formats.tables import read_table
from gridpose.pipeline.keypoint_input.json_values import load_json
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D

MAX_NPZ_BYTES: Final = 8 << 30
"""Unpacked; 30 million poses have 4 GB."""
_ZIP: Final = b"PK\x03\x04"
_NPY: Final = b"\x93NUMPY"
_HDF5: Final = b"\x89HDF"


@dataclass(frozen=True)
class JsonFormat:
    """A kind of JSON file: what tells it, and its reader."""

    name: str
    is_it: Callable[[Any], bool]
    read: Callable[[Path, Any, Convention | None], Keypoints2D]


def _mmpose(file: Path, content: Any, asked: Convention | None) -> Keypoints2D:
    if isinstance(content, list):
        return mmpose.read_mmpose(file, content, None, asked)
    info, meta = content["instance_info"], content.get("meta_info", {})
    return mmpose.read_mmpose(file, info, meta, asked)


def _has(key: str) -> Callable[[Any], bool]:
    return lambda content: isinstance(content, dict) and key in content


JSON_FORMATS: Final = (
    JsonFormat("mmpose 1.x", _has("instance_info"), _mmpose),
    JsonFormat("COCO annotations", _has("annotations"), coco.read_annotations),
    JsonFormat(
        "OpenPose",
        openpose.is_openpose,
        lambda file, _, asked: openpose.read_frames([file], file, asked),
    ),
    JsonFormat("AlphaPose, cmu", alphapose.is_alphapose_picture, alphapose.read_picture),
    JsonFormat("MediaPipe", mediapipe.is_mediapipe, mediapipe.read_mediapipe),
    JsonFormat("AlphaPose", alphapose.is_alphapose_by_picture, alphapose.read_by_picture),
    JsonFormat("AlphaPose", alphapose.is_alphapose_list, alphapose.read_list),
    JsonFormat("COCO results", coco.is_results, coco.read_results),
    JsonFormat("mmpose", lambda content: isinstance(content, list), _mmpose),
)
"""In the order in which they are tried."""


def read_keypoints(file: Path, asked: Convention | None = None) -> Keypoints2D:
    """Keypoints in a file of any known kind, or a folder of OpenPose's, told by the content.

    Args:
        file: see the package's docstring.
        asked: the convention that the user says it has.

    Raises:
        InputError: damaged, unsafe, too large, of no known kind, of an unknown convention, or of
            another convention than asked for.
    """
    if file.is_dir():
        return openpose.read_frames(openpose.frames_in(file), file, asked)
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    suffix = file.suffix.lower()
    if suffix == ".json" or start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return _read_json(file, asked)
    if start.startswith(_HDF5):
        from gridpose.pipeline.keypoint_input.formats.deeplabcut_h5 import rows_of_h5

        return read_deeplabcut(file, rows_of_h5(file), asked)
    if start.startswith(_NPY):
        return read_npy(file, asked)
    if suffix in (".csv", ".tsv"):
        return read_table(file, asked)
    members = _members(file) if start[:4] == _ZIP else []
    if "positions_2d" in members:
        # Imports much that no other kind needs.
        from gridpose.pipeline.keypoint_input.formats.videopose3d import read_videopose3d

        return read_videopose3d(file, asked)
    if {"keypoints", "boxes"} <= set(members):
        from gridpose.pipeline.keypoint_input.formats.detectron import read_detectron

        return read_detectron(file, asked)
    return read_arrays(file, asked)


def _members(file: Path) -> list[str]:
    """Names of the arrays of an npz.

    Raises:
        InputError: damaged, or too large unpacked.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{file}: not an npz file of keypoints ({error})") from error
    size = sum(member.file_size for member in members)
    if size > MAX_NPZ_BYTES:
        raise InputError(
            f"{file}: has {size / 2**30:.1f} GB unpacked; at most {MAX_NPZ_BYTES >> 30} GB are read"
        )
    return [member.filename.removesuffix(".npy") for member in members]


def _read_json(file: Path, asked: Convention | None) -> Keypoints2D:
    content = load_json(file)
    for kind in JSON_FORMATS:
        if kind.is_it(content):
            return kind.read(file, content, asked)
    names = ", ".join(dict.fromkeys(kind.name for kind in JSON_FORMATS))
    raise InputError(f"{file}: not a JSON file of keypoints of a known kind ({names})")
