"""The handcrafted semantic grid transform (SGT): 17 joints to a 5x5 grid and back.

Kang et al., "3D Human Pose Lifting with Grid Convolution", AAAI 2023. Rows run from the trunk
(row 0, spine) to the ends of the limbs (row 4); neighbouring cells hold neighbouring joints:

     7  7    7    7  7
     0  8    8    8  0
     1 14 (8+9)/2 11 4
     2 15    9    12 5
     3 16   10    13 6

Joints are numbered as in Human3.6M-17 (:data:`gridpose.core.JOINT_NAMES`). Both directions are
linear, hence each is one small matrix.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from gridpose.core import NUM_JOINTS, AnyArray, DoubleArray

GRID_SHAPE: Final = (5, 5)

# Each cell is the mean of the joints listed.
_CELLS: Final = (
    ((7,), (7,), (7,), (7,), (7,)),
    ((0,), (8,), (8,), (8,), (0,)),
    ((1,), (14,), (8, 9), (11,), (4,)),
    ((2,), (15,), (9,), (12,), (5,)),
    ((3,), (16,), (10,), (13,), (6,)),
)

ArrayOrTensor = TypeVar("ArrayOrTensor", Tensor, AnyArray)


def _matrices() -> tuple[DoubleArray, DoubleArray]:
    """``(to_grid (25, 17), to_joints (17, 25))``."""
    height, width = GRID_SHAPE
    to_grid = np.zeros((height * width, NUM_JOINTS))
    to_joints = np.zeros((NUM_JOINTS, height * width))
    for row, cells in enumerate(_CELLS):
        for column, joints in enumerate(cells):
            cell = row * width + column
            to_grid[cell, list(joints)] = 1 / len(joints)
            # The midpoint cell is written but never read back.
            if len(joints) == 1:
                to_joints[joints[0], cell] = 1
    return to_grid, to_joints / to_joints.sum(axis=1, keepdims=True)


@lru_cache(maxsize=8)
def sgt_matrices(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The two transforms as tensors, ``(to_grid (25, 17), to_joints (17, 25))``."""
    to_grid, to_joints = _matrices()
    # Kept for later callers: tensors made in inference mode could never take part in training.
    with torch.inference_mode(False):
        return (
            torch.as_tensor(to_grid, dtype=dtype, device=device),
            torch.as_tensor(to_joints, dtype=dtype, device=device),
        )


def semantic_grid_transform(poses: ArrayOrTensor) -> ArrayOrTensor:
    """Lay joints out on the grid: ``(N, 17, C)`` -> ``(N, C, 5, 5)``, same type and dtype.

    Raises:
        ValueError: the input is not ``(N, 17, C)``.
    """
    if poses.ndim != 3 or poses.shape[1] != NUM_JOINTS:
        raise ValueError(f"poses must be (N, 17, C), got {tuple(poses.shape)}")
    count, _, channels = poses.shape
    if isinstance(poses, torch.Tensor):
        to_grid, _ = sgt_matrices(poses.device, poses.dtype)
        return (to_grid @ poses).transpose(1, 2).reshape(count, channels, *GRID_SHAPE)
    grid = np.asarray(_matrices()[0] @ poses, dtype=poses.dtype)
    return grid.transpose(0, 2, 1).reshape(count, channels, *GRID_SHAPE)


def inverse_semantic_grid_transform(grid: ArrayOrTensor) -> ArrayOrTensor:
    """Read joints off the grid: ``(N, C, 5, 5)`` -> ``(N, 17, C)``, same type and dtype.

    A joint that occupies several cells is their mean; nose (9) is read from cell (3, 2) alone.

    Raises:
        ValueError: the input is not ``(N, C, 5, 5)``.
    """
    if grid.ndim != 4 or tuple(grid.shape[2:]) != GRID_SHAPE:
        raise ValueError(f"grid must be (N, C, 5, 5), got {tuple(grid.shape)}")
    count, channels = grid.shape[:2]
    if isinstance(grid, torch.Tensor):
        _, to_joints = sgt_matrices(grid.device, grid.dtype)
        return to_joints @ grid.flatten(2).transpose(1, 2)
    cells = grid.reshape(count, channels, math.prod(GRID_SHAPE)).transpose(0, 2, 1)
    return np.asarray(_matrices()[1] @ cells, dtype=grid.dtype)
