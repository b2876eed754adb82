"""A whole data set on the device, prepared once; batches are rows picked from it."""

from __future__ import annotations

import torch
from torch import Tensor

from gridpose.core import FloatArray
from gridpose.lifting.model.sgt import semantic_grid_transform

_ROWS = 1 << 16


class DeviceBatches:
    """Network inputs and targets of all poses as tensors on one device.

    Args:
        keypoints_px: (N, 17, 2) pixels of 1000 px frames; normalised as published,
            ``(p - 500) / 500``.
        poses: (N, 17, 3) metres, hip-relative, camera axes.
        device: where the tensors live. A GPU needs 0.34 GB (0.5 GB with grids) a million poses.
        grid_inputs: lay the inputs out on the handcrafted grid, (N, 2, 5, 5).
        grid_targets: lay the targets out on it, (N, 3, 5, 5), for a loss on the grid.

    Attributes:
        inputs: (N, 17, 2) or (N, 2, 5, 5) float32.
        targets: (N, 17, 3) or (N, 3, 5, 5) float32.
    """

    def __init__(
        self,
        keypoints_px: FloatArray,
        poses: FloatArray,
        device: torch.device | str = "cpu",
        *,
        grid_inputs: bool = False,
        grid_targets: bool = False,
    ) -> None:
        if len(keypoints_px) != len(poses) or len(poses) == 0:
            raise ValueError(f"{len(keypoints_px)} keypoint sets and {len(poses)} poses")
        self.device = torch.device(device)
        self.inputs = self._prepare(keypoints_px, grid_inputs, normalise=True)
        self.targets = self._prepare(poses, grid_targets, normalise=False)

    def __len__(self) -> int:
        return len(self.inputs)

    def _prepare(self, array: FloatArray, grid: bool, normalise: bool) -> Tensor:
        """Fill a tensor on the device piece by piece: little more than the result is held."""
        width = array.shape[-1]
        shape = (len(array), width, 5, 5) if grid else tuple(array.shape)
        result = torch.empty(shape, dtype=torch.float32, device=self.device)
        for start in range(0, len(array), _ROWS):
            rows = torch.from_numpy(array[start : start + _ROWS].copy())
            if self.device.type == "cuda":
                rows = rows.pin_memory().to(self.device, non_blocking=True)
            else:
                rows = rows.to(self.device)
            if normalise:
                rows = (rows - 500) / 500
            result[start : start + len(rows)] = semantic_grid_transform(rows) if grid else rows
        return result

    def batch(self, index: Tensor) -> dict[str, Tensor]:
        """The rows ``index`` (B,) int64, on the device, of ``inputs`` and ``targets``."""
        return {
            "inputs": self.inputs.index_select(0, index),
            "targets": self.targets.index_select(0, index),
        }

    def order(self, generator: torch.Generator | None) -> Tensor:
        """See :func:`row_order`."""
        return row_order(len(self), self.device, generator)


def row_order(count: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """All row numbers (count,) on the device, shuffled; in their order without a generator.

    A CPU generator gives the same order whatever the device.
    """
    if generator is None:
        return torch.arange(count, device=device)
    order = torch.randperm(count, generator=generator, device=generator.device)
    if device.type == "cuda" and order.device.type == "cpu":
        return order.pin_memory().to(device, non_blocking=True)
    return order.to(device)
