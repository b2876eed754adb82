"""Motion capture that training poses and windows are drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gridpose.core import NUM_JOINTS, PARENTS, AnyArray, FloatArray, InputError
from gridpose.lifting.body import BONE_LENGTHS
from gridpose.lifting.npz import read_arrays
from gridpose.lifting.synthesis.bone_directions import assemble

_LONGEST_LEFT_OUT = 15
"""Frames; where more are missing, a sequence ends."""


@dataclass(frozen=True)
class Motion:
    """Motion capture: ``positions`` (N, 17, 3) metres, z up; the rest is of each pose.

    ``kinds`` of movement, ``clip`` and ``frame`` (N,) numbers, ``fps`` (N,).
    """

    positions: FloatArray
    kinds: list[str]
    clip: AnyArray
    frame: AnyArray
    fps: FloatArray


def read_motion(file: Path) -> Motion:
    """Read a motion capture ``.npz`` file; one without frame numbers has them in order.

    Raises:
        InputError: the file lacks an array or has another shape.
    """
    arrays = read_arrays(file, ("positions", "clip", "action"), ("frame", "fps"))
    positions, clip, actions = arrays["positions"], arrays["clip"], arrays["action"]
    frame = arrays.get("frame", np.arange(len(clip)))
    fps = arrays.get("fps", np.full(len(actions), 30.0))
    if positions.ndim != 3 or positions.shape[1:] != (NUM_JOINTS, 3):
        raise InputError(f"{file}: positions must be (N, 17, 3), got {positions.shape}")
    kinds = [str(action).partition(", performed wrongly")[0] for action in actions]
    return Motion(
        positions.astype(np.float32),
        [kinds[number] for number in clip],
        clip,
        frame,
        fps[clip].astype(np.float32),
    )


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

        Half of the draws go by kind of movement, to the power of 0.3 of how many poses it has, and
        half by how rare the pose is: neither a long or often repeated movement nor the upright
        stance that all movements share crowds out the rest.

        Raises:
            InputError: a file lacks an array or has another shape.
        """
        captured = [read_motion(file) for file in files]
        return cls.from_poses(
            np.concatenate([each.positions for each in captured]),
            [name for each in captured for name in each.kinds],
            device,
        )

    @classmethod
    def from_poses(
        cls, positions: FloatArray, kinds: Sequence[str], device: torch.device
    ) -> PoseBank:
        """From poses (N, 17, 3), metres, z up, and the kind of movement of each."""
        bones = positions - positions[:, np.maximum(PARENTS, 0)]
        length = np.linalg.norm(bones, axis=-1, keepdims=True)
        unit = (bones / np.maximum(length, 1e-6)).astype(np.float32)
        directions = torch.from_numpy(unit).to(device)
        names = {name: number for number, name in enumerate(dict.fromkeys(kinds))}
        number = np.array([names[name] for name in kinds])
        size = np.bincount(number)
        by_kind = torch.from_numpy((size**0.3 / size)[number]).to(device)
        by_rarity = density(directions).double() ** -0.75
        sitting = np.array([name.startswith("sit to stand") for name in names])[number]
        return cls(
            directions,
            by_kind / by_kind.sum() + by_rarity / by_rarity.sum(),
            torch.from_numpy(sitting).to(device),
        )


def density(directions: Tensor, radius: float = 0.1, sample: int = 4000) -> Tensor:
    """How many poses are like each one, ``(N,)``: a share of a sample, at least 0.0001.

    A pose is like another as far as its joints, RMS distance in metres with Human3.6M's bone
    lengths and hips turned alike about the vertical, lie within a Gaussian of that radius.
    """
    lengths = directions.new_tensor(BONE_LENGTHS).expand(len(directions), NUM_JOINTS)
    joints = assemble(directions, lengths)
    across = joints[:, 1] - joints[:, 4]
    yaw = torch.atan2(across[:, 1], across[:, 0])
    cos, sin, zero = yaw.cos(), yaw.sin(), torch.zeros_like(yaw)
    turn = torch.stack((cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1), -1)
    features = (joints @ turn.reshape(-1, 3, 3)).flatten(1) / (radius * math.sqrt(2 * NUM_JOINTS))
    others = features[:: max(1, len(features) // sample)]
    parts = [
        torch.exp(-torch.cdist(part, others).square()).mean(1)
        for part in torch.split(features, 4096)
    ]
    return torch.cat(parts).clamp_(min=1e-4)


class SequenceBank:
    """Bone directions and hips of captured sequences, native frames one after another.

    Args:
        poses: how often each frame is drawn, and its bone directions.
        hips: (N, 3) metres, z up.
        first, last: (N,) the first and last frame of the unbroken run a frame is in.
        fps: (N,) of each frame.
    """

    def __init__(
        self, poses: PoseBank, hips: Tensor, first: Tensor, last: Tensor, fps: Tensor
    ) -> None:
        self.poses, self.hips = poses, hips
        self.first, self.last, self.fps = first, last, fps

    @classmethod
    def from_files(cls, files: Sequence[Path], device: torch.device) -> SequenceBank:
        """Read motion capture ``.npz`` files whose frames follow each other.

        Raises:
            InputError: a file lacks an array or has another shape.
        """
        motions = [_every_frame(read_motion(file)) for file in files]
        positions = np.concatenate([motion.positions for motion in motions])
        kinds = [name for motion in motions for name in motion.kinds]
        first, last = [], []
        count = 0
        for motion in motions:
            breaks = np.diff(motion.clip, prepend=-1, append=-1) != 0
            breaks[1:-1] |= np.diff(motion.frame) != 1
            edges = np.flatnonzero(breaks)
            lengths = np.diff(edges)
            first.append(np.repeat(edges[:-1], lengths) + count)
            last.append(np.repeat(edges[1:] - 1, lengths) + count)
            count += len(motion.clip)

        def put(values: AnyArray) -> Tensor:
            return torch.from_numpy(values).to(device)

        return cls(
            PoseBank.from_poses(positions, kinds, device),
            put(positions[:, 0].copy()),
            put(np.concatenate(first)),
            put(np.concatenate(last)),
            put(np.concatenate([motion.fps for motion in motions])),
        )


def _every_frame(motion: Motion) -> Motion:
    """Frames that were left out because nothing much moved, interpolated."""
    step = np.diff(motion.frame, append=motion.frame[-1:])
    ends = np.diff(motion.clip, append=-1) != 0
    fill = np.where(ends | (step < 1) | (step > _LONGEST_LEFT_OUT), 1, step)
    row = np.repeat(np.arange(len(fill)), fill)
    further = np.arange(len(row)) - np.repeat(np.cumsum(fill) - fill, fill)
    share = (further / fill[row]).astype(np.float32)[:, None, None]
    following = np.minimum(row + 1, len(fill) - 1)
    positions = motion.positions
    return Motion(
        positions[row] * (1 - share) + positions[following] * share,
        [motion.kinds[index] for index in row],
        motion.clip[row],
        motion.frame[row] + further,
        motion.fps[row],
    )
