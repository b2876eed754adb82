"""The size of bodies: Human3.6M's mean bone lengths, and poses brought to them."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from gridpose.core import PARENTS

# Mean bone lengths of Human3.6M in metres, by child joint.
BONE_LENGTHS = (
    0.0, 0.133, 0.443, 0.454, 0.133, 0.443, 0.454, 0.233, 0.257, 0.121, 0.115,
    0.151, 0.279, 0.252, 0.151, 0.279, 0.252,
)  # fmt: skip
_PARENTS = [max(parent, 0) for parent in PARENTS]
_QUANTILE = 0.75
_LARGEST_CHANGE = 1.25


@lru_cache(maxsize=8)
def _skeleton(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Each joint's parent, and the lengths of the bones to them."""
    with torch.inference_mode(False):  # kept for later callers
        parents = torch.tensor(_PARENTS, device=device)
        return parents, torch.tensor(BONE_LENGTHS[1:], device=device, dtype=dtype)


def to_mean_size(poses: Tensor) -> Tensor:
    """Scale whole poses ``(N, 17, 3)``, hip at the origin, metres, to the mean person's size.

    A picture does not tell how large somebody is, so that what a lifter infers is chance, and
    differs from frame to frame. The factor is the one at which a quarter of the bones are longer
    than Human3.6M's mean: a lifter that is unsure of a limb makes it too short, never too long.
    It is at most 1.25 and at least 0.8.
    """
    parents, lengths = _skeleton(poses.device, poses.dtype)
    bones = (poses - poses.index_select(1, parents))[:, 1:]
    # Divided before the norm is taken: OpenVINO 2026.4 computes the other order wrongly.
    ratios = (bones / lengths[:, None]).norm(dim=-1)
    # Not Tensor.quantile, which OpenVINO lacks.
    place = _QUANTILE * (ratios.shape[1] - 1)
    ordered = ratios.sort(dim=1).values
    below, above = ordered[:, int(place)], ordered[:, int(place) + 1]
    size = torch.lerp(below, above, place % 1).clamp(1 / _LARGEST_CHANGE, _LARGEST_CHANGE)
    scaled: Tensor = poses / size[:, None, None]
    return scaled
