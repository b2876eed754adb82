"""What an epoch is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from gridpose.core import DoubleArray, FloatArray, UsageError
from gridpose.lifting.metrics import mpjpe, pa_mpjpe

Row = dict[str, float]
"""One epoch's figures by name."""


def action_means(predicted: FloatArray, target: FloatArray, actions: Any) -> Row:
    """MPJPE and PA-MPJPE in mm as the mean of the actions' means; arrays in metres."""
    errors: dict[str, DoubleArray] = {
        "mpjpe": 1000 * mpjpe(predicted, target),
        "pa_mpjpe": 1000 * pa_mpjpe(predicted, target),
    }
    _, action = np.unique(actions, return_inverse=True)
    counts = np.bincount(action)
    return {
        name: float((np.bincount(action, weights=error) / counts).mean())
        for name, error in errors.items()
    }


@dataclass(frozen=True)
class Evaluator:
    """What validation compares with: the action of each pose."""

    actions: Any


class ValidationLoop(BaseLoop):
    """Lifts the whole validation set and measures it; every process does all of it."""

    def __init__(self, runner: Runner, dataloader: DataLoader[Any], evaluator: Evaluator) -> None:
        super().__init__(runner, dataloader)
        self._evaluator = evaluator

    @torch.no_grad()
    def run(self) -> Row:
        runner = self.runner
        runner.call_hook("before_val")
        runner.call_hook("before_val_epoch")
        runner.model.eval()
        network = runner.training_model.network
        lifted, wanted = [], []
        for batch in self.dataloader:
            lifted.append(network.lift(batch["inputs"]))
            wanted.append(batch["targets"])
        predicted, target = (torch.cat(parts).cpu().numpy() for parts in (lifted, wanted))
        if not np.isfinite(predicted).all():
            raise UsageError(
                f"the training diverged in epoch {runner.epoch} (the network answers no numbers); "
                "a lower --lr may help"
            )
        metrics = action_means(predicted, target, self._evaluator.actions)
        runner.call_hook("after_val_epoch", metrics=metrics)
        runner.call_hook("after_val")
        return metrics
