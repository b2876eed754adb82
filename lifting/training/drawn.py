"""Training batches that are drawn anew from motion capture, without end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gridpose.lifting.model.temporal import WINDOW_FRAMES
from gridpose.lifting.normalise import normalise
from gridpose.lifting.synthesis.poses import Synthesiser
from gridpose.lifting.synthesis.windows import SequenceSynthesiser
from gridpose.lifting.training.batches import as_is
from gridpose.lifting.training.clock import Clock
from gridpose.lifting.training.temporal_loss import seen_windows

POSES_AT_ONCE, WINDOWS_AT_ONCE = 65_536, 1024
"""Drawn together on a GPU, for several steps: many small operations are slow there."""


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
    return DataLoader(drawn, batch_size=None, sampler=order, collate_fn=as_is)
