"""Training pairs from motion capture: bodies, virtual cameras and the errors of a detector.

All of it is batched torch code, made anew for every batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gridpose.core import MIRRORED, NUM_JOINTS
from gridpose.lifting.body import BONE_LENGTHS
from gridpose.lifting.normalise import view_rotation
from gridpose.lifting.synthesis.bone_directions import TiltOptions, assemble, tilt
from gridpose.lifting.synthesis.detector_errors import DetectorErrors, ErrorModel
from gridpose.lifting.synthesis.keypoint_errors import RandomDraws
from gridpose.lifting.synthesis.motion_capture import PoseBank
from gridpose.lifting.synthesis.recombination import RecombinationOptions, Recombiner

# A pose that collides goes on to the arms of further donors: of six, one always fits.
_DONORS = 6
_FRAME_SIZES = ((1920, 1080), (1280, 720), (1000, 1000), (1080, 1920))


@dataclass(frozen=True)
class SynthesisOptions:
    """How bodies, cameras and detector errors vary. Angles in degrees, lengths in metres."""

    fov: tuple[float, float] = (32.0, 78.0)
    elevation: tuple[float, float] = (-22.0, 40.0)
    roll_sigma: float = 4.0
    distance: tuple[float, float] = (2.2, 11.0)
    proportion_sigma: float = 0.035
    recombination: RecombinationOptions = field(default_factory=RecombinationOptions)
    tilt: TiltOptions = field(default_factory=TiltOptions)
    errors: DetectorErrors = field(default_factory=DetectorErrors)


@dataclass(frozen=True)
class SyntheticBatch:
    """``keypoints_px`` (N, 17, 2), ``image_size`` (N, 2), ``poses`` (N, 17, 3) in camera axes.

    ``focal_px`` (N,) is the lens's focal length.
    """

    keypoints_px: Tensor
    image_size: Tensor
    poses: Tensor
    focal_px: Tensor


class Synthesiser(RandomDraws):
    """Draws batches of 2D and 3D poses from a :class:`PoseBank`."""

    def __init__(self, bank: PoseBank, options: SynthesisOptions, seed: int) -> None:
        self.bank = bank
        self.options = options
        super().__init__(torch.Generator(bank.directions.device).manual_seed(seed))
        self._errors = ErrorModel(options.errors, self.generator)
        self._recombiner = Recombiner(bank.directions, bank.foreign_arms)

    def _between(self, count: int, low: float, high: float) -> Tensor:
        return low + (high - low) * self.uniform(count)

    def lengths(self, count: int) -> Tensor:
        """Bone lengths ``(count, 17)`` in metres of bodies of the mean size."""
        variation = self.normal(count, NUM_JOINTS)
        variation = (variation + variation[:, list(MIRRORED)]) / math.sqrt(2)  # sides are alike
        lengths = variation.new_tensor(BONE_LENGTHS) * (
            1 + self.options.proportion_sigma * variation.clamp(-3, 3)
        )
        # One image does not tell how tall somebody is: only proportions vary.
        return lengths * (sum(BONE_LENGTHS) / lengths.sum(1, keepdim=True))

    def directions(self, count: int, lengths: Tensor) -> Tensor:
        """Bone directions ``(count, 17, 3)`` of recombined poses, z up."""
        drawn = self.bank.draw((1 + _DONORS) * count, self.generator)
        # The second half of the recombiner's poses are the mirror images of the first.
        drawn = drawn + len(self.bank) * (self.uniform(len(drawn)) < 0.5)
        poses, *donors = drawn.view(1 + _DONORS, count)
        made = self._recombiner.recombine(
            poses, torch.stack(donors), lengths, self.options.recombination, self.generator
        )
        return made.directions

    def _bodies(self, count: int) -> Tensor:
        """World poses ``(count, 17, 3)``, z up, hip at the origin."""
        lengths = self.lengths(count)
        directions = self.directions(count, lengths)
        return assemble(tilt(directions, self.options.tilt, self.generator), lengths)

    def views(self, count: int) -> Tensor:
        """World to camera rotations ``(count, 3, 3)``."""
        options = self.options
        yaw = self._between(count, -math.pi, math.pi)
        elevation = torch.deg2rad(self._between(count, *options.elevation))
        roll = torch.deg2rad(self.normal(count) * options.roll_sigma)
        # In axes with y down, the world's up is -y.
        to_down = elevation.new_tensor(((1.0, 0, 0), (0, 0, -1), (0, 1, 0)))
        forward = torch.stack(
            (yaw.sin() * elevation.cos(), elevation.sin(), yaw.cos() * elevation.cos()), dim=-1
        )
        cos, sin, zero = roll.cos(), roll.sin(), torch.zeros_like(roll)
        rolled = torch.stack((cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1), dim=-1)
        return rolled.reshape(count, 3, 3) @ view_rotation(forward) @ to_down

    def lenses(self, count: int) -> tuple[Tensor, Tensor]:
        """Frame sizes ``(count, 2)`` and focal lengths ``(count,)``, pixels."""
        sizes = self.bank.directions.new_tensor(_FRAME_SIZES)
        choice = torch.randint(
            len(_FRAME_SIZES), (count,), generator=self.generator, device=self.device
        )
        size = sizes[choice]
        fov = torch.deg2rad(self._between(count, *self.options.fov))
        return size, 0.5 * size[:, 0] / torch.tan(fov / 2)

    def roots(self, count: int, size: Tensor, focal: Tensor, nearest: Tensor) -> Tensor:
        """Where hips are, ``(count, 3)`` metres; ``nearest`` (count,) is the least z of a pose."""
        near, far = (math.log(value) for value in self.options.distance)
        depth = self._between(count, near, far).exp()
        depth = torch.maximum(depth, 0.9 - nearest)
        reach = torch.stack(
            (self._between(count, -0.45, 0.45), self._between(count, -0.35, 0.35)), -1
        )
        return torch.cat((reach * size / focal[:, None] * depth[:, None], depth[:, None]), -1)

    def batch(self, count: int) -> SyntheticBatch:
        """Draw ``count`` poses with their 2D keypoints."""
        poses = self._bodies(count) @ self.views(count).transpose(1, 2)
        size, focal = self.lenses(count)
        root = self.roots(count, size, focal, poses[..., 2].amin(1))
        seen = poses + root[:, None]
        found, noisy = self._errors.misplace(seen)
        keypoints = found[..., :2] / found[..., 2:] * focal[:, None, None] + size[:, None] / 2
        return SyntheticBatch(self._errors.disturb(keypoints, noisy), size, poses, focal)
