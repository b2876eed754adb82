"""A network's calls as recordings, for batches of a few sizes: each is replayed by one call.

HRNet is more than a thousand kernels of a few microseconds each. Launched one by one from Python
they take longer than they run: an H100 needs as long for 64 crops in half precision as for one. As
a CUDA graph they follow each other without the host, which other threads need as well.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from threading import Lock
from typing import Any, Final

import torch
from torch import Tensor

SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""A batch is padded to the next of these: by less than half."""
WARM_UP: Final = 3
"""Batches of a size that run before one is recorded, which takes as long as a few of them."""

Call = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Answers for a batch, those of its members apart; asks the device for nothing on the way."""


class Recording:
    """A call for batches of one size.

    Args:
        call: what to record.
        size: of the batches.
        values: some batch, for the shape of its members.
        pool: memory of another recording to share: they never run at the same time.
    """

    def __init__(self, call: Call, size: int, values: Tensor, pool: Any = None) -> None:
        self._device = values.device
        with torch.cuda.device(self._device):
            self._values = values.new_zeros((size, *values.shape[1:]))
            side, here = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
            side.wait_stream(here)
            # Libraries choose their algorithms and allocate in the first calls.
            with torch.cuda.stream(side):
                for _ in range(2):
                    call(self._values)
            here.wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(
                self._graph, pool=pool, stream=side, capture_error_mode="thread_local"
            ):
                self._answers = call(self._values)

    @property
    def pool(self) -> Any:
        return self._graph.pool()

    def replay(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Answers for a batch that is not larger."""
        count = len(values)
        with torch.cuda.device(self._device):
            self._values[:count].copy_(values)
            self._graph.replay()
            first, second = self._answers
            return first[:count].clone(), second[:count].clone()


class RecordedCalls:
    """Calls that are recorded for the sizes of batches that come again and again.

    Where recording fails everything runs as it would without.

    Args:
        call: what to run.
        largest: larger batches always run as they are.
    """

    def __init__(self, call: Call, largest: int) -> None:
        self._call = call
        self._sizes = [size for size in SIZES if size <= largest]
        self._seen: Counter[int] = Counter()
        self._recordings: dict[int, Recording] = {}
        self._lock = Lock()  # recordings have one place for what they read

    def __call__(self, values: Tensor) -> tuple[Tensor, Tensor]:
        size = next((size for size in self._sizes if size >= len(values)), None)
        if size is None:
            return self._call(values)
        with self._lock:
            recording = self._recordings.get(size) or self._recorded(size, values)
            if recording is not None:
                return recording.replay(values)
        return self._call(values)

    def _recorded(self, size: int, values: Tensor) -> Recording | None:
        """A new recording, or None: too early, or it failed."""
        self._seen[size] += 1
        if self._seen[size] <= WARM_UP:
            return None
        pool = next((other.pool for other in self._recordings.values()), None)
        try:
            recording = self._recordings[size] = Recording(self._call, size, values, pool)
        except RuntimeError as error:
            self._sizes = [known for known in self._sizes if known in self._recordings]
            what = (str(error).splitlines() or ["unknown"])[0]
            warnings.warn(f"no CUDA graph of {size} crops: {what}", RuntimeWarning, stacklevel=2)
            return None
        return recording
