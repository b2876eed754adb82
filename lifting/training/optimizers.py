"""Optimisers, and the learning rate of each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from gridpose.core import MissingError
from gridpose.lifting.training.options import TrainOptions

WEIGHT_DECAY = 1e-4
"""Of AdamW and Muon."""
FROZEN_RATE = 0.2
"""With which share of the rate frozen epochs begin."""
_SMALLEST_MATRIX = 16
"""Weights of fewer rows or columns are learnt by AdamW, not by Muon."""
_NO_MIXTURES = ("position_fc", "sgt_layer", "embedding")
"""Attention of each tap and cell, scores of each joint and cell: their rows are not mixed."""
_MAX_GRADIENT = 1.0


class MuonAdamW(Optimizer):
    """Muon (Jordan et al., 2024) for weight matrices, AdamW for all else.

    A convolution's weights count as one matrix, a row for each output channel. Gradients that are
    longer than 1 are shortened. After equally many steps of training the default lifter Muon was
    3 mm ahead of AdamW alone.

    Raises:
        MissingError: PyTorch has no Muon yet.
    """

    def __init__(
        self, network: nn.Module, lr: float, weight_decay: float = WEIGHT_DECAY, fused: bool = False
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise MissingError(
                f"`optimizer` muon needs torch 2.9, here is {torch.__version__}: "
                "pip install 'torch>=2.9'"
            )
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, weight in network.named_parameters():
            mixes = not any(part in name for part in _NO_MIXTURES)
            is_matrix = mixes and min(_as_matrix(weight).shape) >= _SMALLEST_MATRIX
            (matrices if is_matrix else others).append(weight)
        # These share the weights' memory.
        self._matrices = [nn.Parameter(_as_matrix(weight.detach())) for weight in matrices]
        self._inner: list[Optimizer] = []
        groups = []
        if matrices:
            muon = torch.optim.Muon(
                self._matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self._inner.append(muon)
            groups.append({"params": matrices})
        if others:
            self._inner.append(torch.optim.AdamW(others, weight_decay=weight_decay, fused=fused))
            groups.append({"params": others})
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        weights = [weight for group in self.param_groups for weight in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, _MAX_GRADIENT)
        for weight, matrix in zip(weights, self._matrices, strict=False):  # matrices come first
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad)
        for inner, group in zip(self._inner, self.param_groups, strict=True):
            for own in inner.param_groups:
                own["lr"] = group["lr"]
            inner.step()

    def state_dict(self) -> dict[str, Any]:
        return {
            "initial_lr": [group.get("initial_lr") for group in self.param_groups],
            "inner": [inner.state_dict() for inner in self._inner],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for group, rate in zip(self.param_groups, state_dict["initial_lr"], strict=True):
            group["initial_lr"] = rate
        for inner, state in zip(self._inner, state_dict["inner"], strict=True):
            inner.load_state_dict(state)


def _as_matrix(weight: Tensor) -> Tensor:
    return weight.flatten(1) if weight.ndim > 1 else weight[:, None]


def build_optimizer(options: TrainOptions, network: nn.Module) -> OptimWrapper:
    """The optimiser of a network that is on its device already.

    Raises:
        MissingError: PyTorch has no such optimiser yet.
    """
    on_gpu = next(network.parameters()).device.type == "cuda"
    # Fused: a few kernels instead of dozens, and gradients that overflowed are no question to the
    # host.
    fused: dict[str, Any] = {"fused": True} if on_gpu else {}
    optimizer: Optimizer
    if options.optimizer == "muon":
        optimizer = MuonAdamW(network, options.lr, **fused)
    else:
        groups = _groups(options, network)
        if options.optimizer == "adam":
            optimizer = torch.optim.Adam(groups, lr=options.lr, **fused)
        else:
            optimizer = torch.optim.AdamW(groups, lr=options.lr, weight_decay=WEIGHT_DECAY, **fused)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    if options.precision == "fp16":
        return AmpOptimWrapper(optimizer=optimizer, dtype="float16")
    if options.precision == "bf16":  # whose range is that of fp32: losses need no scale
        unscaled = {"enabled": False}
        return AmpOptimWrapper(optimizer=optimizer, dtype="bfloat16", loss_scale=unscaled)
    return OptimWrapper(optimizer=optimizer)


def _groups(options: TrainOptions, network: nn.Module) -> list[dict[str, Any]]:
    """All weights, and a learnable grid's scores by themselves if they have a rate of their own."""
    named = list(network.named_parameters())
    scores = [w for name, w in named if options.grid_lr != 1 and "sgt_trans_mat" in name]
    others = [w for _, w in named if not any(w is score for score in scores)]
    groups: list[dict[str, Any]] = [{"params": others}]
    if scores:
        groups.append({"params": scores, "lr": options.lr * options.grid_lr})
    return groups


def learning_rate(options: TrainOptions, initial: float, epoch: int, progress: float) -> float:
    """Learning rate of a step.

    Args:
        options: which schedule.
        initial: what the schedule starts from or, the trapezoid, rises to.
        epoch: from 0.
        progress: from 0 to 1, how far the training is.
    """
    if options.lr_schedule == "stepped":
        for earlier in range(epoch):
            if earlier % options.lr_decay == 0:
                initial *= options.lr_gamma
        return initial
    frozen = options.frozen_epochs / options.epochs
    if epoch >= options.epochs - options.frozen_epochs:
        return initial * FROZEN_RATE * (1 - progress) / frozen
    progress /= 1 - frozen
    rising = progress / options.warm_up if options.warm_up else 1.0
    falling = (1 - progress) / options.cool_down if options.cool_down else 1.0
    return initial * max(0.0, min(1.0, rising, falling))
