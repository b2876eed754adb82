"""Lifting 2D keypoints that the user already has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gridpose.core import JOINT_NAMES, NUM_JOINTS, FloatArray, InputError
from gridpose.pipeline.posefile import NPZ_ERRORS
from gridpose.storage import replacing

if TYPE_CHECKING:
    from gridpose.lifting import Lifter

KEYS = ("keypoints_2d", "keypoints_px")


def read_keypoints(file: Path) -> tuple[FloatArray, FloatArray | None]:
    """Keypoints and, where the file has it, the image size.

    Args:
        file: ``.npz`` with ``keypoints_2d`` or ``keypoints_px``, (..., 17, 2) pixels in
            Human3.6M-17 order, and ``image_size``, (2,) or one width and height for each pose.

    Raises:
        InputError: not such a file.
    """
    try:
        with np.load(file, allow_pickle=False) as data:
            key = next((key for key in KEYS if key in data), None)
            if key is None:
                raise InputError(f"{file}: has neither {KEYS[0]} nor {KEYS[1]}")
            keypoints = np.asarray(data[key], np.float32)
            size = np.asarray(data["image_size"], np.float32) if "image_size" in data else None
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except NPZ_ERRORS as error:
        raise InputError(f"{file}: not an npz file of keypoints ({error})") from error
    if keypoints.ndim < 2 or keypoints.shape[-2:] != (NUM_JOINTS, 2):
        raise InputError(f"{file}: {key} must be (..., 17, 2), got {keypoints.shape}")
    if size is not None and not (np.isfinite(size) & (size > 0)).all():
        raise InputError(f"{file}: image_size must be positive widths and heights")
    return keypoints, size


def lift_file(
    source: Path,
    target: Path,
    lifter: Lifter,
    image_size: tuple[int, int] | None = None,
    fov_degrees: float | None = None,
) -> tuple[int, ...]:
    """Lift the keypoints of ``source`` and write ``poses_3d`` to ``target``.

    ``poses_3d`` is (..., 17, 3) metres, hip at the origin, camera axes; poses with a keypoint that
    is not finite are NaN. The keypoints and the image size are kept beside it.

    Returns:
        Shape of ``poses_3d``.

    Raises:
        InputError: not a keypoint file, or no image size in it and none given.
    """
    keypoints, stored_size = read_keypoints(source)
    size = stored_size if image_size is None else np.asarray(image_size, np.float32)
    if size is None:
        raise InputError(f"{source}: has no image_size; give it with --image-size WIDTHxHEIGHT")
    lead = keypoints.shape[:-2]
    if size.shape != (2,):
        try:
            size = np.broadcast_to(size.reshape((*size.shape[:-1], 2)), (*lead, 2)).reshape(-1, 2)
        except ValueError as error:
            raise InputError(
                f"{source}: image_size {size.shape} does not go with keypoints {keypoints.shape}"
            ) from error
    poses = lifter.lift(keypoints.reshape(-1, NUM_JOINTS, 2), size, fov_degrees)
    poses = poses.reshape(*lead, NUM_JOINTS, 3)
    with replacing(target) as partial, partial.open("wb") as stream:
        np.savez_compressed(
            stream,
            poses_3d=poses,
            keypoints_2d=keypoints,
            image_size=size.reshape(*lead, 2) if size.ndim == 2 else size,
            joint_names=np.array(JOINT_NAMES),
        )
    return poses.shape
