"""A network with its loss, as mmengine trains it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.model import BaseModel
from torch import Tensor, nn

from gridpose.lifting.model.network import LiftingNetwork
from gridpose.lifting.training.graph import Recorder
from gridpose.lifting.training.options import Loss
from gridpose.lifting.training.processes import SharedBatchNorm

LOG_EVERY = 50
"""Steps between two lines of the log."""


def pose_loss(answer: Tensor, target: Tensor, loss: Loss) -> Tensor:
    """A loss on grids ``(B, 3, H, W)`` or joints ``(B, 17, 3)``, averaged over the values."""
    if loss == "l2":
        return nn.functional.mse_loss(answer, target)
    if loss == "l1":
        return nn.functional.l1_loss(answer, target)
    distances: Tensor = (answer - target).norm(dim=1 if answer.ndim == 4 else -1)
    return distances.mean()


def grid_error(network: LiftingNetwork, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """The loss of a lifter of single frames, given rows of a data set's ``DeviceBatches``."""
    return pose_loss(network(inputs), targets, loss)


def joint_error(network: LiftingNetwork, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """The loss of a lifter of single frames on joints, given joints (B, 17, 2) and (B, 17, 3)."""
    return pose_loss(network.lift(inputs), targets, loss)


class TrainingModel(BaseModel):
    """A network with its loss.

    The loss is averaged over the poses (or windows) of all processes. It is summed up on the device
    and read back once in a while only: asking for it after each step would make a GPU wait.
    """

    def __init__(self, network: nn.Module, error: Callable[..., Tensor]) -> None:
        """``error`` takes the network, and a batch's tensors by name."""
        super().__init__()
        self.network, self._error = network, error
        self.frozen = False
        """Whether BatchNorm keeps its statistics, as it will be in use."""
        self._recorder = Recorder()
        self._sum: Tensor | None = None
        self._poses = self._steps = 0

    def train(self, mode: bool = True) -> TrainingModel:
        super().train(mode)
        if mode and self.frozen:
            for layer in self.modules():
                if is_batch_norm(layer):
                    layer.eval()
        return self

    def forward(self, mode: str = "loss", **tensors: Tensor) -> dict[str, Any]:
        loss = self._error(self.network, **tensors)
        return {"loss": loss, "poses": len(next(iter(tensors.values())))}

    def train_step(self, data: dict[str, Tensor], optim_wrapper: Any) -> dict[str, Tensor]:
        """One step; on a GPU by a recording, once steps like it have been seen."""

        def passes(*tensors: Tensor) -> Tensor:
            with optim_wrapper.optim_context(self):
                loss: Tensor = self(**dict(zip(data, tensors, strict=True)))["loss"]
            optim_wrapper.backward(optim_wrapper.scale_loss(loss))
            return loss.detach()

        first = next(iter(data.values()))
        if first.device.type != "cuda":
            return dict(super().train_step(data, optim_wrapper))
        # What a recording holds besides tensors.
        key = (first.shape, temperature_of(self.network), self.frozen)
        loss = self._recorder.run(key, passes, self.network.parameters(), *data.values())
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        return self.parse_losses({"loss": loss, "poses": len(first)})[1]

    def parse_losses(self, losses: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        loss, poses = losses["loss"], losses["poses"]
        self._sum = poses * loss.detach() + (0 if self._sum is None else self._sum)
        self._poses += poses
        self._steps += 1
        logged = {"loss": loss.detach()} if self._steps % LOG_EVERY == 0 else {}
        return loss, logged

    def take_mean_loss(self) -> float:
        """Mean loss over the poses of all processes since the last call."""
        assert self._sum is not None
        both = torch.stack((self._sum.double(), self._sum.new_tensor(self._poses).double()))
        if get_world_size() > 1:
            torch.distributed.all_reduce(both)
        self._sum, self._poses, self._steps = None, 0, 0
        total, poses = both.tolist()
        return float(total / poses)


def temperature_of(network: nn.Module) -> float | None:
    """The attention temperature that a lifter of single frames has now; None without attention."""
    if not isinstance(network, LiftingNetwork):
        return None
    return None if network.atten_conv1 is None else network.atten_conv1.temperature


def is_batch_norm(layer: nn.Module) -> bool:
    """Also PyTorch's for several GPUs, and ours for several processes."""
    return isinstance(layer, (nn.modules.batchnorm._BatchNorm, SharedBatchNorm))
