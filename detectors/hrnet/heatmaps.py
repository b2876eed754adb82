"""From heatmaps to keypoints, for whole batches on any device.

The same numbers as mmpose's codecs, which handle one person at a time on the CPU. ``heatmaps`` are
(N, K, H, W) float32; locations are (N, K, 2) heatmap pixels, x right, y down, the centre of the
first pixel being (0, 0).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final

import cv2
import torch
from torch import Tensor
from torch.nn import functional

_NOTHING: Final = -1.0


def maxima(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Where each heatmap is highest.

    Returns:
        (N, K, 2) locations, -1 where the map is nowhere positive, and (N, K) heights.
    """
    width = heatmaps.shape[-1]
    scores, index = heatmaps.flatten(2).max(-1)
    locations = torch.stack((index % width, index // width), -1).to(heatmaps.dtype)
    return locations.where(scores[..., None] > 0, _NOTHING), scores


def refine_quarter(locations: Tensor, heatmaps: Tensor) -> Tensor:
    """Move each location a quarter of a pixel towards its higher neighbour (Newell et al. 2016)."""
    height, width = heatmaps.shape[-2:]
    at = _around(heatmaps, locations)
    x, y = locations.unbind(-1)
    # mmpose's bounds, which leave out the first two columns and rows but the last one only.
    in_x = (x > 1) & (x < width - 1) & (y > 0)
    in_y = (y > 1) & (y < height - 1) & (x > 0)
    across, along = at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)
    steps = torch.stack((across.sign() * in_x, along.sign() * in_y), -1)
    return locations + 0.25 * steps.to(locations.dtype)


def refine_dark(locations: Tensor, heatmaps: Tensor, blur_kernel_size: int) -> Tensor:
    """Newton step on the blurred heatmaps' logarithm (Zhang et al. 2020, arXiv:1910.06278)."""
    height, width = heatmaps.shape[-2:]
    at = _around(_blurred(heatmaps, blur_kernel_size).clamp_min(1e-10).log(), locations)
    centre = at(0, 0)
    slope_x, slope_y = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    bend_x = (at(2, 0) - 2 * centre + at(-2, 0)) / 4
    bend_y = (at(0, 2) - 2 * centre + at(0, -2)) / 4
    twist = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    step = _newton_step(slope_x, slope_y, bend_x, bend_y, twist, blur_kernel_size)
    x, y = locations.unbind(-1)
    inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    return locations + step.where(inside[..., None], 0).to(locations.dtype)


def refine_dark_udp(locations: Tensor, heatmaps: Tensor, blur_kernel_size: int) -> Tensor:
    """As :func:`refine_dark`, in the variant of UDP (Huang et al. 2020, arXiv:1911.07524)."""
    at = _around(_blurred(heatmaps, blur_kernel_size).clamp(1e-3, 50.0).log(), locations)
    centre = at(0, 0)
    slope_x, slope_y = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    tiny = torch.finfo(torch.float32).eps
    bend_x = at(1, 0) - 2 * centre + at(-1, 0) + tiny
    bend_y = at(0, 1) - 2 * centre + at(0, -1) + tiny
    twist = (at(1, 1) - at(1, 0) - at(0, 1) + 2 * centre - at(-1, 0) - at(0, -1) + at(-1, -1)) / 2
    step = _newton_step(slope_x, slope_y, bend_x, bend_y, twist, blur_kernel_size)
    return locations + step.to(locations.dtype)


def _newton_step(
    slope_x: Tensor,
    slope_y: Tensor,
    bend_x: Tensor,
    bend_y: Tensor,
    twist: Tensor,
    blur_kernel_size: int,
) -> Tensor:
    """Minus the inverse Hessian times the gradient, (N, K, 2).

    Where the map is flat that is a leap to anywhere, which mmpose makes: here there is no step
    beyond what the blur covers.
    """
    determinant = bend_x * bend_y - twist**2
    step = torch.stack((twist * slope_y - bend_y * slope_x, twist * slope_x - bend_x * slope_y), -1)
    step = step / determinant[..., None]
    bounded = step.norm(dim=-1, keepdim=True) <= blur_kernel_size // 2
    return step.where(bounded, 0)  # NaN is not bounded


def _around(heatmaps: Tensor, locations: Tensor) -> Callable[[int, int], Tensor]:
    """Of (dx, dy) the values there from the locations, (N, K); beyond the border those on it."""
    height, width = heatmaps.shape[-2:]
    x, y = locations.long().unbind(-1)
    values = heatmaps.flatten(2)

    def at(dx: int, dy: int) -> Tensor:
        index = (y + dy).clamp(0, height - 1) * width + (x + dx).clamp(0, width - 1)
        return values.gather(-1, index[..., None])[..., 0].double()

    return at


@lru_cache(maxsize=8)
def _gaussian(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # kept for later callers
        return torch.from_numpy(cv2.getGaussianKernel(size, 0)).to(device, dtype)


def _blurred(heatmaps: Tensor, kernel_size: int) -> Tensor:
    """Blurred with OpenCV's Gaussian of this size, each map as high as before."""
    kernel = _gaussian(kernel_size, heatmaps.device, heatmaps.dtype)
    border = kernel_size // 2
    flat = heatmaps.flatten(0, 1)[:, None]
    blurred = functional.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, border))
    blurred = functional.conv2d(blurred, kernel.view(1, 1, -1, 1), padding=(border, 0))
    blurred = blurred[:, 0].view_as(heatmaps)
    return blurred * (heatmaps.amax((-2, -1), keepdim=True) / blurred.amax((-2, -1), keepdim=True))


@lru_cache(maxsize=8)
def _indices(places: tuple[int, ...], device: torch.device) -> Tensor:
    """On the device once: a GPU waits for each copy of a list."""
    with torch.inference_mode(False):  # kept for later callers
        return torch.tensor(places, device=device)


def flipped(heatmaps: Tensor, counterparts: list[int], shift: bool) -> Tensor:
    """Heatmaps of mirrored crops as seen in the crops themselves.

    Args:
        counterparts: for each keypoint its counterpart on the other side of the body.
        shift: move them one pixel to the right, where pixels and not their distances were counted.
    """
    order = _indices(tuple(counterparts), heatmaps.device)
    mirrored = heatmaps.flip(-1).index_select(1, order)
    if shift:
        mirrored = torch.cat((mirrored[..., :1], mirrored[..., :-1]), -1)
    return mirrored


Decoder = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(N, K, H, W) heatmaps to (N, K, 2) float64 px in the crop and (N, K) heights."""


def decoder_for(codec: Any) -> Decoder | None:
    """The decoder for the heatmaps of one of mmpose's codecs; None for a codec not known here."""
    kind = type(codec).__name__
    if kind == "MSRAHeatmap":
        kernel = codec.blur_kernel_size if codec.unbiased else None
        return partial(_decode, crop_size=codec.input_size, udp=False, blur_kernel_size=kernel)
    if kind == "UDPHeatmap" and codec.heatmap_type == "gaussian":
        kernel = codec.blur_kernel_size
        return partial(_decode, crop_size=codec.input_size, udp=True, blur_kernel_size=kernel)
    return None


def _decode(
    heatmaps: Tensor, *, crop_size: tuple[int, int], udp: bool, blur_kernel_size: int | None
) -> tuple[Tensor, Tensor]:
    locations, scores = maxima(heatmaps)
    if blur_kernel_size is None:
        locations = refine_quarter(locations, heatmaps)
    elif udp:
        locations = refine_dark_udp(locations, heatmaps, blur_kernel_size)
    else:
        locations = refine_dark(locations, heatmaps, blur_kernel_size)
    height, width = heatmaps.shape[-2:]
    x, y = locations.double().unbind(-1)
    # By numbers: a tensor of them would be a copy that a GPU waits for.
    placed = (x / (width - udp) * crop_size[0], y / (height - udp) * crop_size[1])
    return torch.stack(placed, -1), scores
