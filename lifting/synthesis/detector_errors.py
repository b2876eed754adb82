"""What a detector of 2D keypoints gets wrong, for training on synthetic pictures.

The sizes follow BlazePose on COCO pictures, on mirrored videos and in calibrated cameras
(``docs/lifter.md``). Where few people were measured they are
judged, not fitted. Errors in the picture are standard deviations of each coordinate, as shares of
the extent of the person: the longer side of the box around the joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gridpose.core import MIRRORED, NUM_JOINTS
from gridpose.lifting.synthesis.keypoint_errors import ARMS, ENDS, LEGS, LIMBS, KeypointErrors

_ANKLES = (3, 6)


@dataclass(frozen=True)
class DetectorErrors:
    """How keypoints differ from the projections of Human3.6M's joints."""

    clean: float = 0.35
    """Share of poses with exact 2D."""
    derived: float = 0.5
    """Share of poses whose hip, spine and thorax come from hips and shoulders, as with COCO."""
    offsets: float = 0.35
    """How large the differences between a detector's idea of a joint and Human3.6M's are, as a
    share of those measured (which hold the errors of annotators, too)."""
    noise: float = 0.009
    """Error of all joints: the median over poses, and the standard deviation of its logarithm."""
    noise_spread: float = 0.5
    along_limb: float = 1.4
    """How much larger that error is along a thigh, shin or arm than across."""
    outlier: float = 0.02
    """Share of joints that are somewhere else, and how far."""
    outlier_sigma: float = 0.10
    hidden: float = 0.015
    """Share of limbs that are guessed; how well at the middle and at the end."""
    hidden_sigma: tuple[float, float] = (0.08, 0.13)
    collapsed: float = 0.004
    """Share of limbs seen where the one of the other side is."""
    swapped: float = 0.004
    """Share of poses with left and right exchanged, for legs, ankles, arms and everything each."""


class ErrorModel(KeypointErrors):
    """Applies :class:`DetectorErrors` to batches of poses."""

    def __init__(self, errors: DetectorErrors, generator: torch.Generator) -> None:
        super().__init__(errors.offsets, errors.along_limb, generator)
        self.errors = errors

    def misplace(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Move joints ``(N, 17, 3)``, metres in camera axes, to where a detector sees them.

        Returns:
            The joints, and ``(N,)`` bool: which poses have errors at all. :meth:`disturb` wants it.
        """
        moved, derived, noisy = self._misplaced(joints[:, None], self.errors.clean)
        use = self.uniform(len(joints)) < self.errors.derived
        return torch.where(use[:, None, None, None], derived, moved)[:, 0], noisy

    def disturb(self, keypoints: Tensor, noisy: Tensor) -> Tensor:
        """Add errors to the keypoints ``(N, 17, 2)``, pixels, of those poses that have any."""
        extent = (keypoints.amax(1) - keypoints.amin(1)).amax(-1)[:, None, None]
        given = self._confuse_sides(keypoints) + extent * self._scatter(keypoints)
        return torch.where(noisy[:, None, None], given, keypoints)

    def _confuse_sides(self, keypoints: Tensor) -> Tensor:
        errors, count = self.errors, len(keypoints)
        given = keypoints.clone()
        parts = (LEGS, _ANKLES, ARMS, (*LEGS, *ARMS))
        swapped = self.uniform(len(parts), count, 1, 1) < errors.swapped
        for joints, swap in zip(parts, swapped, strict=True):
            other = given[:, list(MIRRORED)]
            given[:, joints] = torch.where(swap, other[:, joints], given[:, joints])
        collapsed = self.uniform(len(LIMBS), count, 1, 1) < errors.collapsed
        other = given[:, list(MIRRORED)]
        for limb, collapse in zip(LIMBS, collapsed, strict=True):
            given[:, limb] = torch.where(collapse, other[:, limb], given[:, limb])
        return given

    def _scatter(self, keypoints: Tensor) -> Tensor:
        """``(N, 17, 2)`` errors as shares of the extent."""
        errors, count = self.errors, len(keypoints)
        spread = (errors.noise_spread * self.normal(count, 1, 1)).clamp(-2, 2).exp()
        error = self._noise(keypoints)
        error *= errors.noise * spread

        sizes = errors.outlier_sigma * (self.uniform(count, NUM_JOINTS, 1) < errors.outlier)
        hidden = self.uniform(count, len(LIMBS), 1, 1) < errors.hidden
        guessed = sizes.new_tensor(errors.hidden_sigma)[:, None] * hidden
        sizes[:, ENDS] = torch.maximum(sizes[:, ENDS], guessed.flatten(1, 2))
        return error + self.normal(count, NUM_JOINTS, 2) * sizes
