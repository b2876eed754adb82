"""The Human3.6M HRNet of EvoSkeleton (Li et al., CVPR 2020), published as ``final_state.pth``.

It is HRNet-W48 with two changes (as its published code has them): four times finer heatmaps by a
pixel shuffle behind the last layer, and keypoints as the mean place under a softmax of a map
instead of its highest pixel. Its 17 joints are Human3.6M's in another order.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

CONFIG: Final = "hrnet-w48-evoskeleton-384x288"
UPSAMPLING: Final = "upsample_layer"
"""How the checkpoint calls what is behind the last layer."""
_FINER: Final = 4
_NEAR: Final = 0.04

KEYPOINTS: Final = (
    "nose", "spine", "thorax", "hip", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
"""Names in the order of the network's outputs."""


def add_upsampling(model: nn.Module) -> None:
    """Put the finer maps' layers behind an mmpose network's head."""
    count = len(KEYPOINTS)
    model.head.add_module(  # type: ignore[union-attr]
        UPSAMPLING,
        nn.Sequential(
            nn.Conv2d(count, count * _FINER**2, kernel_size=1),
            nn.BatchNorm2d(count * _FINER**2),
            nn.ReLU(),
            nn.PixelShuffle(_FINER),
        ).eval(),
    )


def decode(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean places under a softmax.

    Args:
        heatmaps: (N, K, H, W) float32, one pixel for each of the crop.

    Returns:
        (N, K, 2) float64 px in the crop, and (N, K) scores in [0, 1]: the network was never told
        how high its maps should be, so the score is the softmax's share near the mean place.
    """
    height, width = heatmaps.shape[-2:]
    shares = heatmaps.flatten(2).double().softmax(-1).view(heatmaps.shape)
    x = torch.arange(width, device=heatmaps.device, dtype=torch.float64)
    y = torch.arange(height, device=heatmaps.device, dtype=torch.float64)
    places = torch.stack(((shares.sum(-2) * x).sum(-1), (shares.sum(-1) * y).sum(-1)), -1)
    away_x = (x - places[..., :1])[..., None, :]
    away_y = (y - places[..., 1:])[..., :, None]
    near = away_x**2 + away_y**2 <= (_NEAR * height) ** 2
    return places, (shares * near).sum((-2, -1)).float()
