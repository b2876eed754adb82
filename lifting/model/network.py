"""The three lifting networks (Kang et al., AAAI 2023)."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from gridpose.core import UsageError
from gridpose.lifting.model.layers import DynamicGridConv, GridAttention, GridConv, StaticGridConv
from gridpose.lifting.model.layers import PaddingMode as PaddingMode
from gridpose.lifting.model.learnable_sgt import LearnableSGT, check_prior
from gridpose.lifting.model.sgt import (
    GRID_SHAPE,
    inverse_semantic_grid_transform,
    semantic_grid_transform,
)

Kind = Literal["gridconv", "dgridconv", "dgridconv_autogrids"]
"""Static layers; input-dependent layers; those on a grid that is learned."""

MAX_CELLS = 1024
_CPU_CHUNK = 64


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of a lifting network; what a checkpoint needs to build it again."""

    kind: Kind = "dgridconv"
    hidden: int = 256
    blocks: int = 2
    grid_shape: tuple[int, int] = (5, 5)
    padding_mode: tuple[PaddingMode, PaddingMode] = ("c", "z")
    temperature: float = 30.0
    """Divides the attention logits; published checkpoints are right at 30."""
    dropout: float = 0.25
    prior: str = "standard"
    """What a learnable grid starts from."""
    keep_joints: bool = True
    """A learnable grid keeps a cell for every joint; published checkpoints do not."""

    def __post_init__(self) -> None:
        """Raises: UsageError: values that make no network; TypeError: no values of their type."""
        # Lists, as JSON has them, would be no keys of a cache.
        for name in ("grid_shape", "padding_mode"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.kind not in get_args(Kind):
            raise UsageError(
                f"unknown lifting model {self.kind!r}; known are {', '.join(get_args(Kind))}"
            )
        sizes = (self.hidden, self.blocks, *self.grid_shape)
        possible = (
            all(type(size) is int for size in sizes)
            and self.hidden > 0
            and self.blocks >= 0
            and len(self.grid_shape) == 2
            and min(self.grid_shape) > 0
            and math.prod(self.grid_shape) <= MAX_CELLS
        )
        if not possible:
            raise UsageError(
                f"no network has {self.hidden} channels and {self.blocks} blocks on a grid of "
                f"{'x'.join(map(str, self.grid_shape))} cells"
            )
        if len(self.padding_mode) != 2 or not set(self.padding_mode) <= set(get_args(PaddingMode)):
            raise UsageError(
                "padding modes must be two of c, z and r (as in: c z), not "
                f"{' '.join(map(str, self.padding_mode))}"
            )
        if not 0 < self.temperature <= sys.float_info.max:  # whole numbers may be larger
            raise UsageError(f"the temperature must be a positive number, not {self.temperature}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be at least 0 and less than 1, not {self.dropout}")
        if not isinstance(self.keep_joints, bool):
            raise TypeError(f"keep_joints must be true or false, not {self.keep_joints!r}")
        if self.kind == "dgridconv_autogrids":
            check_prior(self.prior, self.grid_shape)


def _layers(config: NetworkConfig) -> Callable[..., GridConv]:
    """Makes layers from their numbers of inputs and outputs; a network has one kind of them."""
    kind = StaticGridConv if config.kind == "gridconv" else DynamicGridConv
    return partial(kind, shape=config.grid_shape, padding_mode=config.padding_mode)


def _attention(config: NetworkConfig, channels: int) -> GridAttention | None:
    if config.kind == "gridconv":
        return None
    return GridAttention(channels, config.grid_shape, config.temperature)


def _attend(attention: nn.Module | None, x: Tensor) -> Tensor | None:
    return None if attention is None else attention(x)


def _full_precision(x: Tensor) -> AbstractContextManager[None]:
    """No autocast: half precision would round pixels on the way in, millimetres on the way out."""
    if torch.amp.is_autocast_available(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


class _Stage(nn.Module):
    """Residual block: two layers, each with BatchNorm, ReLU and dropout."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, layer = config.hidden, _layers(config)
        self.w1 = layer(width, width)
        self.batch_norm1 = nn.BatchNorm1d(width)
        self.w2 = layer(width, width)
        self.batch_norm2 = nn.BatchNorm1d(width)
        self.atten_conv1 = _attention(config, width)
        self.atten_conv2 = _attention(config, width)
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        y = self.w1(x, _attend(self.atten_conv1, x))
        y = _activate(self.w1, y, self.batch_norm1, self.dropout)
        y = self.w2(y, _attend(self.atten_conv2, y))
        return x + _activate(self.w2, y, self.batch_norm2, self.dropout)


def _activate(layer: GridConv, x: Tensor, norm: nn.Module, dropout: float) -> Tensor:
    """BatchNorm, ReLU and whole-channel dropout on a layer's answer ``(B, cells, C)``."""
    if layer.fused is not None and not torch.is_grad_enabled():
        return torch.relu_(x)  # normalised already
    batch, cells, channels = x.shape
    x = torch.relu(norm(x.reshape(batch * cells, channels))).reshape(batch, cells, channels)
    if layer.training and dropout > 0:
        keep = 1 - dropout
        mask = torch.empty(batch, 1, channels, device=x.device, dtype=x.dtype).bernoulli_(keep)
        x = x * (mask / keep)
    return x


class LiftingNetwork(nn.Module):
    """Normalised 2D to metres relative to the hip; state keys are those of published checkpoints.

    ``forward`` takes what the published networks take: a grid ``(B, 2, H, W)`` to a grid
    ``(B, 3, H, W)``, or with a learnable grid joints ``(B, 17, 2)`` to joints ``(B, 17, 3)``.
    :meth:`lift` takes joints whatever the kind.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width, layer = config.hidden, _layers(config)
        self.w1 = layer(2, width)
        self.batch_norm1 = nn.BatchNorm1d(width)
        self.atten_conv1 = _attention(config, 2)
        self.linear_stages = nn.ModuleList(_Stage(config) for _ in range(config.blocks))
        self.w2 = layer(width, 3, bias=False)
        self.atten_conv2 = _attention(config, width)
        self.sgt_layer = (
            LearnableSGT(config.grid_shape, config.prior, keep_joints=config.keep_joints)
            if config.kind == "dgridconv_autogrids"
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.sgt_layer is not None:
            to_grid, to_joints = self.sgt_layer()
            with _full_precision(x):
                cells = to_grid @ x
            cells = self._cells(cells)
            with _full_precision(x):
                poses: Tensor = to_joints @ cells
            return poses
        height, width = self.config.grid_shape
        cells = self._cells(x.flatten(2).transpose(1, 2))
        return cells.transpose(1, 2).reshape(-1, 3, height, width)

    def lift(self, keypoints: Tensor) -> Tensor:
        """Normalised keypoints ``(B, 17, 2)`` -> poses ``(B, 17, 3)`` in metres.

        Raises:
            UsageError: a network without a learnable grid has another grid than 5x5, to which the
                paper defines no transform.
        """
        if self.sgt_layer is not None:
            poses: Tensor = self(keypoints)
            return poses
        if self.config.grid_shape != GRID_SHAPE:
            raise UsageError(
                f"joints go to a 5x5 grid by the handcrafted transform, not to "
                f"{self.config.grid_shape[0]}x{self.config.grid_shape[1]}"
            )
        with _full_precision(keypoints):
            grid = semantic_grid_transform(keypoints)
        grid = self(grid)
        with _full_precision(keypoints):
            poses = inverse_semantic_grid_transform(grid)
        return poses

    def set_temperature(self, temperature: float) -> None:
        """Divide all attention logits by ``temperature`` from now on."""
        for module in self.modules():
            if isinstance(module, GridAttention):
                module.temperature = temperature

    def fuse(self, dtype: torch.dtype = torch.float32) -> None:
        """Prepare for inference, inner layers in ``dtype``: weights are folded as they are now.

        Answers without gradients are made of these until the network is trained, loaded, moved or
        cast; see :class:`gridpose.lifting.model.layers.Fusable`.
        """
        self.w1.fuse(norm=self.batch_norm1)
        for stage in self.linear_stages:
            assert isinstance(stage, _Stage)
            stage.w1.fuse(dtype, stage.batch_norm1)
            stage.w2.fuse(dtype, stage.batch_norm2)
        self.w2.fuse()
        if self.sgt_layer is not None:
            self.sgt_layer.fuse()

    def _cells(self, x: Tensor) -> Tensor:
        """``(B, cells, 2)`` -> ``(B, cells, 3)``."""
        jit: Any = torch.jit
        seen_by_tracer = torch.compiler.is_compiling() or jit.is_tracing()
        alone = not (self.training or torch.is_grad_enabled() or seen_by_tracer)
        if alone and x.device.type == "cpu" and len(x) > _CPU_CHUNK:
            # Poses do not influence each other, and small chunks stay in the processor's cache.
            return torch.cat([self._through(chunk) for chunk in torch.split(x, _CPU_CHUNK)])
        return self._through(x)

    def _through(self, x: Tensor) -> Tensor:
        with _full_precision(x):
            x = self.w1(x, _attend(self.atten_conv1, x))
        x = _activate(self.w1, x, self.batch_norm1, self.config.dropout)
        for stage in self.linear_stages:
            x = stage(x)
        with _full_precision(x):
            x = x.to(self.w2.weights()[0].dtype)
            answer: Tensor = self.w2(x, _attend(self.atten_conv2, x))
        return answer


def build_network(config: NetworkConfig) -> LiftingNetwork:
    """A freshly initialised network; it can be trained even if built in inference mode."""
    with torch.inference_mode(False):
        return LiftingNetwork(config)
