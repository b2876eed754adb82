"""Batches of a training, which are on the device already, as mmengine wants them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class EpochOrder(Sampler[Tensor]):
    """Index tensors of the batches of an epoch, for one process of several.

    Every epoch is another permutation, which depends on the seed and the number of the epoch alone.
    All processes draw the same one and take their share of each batch. In the last batch the
    processes must have something: with several of them, fewer poses than processes are left out.
    """

    def __init__(self, batches: Batches, batch: int, seed: int) -> None:
        self._batches, self._batch, self._seed = batches, batch, seed
        self._epoch = 0
        rest = len(batches) % batch
        dropped = rest if rest < get_world_size() and get_world_size() > 1 else 0
        self._count = len(batches) - dropped

    def set_epoch(self, epoch: int) -> None:
        """Called by mmengine before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self._count / self._batch)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed((self._seed << 20) + self._epoch)
        order = self._batches.order(generator)[: self._count]
        for whole in torch.split(order, self._batch):
            yield whole.tensor_split(get_world_size())[get_rank()]


class Batches(Protocol):
    """A data set on the device, of which batches are picked."""

    device: torch.device

    def __len__(self) -> int: ...

    def order(self, generator: torch.Generator | None) -> Tensor:
        """Row numbers, shuffled if there is a generator."""
        ...

    def batch(self, index: Tensor) -> dict[str, Tensor]:
        """Rows ``index`` as the loss takes them, by name."""
        ...


class _Rows(Dataset[dict[str, Tensor]]):
    """Batches by index tensor; they are on the device already."""

    metainfo: ClassVar[dict[str, str]] = {}
    """mmengine asks for it."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: Any) -> dict[str, Tensor]:
        return self._batches.batch(index)


def as_is(batch: Any) -> Any:
    """For loaders whose data sets answer whole batches."""
    return batch


def training_batches(batches: Batches, batch: int, seed: int) -> DataLoader[Any]:
    """A loader whose every fetch is one index selection on the device."""
    order = EpochOrder(batches, batch, seed)
    return DataLoader(_Rows(batches), batch_size=None, sampler=order, collate_fn=as_is)
