"""Bones keep their lengths; poses lifted frame by frame do not quite."""

from __future__ import annotations

import numpy as np

from gridpose.core import BONES, PARENTS, AnyArray, DoubleArray


def bone_lengths(poses: AnyArray) -> DoubleArray:
    """Median length (17,) of the bone that ends in each joint of (T, 17, 3); 0 for the hip.

    Poses that are NaN are left out.
    """
    bones = poses.astype(np.float64) - poses[:, [max(parent, 0) for parent in PARENTS]]
    return np.asarray(np.nanmedian(np.linalg.norm(bones, axis=-1), axis=0))


def with_constant_lengths(poses: AnyArray, lengths: DoubleArray | None = None) -> DoubleArray:
    """Poses (T, 17, 3) whose bones keep their directions and have ``lengths`` (17,).

    The hip stays where it is. A bone without length in some frame points as it did before.

    Args:
        poses: in any unit.
        lengths: of the bone that ends in each joint; else the medians.
    """
    lengths = bone_lengths(poses) if lengths is None else lengths
    rigid = poses.astype(np.float64)
    for parent, child in BONES:
        bone = poses[:, child].astype(np.float64) - poses[:, parent]
        rigid[:, child] = rigid[:, parent] + lengths[child] * _directions(bone)
    return rigid


def _directions(bones: DoubleArray) -> DoubleArray:
    """Unit vectors of (T, 3); of a vector without direction, the nearest earlier or first one."""
    length = np.linalg.norm(bones, axis=-1)
    clear = ~(length <= 1e-9)
    index = np.maximum.accumulate(np.where(clear, np.arange(len(bones)), -1))
    index = np.where(index < 0, clear.argmax(), index)
    return np.asarray(bones[index] / np.maximum(length[index], 1e-9)[:, None])
