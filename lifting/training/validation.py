"""What an epoch is judged by."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from gridpose.core import DoubleArray, FloatArray, UsageError
from gridpose.lifting.data.dataset import PoseDataset
from gridpose.lifting.evaluation import FRAME_SIZE
from gridpose.lifting.forward import FrameLifter, LiftWindows
from gridpose.lifting.metrics import acceleration_error, mpjpe, mpjve, pa_mpjpe
from gridpose.lifting.network import LiftingNetwork
from gridpose.lifting.sequences import lift_keypoints
from gridpose.lifting.temporal import TemporalNetwork

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


class _Loop(BaseLoop):
    """Lifts the whole validation set and measures it; every process does all of it."""

    def __init__(self, runner: Runner, dataloader: DataLoader[Any], evaluator: Any) -> None:
        super().__init__(runner, dataloader)
        self._evaluator = evaluator

    @abstractmethod
    def _measure(self, network: Any) -> Row:
        """Raises: FloatingPointError: the network answers no numbers."""

    @torch.no_grad()
    def run(self) -> Row:
        runner = self.runner
        runner.call_hook("before_val")
        runner.call_hook("before_val_epoch")
        runner.model.eval()
        try:
            metrics = self._measure(runner.training_model.network)
        except FloatingPointError as error:
            raise UsageError(
                f"the training diverged in epoch {runner.epoch} (the network answers no numbers); "
                "a lower --lr may help"
            ) from error
        runner.call_hook("after_val_epoch", metrics=metrics)
        runner.call_hook("after_val")
        return metrics


class ValidationLoop(_Loop):
    """For lifters of single frames."""

    def _measure(self, network: LiftingNetwork) -> Row:
        lifted, wanted = [], []
        for batch in self.dataloader:
            lifted.append(network.lift(batch["inputs"]))
            wanted.append(batch["targets"])
        predicted, target = (torch.cat(parts).cpu().numpy() for parts in (lifted, wanted))
        _check_finite(predicted)
        return action_means(predicted, target, self._evaluator.actions)


@dataclass(frozen=True)
class SequenceEvaluator:
    """What the validation of a network that sees time needs to know.

    Attributes:
        dataset: sequences of 1000 px frames; the loader answers them one by one.
        frames: the lifter of single frames.
        fps: the data's frame rate.
        fov_degrees: horizontal field of view that the network is told.
    """

    dataset: PoseDataset
    frames: FrameLifter
    fps: float
    fov_degrees: float


class SequenceValidationLoop(_Loop):
    """For networks that see time: whole sequences, lifted as users' are."""

    def _measure(self, network: TemporalNetwork) -> Row:
        told: SequenceEvaluator = self._evaluator
        lift = LiftWindows(told.frames, network).lift_arrays
        size = (FRAME_SIZE, FRAME_SIZE)
        predicted = np.concatenate(
            [
                lift_keypoints(lift, keypoints, size, None, told.fps, told.fov_degrees)
                for keypoints in self.dataloader
            ]
        )
        _check_finite(predicted)
        dataset = told.dataset
        lengths = [len(sequence) for sequence in dataset.sequences]
        row = action_means(predicted, dataset.poses, dataset.actions())
        over_time = {
            "mpjve": mpjve(predicted, dataset.poses, lengths),
            "acceleration": acceleration_error(predicted, dataset.poses, lengths),
        }
        return row | {name: 1000 * v for name, v in over_time.items() if v is not None}


def _check_finite(poses: FloatArray) -> None:
    if not np.isfinite(poses).all():
        raise FloatingPointError
