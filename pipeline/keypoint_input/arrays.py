"""Own ``.npz`` files of keypoints, and pose files, which have the same names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import InputError
from gridpose.detectors.conventions import HUMAN36M_17, Convention
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D
from gridpose.pipeline.keypoint_input.naming import MAX_KEYPOINTS, by_names, choose
from gridpose.storage import NPZ_ERRORS

KEYS: Final = ("keypoints_2d", "keypoints_px")
_NUMBERS: Final = (*KEYS, "image_size", "confidence")
_OTHERS: Final = ("joint_names", "fps")


def read_arrays(file: Path, asked: Convention | None) -> Keypoints2D:
    """An ``.npz`` with ``keypoints_2d`` or ``keypoints_px``, (..., K, 2) pixels.

    It may have ``image_size``, (2,) or one width and height for each pose, ``confidence``,
    (..., K), ``joint_names``, (K,), and ``fps``, which says that the axis before the keypoints
    is time, as in pose files. Without these names 17 keypoints are Human3.6M-17.

    Raises:
        InputError: not such a file.
    """
    try:
        with np.load(file, allow_pickle=False) as data, np.errstate(over="ignore"):
            found = {name: np.asarray(data[name], np.float32) for name in _NUMBERS if name in data}
            found |= {name: np.asarray(data[name]) for name in _OTHERS if name in data}
    except NPZ_ERRORS as error:
        raise InputError(f"{file}: not an npz file of keypoints ({error})") from error
    key = next((key for key in KEYS if key in found), None)
    if key is None:
        raise InputError(f"{file}: has neither {KEYS[0]} nor {KEYS[1]}")
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
    if rate is not None:
        if rate.shape != () or rate.dtype.kind not in "fiu" or not 0 < rate < np.inf:
            raise InputError(f"{file}: fps must be one positive number")
        fps = float(rate)
    return Keypoints2D(keypoints, convention, stated, confidence, size, fps=fps)
