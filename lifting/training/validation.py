"""What an epoch is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.runner import BaseLoop, Runner
from torch import Tensor

from gridpose.core import AnyArray, DoubleArray, FloatArray, UsageError
from gridpose.lifting.metrics import acceleration_error, mpjpe, mpjve, pa_mpjpe
from gridpose.lifting.model.forward import FrameLifter, LiftWindows
from gridpose.lifting.model.network import LiftingNetwork
from gridpose.lifting.model.temporal import TemporalNetwork
from gridpose.lifting.sequences import lift_keypoints

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


class Validation(BaseLoop):
    """Lifts the whole validation set and measures it; every process does all of it.

    What mmengine calls the evaluator is the set; there is no loader of its batches.
    """

    def __init__(
        self, runner: Runner, dataloader: Any, evaluator: HeldPoses | HeldSequences
    ) -> None:
        super().__init__(runner, dataloader)
        self._held = evaluator

    @torch.no_grad()
    def run(self) -> Row:
        runner = self.runner
        runner.call_hook("before_val")
        runner.call_hook("before_val_epoch")
        runner.model.eval()
        try:
            metrics = self._held.measure(runner.training_model.network)
        except FloatingPointError as error:
            raise UsageError(
                f"the training diverged in epoch {runner.epoch} (the network answers no numbers); "
                "a lower `lr` may help"
            ) from error
        runner.call_hook("after_val_epoch", metrics=metrics)
        runner.call_hook("after_val")
        return metrics


@dataclass(frozen=True)
class HeldPoses:
    """What lifters of single frames are judged on.

    Attributes:
        inputs: (N, 17, 2) as the network takes them, on the device.
        targets: (N, 17, 3) metres.
        actions: (N,) names.
        batch: lifted at once.
    """

    inputs: Tensor
    targets: Tensor
    actions: AnyArray
    batch: int

    def measure(self, network: LiftingNetwork) -> Row:
        """Raises: FloatingPointError: the network answers no numbers."""
        lifted = torch.cat([network.lift(part) for part in torch.split(self.inputs, self.batch)])
        predicted = lifted.cpu().numpy()
        _check_finite(predicted)
        return action_means(predicted, self.targets.cpu().numpy(), self.actions)


@dataclass(frozen=True)
class SeenSequence:
    """T frames of somebody: (T, 17, 2) pixels, (2,) width, height, and (T, 17), 0 where unseen."""

    keypoints_px: AnyArray
    image_size: AnyArray
    confidence: AnyArray | None = None


@dataclass(frozen=True)
class HeldSequences:
    """What networks that see time are judged on: whole sequences, lifted as users' are.

    Attributes:
        sequences: what is seen.
        poses: (frames of all sequences, 17, 3) metres.
        actions: names, of each frame.
        frames: the lifter of single frames.
        fps: the data's frame rate.
        fov_degrees: horizontal field of view that the network is told.
    """

    sequences: list[SeenSequence]
    poses: FloatArray
    actions: AnyArray
    frames: FrameLifter
    fps: float
    fov_degrees: float

    def measure(self, network: TemporalNetwork) -> Row:
        """Raises: FloatingPointError: the network answers no numbers."""
        lift, fps, fov = LiftWindows(self.frames, network).lift_arrays, self.fps, self.fov_degrees
        answers = [
            lift_keypoints(lift, each.keypoints_px, each.image_size, each.confidence, fps, fov)
            for each in self.sequences
        ]
        predicted, lengths = np.concatenate(answers), [len(poses) for poses in answers]
        seen = np.concatenate(
            [
                np.ones(len(each.keypoints_px), bool)
                if each.confidence is None
                else (each.confidence > 0).any(1)
                for each in self.sequences
            ]
        )
        _check_finite(predicted[seen])
        row = action_means(predicted[seen], self.poses[seen], self.actions[seen])
        if not seen.all():  # there is no movement to speak of where frames are missing
            return row
        over_time = {
            "mpjve": mpjve(predicted, self.poses, lengths),
            "acceleration": acceleration_error(predicted, self.poses, lengths),
        }
        return row | {name: 1000 * v for name, v in over_time.items() if v is not None}


def _check_finite(poses: FloatArray) -> None:
    if not np.isfinite(poses).all():
        raise FloatingPointError
