"""A lifter that sees time: grid convolution over sequences, around a lifter of single frames.

A window of 2D poses first goes through blocks that mix along time and over the pose grid, and
comes out as better 2D. The lifter of single frames lifts that, frame by frame; further blocks
correct what it answers. Spatial mixing is D-GridConv (Kang et al., AAAI 2023) on the 5x5 grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from gridpose.core import UsageError
from gridpose.lifting.model.layers import TAPS, DynamicGridConv, GridConv
from gridpose.lifting.model.sgt import GRID_SHAPE, sgt_matrices

TimeMixing = Literal["depthwise", "dense", "attention"]
WINDOW_FRAMES = 81
"""Frames that the network sees at once."""
_CELLS = math.prod(GRID_SHAPE)
_JOINT_INPUTS, _FRAME_INPUTS = 4, 4
"""Place (2), confidence and whether it is seen; travel (3) and whether anything is seen."""

LiftFrames = Callable[[Tensor], Tensor]
"""Keypoints (B, T, 17, 2) in steady cameras to poses (B, T, 17, 3) in their axes, metres."""


@dataclass(frozen=True)
class TemporalConfig:
    """Architecture of a temporal network."""

    hidden: int = 128
    mixing: TimeMixing = "dense"
    before: tuple[int, ...] = (1, 4)
    """Blocks before the lifter of single frames; the dilation of each along time."""
    after: tuple[int, ...] = (1, 4, 10)
    """Blocks after it."""
    taps: int = 5
    """Of the convolutions along time."""
    heads: int = 4
    """Of the attention along time."""

    def __post_init__(self) -> None:
        """Raises: UsageError: values that make no network."""
        for name in ("before", "after"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.mixing not in get_args(TimeMixing):
            raise UsageError(
                f"unknown mixing along time {self.mixing!r}; known are "
                f"{', '.join(get_args(TimeMixing))}"
            )
        numbers = (self.hidden, self.taps, self.heads, *self.before, *self.after)
        if not all(type(number) is int and number > 0 for number in numbers):
            raise UsageError("sizes of a temporal network must be positive whole numbers")
        if self.taps % 2 == 0 or self.hidden % self.heads:
            raise UsageError("taps must be odd, and heads divide the channels")


class _DepthwiseTime(nn.Module):
    """Each channel convolved along time, ``(B, T, cells, C)`` alike for all cells."""

    def __init__(self, channels: int, taps: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.weight = nn.Parameter(torch.randn(taps, channels) / math.sqrt(taps))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        taps, frames = len(self.weight), x.shape[1]
        reach = taps // 2 * self.dilation
        padded = functional.pad(x * seen, (0, 0, 0, 0, reach, reach))
        result = torch.zeros_like(x)
        for tap in range(taps):
            start = tap * self.dilation
            result = result + padded[:, start : start + frames] * self.weight[tap]
        return result


class _DenseTime(nn.Module):
    """A full convolution along time, ``(B, T, cells, C)`` alike for all cells."""

    def __init__(self, channels: int, taps: int, dilation: int) -> None:
        super().__init__()
        self.taps, self.dilation = taps, dilation
        self.mix = nn.Linear(taps * channels, channels)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        reach, frames = self.taps // 2 * self.dilation, x.shape[1]
        padded = functional.pad(x * seen, (0, 0, 0, 0, reach, reach))
        starts = [tap * self.dilation for tap in range(self.taps)]
        read = torch.cat([padded[:, start : start + frames] for start in starts], -1)
        mixed: Tensor = self.mix(read)
        return mixed


class _AttendTime(nn.Module):
    """Self-attention along time for each cell, with a learnt bias for each distance in time."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.read = nn.Linear(channels, 3 * channels)
        distance = torch.arange(-WINDOW_FRAMES + 1, WINDOW_FRAMES).abs()
        slopes = torch.tensor([2.0 ** -(head + 1) for head in range(heads)])
        self.bias = nn.Parameter(-slopes[:, None] * distance)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        batch, frames, cells, channels = x.shape
        read = self.read(x).view(batch, frames, cells, 3, self.heads, channels // self.heads)
        query, key, value = read.permute(3, 0, 2, 4, 1, 5).flatten(1, 2).unbind(0)
        # Row i of the unfolded biases is for the query that i frames of the window follow.
        near = self.bias[:, WINDOW_FRAMES - frames : WINDOW_FRAMES - 1 + frames]
        bias = near.unfold(1, frames, 1).flip(1)
        # A window in which nothing is seen attends to all of it alike.
        hidden = torch.where(seen.view(batch, 1, 1, frames), 0.0, -1e4)
        bias = (bias + hidden)[:, None].expand(batch, cells, *bias.shape).flatten(0, 1)
        mixed = functional.scaled_dot_product_attention(query, key, value, bias.to(query.dtype))
        mixed = mixed.view(batch, cells, *mixed.shape[1:]).permute(0, 3, 1, 2, 4)
        return mixed.reshape(batch, frames, cells, channels)


class _TapGate(nn.Module):
    """D-GridConv's attention, with LayerNorm: frames of a window are no independent samples."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 8, 16)
        self.pooled = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.position_fc = nn.Linear(hidden, TAPS * _CELLS)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.position_fc(torch.relu(self.norm(self.pooled(x.mean(1)))))
        return torch.sigmoid(gate)


class _Block(nn.Module):
    """Residual mixing along time, then residual mixing over the grid."""

    def __init__(self, config: TemporalConfig, dilation: int) -> None:
        super().__init__()
        width = config.hidden
        self.time_norm = nn.LayerNorm(width)
        self.time = (
            _AttendTime(width, config.heads)
            if config.mixing == "attention"
            else _DenseTime(width, config.taps, dilation)
            if config.mixing == "dense"
            else _DepthwiseTime(width, config.taps, dilation)
        )
        self.time_out = nn.Linear(width, width)
        self.grid_norm = nn.LayerNorm(width)
        self.gate = _TapGate(width)
        self.grid = DynamicGridConv(width, width, GRID_SHAPE, ("c", "z"))
        self.grid_out = nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        x = x + self.time_out(torch.relu(self.time(self.time_norm(x), seen)))
        cells = self.grid_norm(x).flatten(0, 1)
        mixed = torch.relu(self.grid(cells, self.gate(cells)))
        changed: Tensor = x + self.grid_out(mixed).view_as(x)
        return changed


class TemporalNetwork(nn.Module):
    """Windows of 2D poses in steady cameras to poses; see the module's description."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden
        self.embed = nn.Linear(_JOINT_INPUTS + _FRAME_INPUTS, width)
        self.cell_embedding = nn.Parameter(0.02 * torch.randn(_CELLS, width))
        self.before = nn.ModuleList(_Block(config, dilation) for dilation in config.before)
        self.before_norm = nn.LayerNorm(width)
        self.flat = nn.Linear(width, 2)
        self.join = nn.Linear(width + 5, width)
        self.after = nn.ModuleList(_Block(config, dilation) for dilation in config.after)
        self.after_norm = nn.LayerNorm(width)
        self.correct = nn.Linear(width, 3)
        # Untrained, the lifter of single frames answers alone.
        for head in (self.flat, self.correct):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def fuse(self, dtype: torch.dtype = torch.float32) -> None:
        """As :meth:`gridpose.lifting.model.network.LiftingNetwork.fuse`."""
        for module in self.modules():
            if isinstance(module, GridConv):
                module.fuse(dtype)

    def forward(
        self,
        keypoints: Tensor,
        confidence: Tensor,
        valid: Tensor,
        travel: Tensor,
        lift: LiftFrames,
        *,
        through: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Improve and lift B windows of T frames.

        Args:
            keypoints: (B, T, 17, 2) in steady cameras.
            confidence: (B, T, 17) in [0, 1].
            valid: (B, T, 17) bool, which joints are seen.
            travel: (B, T, 3) as in :class:`gridpose.lifting.model.steady_view.SteadyView`.
            lift: the lifter of single frames.
            through: whether gradients of the poses reach the keypoints through the lifter, as they
                must where true keypoints are not there to learn from.

        Returns:
            Keypoints (B, T, 17, 2) without errors, as far as the network can tell, and poses
            (B, T, 17, 3) metres in the steady cameras' axes, hip at the origin.
        """
        to_grid, to_joints = sgt_matrices(keypoints.device, torch.float32)
        seen = valid.any(-1)[..., None, None]
        shown = valid[..., None].to(keypoints)
        joints = torch.cat((keypoints, confidence[..., None] * shown, shown), -1)
        frames = torch.cat((travel, seen[..., 0].to(travel)), -1)[:, :, None]
        with torch.autocast(keypoints.device.type, enabled=False):
            cells = to_grid @ joints
            cells = torch.cat((cells, frames.expand(*cells.shape[:3], -1)), -1)
            x = self.embed(cells) + self.cell_embedding
        for block in self.before:
            x = block(x, seen)
        with torch.autocast(keypoints.device.type, enabled=False):
            change = self.flat(self.before_norm(x.float()))
            better = keypoints + to_joints @ change
        with torch.autocast(keypoints.device.type, enabled=False):
            mended = better if through else better.detach()
            with torch.set_grad_enabled(through and torch.is_grad_enabled()):
                lifted = lift(mended)
            known = torch.cat((lifted, mended), -1)
            x = self.join(torch.cat((self.before_norm(x.float()), to_grid @ known), -1))
        for block in self.after:
            x = block(x, seen)
        with torch.autocast(keypoints.device.type, enabled=False):
            poses = lifted + to_joints @ self.correct(self.after_norm(x.float()))
            poses = poses - poses[:, :, :1]
        return better, poses
