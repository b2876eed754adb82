"""Batches of a training, on the device already, as mmengine wants them.

They are rows of a data set, or drawn anew from motion capture without end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gridpose.lifting.model.temporal import WINDOW_FRAMES
from gridpose.lifting.normalise import normalise
from gridpose.lifting.synthesis.poses import Synthesiser
from gridpose.lifting.synthesis.windows import SequenceSynthesiser
from gridpose.lifting.training.temporal_loss import seen_windows

POSES_AT_ONCE, WINDOWS_AT_ONCE = 65_536, 1024
"""Drawn together on a GPU, for several steps: many small operations are slow there."""


class Clock:
    """Tells how far a training is: by its steps, or by the time that it may take.

    Epochs take equal shares of the time, with whatever is between them.

    Args:
        epochs: of the training.
        seconds: which all of them may take; None counts steps.
    """

    def __init__(self, epochs: int, seconds: float | None) -> None:
        self.epochs = epochs
        self._epoch_seconds = None if seconds is None else seconds / epochs
        self._began = time.monotonic()

    @property
    def limits_time(self) -> bool:
        return self._epoch_seconds is not None

    def start(self, epoch: int) -> None:
        """Training begins, or goes on, with this epoch (from 0)."""
        self._began = time.monotonic() - epoch * (self._epoch_seconds or 0)

    def share(self, epoch: int, done: int, steps: int) -> float:
        """Share of an epoch that is over after ``done`` of its ``steps``, from 0 to 1."""
        if self._epoch_seconds is None:
            return done / steps
        elapsed = time.monotonic() - self._began
        return min(1.0, max(0.0, elapsed / self._epoch_seconds - epoch))


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


def training_batches(batches: Batches, batch: int, seed: int) -> DataLoader[Any]:
    """A loader whose every fetch is one index selection on the device."""
    order = EpochOrder(batches, batch, seed)
    return DataLoader(_Rows(batches), batch_size=None, sampler=order)


class DrawnPoses:
    """Draws ``person`` keypoints (N, 17, 2) and poses (N, 17, 3) in the same camera."""

    at_once = POSES_AT_ONCE

    def __init__(self, synthesiser: Synthesiser) -> None:
        self._synthesiser = synthesiser
        self.generator = synthesiser.generator

    def __call__(self, count: int) -> dict[str, Tensor]:
        drawn = self._synthesiser.batch(count)
        normalised = normalise(drawn.keypoints_px, drawn.image_size, "person")
        assert normalised.to_camera is not None
        return {"inputs": normalised.keypoints, "targets": drawn.poses @ normalised.to_camera}


class DrawnWindows:
    """Draws windows as ``temporal_error`` takes them.

    Args:
        synthesiser: draws them.
        fov_degrees: horizontal field of view that the network is told.
    """

    at_once = WINDOWS_AT_ONCE

    def __init__(self, synthesiser: SequenceSynthesiser, fov_degrees: float) -> None:
        self._synthesiser, self._fov = synthesiser, fov_degrees
        self.generator = synthesiser.generator

    def __call__(self, count: int) -> dict[str, Tensor]:
        return seen_windows(self._synthesiser.windows(count, WINDOW_FRAMES), self._fov)


class _Drawn(Dataset[dict[str, Tensor]]):
    """Batches by their size."""

    metainfo: ClassVar[dict[str, str]] = {}
    """mmengine asks for it."""

    def __init__(self, draw: DrawnPoses | DrawnWindows) -> None:
        self._draw = draw
        self._at_once = draw.at_once if draw.generator.device.type == "cuda" else 1
        self._ready: list[dict[str, Tensor]] = []

    def __getitem__(self, size: int) -> dict[str, Tensor]:
        if not self._ready:
            # So that an epoch draws the same whether or not the training was interrupted before.
            self._draw.generator.manual_seed(int(torch.randint(2**62, ())))
            drawn = self._draw(max(1, self._at_once // size) * size)
            parts = zip(*(torch.split(tensor, size) for tensor in drawn.values()), strict=True)
            self._ready = [dict(zip(drawn, part, strict=True)) for part in parts]
        return self._ready.pop()

    def forget(self) -> None:
        self._ready = []


class _Steps(Sampler[int]):
    """The sizes of this process's batches of an epoch, until its steps or its time are over."""

    def __init__(self, drawn: _Drawn, batch: int, steps: int, clock: Clock) -> None:
        self._drawn, self._steps, self._clock = drawn, steps, clock
        self._size = batch // get_world_size() + (get_rank() < batch % get_world_size())
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by mmengine before each epoch."""
        self._epoch = epoch
        self._drawn.forget()

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[int]:
        done = 0
        while not done or self._clock.share(self._epoch, done, self._steps) < 1:
            yield self._size
            done += 1


def drawn_batches(
    draw: DrawnPoses | DrawnWindows, batch: int, steps: int, clock: Clock
) -> DataLoader[Any]:
    """A loader of batches that are drawn when they are asked for."""
    drawn = _Drawn(draw)
    order: Any = _Steps(drawn, batch, steps, clock)
    return DataLoader(drawn, batch_size=None, sampler=order)
