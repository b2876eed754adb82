"""Training pairs from motion capture: bodies, virtual cameras and the errors of a detector.

All of it is batched torch code, made anew for every batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gridpose.core import MIRRORED, NUM_JOINTS, PARENTS, InputError
from gridpose.lifting.normalise import view_rotation

# Mean bone lengths of Human3.6M in metres, by child joint.
BONE_LENGTHS = (
    0.0, 0.133, 0.443, 0.454, 0.133, 0.443, 0.454, 0.233, 0.257, 0.121, 0.115,
    0.151, 0.279, 0.252, 0.151, 0.279, 0.252,
)  # fmt: skip

_ARM_JOINTS = (12, 13, 15, 16)
_SHOULDERS = (11, 14)
_FRAME_SIZES = ((1920, 1080), (1280, 720), (1000, 1000), (1080, 1920))


@dataclass(frozen=True)
class SynthesisOptions:
    """How bodies, cameras and detector errors vary. Angles in degrees, lengths in metres."""

    fov: tuple[float, float] = (32.0, 78.0)
    elevation: tuple[float, float] = (-22.0, 40.0)
    roll_sigma: float = 4.0
    distance: tuple[float, float] = (2.2, 11.0)
    proportion_sigma: float = 0.05
    arm_swap: float = 0.25
    lying: float = 0.04
    clean: float = 0.3
    """Share of poses with exact 2D."""
    noise: tuple[float, float] = (0.002, 0.022)
    """Gaussian error, as a share of the person's extent in the image; drawn for each pose."""
    offset_sigma: float = 0.008
    """Error of a joint that a detector makes systematically, as a share of the extent."""
    outlier: float = 0.02
    outlier_sigma: float = 0.10
    derived: float = 0.5
    """Share of poses whose hip, spine and thorax come from hips and shoulders, as with COCO."""


@dataclass(frozen=True)
class SyntheticBatch:
    """``keypoints_px`` (N, 17, 2), ``image_size`` (N, 2), ``poses`` (N, 17, 3) in camera axes."""

    keypoints_px: Tensor
    image_size: Tensor
    poses: Tensor


class PoseBank:
    """Bone directions of captured poses, drawn evenly over kinds of movement.

    Args:
        directions: (N, 17, 3) unit vectors from each joint's parent, z up (row 0 is unused).
        weights: (N,) how often each pose is drawn.
        foreign_arms: (N,) bool, poses that always get the arms of another pose.
    """

    def __init__(self, directions: Tensor, weights: Tensor, foreign_arms: Tensor) -> None:
        self.directions = directions
        self.foreign_arms = foreign_arms
        self._cumulative = (weights / weights.sum()).double().cumsum(0)

    def __len__(self) -> int:
        return len(self.directions)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices ``(count,)`` of poses."""
        uniform = torch.rand(
            count, generator=generator, device=self._cumulative.device, dtype=torch.float64
        )
        return torch.searchsorted(self._cumulative, uniform).clamp_(max=len(self) - 1)

    @classmethod
    def from_files(cls, files: Sequence[Path], device: torch.device) -> PoseBank:
        """Read motion capture ``.npz`` files with ``positions`` (N, 17, 3) metres, z up.

        Clips count by the square root of their length, and actions by the square root of what
        their clips count together: a long or often repeated movement does not crowd out a rare
        one.

        Raises:
            InputError: a file lacks an array or has another shape.
        """
        directions, weights, foreign = [], [], []
        for file in files:
            with np.load(file, allow_pickle=False) as data:
                try:
                    positions, clip = data["positions"], data["clip"]
                    actions = data["action"]
                except KeyError as error:
                    raise InputError(f"{file}: no array {error}") from error
            if positions.ndim != 3 or positions.shape[1:] != (NUM_JOINTS, 3):
                raise InputError(f"{file}: positions must be (N, 17, 3), got {positions.shape}")
            bones = positions - positions[:, np.maximum(PARENTS, 0)]
            length = np.linalg.norm(bones, axis=-1, keepdims=True)
            directions.append((bones / np.maximum(length, 1e-6)).astype(np.float32))
            clip_length = np.bincount(clip, minlength=len(actions)).astype(np.float64)
            clip_weight = np.sqrt(clip_length)
            _, action = np.unique(actions, return_inverse=True)
            share = clip_weight / np.sqrt(np.bincount(action, clip_weight))[action]
            weights.append((share / np.maximum(clip_length, 1))[clip])
            chair = np.char.startswith(actions, "sit to stand")
            foreign.append(chair[clip])
        return cls(
            torch.from_numpy(np.concatenate(directions)).to(device),
            torch.from_numpy(np.concatenate(weights)).to(device),
            torch.from_numpy(np.concatenate(foreign)).to(device),
        )


def assemble(directions: Tensor, lengths: Tensor) -> Tensor:
    """Joints ``(N, 17, 3)``, hip at the origin, from bone directions and lengths ``(N, 17)``."""
    joints = [torch.zeros_like(directions[:, 0])]
    for joint in range(1, NUM_JOINTS):
        joints.append(joints[PARENTS[joint]] + directions[:, joint] * lengths[:, joint, None])
    return torch.stack(joints, dim=1)


def trunk_axes(directions: Tensor) -> Tensor:
    """Axes of the upper trunk ``(N, 3, 3)``, rows right, front, up, in world axes."""
    up = torch.nn.functional.normalize(directions[:, 7] + directions[:, 8], dim=-1)
    across = directions[:, 14] - directions[:, 11]  # towards the right shoulder
    right = torch.nn.functional.normalize(across - (across * up).sum(-1, keepdim=True) * up, dim=-1)
    front: Tensor = torch.linalg.cross(up, right)
    return torch.stack((right, front, up), dim=1)


def _segment_distance(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Distance of ``points`` (N, P, 3) from segments ``start`` to ``end`` (N, 3): ``(N, P)``."""
    axis = (end - start)[:, None]
    offset = points - start[:, None]
    along = (offset * axis).sum(-1, keepdim=True) / (axis**2).sum(-1, keepdim=True)
    distance: Tensor = (offset - along.clamp(0, 1) * axis).norm(dim=-1)
    return distance


def swap_arms(directions: Tensor, donors: Tensor, chosen: Tensor, lengths: Tensor) -> Tensor:
    """Give ``chosen`` (N,) poses the arms of ``donors``, turned with the trunk.

    As in EvoSkeleton (Li et al., CVPR 2020), but only the arms; a swap that puts an elbow or wrist
    into the trunk or a thigh is not made.
    """
    to_local = trunk_axes(donors)
    arms = donors[:, _ARM_JOINTS] @ to_local.transpose(1, 2) @ trunk_axes(directions)
    swapped = directions.clone()
    swapped[:, _ARM_JOINTS] = arms
    joints = assemble(swapped, lengths)
    ends = joints[:, _ARM_JOINTS]
    clear = (_segment_distance(ends, joints[:, 0], joints[:, 8]) > 0.11).all(1)
    for hip, knee in ((1, 2), (4, 5)):
        clear &= (_segment_distance(ends, joints[:, hip], joints[:, knee]) > 0.08).all(1)
    return torch.where((chosen & clear)[:, None, None], swapped, directions)


class Synthesiser:
    """Draws batches of 2D and 3D poses from a :class:`PoseBank`."""

    def __init__(self, bank: PoseBank, options: SynthesisOptions, seed: int) -> None:
        self.bank = bank
        self.options = options
        self.device = bank.directions.device
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def _uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=self.generator, device=self.device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def _bodies(self, count: int) -> Tensor:
        """World poses ``(count, 17, 3)``, z up, hip at the origin."""
        index = self.bank.draw(count, self.generator)
        directions = self.bank.directions[index]
        mirrored = directions[:, MIRRORED] * directions.new_tensor((-1.0, 1.0, 1.0))
        flip = self._uniform(count) < 0.5
        directions = torch.where(flip[:, None, None], mirrored, directions)

        sides = list(MIRRORED)
        variation = self._normal(count, NUM_JOINTS)
        variation = (variation + variation[:, sides]) / math.sqrt(2)  # bodies are symmetric
        lengths = directions.new_tensor(BONE_LENGTHS) * (
            1 + self.options.proportion_sigma * variation.clamp(-3, 3)
        )
        # One image does not tell how tall somebody is: only proportions vary.
        lengths = lengths * (sum(BONE_LENGTHS) / lengths.sum(1, keepdim=True))

        donors = self.bank.directions[self.bank.draw(count, self.generator)]
        chosen = (self._uniform(count) < self.options.arm_swap) | self.bank.foreign_arms[index]
        return assemble(swap_arms(directions, donors, chosen, lengths), lengths)

    def _views(self, count: int) -> Tensor:
        """World to camera rotations ``(count, 3, 3)``."""
        options = self.options
        yaw = self._uniform(count, -math.pi, math.pi)
        elevation = torch.deg2rad(self._uniform(count, *options.elevation))
        tilt = self._uniform(count, -math.pi, math.pi) * (self._uniform(count) < options.lying)
        roll = torch.deg2rad(self._normal(count) * options.roll_sigma) + tilt
        # In axes with y down, the world's up is -y.
        to_down = elevation.new_tensor(((1.0, 0, 0), (0, 0, -1), (0, 1, 0)))
        forward = torch.stack(
            (yaw.sin() * elevation.cos(), elevation.sin(), yaw.cos() * elevation.cos()), dim=-1
        )
        cos, sin, zero = roll.cos(), roll.sin(), torch.zeros_like(roll)
        rolled = torch.stack((cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1), dim=-1)
        return rolled.reshape(count, 3, 3) @ view_rotation(forward) @ to_down

    def batch(self, count: int) -> SyntheticBatch:
        """Draw ``count`` poses with their 2D keypoints."""
        options = self.options
        poses = self._bodies(count) @ self._views(count).transpose(1, 2)

        sizes = poses.new_tensor(_FRAME_SIZES)
        choice = torch.randint(
            len(_FRAME_SIZES), (count,), generator=self.generator, device=self.device
        )
        size = sizes[choice]
        fov = torch.deg2rad(self._uniform(count, *options.fov))
        focal = 0.5 * size[:, 0] / torch.tan(fov / 2)
        near, far = (math.log(value) for value in options.distance)
        depth = self._uniform(count, near, far).exp()
        depth = torch.maximum(depth, 0.9 - poses[..., 2].amin(1))
        reach = torch.stack(
            (self._uniform(count, -0.45, 0.45), self._uniform(count, -0.35, 0.35)), -1
        )
        root = torch.cat((reach * size / focal[:, None] * depth[:, None], depth[:, None]), -1)
        seen = poses + root[:, None]
        exact = seen[..., :2] / seen[..., 2:] * focal[:, None, None] + size[:, None] / 2
        return SyntheticBatch(self._detect(exact), size, poses)

    def _detect(self, exact: Tensor) -> Tensor:
        """Keypoints as a detector would give them."""
        options, count = self.options, len(exact)
        derived = exact.clone()
        derived[:, 0] = (exact[:, 1] + exact[:, 4]) / 2
        derived[:, 8] = (exact[:, 11] + exact[:, 14]) / 2
        derived[:, 7] = (derived[:, 0] + derived[:, 8]) / 2
        use = self._uniform(count) < options.derived
        keypoints = torch.where(use[:, None, None], derived, exact)

        extent = (exact.amax(1) - exact.amin(1)).amax(-1)[:, None, None]
        low, high = options.noise
        noise = self._normal(count, NUM_JOINTS, 2) * self._uniform(count, low, high)[:, None, None]
        noise += self._normal(count, NUM_JOINTS, 2) * options.offset_sigma
        lost = self._uniform(count * NUM_JOINTS).reshape(count, NUM_JOINTS, 1) < options.outlier
        noise += self._normal(count, NUM_JOINTS, 2) * options.outlier_sigma * lost
        noisy = self._uniform(count) >= options.clean
        return keypoints + noise * extent * noisy[:, None, None]
