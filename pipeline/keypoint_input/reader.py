"""Which kind of file it is, and its reader."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

from gridpose.core import InputError
from gridpose.detectors.conventions import Convention
from gridpose.pipeline.keypoint_input.arrays import read_arrays
from gridpose.pipeline.keypoint_input.coco import is_results, read_annotations, read_results
from gridpose.pipeline.keypoint_input.json_values import load_json
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D
from gridpose.pipeline.keypoint_input.mmpose import read_mmpose

MAX_NPZ_BYTES: Final = 8 << 30
"""Unpacked; 30 million poses have 4 GB."""
_ZIP: Final = b"PK\x03\x04"


def read_keypoints(file: Path, asked: Convention | None = None) -> Keypoints2D:
    """Keypoints in a file of any known kind, told by its content.

    Args:
        file: see the package's docstring.
        asked: the convention that the user says it has.

    Raises:
        InputError: damaged, unsafe, too large, of no known kind, of an unknown convention, or of
            another convention than asked for.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except OSError as error:
        raise InputError(f"{file}: not an npz file of keypoints ({error})") from error
    if file.suffix.lower() == ".json" or start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return _read_json(file, asked)
    if start[:4] == _ZIP and "positions_2d" in _members(file):
        # Imports much that no other kind needs.
        from gridpose.pipeline.keypoint_input.videopose3d import read_videopose3d

        return read_videopose3d(file, asked)
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
    if isinstance(content, dict):
        if "instance_info" in content:
            return read_mmpose(file, content["instance_info"], content.get("meta_info", {}), asked)
        if "annotations" in content:
            return read_annotations(file, content, asked)
    if isinstance(content, list):
        if is_results(content):
            return read_results(file, content, asked)
        return read_mmpose(file, content, None, asked)
    raise InputError(
        f"{file}: not a JSON file of keypoints: neither COCO's annotations or results nor mmpose's "
        "predictions"
    )
