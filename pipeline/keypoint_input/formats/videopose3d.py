"""VideoPose3D's ``data_2d_*.npz``: Human3.6M's and those of own videos.

``positions_2d``: subject -> action -> one (T, K, 2) array of pixels for each camera; ``metadata``:
``layout_name``, ``num_joints``, ``keypoints_symmetry`` and, of own videos, ``video_metadata``:
subject -> ``w``, ``h``. Both are pickled dictionaries, which are read without running anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from gridpose.core import AnyArray, InputError
from gridpose.detectors.conventions import COCO_17, HUMAN36M_17, Convention
from gridpose.lifting.data.convert import STATIC_JOINTS, by_name, read_objects
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D, picture_size
from gridpose.pipeline.keypoint_input.naming import (
    MAX_KEYPOINTS,
    Statement,
    agree,
    by_layout,
    choose,
)

_ALL_JOINTS: Final = 32
_SYMMETRY: Final[dict[tuple[tuple[int, ...], ...], Convention]] = {
    ((4, 5, 6, 11, 12, 13), (1, 2, 3, 14, 15, 16)): HUMAN36M_17,
    ((1, 3, 5, 7, 9, 11, 13, 15), (2, 4, 6, 8, 10, 12, 14, 16)): COCO_17,
}
"""Left and right keypoints."""
_HUMAN36M_SIZES: Final = ((1000, 1002), (1000, 1000), (1000, 1000), (1000, 1002))
"""Width and height of Human3.6M's pictures, in the order of ``h36m_cameras.LENSES``."""
_HUMAN36M_FPS: Final = 50.0
_HUMAN36M_SUBJECTS: Final = frozenset({"S1", "S5", "S6", "S7", "S8", "S9", "S11"})


def read_videopose3d(file: Path, asked: Convention | None) -> Keypoints2D:
    """All sequences, one after the other in the file's order.

    Columns: ``subject``, ``action``, ``camera`` (0, 1...), ``frame`` (0, 1...). A third number of
    each keypoint is its confidence.

    Raises:
        InputError: not such a file.
    """
    try:
        objects = read_objects(file, "positions_2d", "metadata")
    except (NotImplementedError, RuntimeError, MemoryError) as error:  # of zipfile: encrypted...
        raise InputError(f"{file}: not an npz file of VideoPose3D ({error})") from error
    metadata = by_name(objects.get("metadata", {}), f"{file}: metadata")
    parts: list[AnyArray] = []
    places: list[tuple[str, str, int]] = []
    for subject, action, camera, value in _views(objects["positions_2d"], file):
        where = f"{file}: {subject} {action}, camera {camera}"
        part = _view(value, where)
        if parts and part.shape[1:] != parts[0].shape[1:]:
            raise InputError(f"{where} is {part.shape}, others in the file {parts[0].shape}")
        parts.append(part)
        places.append((subject, action, camera))
    if not parts:
        raise InputError(f"{file}: positions_2d has no sequences")
    stacked = np.concatenate(parts)
    convention, stated = choose(
        file, stacked.shape[1], asked, _statement(metadata, file), HUMAN36M_17
    )
    lengths = [len(part) for part in parts]
    subjects, actions, cameras = (np.array(each) for each in zip(*places, strict=True))
    return Keypoints2D(
        stacked[..., :2],
        convention,
        stated,
        stacked[..., 2] if stacked.shape[2] == 3 else None,
        _sizes(metadata, places, lengths, file),
        columns={
            "subject": np.repeat(subjects, lengths),
            "action": np.repeat(actions, lengths),
            "camera": np.repeat(cameras.astype(np.int64), lengths),
            "frame": np.concatenate([np.arange(length) for length in lengths]),
        },
        track=np.repeat(np.arange(len(lengths)), lengths),
        fps=_HUMAN36M_FPS if _is_human36m(places) else None,
    )


def _views(positions: Any, file: Path) -> Iterator[tuple[str, str, int, Any]]:
    """Subject, action, camera and what is said to be its keypoints."""
    for subject, actions in by_name(positions, f"{file}: positions_2d").items():
        for action, cameras in by_name(actions, f"{file}: subject {subject}").items():
            where = f"{file}: {subject} {action}"
            if isinstance(cameras, np.ndarray) and cameras.ndim == 3:
                cameras = [cameras]  # of one camera, not in a list
            listed = isinstance(cameras, (list, tuple))
            if not listed and not (isinstance(cameras, np.ndarray) and cameras.ndim):
                raise InputError(f"{where} must be a list of the cameras' arrays")
            for camera, view in enumerate(cameras):
                yield subject, action, camera, view


def _view(value: Any, where: str) -> AnyArray:
    """(T, K, 2 or 3) float32; Human3.6M's 32 joints become 17."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise InputError(f"{where} must be an array of numbers")
    if value.ndim != 3 or value.shape[2] not in (2, 3) or not 0 < value.shape[1] <= MAX_KEYPOINTS:
        raise InputError(f"{where} is {value.shape}; it must be (frames, keypoints, 2)")
    with np.errstate(over="ignore"):
        array = value.astype(np.float32)
    return np.delete(array, STATIC_JOINTS, axis=1) if array.shape[1] == _ALL_JOINTS else array


def _statement(metadata: dict[str, Any], file: Path) -> Statement | None:
    layout, symmetry = metadata.get("layout_name"), metadata.get("keypoints_symmetry")
    named = by_layout(layout, str(file)) if isinstance(layout, str) else None
    sides = None
    if isinstance(symmetry, np.ndarray):
        symmetry = symmetry.tolist()
    if isinstance(symmetry, (list, tuple)) and len(symmetry) == 2:
        try:
            key = tuple(tuple(int(joint) for joint in np.ravel(side)) for side in symmetry)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{file}: keypoints_symmetry must be left and right keypoints"
            ) from error
        sides = _SYMMETRY.get(key)
    return agree(named, sides, str(file))


def _sizes(
    metadata: dict[str, Any], places: list[tuple[str, str, int]], lengths: list[int], file: Path
) -> Any:
    """(N, 2) of all poses; None where the file does not tell all."""
    videos = metadata.get("video_metadata")
    sizes: list[tuple[float, float]] = []
    if isinstance(videos, Mapping):
        named = by_name(videos, f"{file}: video_metadata")
        for subject, _, _ in places:
            if subject not in named:
                return None
            video = by_name(named[subject], f"{file}: video_metadata of {subject}")
            if not {"w", "h"} <= video.keys():
                return None
            sizes.append(_size(video, f"{file}: video_metadata of {subject}"))
    elif _is_human36m(places):
        sizes = [_HUMAN36M_SIZES[camera] for _, _, camera in places]
    else:
        return None
    return np.repeat(np.array(sizes, np.float32), lengths, axis=0)


def _is_human36m(places: list[tuple[str, str, int]]) -> bool:
    """Whether these are Human3.6M's recordings: its people, seen by four cameras each."""
    cameras = Counter((subject, action) for subject, action, _ in places)
    named = {subject for subject, _ in cameras} <= _HUMAN36M_SUBJECTS
    return named and set(cameras.values()) == {len(_HUMAN36M_SIZES)}


def _size(video: dict[str, Any], where: str) -> tuple[float, float]:
    try:
        width, height = float(video["w"]), float(video["h"])
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: w and h must be numbers") from error
    return picture_size(width, height, where)
