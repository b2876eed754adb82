"""Grid convolution layers (Kang et al., AAAI 2023), computed on a (B, cells, C) layout.

A layer is the sum of two 3x3 convolutions over the pose grid that differ only in their padding.
Wherever a tap stays inside the grid both branches see the same value, so their weights are added
first; a tap that leaves the grid costs one product for each branch that pads with something, and
none for zero padding. This is exact. Three formulations share the work:

* **sources**, for training with attention: every cell is multiplied with all nine taps in one
  product, and what a cell then takes from the others is a sparse matrix of the attention's values
  times these products. All that is as wide as the channels is a matrix product; nothing that wide
  is gathered, scaled or scattered, which in half precision took most of the time.
* **strips**, for inference: one product for all cells, taps that leave the grid reading zero, then
  four thin strips of cells add what the padding holds. A weight is read once or twice, and the
  matrices are kept while the weights stay as they are.
* **border**, for one or two poses, where reading the weights is all that counts: the strips become
  one matrix product with each weight in it once.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from gridpose.lifting.fused import fuses, gather_and_scale

PaddingMode = Literal["c", "z", "r"]
"""Circular, zeros, replicate: the letters of the published command line."""

PaddingModes = tuple[PaddingMode, PaddingMode]
Shape = tuple[int, int]

TAPS = 9
_BOTH, _FIRST, _SECOND = 0, 1, 2
_PROBES = 61
_FEW_POSES = 2


@dataclass(frozen=True)
class _Group:
    """Cells that share one matrix product."""

    cells: tuple[int, ...]
    taps: tuple[int, ...]
    banks: tuple[int, ...]
    """Which weights each tap uses: the sum of both branches, the first, or the second."""
    sources: tuple[int, ...]
    """Flat index of the cell each tap reads, for each cell in turn: ``len(cells) * len(taps)``.
    One past the last cell reads zero."""


def _source(row: int, column: int, shape: Shape, mode: PaddingMode) -> int | None:
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


def _target(cell: int, tap: int, width: int) -> tuple[int, int]:
    """Row and column, perhaps outside the grid, that a tap of a cell points at."""
    return cell // width + tap // 3 - 1, cell % width + tap % 3 - 1


def _inner_group(shape: Shape, modes: PaddingModes) -> _Group:
    """All cells, with what they read inside the grid (everywhere when both branches pad alike)."""
    height, width = shape
    zero = height * width
    sources = []
    for cell in range(zero):
        for tap in range(TAPS):
            row, column = _target(cell, tap, width)
            inside = 0 <= row < height and 0 <= column < width
            source = _source(row, column, shape, modes[0])
            fits = source is not None and (inside or modes[0] == modes[1])
            sources.append(source if fits and source is not None else zero)
    return _Group(tuple(range(zero)), tuple(range(TAPS)), (_BOTH,) * TAPS, tuple(sources))


def _outer_groups(
    shape: Shape, modes: PaddingModes, borders: Iterable[tuple[Iterable[int], tuple[int, ...]]]
) -> Iterator[_Group]:
    """What cells read outside the grid: for each border its cells and the taps looked at.

    A tap that two borders look at counts for the first of them only.
    """
    height, width = shape
    zero = height * width
    padded = [(bank, mode) for bank, mode in zip((_FIRST, _SECOND), modes, strict=True)]
    branches = [(bank, mode) for bank, mode in padded if mode != "z" and modes[0] != modes[1]]
    seen: set[tuple[int, int]] = set()
    for border, taps in borders:
        cells = tuple(border)
        sources = []
        for cell in cells:
            for _, mode in branches:
                for tap in taps:
                    row, column = _target(cell, tap, width)
                    inside = 0 <= row < height and 0 <= column < width
                    source = _source(row, column, shape, mode)
                    skip = inside or source is None or (cell, tap) in seen
                    sources.append(zero if skip or source is None else source)
        seen.update(itertools.product(cells, taps))
        if branches:
            banks = tuple(bank for bank, _ in branches for _ in taps)
            yield _Group(cells, taps * len(branches), banks, tuple(sources))


def _sides(shape: Shape) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """The cells of each side of the grid, and the taps that leave the grid through it."""
    height, width = shape
    return (
        (tuple(range(width)), (0, 1, 2)),
        (tuple(range((height - 1) * width, height * width)), (6, 7, 8)),
        (tuple(range(0, height * width, width)), (0, 3, 6)),
        (tuple(range(width - 1, height * width, width)), (2, 5, 8)),
    )


def _strip_groups(shape: Shape, modes: PaddingModes) -> tuple[_Group, ...]:
    """All cells inside the grid, then one group for each of its four sides."""
    return _inner_group(shape, modes), *_outer_groups(shape, modes, _sides(shape))


def _border_groups(shape: Shape, modes: PaddingModes) -> tuple[_Group, ...]:
    """All cells inside the grid, then the cells of its border with all taps that may leave it."""
    height, width = shape
    border = [
        cell
        for cell in range(height * width)
        if cell // width in (0, height - 1) or cell % width in (0, width - 1)
    ]
    around = ((border, (0, 1, 2, 3, 5, 6, 7, 8)),)
    return _inner_group(shape, modes), *_outer_groups(shape, modes, around)


Formulation = Literal["strips", "border"]
_GROUPS = {"strips": _strip_groups, "border": _border_groups}


class _Index(NamedTuple):
    """Groups as index lists, one after another."""

    gather: tuple[int, ...]
    """The cell that each product reads."""
    attention: tuple[int, ...]
    """Its place in the flat (tap, cell) attention map."""
    rows: tuple[int, ...]
    """Rows of the flat (bank, tap) weights, in the order of the groups' taps."""
    cells: tuple[int, ...]
    """The cells that the groups produce."""
    entries: list[int]
    """How many products each group reads."""
    taps: list[int]
    """How many taps the cells of each group have."""
    counts: list[int]
    """How many cells each group has."""


@lru_cache(maxsize=32)
def _index(formulation: Formulation, shape: Shape, modes: PaddingModes) -> _Index:
    groups = _GROUPS[formulation](shape, modes)
    total = shape[0] * shape[1]
    return _Index(
        gather=tuple(source for group in groups for source in group.sources),
        attention=tuple(tap * total + c for g in groups for c in g.cells for tap in g.taps),
        rows=tuple(
            bank * TAPS + tap for g in groups for tap, bank in zip(g.taps, g.banks, strict=True)
        ),
        cells=tuple(cell for group in groups for cell in group.cells),
        entries=[len(group.sources) for group in groups],
        taps=[len(group.taps) for group in groups],
        counts=[len(group.cells) for group in groups],
    )


class _Sources(NamedTuple):
    """The formulation "sources" as index lists.

    The first block of products is of all cells with all taps of both branches' summed weights;
    each further one is of some cells with the three taps that leave the grid through one side.
    """

    rows: tuple[int, ...]
    """Rows of the flat (bank, tap) weights, block after block."""
    taps: list[int]
    """How many taps each block has."""
    cells: tuple[int, ...]
    """The cells that the blocks after the first read, one block after another."""
    counts: list[int]
    """How many cells each block after the first reads."""
    inner: tuple[list[int], list[int]]
    """Places in the flat (cell, product) matrix of the first block, and of the value that belongs
    there in the flat (tap, cell) attention map."""
    outer: tuple[list[int], list[int]]
    """The same for all further blocks together."""
    products: int
    """How many products the further blocks have for each pose."""


@lru_cache(maxsize=32)
def _by_source(shape: Shape, modes: PaddingModes) -> _Sources:
    height, width = shape
    total = height * width
    group = _inner_group(shape, modes)
    reads = [divmod(entry, TAPS) for entry in range(total * TAPS)]
    inner = [
        (cell * total * TAPS + source * TAPS + tap, tap * total + cell)
        for (cell, tap), source in zip(reads, group.sources, strict=True)
        if source != total
    ]
    rows, taps, cells, counts = list(range(TAPS)), [TAPS], list[int](), list[int]()
    entries: list[tuple[int, int, int]] = []
    products = 0
    branches = ((_FIRST, modes[0]), (_SECOND, modes[1])) if modes[0] != modes[1] else ()
    for bank, mode in branches:
        for side in _outer_groups(shape, (mode, "z"), _sides(shape)):
            read = sorted(set(side.sources) - {total})
            for entry, source in enumerate(side.sources):
                if source != total:
                    place, tap = divmod(entry, len(side.taps))
                    product = products + read.index(source) * len(side.taps) + tap
                    entries.append((side.cells[place], product, side.taps[tap]))
            rows += [bank * TAPS + tap for tap in side.taps]
            taps.append(len(side.taps))
            cells += read
            counts.append(len(read))
            products += len(read) * len(side.taps)
    outer = [(cell * products + product, tap * total + cell) for cell, product, tap in entries]
    return _Sources(
        tuple(rows), taps, tuple(cells), counts, _columns(inner), _columns(outer), products
    )


def _columns(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [first for first, _ in pairs], [second for _, second in pairs]


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
        pooled = x.mean(dim=1).to(self.fc.weight.dtype)  # a frozen layer answers in its own type
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


_Matrices = tuple[Tensor, ...]
"""For each group of cells its weights, (taps * C_in, C_out)."""


class _Frozen(NamedTuple):
    """What a layer computes with while its weights are not to change."""

    matrices: dict[Formulation, _Matrices]
    bias: Tensor | None


class GridConv(nn.Module, ABC):
    """Two fused 3x3 grid convolutions with different padding.

    ``(B, cells, C_in)`` -> ``(B, cells, C_out)``.
    """

    sources_rows: Tensor
    sources_cells: Tensor
    sources_inner: Tensor
    sources_outer: Tensor

    def __init__(self, shape: Shape, padding_mode: PaddingModes) -> None:
        super().__init__()
        self.shape, self.padding_mode = shape, padding_mode
        self._indices: dict[Formulation, _Index] = {}
        for name in get_args(Formulation):
            index = self._indices[name] = _index(name, shape, padding_mode)
            for part in ("gather", "attention", "rows", "cells"):
                self._register(f"{name}_{part}", getattr(index, part))
        self._sources = _by_source(shape, padding_mode)
        for part in ("rows", "cells", "inner", "outer"):
            self._register(f"sources_{part}", getattr(self._sources, part))
        self._kept: dict[Formulation, tuple[tuple[Any, ...], _Matrices]] = {}
        self._frozen: _Frozen | None = None

    def _register(self, name: str, indices: Sequence[int] | Sequence[Sequence[int]]) -> None:
        values = torch.tensor(indices, dtype=torch.long)
        self.register_buffer(name, values, persistent=False)

    @abstractmethod
    def weights(self) -> tuple[Tensor, Tensor]:
        """Of both branches, (C_out, C_in, 3, 3)."""

    @abstractmethod
    def bias(self) -> Tensor | None:
        """Sum of both branches' biases, (C_out,)."""

    @property
    def frozen(self) -> bool:
        return self._frozen is not None

    def freeze(self, dtype: torch.dtype, norm: nn.BatchNorm1d | None = None) -> None:
        """Compute in ``dtype`` from now on, with the weights as they are, and ``norm`` after them.

        Lasts until weights are loaded or :meth:`train` is called. On a GPU to make the matrices
        anew, and to cast them, costs as much as a small batch.
        """
        with torch.inference_mode(False), torch.no_grad():
            scale, shift = torch.ones(()), None
            if norm is not None:
                assert norm.running_mean is not None
                assert norm.running_var is not None
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                shift = norm.bias - norm.running_mean * scale
            weights = self.weights()[0]
            scale = scale.to(weights.device)
            bias = self.bias()
            bias = None if bias is None else bias * scale
            if shift is not None:
                bias = shift if bias is None else bias + shift
            matrices = {
                name: tuple((matrix * scale).to(dtype) for matrix in self._matrices(name))
                for name in get_args(Formulation)
            }
            self._frozen = _Frozen(matrices, None if bias is None else bias.to(dtype))

    def forward(self, x: Tensor, attention: Tensor | None = None) -> Tensor:
        """``attention`` is what :class:`GridAttention` answers, or None for a static layer."""
        name: Formulation = "border" if len(x) <= _FEW_POSES else "strips"
        if self._frozen is not None and not torch.is_grad_enabled():
            matrices, bias = self._frozen.matrices[name], self._frozen.bias
            x = x.to(matrices[0].dtype)
            attention = None if attention is None else attention.to(x.dtype)
            return self._from_groups(name, x, attention, matrices, bias)
        # The narrower side of a layer is the cheaper one to move about.
        if torch.is_grad_enabled() and attention is not None and not self._widens():
            result = self._from_sources(x, attention)
        elif torch.is_grad_enabled():
            result = self._from_groups("strips", x, attention, self._matrices("strips"))
        else:
            result = self._from_groups(name, x, attention, self._kept_matrices(name))
        bias = self.bias()
        return result if bias is None else result + bias

    def _widens(self) -> bool:
        out_channels, channels = self.weights()[0].shape[:2]
        return out_channels > channels

    def _from_sources(self, x: Tensor, attention: Tensor) -> Tensor:
        batch, total = x.shape[:2]
        sources = self._sources
        blocks = torch.split(self._banks().index_select(0, self.sources_rows), sources.taps)
        weights = [block.flatten(0, 1) for block in blocks]  # (taps * C_out, C_in)
        out_channels = len(weights[0]) // TAPS

        def mixture(places: Tensor, products: int) -> Tensor:
            """What each cell takes of which product: (B, cells, products), mostly zeros."""
            empty = attention.new_zeros(batch, total * products)
            filled = empty.index_copy(1, places[0], attention.index_select(1, places[1]))
            return filled.view(batch, total, products)

        inner = functional.linear(x, weights[0]).view(batch, total * TAPS, out_channels)
        result = mixture(self.sources_inner, total * TAPS) @ inner
        if sources.products:
            read = torch.split(x.index_select(1, self.sources_cells), sources.counts, dim=1)
            outer = [
                functional.linear(cells, weight).view(batch, cells.shape[1] * taps, out_channels)
                for cells, weight, taps in zip(read, weights[1:], sources.taps[1:], strict=True)
            ]
            taken = mixture(self.sources_outer, sources.products)
            result = torch.baddbmm(result, taken, torch.cat(outer, dim=1))
        return result

    def _from_groups(
        self,
        name: Formulation,
        x: Tensor,
        attention: Tensor | None,
        matrices: _Matrices,
        bias: Tensor | None = None,
    ) -> Tensor:
        padded = functional.pad(x, (0, 0, 0, 1))  # the cell that reads zero
        products = self._products(name, padded, attention, matrices, bias)
        result = next(products)
        places = torch.split(self.get_buffer(f"{name}_cells"), self._indices[name].counts)
        for place, product in zip(places[1:], products, strict=True):
            result.index_add_(1, place, product)
        return result

    def _products(
        self,
        name: Formulation,
        x: Tensor,
        attention: Tensor | None,
        matrices: _Matrices,
        bias: Tensor | None,
    ) -> Iterator[Tensor]:
        """What each group of cells reads, times its weights: ``(B, cells of the group, C_out)``.

        ``bias`` is added to the first group, which has all cells.
        """
        index = self._indices[name]
        batch, _, channels = x.shape
        gathers = torch.split(self.get_buffer(f"{name}_gather"), index.entries)
        scales = torch.split(self.get_buffer(f"{name}_attention"), index.entries)
        for gather, scale, weight, count, taps in zip(
            gathers, scales, matrices, index.counts, index.taps, strict=True
        ):
            if attention is None:
                values = x.index_select(1, gather)
            elif fuses(x):
                values = gather_and_scale(x, gather, attention, scale)
            else:
                values = x.index_select(1, gather)
                scaling = attention.index_select(1, scale)[:, :, None]
                # In place where autograd allows: another buffer costs as much as the product.
                values = values * scaling if torch.is_grad_enabled() else values.mul_(scaling)
            rows = values.view(batch * count, taps * channels)
            product = rows @ weight if bias is None else torch.addmm(bias, rows, weight)
            bias = None
            yield product.view(batch, count, weight.shape[1])

    def _matrices(self, name: Formulation) -> _Matrices:
        """Weights in the order in which groups need them."""
        # One selection for all groups: each would cost a gradient as large as all weights.
        chosen = self._banks().transpose(1, 2).index_select(0, self.get_buffer(f"{name}_rows"))
        parts = torch.split(chosen, self._indices[name].taps)
        return tuple(part.flatten(0, 1) for part in parts)

    def _banks(self) -> Tensor:
        """Weights of both branches' sum, of the first and of the second: (27, C_out, C_in)."""
        first, second = self.weights()
        banks = torch.stack((first + second, first, second))
        return banks.permute(0, 3, 4, 1, 2).reshape(3 * TAPS, *first.shape[:2])

    def _kept_matrices(self, name: Formulation) -> _Matrices:
        """The matrices of a formulation, made anew only when a weight has changed."""
        key = None if torch.compiler.is_compiling() else self._weights_key()
        if key is None:
            return self._matrices(name)
        kept = self._kept.get(name)
        if kept is None or kept[0] != key:
            kept = self._kept[name] = (key, self._matrices(name))
        return kept[1]

    def _weights_key(self) -> tuple[Any, ...] | None:
        """Changes when a weight does; None where that cannot be told cheaply.

        Writing through ``Tensor.data``, as some weight averaging does, moves no version counter,
        hence the probe: the sum of some of each weight's values. On a GPU reading them back would
        cost more than making the matrices.
        """
        parts: list[Any] = []
        for weight in self.weights():
            if weight.device.type != "cpu" or weight.is_inference():
                return None
            flat = weight.detach().reshape(-1)  # its memory may be in another order
            probe = flat[:: max(1, flat.numel() // _PROBES)].sum().item()
            parts += [weight.data_ptr(), weight._version, weight.dtype, probe]
        return tuple(parts)

    def train(self, mode: bool = True) -> GridConv:
        self._kept, self._frozen = {}, None
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._frozen = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}, "_frozen": None}


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
