"""What a detector of 2D keypoints gets wrong, for training on synthetic pictures.

Measured with ``scripts/measure_detector.py``; sizes in the picture are shares of the person's
extent, the longer side of the box around the joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gridpose.core import JOINT_NAMES, MIRRORED, NUM_JOINTS

_HIPS, _SHOULDERS = (1, 4), (11, 14)
_LIMBS = ((2, 3), (5, 6), (12, 13), (15, 16))
_LEGS, _ARMS = (1, 2, 3, 4, 5, 6), (11, 12, 13, 14, 15, 16)


@dataclass(frozen=True)
class DetectorErrors:
    """How keypoints differ from the projections of Human3.6M's joints."""

    clean: float = 0.3
    """Share of poses with exact 2D."""
    derived: float = 0.5
    """Share of poses whose hip, spine and thorax come from hips and shoulders, as with COCO."""
    landmark_sigma: float = 0.025
    """Metres by which a detector's idea of a joint, the same on both sides, is off along the
    trunk and across it; drawn for each pose."""
    noise: tuple[float, float] = (0.002, 0.026)
    """Gaussian error; drawn for each pose between these."""
    ends: float = 1.3
    """How much larger that error is for elbows, wrists, knees and ankles than for the trunk."""
    outlier: float = 0.02
    """Share of joints that are somewhere else, and how far."""
    outlier_sigma: float = 0.10
    hidden: float = 0.03
    """Share of limbs (both joints) that are guessed, and how well."""
    hidden_sigma: float = 0.08
    swapped: float = 0.005
    """Share of poses with left and right legs exchanged; arms likewise."""


class ErrorModel:
    """Applies :class:`DetectorErrors` to batches of poses."""

    def __init__(self, errors: DetectorErrors, generator: torch.Generator) -> None:
        self.errors = errors
        self.generator = generator
        self._ends = torch.ones(NUM_JOINTS, 1, device=generator.device)
        self._ends[[joint for limb in _LIMBS for joint in limb]] = errors.ends

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.generator.device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.generator.device)

    def misplace(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Move joints ``(N, 17, 3)``, metres in camera axes, to where a detector sees them.

        Returns:
            The joints, and ``(N,)`` bool: which poses have errors at all. :meth:`disturb` wants it.
        """
        count = len(joints)
        noisy = self._uniform(count) >= self.errors.clean
        up = normalize(joints[:, 8] - joints[:, 0], dim=-1)
        right = normalize(joints[:, 1] - joints[:, 4] + joints[:, 14] - joints[:, 11], dim=-1)
        axes = torch.stack((right, up, torch.linalg.cross(up, right)), dim=1)
        offset = self._normal(count, NUM_JOINTS, 3) * self.errors.landmark_sigma
        # What is drawn for the left side holds for the right, mirrored.
        other = offset[:, list(MIRRORED)] * offset.new_tensor((-1.0, 1.0, 1.0))
        left = torch.tensor([name.startswith("left") for name in JOINT_NAMES], device=joints.device)
        offset = torch.where(left[:, None], other, offset)
        moved = torch.where(noisy[:, None, None], joints + offset @ axes, joints)

        derived = moved.clone()
        derived[:, 0] = moved[:, _HIPS].mean(1)
        derived[:, 8] = moved[:, _SHOULDERS].mean(1)
        derived[:, 7] = (derived[:, 0] + derived[:, 8]) / 2
        use = self._uniform(count) < self.errors.derived
        return torch.where(use[:, None, None], derived, moved), noisy

    def disturb(self, keypoints: Tensor, noisy: Tensor) -> Tensor:
        """Add errors to the keypoints ``(N, 17, 2)``, pixels, of those poses that have any."""
        errors, count = self.errors, len(keypoints)
        legs, arms = (self._uniform(2, count, 1, 1) < errors.swapped).unbind()
        exchanged = keypoints[:, list(MIRRORED)]
        given = keypoints.clone()
        for limbs, swap in ((_LEGS, legs), (_ARMS, arms)):
            given[:, limbs] = torch.where(swap, exchanged[:, limbs], keypoints[:, limbs])

        low, high = errors.noise
        sigma = low + (high - low) * self._uniform(count, 1, 1)
        error = self._normal(count, NUM_JOINTS, 2) * sigma * self._ends
        hidden = self._uniform(count, len(_LIMBS), 1) < errors.hidden
        sizes = torch.zeros(count, NUM_JOINTS, 1, device=keypoints.device)
        for limb, lost in zip(_LIMBS, hidden.unbind(1), strict=True):
            sizes[:, limb] = errors.hidden_sigma * lost[:, None].to(sizes)
        wrong = self._uniform(count, NUM_JOINTS, 1) < errors.outlier
        sizes = torch.maximum(sizes, errors.outlier_sigma * wrong)
        error += self._normal(count, NUM_JOINTS, 2) * sizes
        extent = (keypoints.amax(1) - keypoints.amin(1)).amax(-1)[:, None, None]
        return torch.where(noisy[:, None, None], given + error * extent, keypoints)
