"""Grid convolution layers (Kang et al., AAAI 2023), computed on a (B, cells, C) layout.

A layer is the sum of two 3x3 convolutions over the pose grid that differ only in their padding.
Where a tap reads the same cell whichever the padding, the weights of both are added first; where
the paddings differ, at the border, each that is not zero costs a product of its own. This is exact.

What each tap of each cell reads is a row of a small matrix, zero but for one value of the
attention. So all that is as wide as the channels is a matrix product: to gather and scale values
that wide took most of the time in half precision.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

PaddingMode = Literal["c", "z", "r"]
"""Circular, zeros, replicate: the letters of the published command line."""

PaddingModes = tuple[PaddingMode, PaddingMode]
Shape = tuple[int, int]
Indices = NDArray[np.int64]

TAPS = 9
_NOTHING = -1


class _Reads(NamedTuple):
    """Some taps of some cells, and which cells they read."""

    kernel: int
    """Whose weights they have: 0 of both branches' sum, 1 of the first, 2 of the second."""
    cells: Indices
    """(N,) the cells that read."""
    taps: slice
    """Their taps, T of 9."""
    sources: Indices
    """(N, T) the cells that are read, or ``_NOTHING``."""


def _targets(shape: Shape) -> tuple[Indices, Indices]:
    """Rows and columns that taps of cells point at, perhaps outside the grid: (cells, 9) each."""
    cells, taps = np.arange(shape[0] * shape[1])[:, None], np.arange(TAPS)
    return cells // shape[1] + taps // 3 - 1, cells % shape[1] + taps % 3 - 1


def _sources(shape: Shape, mode: PaddingMode) -> Indices:
    """The cell that each tap of each cell reads, (cells, 9), or ``_NOTHING``."""
    (height, width), (rows, columns) = shape, _targets(shape)
    if mode == "c":
        return rows % height * width + columns % width
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    nearest = rows.clip(0, height - 1) * width + columns.clip(0, width - 1)
    return np.where(inside | (mode == "r"), nearest, _NOTHING)


@lru_cache(maxsize=32)
def _reads(shape: Shape, modes: PaddingModes) -> tuple[_Reads, ...]:
    """All that a layer reads: first of all cells, then of each side of the grid."""
    grid = np.arange(shape[0] * shape[1]).reshape(shape)
    rows, _ = _targets(shape)
    # A tap that leaves the grid at a corner counts for the upper or lower side.
    leaves_row = (rows < 0) | (rows >= shape[0])
    sides = (
        (grid[0], slice(0, 3), leaves_row),
        (grid[-1], slice(6, 9), leaves_row),
        (grid[:, 0], slice(0, 9, 3), ~leaves_row),
        (grid[:, -1], slice(2, 9, 3), ~leaves_row),
    )
    branches = [_sources(shape, mode) for mode in modes]
    alike = branches[0] == branches[1]
    everywhere = np.where(alike, branches[0], _NOTHING)
    reads = [_Reads(0, grid.ravel(), slice(0, TAPS), everywhere)]
    for kernel, branch in enumerate(branches, start=1):
        for cells, taps, here in sides:
            own = np.where(here & ~alike, branch, _NOTHING)[cells][:, taps]
            if (own != _NOTHING).any():
                reads.append(_Reads(kernel, cells, taps, own))
    return tuple(reads)


class Fusable(nn.Module):
    """A module that can keep what inference computes with, made of its weights once.

    That is used where no gradients are wanted, and lasts until the module is trained, loaded,
    moved or cast. Weights written otherwise meanwhile do not count.
    """

    fused: Any = None

    def train(self, mode: bool = True) -> Fusable:
        if mode:
            self.fused = None
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.fused = None
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Fusable:
        self.fused = None
        moved: Fusable = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved


class GridAttention(nn.Module):
    """The attention branch of D-GridConv: one weight for every tap of every cell.

    ``(B, cells, C)`` -> ``(B, 9 * cells)`` in (0, 1); entry ``tap * cells + cell`` scales what that
    cell reads through that tap, ``tap = 3 * ky + kx``.
    """

    def __init__(self, channels: int, shape: Shape, temperature: float) -> None:
        super().__init__()
        hidden = max(channels // 16, 16)
        self.temperature = temperature
        self.fc = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.position_fc = nn.Conv2d(hidden, TAPS * shape[0] * shape[1], 1)
        assert self.position_fc.bias is not None
        # Where there is nothing to fill, PyTorch would import its compiler: a second, for shapes.
        if not self.fc.weight.is_meta:
            nn.init.kaiming_normal_(self.fc.weight, mode="fan_out", nonlinearity="relu")
            nn.init.kaiming_normal_(self.position_fc.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(self.position_fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        # On one pooled cell a 1x1 convolution is a matrix product, and several times faster as one.
        pooled = x.mean(dim=1).to(self.fc.weight.dtype)  # a fused layer answers in its own type
        hidden = functional.linear(pooled, self.fc.weight.flatten(1))
        hidden = torch.relu(self._normalise(hidden))
        weight, bias = self.position_fc.weight.flatten(1), self.position_fc.bias
        return torch.sigmoid(functional.linear(hidden, weight, bias) / self.temperature)

    def _normalise(self, hidden: Tensor) -> Tensor:
        # One pooled pose has no variance: the last batch of an epoch may be that small.
        if self.training and len(hidden) == 1 and type(self.bn) is nn.BatchNorm2d:
            mean, variance = self.bn.running_mean, self.bn.running_var
            return functional.batch_norm(hidden, mean, variance, self.bn.weight, self.bn.bias)
        normalised: Tensor = self.bn(hidden[:, :, None, None])
        return normalised.flatten(1)


class GridConv(Fusable, ABC):
    """Two fused 3x3 grid convolutions with different padding.

    ``(B, cells, C_in)`` -> ``(B, cells, C_out)``.
    """

    def __init__(self, shape: Shape, padding_mode: PaddingModes) -> None:
        super().__init__()
        self.shape, self.padding_mode = shape, padding_mode
        self._reads = _reads(shape, padding_mode)
        places = np.arange(TAPS * shape[0] * shape[1]).reshape(TAPS, -1).T
        for number, reads in enumerate(self._reads):
            picks = reads.sources.reshape(-1, 1) == np.arange(shape[0] * shape[1])
            for name, values in (
                ("cells", reads.cells),
                ("attention", places[reads.cells, reads.taps].ravel()),
                ("picks", picks),  # (N * T, cells): one for the cell that is read
            ):
                self.register_buffer(f"{name}{number}", torch.tensor(values), persistent=False)

    @abstractmethod
    def weights(self) -> tuple[Tensor, Tensor]:
        """Of both branches, (C_out, C_in, 3, 3)."""

    @abstractmethod
    def bias(self) -> Tensor | None:
        """Sum of both branches' biases, (C_out,)."""

    def fuse(self, dtype: torch.dtype = torch.float32, norm: nn.BatchNorm1d | None = None) -> None:
        """Compute in ``dtype`` with the weights as they are, and with ``norm`` after them.

        For inference; see :class:`Fusable`.
        """
        # What is made in inference mode could not be traced later.
        with torch.inference_mode(False), torch.no_grad():
            kernels, bias = self._kernels(), self.bias()
            if norm is not None:
                assert norm.running_mean is not None
                assert norm.running_var is not None
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                shift = norm.bias - norm.running_mean * scale
                kernels = [kernel * scale[:, None] for kernel in kernels]
                bias = shift if bias is None else bias * scale + shift
            self.fused = (
                [kernel.to(dtype) for kernel in kernels],
                None if bias is None else bias.to(dtype),
            )

    def forward(self, x: Tensor, attention: Tensor | None = None) -> Tensor:
        """``attention`` is what :class:`GridAttention` answers, or None for a static layer."""
        if self.fused is None or torch.is_grad_enabled():
            return self._convolve(x, attention, self._kernels(), self.bias())
        kernels, bias = self.fused
        dtype = kernels[0].dtype
        attention = None if attention is None else attention.to(dtype)
        return self._convolve(x.to(dtype), attention, kernels, bias)

    def _convolve(
        self, x: Tensor, attention: Tensor | None, kernels: list[Tensor], bias: Tensor | None
    ) -> Tensor:
        takes = self._takes(0, x, attention)
        result = _read_and_multiply(x, takes, kernels[0], bias)
        for number, kernel in enumerate(kernels[1:], start=1):
            side = _read_and_multiply(x, self._takes(number, x, attention), kernel, None)
            result = result.index_add_(1, self.get_buffer(f"cells{number}"), side)
        return result

    def _takes(self, number: int, x: Tensor, attention: Tensor | None) -> Tensor:
        """What taps of cells take of each cell: (B or 1, N, T, cells), mostly zeros."""
        picks, sources = self.get_buffer(f"picks{number}"), self._reads[number].sources
        if attention is None:
            takes = picks.to(x.dtype)[None]
        else:
            values = attention.index_select(1, self.get_buffer(f"attention{number}"))
            takes = values[:, :, None] * picks.to(values.dtype)
        return takes.view(takes.shape[0], *sources.shape, x.shape[1])

    def _kernels(self) -> list[Tensor]:
        """The weights for each part of what is read: (C_out, T * C_in)."""
        first, second = (w.permute(0, 2, 3, 1).flatten(1, 2) for w in self.weights())
        branches = (first + second, first, second)
        return [branches[reads.kernel][:, reads.taps].flatten(1) for reads in self._reads]


def _read_and_multiply(x: Tensor, takes: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """``(B, cells, C_in)`` -> ``(B, N, C_out)``, by ``takes`` (B or 1, N, T, cells).

    ``kernel`` is (C_out, T * C_in).
    """
    batch, cells, channels = x.shape
    _, count, taps, _ = takes.shape
    out_channels = len(kernel)
    if out_channels >= channels:
        read = takes.flatten(1, 2) @ x
        return functional.linear(read.reshape(batch, count, taps * channels), kernel, bias)
    # Multiplied first: the narrower side of a layer is the cheaper one to move about.
    products = functional.linear(x, kernel.reshape(out_channels * taps, channels))
    products = products.view(batch, cells, out_channels, taps).permute(0, 3, 1, 2)
    result = takes.flatten(2) @ products.reshape(batch, taps * cells, out_channels)
    return result if bias is None else result + bias


class DynamicGridConv(GridConv):
    """D-GridConv, whose taps an attention map scales; parameters named as in published files."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        shape: Shape,
        padding_mode: PaddingModes,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(shape, padding_mode)
        size = (out_channels, in_channels, 3, 3)
        self.branch1_weight = nn.Parameter(torch.empty(size))
        self.branch2_weight = nn.Parameter(torch.empty(size))
        self.branch1_bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.branch2_bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels * TAPS)
        for weight in self.weights():
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        for branch_bias in (self.branch1_bias, self.branch2_bias):
            if branch_bias is not None:
                nn.init.uniform_(branch_bias, -bound, bound)

    def weights(self) -> tuple[Tensor, Tensor]:
        return self.branch1_weight, self.branch2_weight

    def bias(self) -> Tensor | None:
        if self.branch1_bias is None or self.branch2_bias is None:
            return None
        return self.branch1_bias + self.branch2_bias


class StaticGridConv(GridConv):
    """GridConv: a "donut" and a "tablet" convolution; parameters named as in published files."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        shape: Shape,
        padding_mode: PaddingModes,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(shape, padding_mode)
        # They hold parameters, initialised as the design wants, and are never called.
        self.donut_conv = nn.Conv2d(in_channels, out_channels, 3, bias=bias)
        self.tablet_conv = nn.Conv2d(in_channels, out_channels, 3, bias=bias)

    def weights(self) -> tuple[Tensor, Tensor]:
        return self.donut_conv.weight, self.tablet_conv.weight

    def bias(self) -> Tensor | None:
        if self.donut_conv.bias is None or self.tablet_conv.bias is None:
            return None
        return self.donut_conv.bias + self.tablet_conv.bias
