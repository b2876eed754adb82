"""What a top-down network sees of a frame: one person's box, padded, at the network's size.

The geometry is mmpose's (``GetBBoxCenterScale`` and ``TopdownAffine``). A region is the centre (x,
y) and the size (width, height) of the part of the frame that fills a crop, in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from gridpose.core import DoubleArray, FloatArray, ImageArray


@dataclass(frozen=True)
class Regions:
    """``centers`` and ``sizes``, each (N, 2) float32: rounded like mmpose's, so crops are equal."""

    centers: FloatArray
    sizes: FloatArray

    def to_frame(self, keypoints: DoubleArray, crop_size: tuple[int, int]) -> FloatArray:
        """(N, K, 2) px in the crops, whose size is (width, height), as px in the frame."""
        scaled = keypoints / np.array(crop_size) * self.sizes[:, None]
        placed = scaled + self.centers[:, None] - 0.5 * self.sizes[:, None]
        return np.asarray(placed, np.float32)


def regions_of(boxes: FloatArray, crop_size: tuple[int, int], padding: float) -> Regions:
    """(N, 4) xyxy boxes, ``padding`` times as large, widened or heightened to the crops' shape."""
    boxes = np.asarray(boxes, np.float32)
    width, height = ((boxes[:, 2:] - boxes[:, :2]) * np.float32(padding)).T
    aspect = np.float32(crop_size[0] / crop_size[1])
    sizes = np.stack((np.maximum(width, height * aspect), np.maximum(height, width / aspect)), -1)
    return Regions((boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5), sizes)


def warp_matrices(regions: Regions, crop_size: tuple[int, int], udp: bool) -> DoubleArray:
    """(N, 2, 3) affine maps from frames to crops.

    With ``udp`` the centres of the outermost pixels are mapped on each other (Huang et al. 2020,
    arXiv:1911.07524), otherwise counts of pixels, by the width alone as mmpose does.
    """
    centers, sizes = regions.centers.astype(np.float64), regions.sizes.astype(np.float64)
    if udp:
        scale = (np.array(crop_size) - 1) / sizes
        shift = scale * (0.5 * sizes - centers)
    else:
        # From the float32 corners that mmpose solves for.
        half = centers[:, 0] - (regions.centers[:, 0] - np.float32(0.5) * regions.sizes[:, 0])
        below = (regions.centers[:, 1] + half.astype(np.float32)) - centers[:, 1]
        scale = 0.5 * crop_size[0] / np.stack((half, below), -1)
        shift = 0.5 * np.array(crop_size) - scale * centers
    matrices = np.zeros((len(scale), 2, 3))
    matrices[:, 0, 0], matrices[:, 1, 1] = scale.T
    matrices[:, :, 2] = shift
    return matrices.astype(np.float32).astype(np.float64) if udp else matrices


def cut(
    frames: Sequence[ImageArray],
    frame_of_crop: Sequence[int],
    matrices: DoubleArray,
    out: ImageArray,
) -> None:
    """Fill ``out`` (N, H, W, 3) with what ``matrices`` (N, 2, 3) map to; black outside frames."""
    height, width = out.shape[1:3]
    for crop, index, matrix in zip(out, frame_of_crop, matrices, strict=True):
        cv2.warpAffine(frames[index], matrix, (width, height), dst=crop, flags=cv2.INTER_LINEAR)
