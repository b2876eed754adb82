"""Grid convolution layers (Kang et al., AAAI 2023), computed on a (B, cells, C) layout.

A layer is the sum of two 3x3 convolutions over the pose grid that differ only in their padding.
Wherever a tap stays inside the grid both branches see the same value, so their weights are added
first; a tap that leaves the grid costs one product for each branch that pads with something, and
none for zero padding. Cells with the same pattern of taps (corners, edges, interior) share one
matrix product. This is exact and takes 225 tap products for circular + zero padding, where two
separate convolutions take 450.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

PaddingMode = Literal["c", "z", "r"]
"""Circular, zeros, replicate: the letters of the published command line."""

TAPS = 9
_BOTH, _FIRST, _SECOND = 0, 1, 2


@dataclass(frozen=True)
class _CellClass:
    """Cells whose taps follow the same pattern."""

    cells: tuple[int, ...]
    taps: tuple[int, ...]
    banks: tuple[int, ...]
    """Which weights each tap uses: the sum of both branches, the first, or the second."""
    sources: tuple[int, ...]
    """Flat index of the cell each tap reads, for each cell in turn: ``len(cells) * len(taps)``."""


def _source(row: int, column: int, shape: tuple[int, int], mode: PaddingMode) -> int | None:
    """Flat index of the cell that a tap reads, or None where the padding is zero."""
    height, width = shape
    if not (0 <= row < height and 0 <= column < width):
        if mode == "z":
            return None
        if mode == "c":
            row, column = row % height, column % width
        else:
            row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    return row * width + column


@lru_cache(maxsize=16)
def _plan(shape: tuple[int, int], modes: tuple[PaddingMode, PaddingMode]) -> tuple[_CellClass, ...]:
    """Group the cells of a grid by the pattern of their taps."""
    height, width = shape
    groups: dict[tuple[tuple[int, int], ...], list[tuple[int, list[int]]]] = {}
    for cell in range(height * width):
        pattern: list[tuple[int, int]] = []
        sources: list[int] = []
        for tap in range(TAPS):
            row, column = cell // width + tap // 3 - 1, cell % width + tap % 3 - 1
            inside = 0 <= row < height and 0 <= column < width
            # Equal modes read equal values everywhere, so the branches fuse everywhere.
            if inside or modes[0] == modes[1]:
                banks = [(_BOTH, modes[0])]
            else:
                banks = [(_FIRST, modes[0]), (_SECOND, modes[1])]
            for bank, mode in banks:
                source = _source(row, column, shape, mode)
                if source is not None:
                    pattern.append((tap, bank))
                    sources.append(source)
        groups.setdefault(tuple(pattern), []).append((cell, sources))
    return tuple(
        _CellClass(
            cells=tuple(cell for cell, _ in members),
            taps=tuple(tap for tap, _ in pattern),
            banks=tuple(bank for _, bank in pattern),
            sources=tuple(source for _, sources in members for source in sources),
        )
        for pattern, members in groups.items()
    )


@dataclass(frozen=True)
class _Indices:
    """A plan as index tensors on one device."""

    gather: Tensor
    """(entries,): the cell that each product reads, class by class."""
    attention: Tensor
    """(entries,): its place in the flat (tap, cell) attention map."""
    weights: tuple[Tensor, ...]
    """For each class the rows of the flat (bank, tap) weights, in the order of its taps."""
    counts: tuple[int, ...]
    order: Tensor
    """(cells,): position of each cell in the concatenated output of the classes."""


@lru_cache(maxsize=32)
def _indices(
    shape: tuple[int, int], modes: tuple[PaddingMode, PaddingMode], device: torch.device
) -> _Indices:
    plan = _plan(shape, modes)
    cells_total = shape[0] * shape[1]

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    produced = [cell for group in plan for cell in group.cells]
    order = sorted(range(cells_total), key=produced.__getitem__)
    # They are cached: made in inference mode they could not be used in training later.
    with torch.inference_mode(False):
        return _Indices(
            gather=tensor([s for group in plan for s in group.sources]),
            attention=tensor(
                [tap * cells_total + cell for g in plan for cell in g.cells for tap in g.taps]
            ),
            weights=tuple(
                tensor([bank * TAPS + tap for tap, bank in zip(g.taps, g.banks, strict=True)])
                for g in plan
            ),
            counts=tuple(len(group.cells) for group in plan),
            order=tensor(order),
        )


class GridAttention(nn.Module):
    """The attention branch of D-GridConv: one weight for every tap of every cell.

    ``(B, cells, C)`` -> ``(B, 9 * cells)`` in (0, 1); entry ``tap * cells + cell`` scales what that
    cell reads through that tap, ``tap = 3 * ky + kx``.
    """

    def __init__(self, channels: int, shape: tuple[int, int], temperature: float) -> None:
        super().__init__()
        hidden = max(channels // 16, 16)
        self.temperature = temperature
        self.fc = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.position_fc = nn.Conv2d(hidden, TAPS * shape[0] * shape[1], 1)
        nn.init.kaiming_normal_(self.fc.weight, mode="fan_out", nonlinearity="relu")
        nn.init.kaiming_normal_(self.position_fc.weight, mode="fan_out", nonlinearity="relu")
        assert self.position_fc.bias is not None
        nn.init.zeros_(self.position_fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        # On one pooled cell a 1x1 convolution is a matrix product, and several times faster as one.
        hidden = functional.linear(x.mean(dim=1), self.fc.weight.flatten(1))
        hidden = torch.relu(self.bn(hidden[:, :, None, None])).flatten(1)
        weight, bias = self.position_fc.weight.flatten(1), self.position_fc.bias
        return torch.sigmoid(functional.linear(hidden, weight, bias) / self.temperature)


class GridConv(nn.Module):
    """Two fused 3x3 grid convolutions with different padding.

    ``(B, cells, C_in)`` -> ``(B, cells, C_out)``. Parameter names are those of published D-GridConv
    checkpoints.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        shape: tuple[int, int],
        padding_mode: tuple[PaddingMode, PaddingMode],
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.padding_mode = padding_mode
        size = (out_channels, in_channels, 3, 3)
        self.branch1_weight = nn.Parameter(torch.empty(size))
        self.branch2_weight = nn.Parameter(torch.empty(size))
        self.branch1_bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.branch2_bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels * TAPS)
        for weight in (self.branch1_weight, self.branch2_weight):
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        for branch_bias in (self.branch1_bias, self.branch2_bias):
            if branch_bias is not None:
                nn.init.uniform_(branch_bias, -bound, bound)

    def forward(self, x: Tensor, attention: Tensor | None = None) -> Tensor:
        """``attention`` is what :class:`GridAttention` answers, or None for a static layer."""
        index = _indices(self.shape, self.padding_mode, x.device)
        batch, _, channels = x.shape
        values = x.index_select(1, index.gather)
        if attention is not None:
            values = values * attention.index_select(1, index.attention)[:, :, None]

        first, second = self.branch1_weight, self.branch2_weight
        out_channels = first.shape[0]
        banks = torch.stack((first + second, first, second))
        # (bank, out, in, ky, kx) -> (bank * tap, in, out)
        banks = banks.permute(0, 3, 4, 2, 1).reshape(3 * TAPS, channels, out_channels)

        # split, not slices: the gradient of a slice is a full-size tensor of zeros for each class.
        sizes = [count * len(rows) for rows, count in zip(index.weights, index.counts, strict=True)]
        outputs = []
        for taps, rows in zip(torch.split(values, sizes, dim=1), index.weights, strict=True):
            weight = banks.index_select(0, rows).reshape(len(rows) * channels, out_channels)
            outputs.append(taps.reshape(batch, -1, len(rows) * channels) @ weight)
        result = torch.cat(outputs, dim=1).index_select(1, index.order)
        if self.branch1_bias is not None and self.branch2_bias is not None:
            result = result + (self.branch1_bias + self.branch2_bias)
        return result
