"""What errors of a detector have in common for single pictures and for sequences.

Pictures are sequences of one frame here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gridpose.core import JOINT_NAMES, MIRRORED, NUM_JOINTS, PARENTS

LEGS, ARMS = (1, 2, 3, 4, 5, 6), (11, 12, 13, 14, 15, 16)
LIMBS = ((2, 3), (5, 6), (12, 13), (15, 16))
"""Middle and end of each limb."""
ENDS = [joint for limb in LIMBS for joint in limb]
_HIPS, _SHOULDERS = [1, 4], [11, 14]

# Metres across the trunk (and to the front), and along it, by which a detector's idea of a joint
# differs from Human3.6M's, from person to person.
_JOINT_OFFSETS = {
    "hip": (0.02, 0.03), "right_hip": (0.03, 0.04), "right_knee": (0.027, 0.034),
    "right_ankle": (0.030, 0.040), "spine": (0.02, 0.03), "thorax": (0.02, 0.025),
    "nose": (0.015, 0.035), "head": (0.02, 0.035), "right_shoulder": (0.03, 0.03),
    "right_elbow": (0.035, 0.03), "right_wrist": (0.04, 0.04),
}  # fmt: skip


class RandomDraws:
    """Draws of one generator, on its device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.device = generator.device

    def uniform(self, *shape: int) -> Tensor:
        """From 0 to 1."""
        return torch.rand(*shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)


class KeypointErrors(RandomDraws):
    """Differences between a detector's idea of joints and Human3.6M's, and noise along limbs.

    Args:
        offsets: how large those differences are, as a share of those measured.
        along_limb: how much larger noise is along a thigh, shin or arm than across.
        generator: decides everything.
    """

    def __init__(self, offsets: float, along_limb: float, generator: torch.Generator) -> None:
        super().__init__(generator)
        self._along_limb = along_limb
        left = [name.startswith("left_") for name in JOINT_NAMES]
        self._left = torch.tensor(left, device=self.device)[:, None]
        self._mirrored = torch.tensor(MIRRORED, device=self.device)
        sizes = [_JOINT_OFFSETS[name.replace("left_", "right_")] for name in JOINT_NAMES]
        across, along = torch.tensor(sizes, device=self.device).unbind(1)
        self._offsets = torch.stack((across, along, across), dim=1) * offsets
        self._ends = torch.tensor(ENDS, device=self.device)
        self._end_parents = torch.tensor([PARENTS[joint] for joint in ENDS], device=self.device)

    def _misplaced(self, joints: Tensor, clean: float) -> tuple[Tensor, Tensor, Tensor]:
        """Joints (B, T, 17, 3), metres in camera axes, where a detector sees them.

        Returns:
            These; the same with hip, spine and thorax made from hips and shoulders, as with COCO;
            and (B,) bool, which sequences have errors at all: all but a share of ``clean``.
        """
        batch = len(joints)
        noisy = self.uniform(batch) >= clean
        up = normalize(joints[:, :, 8] - joints[:, :, 0], dim=-1)
        across = joints[:, :, 1] - joints[:, :, 4] + joints[:, :, 14] - joints[:, :, 11]
        right = normalize(across, dim=-1)
        axes = torch.stack((right, up, torch.linalg.cross(up, right)), dim=2)
        offset = self.normal(batch, NUM_JOINTS, 3) * self._offsets
        # What is drawn for the right side holds for the left, mirrored.
        other = offset[:, self._mirrored] * offset.new_tensor((-1.0, 1.0, 1.0))
        offset = torch.where(self._left, other, offset) * noisy[:, None, None]
        moved = joints + offset[:, None] @ axes
        hip, thorax = moved[:, :, _HIPS].mean(2), moved[:, :, _SHOULDERS].mean(2)
        derived = moved.clone()
        derived[:, :, 0], derived[:, :, 8], derived[:, :, 7] = hip, thorax, (hip + thorax) / 2
        return moved, derived, noisy

    def _noise(self, keypoints: Tensor) -> Tensor:
        """Normal errors for keypoints (..., 17, 2), longer along limbs than across."""
        error = self.normal(*keypoints.shape)
        bones = keypoints[..., self._ends, :] - keypoints[..., self._end_parents, :]
        bones = normalize(bones, dim=-1)
        ends = error[..., self._ends, :]
        along = (ends * bones).sum(-1, keepdim=True) * bones
        error[..., self._ends, :] = ends + (self._along_limb - 1) * along
        return error
