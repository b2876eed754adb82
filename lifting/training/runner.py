"""mmengine's Runner on any device and without traces in the process."""

from __future__ import annotations

import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, get_dist_info, get_world_size
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from gridpose import unpickle
from gridpose.core import InputError
from gridpose.lifting.training.model import TrainingModel
from gridpose.lifting.training.processes import share_batch_norm


class _Weighted(MMDistributedDataParallel):
    """Gradients averaged over poses, not over processes, whose batches may differ by one pose."""

    def train_step(self, data: dict[str, Tensor], optim_wrapper: Any) -> dict[str, Tensor]:
        with optim_wrapper.optim_context(self):
            losses = self(**data, mode="loss")
        loss, logged = self.module.parse_losses(losses)
        poses = losses["poses"]
        total = torch.full((), float(poses), device=loss.device)
        torch.distributed.all_reduce(total)
        optim_wrapper.update_params(loss * (poses * get_world_size() / total))
        return dict(logged)


class LiftingRunner(Runner):
    """mmengine's Runner on the device that the user chose, also several CPU processes."""

    def __init__(self, *args: Any, device: torch.device, **kwargs: Any) -> None:
        self._device = device
        super().__init__(*args, **kwargs)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        model = model.to(self._device)
        if not self.distributed:
            return model
        model = share_batch_norm(model, self._device)
        devices = [self._device.index] if self._device.type == "cuda" else None
        with warnings.catch_warnings():  # PyTorch renames an argument that mmengine passes on
            warnings.simplefilter("ignore", FutureWarning)
            wrapped: nn.Module = _Weighted(
                module=model, device_ids=devices, broadcast_buffers=False
            )
        return wrapped

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Not mmengine's, which changes settings of the whole process.

        These are the start method of child processes, OpenCV's threads and the number of files.
        """
        self._rank, self._world_size = get_dist_info()
        now = torch.tensor(time.time(), dtype=torch.float64)
        broadcast(now)  # one log folder for all processes
        self._timestamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(now.item()))

    def set_randomness(
        self, seed: int, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """Nothing here uses the generators of Python and NumPy that mmengine seeds."""
        self._seed, self._deterministic = seed, deterministic

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """``config.json`` has the versions; mmengine would ask the compilers for theirs, slowly."""

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Any:
        """Read the state without executing anything in it."""
        checkpoint = unpickle.load(Path(filename))
        for name in ("meta", "state_dict", "optimizer", "message_hub"):
            checkpoint[name]  # mmengine would go on without some of them
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model: nn.Module = self.training_model
        model.load_state_dict(checkpoint["state_dict"])
        self._has_loaded = True
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on from a state.

        Raises:
            InputError: it is damaged, or another network's.
        """
        try:
            super().resume(filename, map_location="cpu")
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"{filename}: damaged, training cannot go on from it; `overwrite` starts anew"
            ) from error

    def close(self) -> None:
        """Close the logs, and forget what mmengine keeps under this run's name."""
        with suppress(OSError):  # a full disk, and then it has been told
            self.visualizer.close()
        for handler in self.logger.handlers:
            with suppress(OSError):
                handler.close()
        for kind in (MMLogger, MessageHub, Visualizer, DefaultScope):
            kind._instance_dict.pop(self.experiment_name, None)

    @property
    def training_model(self) -> TrainingModel:
        model = self.model.module if self.distributed else self.model
        assert isinstance(model, TrainingModel)
        return model
