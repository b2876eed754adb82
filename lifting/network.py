"""The D-GridConv lifting network (Kang et al., AAAI 2023)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gridpose.lifting.layers import GridAttention, GridConv, PaddingMode


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of a lifting network; what a checkpoint needs to build it again."""

    hidden: int = 256
    blocks: int = 2
    grid_shape: tuple[int, int] = (5, 5)
    padding_mode: tuple[PaddingMode, PaddingMode] = ("c", "z")
    temperature: float = 30.0
    """Divides the attention logits; published checkpoints are right at 30."""
    dropout: float = 0.25

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """Inverse of :meth:`to_dict`, also after a trip through JSON.

        Raises:
            TypeError: an unknown or missing field.
        """
        known = dict(values)
        for name in ("grid_shape", "padding_mode"):
            if name in known:
                known[name] = tuple(known[name])
        return cls(**known)


class _Stage(nn.Module):
    """Residual block: two D-GridConv layers, each with BatchNorm, ReLU and dropout."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, shape = config.hidden, config.grid_shape
        self.w1 = GridConv(width, width, shape, config.padding_mode)
        self.batch_norm1 = nn.BatchNorm1d(width)
        self.w2 = GridConv(width, width, shape, config.padding_mode)
        self.batch_norm2 = nn.BatchNorm1d(width)
        self.atten_conv1 = GridAttention(width, shape, config.temperature)
        self.atten_conv2 = GridAttention(width, shape, config.temperature)
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        y = self.w1(x, self.atten_conv1(x))
        y = _normalise_activate_drop(y, self.batch_norm1, self.dropout, self.training)
        y = self.w2(y, self.atten_conv2(y))
        return x + _normalise_activate_drop(y, self.batch_norm2, self.dropout, self.training)


def _normalise_activate_drop(x: Tensor, norm: nn.Module, dropout: float, training: bool) -> Tensor:
    """BatchNorm, ReLU and whole-channel dropout on ``(B, cells, C)``."""
    batch, cells, channels = x.shape
    x = torch.relu(norm(x.reshape(batch * cells, channels))).reshape(batch, cells, channels)
    if training and dropout > 0:
        keep = 1 - dropout
        mask = torch.empty(batch, 1, channels, device=x.device, dtype=x.dtype).bernoulli_(keep)
        x = x * (mask / keep)
    return x


class DGridConvNetwork(nn.Module):
    """Grid of 2D joints to grid of 3D joints: ``(B, 2, H, W)`` -> ``(B, 3, H, W)``.

    Input is normalised 2D, output metres relative to the hip. State keys are those of published
    checkpoints.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width, shape = config.hidden, config.grid_shape
        self.w1 = GridConv(2, width, shape, config.padding_mode)
        self.batch_norm1 = nn.BatchNorm1d(width)
        self.atten_conv1 = GridAttention(2, shape, config.temperature)
        self.linear_stages = nn.ModuleList(_Stage(config) for _ in range(config.blocks))
        self.w2 = GridConv(width, 3, shape, config.padding_mode, bias=False)
        self.atten_conv2 = GridAttention(width, shape, config.temperature)

    def forward(self, grid: Tensor) -> Tensor:
        height, width = self.config.grid_shape
        x = grid.flatten(2).transpose(1, 2)  # (B, cells, 2)
        x = self.w1(x, self.atten_conv1(x))
        x = _normalise_activate_drop(x, self.batch_norm1, self.config.dropout, self.training)
        for stage in self.linear_stages:
            x = stage(x)
        x = self.w2(x, self.atten_conv2(x))
        out: Tensor = x.transpose(1, 2).reshape(len(grid), 3, height, width)
        return out
