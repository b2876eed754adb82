"""Crops made on the device that the network runs on, from whole frames uploaded to it.

The same numbers as :func:`gridpose.detectors.crops.cut`, which is OpenCV's ``warpAffine``: places
in the frame are rounded to 1/32 px, weights to 1/32768, all in whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridpose.core import DoubleArray, ImageArray

_PLACE_BITS, _TABLE_BITS, _WEIGHT_BITS = 10, 5, 15
_STEPS = 1 << _TABLE_BITS


def upload(frames: Sequence[ImageArray], device: torch.device) -> Tensor:
    """(F, H, W, 3) uint8 frames on the device; on a GPU the copies are still under way."""
    staging = torch.empty(
        (len(frames), *frames[0].shape), dtype=torch.uint8, pin_memory=device.type == "cuda"
    )
    uploaded = torch.empty(staging.shape, dtype=torch.uint8, device=device)
    for frame, pinned, target in zip(frames, staging, uploaded, strict=True):
        # Pinned memory comes from a pool that waits for copies under way.
        np.copyto(pinned.numpy(), frame)
        target.copy_(pinned, non_blocking=True)
    return uploaded


def cut_on_device(
    frames: Tensor,
    frame_of_crop: Sequence[int],
    matrices: DoubleArray,
    size: tuple[int, int],
) -> Tensor:
    """What ``matrices`` (N, 2, 3) map to, black outside frames.

    Args:
        frames: (F, H, W, 3) uint8.
        frame_of_crop: index of the frame that each crop is of.
        matrices: affine maps from frames to crops, without rotation or shear.
        size: (width, height) of the crops.

    Returns:
        (N, height, width, 3) uint8 on the frames' device.
    """
    count, height, width = frames.shape[:3]
    places = _places(matrices, size)
    if not 0 <= min(frame_of_crop, default=0) <= max(frame_of_crop, default=0) < count:
        raise ValueError(f"a crop of another frame than the {count} given")
    # One small upload for all crops.
    held = torch.from_numpy(np.concatenate((np.array(frame_of_crop)[:, None], *places), axis=1))
    if frames.device.type == "cuda":
        held = held.pin_memory().to(frames.device, non_blocking=True)
    frame, column, row = torch.split(held, [1, *size], dim=1)
    left, right = _neighbours(column, width)
    above, below = _neighbours(row, height)
    pixels = frames.view(-1, 3)
    total: Tensor | None = None
    for y, y_weight in (above, below):
        start = ((frame * height + y) * width)[:, :, None]
        for x, x_weight in (left, right):
            picked = pixels.index_select(0, (start + x[:, None]).flatten()).to(torch.int32)
            weight = (y_weight[:, :, None] * x_weight[:, None]).view(-1, 1)
            total = picked.mul_(weight) if total is None else total.add_(picked.mul_(weight))
    assert total is not None
    scale = _WEIGHT_BITS - 2 * _TABLE_BITS
    rounded = ((total << scale) + (1 << (_WEIGHT_BITS - 1))) >> _WEIGHT_BITS
    return rounded.to(torch.uint8).view(len(held), size[1], size[0], 3)


def _places(
    matrices: DoubleArray, size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where columns (N, width) and rows (N, height) of crops lie in the frame, in 1/32 px.

    Rounded as OpenCV does: the step and the start apart.
    """
    scales, shifts = matrices[:, (0, 1), (0, 1)], matrices[:, :, 2]
    inverse = scales[:, ::-1] * (1 / scales.prod(1, keepdims=True))
    starts = -inverse * shifts
    unit = 1 << _PLACE_BITS

    def along(axis: int) -> NDArray[np.int64]:
        steps = np.rint(inverse[:, axis, None] * np.arange(size[axis]) * unit)
        start = np.rint(starts[:, axis, None] * unit)
        half = unit // _STEPS // 2
        places: NDArray[np.int64] = start.astype(np.int64) + steps.astype(np.int64) + half
        return places >> (_PLACE_BITS - _TABLE_BITS)

    return along(0), along(1)


def _neighbours(place: Tensor, length: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The pixels before and after places in 1/32 px, each with its weight, 0 outside the frame."""
    before, part = place >> _TABLE_BITS, place & (_STEPS - 1)

    def one(index: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        inside = (index >= 0) & (index < length)
        return index.clamp(0, length - 1), (weight * inside).to(torch.int32)

    return one(before, _STEPS - part), one(before + 1, part)
