"""What trainings on synthetic poses share: loss, optimiser, learning rate."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gridpose.lifting.network import LiftingNetwork
from gridpose.lifting.normalise import normalise
from gridpose.lifting.synthesis.poses import SyntheticBatch

SMALLEST_MATRIX = 16
"""Weights of fewer rows or columns are learnt by AdamW, not by Muon."""
_NO_MIXTURES = ("position_fc", "sgt_layer", "embedding")
"""Attention of each tap and cell, scores of each joint and cell: their rows are not mixed."""


def lift_error(
    network: LiftingNetwork, drawn: SyntheticBatch, precision: torch.dtype | None
) -> Tensor:
    """Mean distance in metres of lifted from true joints; ``precision`` of the products."""
    normalised = normalise(drawn.keypoints_px, drawn.image_size, "person")
    assert normalised.to_camera is not None
    wanted = drawn.poses @ normalised.to_camera
    device = drawn.poses.device.type
    with torch.autocast(device, dtype=precision, enabled=precision is not None):
        lifted = network.lift(normalised.keypoints)
    error: Tensor = (lifted - wanted).norm(dim=-1).mean()
    return error


class Clock:
    """How far a training is: a share of its steps, or of the time that it may take.

    Args:
        steps: after which it ends, if time does not.
        seconds: which it may take; None counts steps.
        elapsed: seconds it took before an interruption.
    """

    def __init__(self, steps: int, seconds: float | None, elapsed: float = 0.0) -> None:
        self._steps, self._seconds = steps, seconds
        self._began = time.monotonic() - elapsed

    @property
    def elapsed(self) -> float:
        """Seconds since the training began."""
        return time.monotonic() - self._began

    def progress(self, step: int) -> float:
        """From 0 to 1, where the training ends."""
        share = step / self._steps
        return min(1.0, share if self._seconds is None else self.elapsed / self._seconds)


class WeightAverage:
    """Moving average of a network's weights and statistics, over fewer steps at first.

    Unlike torch's it never waits for the GPU.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(network).requires_grad_(False)
        self._decay, self._updates = decay, 0

    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        own, theirs = self.module.state_dict(), network.state_dict()
        names = [name for name, value in own.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [own[name] for name in names], [theirs[name] for name in names], 1 - decay
        )
        for name in own.keys() - set(names):
            own[name].copy_(theirs[name])

    def state_dict(self) -> dict[str, object]:
        return {"module": self.module.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self._updates = state["updates"]


class LossStep:
    """Computes a loss and its gradients; on a GPU as one recorded graph.

    A small network's kernels take less time than starting them one by one. Where recording fails,
    steps are computed as usual.

    Args:
        compute: the loss of some tensors, whose shapes are always the same.
        parameters: whose gradients are wanted.
        record: whether to try.
    """

    def __init__(
        self,
        compute: Callable[..., Tensor],
        parameters: Iterable[nn.Parameter],
        record: bool,
    ) -> None:
        self._compute, self._parameters = compute, list(parameters)
        self.record = record
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._loss = torch.zeros(())

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The loss; gradients are replaced, not added to."""
        if self.record and self._graph is None:
            self._record(inputs)
        if self._graph is None:
            self._forget_gradients()
            loss = self._compute(*inputs)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._graph.replay()
        return self._loss

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [given.clone() for given in inputs]
        try:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self._forget_gradients()
                    self._compute(*self._inputs).backward()  # type: ignore[no-untyped-call]
            torch.cuda.current_stream().wait_stream(stream)
            self._forget_gradients()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                loss = self._compute(*self._inputs)
                loss.backward()  # type: ignore[no-untyped-call]
            self._graph, self._loss = graph, loss.detach()
        except RuntimeError as error:
            print(f"no graph is recorded: {error}", file=sys.stderr, flush=True)
            self.record = False
            torch.cuda.synchronize()


def sliced(draw: Callable[[int], object], count: int, at_once: int) -> Iterator[list[Tensor]]:
    """Batches of ``count`` from what ``draw`` makes: dataclasses of tensors, many at once.

    Yields the tensors in the order of the fields.
    """
    while True:
        drawn = draw(max(count, at_once // count * count))
        tensors = list(vars(drawn).values())
        for start in range(0, len(tensors[0]), count):
            yield [tensor[start : start + count] for tensor in tensors]


def write_whole(write: Callable[[Path], None], file: Path) -> None:
    """Let ``write`` make a file under another name and put it in place once it is complete."""
    part = file.with_name(f"{file.name}.part")
    write(part)
    part.replace(file)


class _ByJoints(nn.Module):
    """A network called with joints, whatever its kind."""

    def __init__(self, network: LiftingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, keypoints: Tensor) -> Tensor:
        return self.network.lift(keypoints)


def refresh_batch_norm(network: LiftingNetwork, drawn: Iterable[SyntheticBatch]) -> None:
    """Measure the means and variances of BatchNorm anew on these batches; eval mode afterwards.

    Averaged weights see other activations than those whose running means were averaged with them.
    """
    normalised = (normalise(batch.keypoints_px, batch.image_size, "person") for batch in drawn)
    torch.optim.swa_utils.update_bn((each.keypoints for each in normalised), _ByJoints(network))
    network.eval()


def learning_rate(progress: float, peak: float, warm_up: float, decay: float) -> float:
    """Linear warm-up, constant, linear to zero; all in shares of the training."""
    return peak * max(0.0, min(1.0, progress / warm_up, (1 - progress) / decay))


class MuonAdamW:
    """Muon (Jordan et al., 2024) for weight matrices, AdamW for all else.

    A convolution's weights count as one matrix, a row for each output channel. After equally many
    steps of training the default lifter Muon was 3 mm ahead of AdamW alone.
    """

    def __init__(self, network: nn.Module, weight_decay: float = 1e-4) -> None:
        self._matrices: list[tuple[nn.Parameter, nn.Parameter]] = []
        others = []
        for name, weight in network.named_parameters():
            # The matrix shares the weight's memory.
            matrix = weight.detach().flatten(1) if weight.ndim > 1 else weight.detach()[:, None]
            mixes = not any(part in name for part in _NO_MIXTURES)
            if mixes and min(matrix.shape) >= SMALLEST_MATRIX:
                self._matrices.append((weight, nn.Parameter(matrix)))
            else:
                others.append(weight)
        matrices = [matrix for _, matrix in self._matrices]
        self._optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            self._optimizers.append(
                torch.optim.Muon(
                    matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
                )
            )
        self._optimizers.append(torch.optim.AdamW(others, weight_decay=weight_decay))

    def step(self, rate: float) -> None:
        """Change the weights by their gradients, at this learning rate."""
        for weight, matrix in self._matrices:
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def state_dict(self) -> list[dict[str, object]]:
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dict(self, states: Iterable[dict[str, object]]) -> None:
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)
