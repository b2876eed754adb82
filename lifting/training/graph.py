"""A training step's forward and backward pass as a recording, replayed by one call.

A network this small is several hundred kernels of a few microseconds each. Launched one by one they
take longer than they run; as a CUDA graph they follow each other without the host.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
from torch import Tensor, nn

WARM_UP = 3
"""Steps of a kind that run before one is recorded: libraries allocate in the first ones."""

Passes = Callable[..., Tensor]
"""Runs forward and backward on tensors, leaves gradients and answers the loss."""


class Recording:
    """The passes for tensors of one shape.

    Random numbers are drawn anew in each replay, by the generator's seed at that time.

    Args:
        passes: what to record; nothing of it may ask the device for an answer.
        parameters: whose gradients it leaves.
        tensors: of the first replay.
        stream: where to record, which has run the same passes before.
    """

    def __init__(
        self,
        passes: Passes,
        parameters: Iterable[nn.Parameter],
        tensors: Sequence[Tensor],
        stream: torch.cuda.Stream,
    ) -> None:
        self._tensors = [tensor.clone() for tensor in tensors]
        self._parameters = list(parameters)
        for parameter in self._parameters:  # else gradients would be added to these
            parameter.grad = None
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._loss = passes(*self._tensors)
        self._gradients = [parameter.grad for parameter in self._parameters]

    def replay(self, *tensors: Tensor) -> Tensor:
        """Set the parameters' gradients; answers the loss. Both last until the next replay."""
        for kept, given in zip(self._tensors, tensors, strict=True):
            kept.copy_(given)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._loss


class Recorder:
    """Runs passes, and records them when they repeat.

    One recording is kept, for the steps that an epoch is made of: its last batch, which is smaller,
    and steps with another temperature each run as they are.
    """

    def __init__(self) -> None:
        self._last: Hashable = None
        self._seen = 0
        self._recorded: Hashable = None
        self._recording: Recording | None = None
        self._stream: torch.cuda.Stream | None = None

    def run(
        self,
        key: Hashable,
        passes: Passes,
        parameters: Iterable[nn.Parameter],
        *tensors: Tensor,
    ) -> Tensor:
        """Forward and backward on tensors of a GPU: gradients are set, the loss is the answer.

        Args:
            key: equal for steps that differ in the values of tensors alone.
        """
        self._seen = self._seen + 1 if key == self._last else 1
        self._last = key
        if self._recording is not None and key == self._recorded:
            return self._recording.replay(*tensors)
        if self._seen > WARM_UP:
            self._recording = None  # its memory is free for the new one
            self._recording = Recording(passes, parameters, tensors, self._side())
            self._recorded = key
            return self._recording.replay(*tensors)
        # Autograd and the libraries remember streams: the one that will record is used before.
        side, here = self._side(), torch.cuda.current_stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            loss = passes(*tensors)
        here.wait_stream(side)
        return loss

    def _side(self) -> torch.cuda.Stream:
        if self._stream is None:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        return self._stream
