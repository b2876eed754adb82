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
from torch.nn.functional import normalize

from gridpose.core import JOINT_NAMES, MIRRORED, NUM_JOINTS, PARENTS

_HIPS, _SHOULDERS = (1, 4), (11, 14)
_LEGS, _ARMS = (1, 2, 3, 4, 5, 6), (11, 12, 13, 14, 15, 16)
_ANKLES = (3, 6)
# Middle and end of each limb.
_LIMBS = ((2, 3), (5, 6), (12, 13), (15, 16))
_ENDS = [joint for limb in _LIMBS for joint in limb]

# Metres across the trunk (and to the front), and along it, by which a detector's idea of a joint
# differs from Human3.6M's, from person to person.
JOINT_OFFSETS = {
    "hip": (0.02, 0.03), "right_hip": (0.03, 0.04), "right_knee": (0.027, 0.034),
    "right_ankle": (0.030, 0.040), "spine": (0.02, 0.03), "thorax": (0.02, 0.025),
    "nose": (0.015, 0.035), "head": (0.02, 0.035), "right_shoulder": (0.03, 0.03),
    "right_elbow": (0.035, 0.03), "right_wrist": (0.04, 0.04),
}  # fmt: skip


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


class ErrorModel:
    """Applies :class:`DetectorErrors` to batches of poses."""

    def __init__(self, errors: DetectorErrors, generator: torch.Generator) -> None:
        self.errors = errors
        self.generator = generator
        left = [name.startswith("left_") for name in JOINT_NAMES]
        self._left = torch.tensor(left, device=generator.device)[:, None]
        sizes = [JOINT_OFFSETS[name.replace("left_", "right_")] for name in JOINT_NAMES]
        across, along = torch.tensor(sizes, device=generator.device).unbind(1)
        self._offsets = torch.stack((across, along, across), dim=1) * errors.offsets

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
        offset = self._normal(count, NUM_JOINTS, 3) * self._offsets
        # What is drawn for the right side holds for the left, mirrored.
        other = offset[:, list(MIRRORED)] * offset.new_tensor((-1.0, 1.0, 1.0))
        offset = torch.where(self._left, other, offset)
        moved = torch.where(noisy[:, None, None], joints + offset @ axes, joints)

        derived = moved.clone()
        derived[:, 0] = moved[:, _HIPS].mean(1)
        derived[:, 8] = moved[:, _SHOULDERS].mean(1)
        derived[:, 7] = (derived[:, 0] + derived[:, 8]) / 2
        use = self._uniform(count) < self.errors.derived
        return torch.where(use[:, None, None], derived, moved), noisy

    def disturb(self, keypoints: Tensor, noisy: Tensor) -> Tensor:
        """Add errors to the keypoints ``(N, 17, 2)``, pixels, of those poses that have any."""
        extent = (keypoints.amax(1) - keypoints.amin(1)).amax(-1)[:, None, None]
        given = self._confuse_sides(keypoints) + extent * self._scatter(keypoints)
        return torch.where(noisy[:, None, None], given, keypoints)

    def _confuse_sides(self, keypoints: Tensor) -> Tensor:
        errors, count = self.errors, len(keypoints)
        given = keypoints.clone()
        parts = (_LEGS, _ANKLES, _ARMS, (*_LEGS, *_ARMS))
        swapped = self._uniform(len(parts), count, 1, 1) < errors.swapped
        for joints, swap in zip(parts, swapped, strict=True):
            other = given[:, list(MIRRORED)]
            given[:, joints] = torch.where(swap, other[:, joints], given[:, joints])
        collapsed = self._uniform(len(_LIMBS), count, 1, 1) < errors.collapsed
        other = given[:, list(MIRRORED)]
        for limb, collapse in zip(_LIMBS, collapsed, strict=True):
            given[:, limb] = torch.where(collapse, other[:, limb], given[:, limb])
        return given

    def _scatter(self, keypoints: Tensor) -> Tensor:
        """``(N, 17, 2)`` errors as shares of the extent."""
        errors, count = self.errors, len(keypoints)
        spread = (errors.noise_spread * self._normal(count, 1, 1)).clamp(-2, 2).exp()
        error = self._normal(count, NUM_JOINTS, 2)
        bones = keypoints[:, _ENDS] - keypoints[:, [PARENTS[joint] for joint in _ENDS]]
        bones = normalize(bones, dim=-1)
        along = (error[:, _ENDS] * bones).sum(-1, keepdim=True) * bones
        error[:, _ENDS] += (errors.along_limb - 1) * along
        error *= errors.noise * spread

        sizes = errors.outlier_sigma * (self._uniform(count, NUM_JOINTS, 1) < errors.outlier)
        hidden = self._uniform(count, len(_LIMBS), 1, 1) < errors.hidden
        guessed = sizes.new_tensor(errors.hidden_sigma)[:, None] * hidden
        sizes[:, _ENDS] = torch.maximum(sizes[:, _ENDS], guessed.flatten(1, 2))
        return error + self._normal(count, NUM_JOINTS, 2) * sizes
