"""Arrays: own ``.npz`` files of keypoints, pose files, which have the same names, and others."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import AnyArray, InputError
from gridpose.detectors.conventions import COCO_17, HUMAN36M_17, Convention
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D, frame_rate
from gridpose.pipeline.keypoint_input.naming import MAX_KEYPOINTS, by_names, choose
from gridpose.storage import NPZ_ERRORS

KEYS: Final = ("keypoints_2d", "keypoints_px")
_NUMBERS: Final = (*KEYS, "image_size", "confidence")
_OTHERS: Final = ("joint_names", "fps", "track_id", "row_track", "is_sequence")


def read_arrays(file: Path, asked: Convention | None) -> Keypoints2D:
    """An ``.npz`` with ``keypoints_2d`` or ``keypoints_px``, (..., K, 2) pixels.

    It may have ``image_size``, (2,) or one width and height for each pose, ``confidence``,
    (..., K), ``joint_names``, (K,), ``fps``, which says that poses are frames, and, as pose files
    of (P, T, K, 2), ``track_id``, (P,). Without names 17 keypoints are Human3.6M-17.

    Raises:
        InputError: not such a file.
    """
    try:
        with np.load(file, allow_pickle=False) as data, np.errstate(over="ignore"):
            found = {name: _real(data[name]) for name in _NUMBERS if name in data}
            found |= {name: np.asarray(data[name]) for name in _OTHERS if name in data}
    except NPZ_ERRORS as error:
        raise InputError(f"{file}: not an npz file of keypoints ({error})") from error
    key = next((key for key in KEYS if key in found), None)
    if key is None:
        return _read_other(file, asked)
    keypoints = found[key]
    size, confidence, names, rate = map(
        found.get, ("image_size", "confidence", "joint_names", "fps")
    )
    count = keypoints.shape[-2] if keypoints.ndim >= 2 else 0
    if keypoints.ndim < 2 or keypoints.shape[-1] != 2 or not 0 < count <= MAX_KEYPOINTS:
        raise InputError(f"{file}: {key} must be (..., 17, 2), got {keypoints.shape}")
    statement = None
    if names is not None:
        if names.shape != (count,) or names.dtype.kind != "U":
            raise InputError(f"{file}: joint_names must be {count} names, one for each keypoint")
        statement = by_names(names.tolist(), str(file))
    convention, stated = choose(file, count, asked, statement, HUMAN36M_17)
    if size is not None and not (np.isfinite(size) & (size > 0)).all():
        raise InputError(f"{file}: image_size must be positive widths and heights")
    if confidence is not None and confidence.shape != keypoints.shape[:-1]:
        raise InputError(
            f"{file}: confidence {confidence.shape} does not go with {key} {keypoints.shape}"
        )
    fps = None
    if rate is not None and found.get("is_sequence", True):
        fps = _rate(rate, file)
    who = found.get("track_id")
    people: tuple[int | str, ...] = ()
    listed = "row_track" in found  # then axes are those of what was lifted, not a pose file's
    if who is not None and not listed and keypoints.ndim == 4 and who.shape == keypoints.shape[:1]:
        people = tuple(who.tolist()) if len(np.unique(who)) == len(who) else ()
    return Keypoints2D(keypoints, convention, stated, confidence, size, track_names=people, fps=fps)


def _real(values: AnyArray) -> AnyArray:
    """As float32; complex numbers are no places."""
    if values.dtype.kind == "c":
        raise ValueError("has complex numbers")
    return values.astype(np.float32)


def _rate(value: AnyArray, file: Path) -> float:
    if value.shape != () or value.dtype.kind not in "fiu":
        raise InputError(f"{file}: fps must be one positive number")
    return frame_rate(float(value), str(file))


def read_npy(file: Path, asked: Convention | None) -> Keypoints2D:
    """One array, as :func:`of_frames` takes it.

    Raises:
        InputError: not such a file.
    """
    try:
        values = np.load(file, allow_pickle=False)
    except NPZ_ERRORS as error:
        raise InputError(f"{file}: not an npy file of keypoints ({error})") from error
    if not is_poses(values):
        raise InputError(
            f"{file}: must be (frames, keypoints, 2 or 3) or (frames, people, keypoints, 2 or 3) "
            f"numbers, not {values.shape} {values.dtype}"
        )
    return of_frames(file, values, "", asked, None, None)


def _read_other(file: Path, asked: Convention | None) -> Keypoints2D:
    """The only array of a file that can be poses, whatever it is called."""
    try:
        with np.load(file, allow_pickle=False) as data:
            names = [name for name in data.files if name not in (*_NUMBERS, *_OTHERS)]
            shapes = {name: data[name] for name in names}
            size, fps = data.get("image_size"), data.get("fps")
    except NPZ_ERRORS as error:
        raise InputError(f"{file}: not an npz file of keypoints ({error})") from error
    fitting = [name for name, values in shapes.items() if is_poses(values)]
    if len(fitting) != 1:
        what = "none of them is" if not fitting else f"{', '.join(fitting[:5])} all are"
        raise InputError(
            f"{file}: has neither {KEYS[0]} nor {KEYS[1]}, but {', '.join(names[:9]) or 'nothing'};"
            f" {what} (frames, keypoints, 2 or 3) numbers"
        )
    return of_frames(file, shapes[fitting[0]], fitting[0], asked, size, fps)


def is_poses(values: AnyArray) -> bool:
    """Whether an array may be keypoints: (..., K, 2 or 3) numbers."""
    return (
        values.dtype.kind in "fiu"
        and 2 <= values.ndim <= 4
        and values.shape[-1] in (2, 3)
        and 12 < values.shape[-2] <= MAX_KEYPOINTS
    )


def of_frames(
    file: Path,
    values: AnyArray,
    key: str,
    asked: Convention | None,
    size: AnyArray | None,
    fps: AnyArray | None,
) -> Keypoints2D:
    """(T, K, C) of one person, or (T, P, K, C) or (P, T, K, C) of several, C being 2 or 3.

    A third number is a confidence. Which axis is time is told by how far people move along it. All
    0 is absent.

    Raises:
        InputError: of no known convention, or image_size or fps that are none.
    """
    with np.errstate(over="ignore"):
        poses = np.array(values, np.float32).reshape(-1, *values.shape[-2:])
    joined = (poses == 0).all(-1)
    poses[joined, :2] = np.nan
    track, frame = frames_of(values[..., :2])
    convention, stated = choose(file, poses.shape[1], asked, None, COCO_17)
    if size is not None and (
        size.shape != (2,) or size.dtype.kind not in "fiu" or not (size > 0).all()
    ):
        raise InputError(f"{file}: image_size must be a positive width and height")
    confidence = poses[..., 2] if poses.shape[-1] == 3 else None
    note = f"{file}: read {key}, {values.shape}, as frames of {convention.name}"
    return Keypoints2D(
        poses[..., :2],
        convention,
        stated,
        confidence,
        None if size is None else size.astype(np.float32),
        columns={"frame": frame},
        track=track,
        fps=None if fps is None else _rate(fps, file),
        frames=(0, int(frame.max(initial=0))),
        notes=(note,) if key else (),
    )


def frames_of(keypoints: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Person and frame (N,) of each of all poses in a row, from keypoints (..., K, 2) px.

    Of two axes time is the one along which people move less; of more, the last.
    """
    lead = keypoints.shape[:-2]
    index = np.arange(int(np.prod(lead)), dtype=np.int64)
    if len(lead) < 2:
        return np.zeros_like(index), index
    length = lead[-1]
    if len(lead) == 2 and _step(keypoints, 0) < _step(keypoints, 1):
        return index % length, index // length
    return index // length, index % length


def _step(keypoints: AnyArray, axis: int) -> float:
    """Median distance of keypoints (A, B, K, 2) from those before along an axis."""
    if keypoints.shape[axis] < 2:  # along one of length 1 nothing is a step
        return np.inf
    # In float64, in which no step between float32 is infinite.
    steps = np.linalg.norm(np.diff(np.asarray(keypoints, np.float64), axis=axis), axis=-1)
    known = steps[np.isfinite(steps)]
    return float(np.median(known)) if len(known) else np.inf
