"""The size of bodies: Human3.6M's mean bone lengths, and poses brought to them."""

from __future__ import annotations

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


def to_mean_size(poses: Tensor) -> Tensor:
    """Scale whole poses ``(N, 17, 3)``, hip at the origin, metres, to the mean person's size.

    A picture does not tell how large somebody is, so that what a lifter infers is chance, and
    differs from frame to frame. The factor is the one at which a quarter of the bones are longer
    than Human3.6M's mean: a lifter that is unsure of a limb makes it too short, never too long.
    It is at most 1.25 and at least 0.8.
    """
    bones = (poses - poses[:, _PARENTS])[:, 1:].norm(dim=-1)
    ratios = bones / bones.new_tensor(BONE_LENGTHS[1:])
    size = ratios.quantile(_QUANTILE, dim=1).clamp(1 / _LARGEST_CHANGE, _LARGEST_CHANGE)
    scaled: Tensor = poses / size[:, None, None]
    return scaled
