"""What the training of a lifting network adds to mmengine's Runner: batches, model and hooks."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from mmengine.dist import broadcast, get_dist_info, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import _ParamScheduler
from mmengine.registry import DefaultScope
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import Visualizer
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from gridpose.core import DoubleArray, FloatArray, InputError, MissingError, UsageError
from gridpose.lifting import safe_pickle
from gridpose.lifting.data.device_batches import DeviceBatches
from gridpose.lifting.metrics import mpjpe, pa_mpjpe
from gridpose.lifting.network import LiftingNetwork
from gridpose.lifting.training.shared_batch_norm import share_batch_norm
from gridpose.storage import replacing

Loss = Literal["l2", "l1", "sqrtl2"]
"""Mean squared error; mean absolute error; mean Euclidean distance of joints (or cells)."""

Row = dict[str, float]
"""One epoch's figures by name."""

LOG_EVERY = 50
"""Steps between two lines of the log."""


@contextmanager
def writing(file: Path) -> Iterator[Path]:
    """``replacing`` for writers in native code, which have errors of their own for a full disk.

    Raises:
        MissingError: the disk said no.
    """
    try:
        with replacing(file) as partial:
            yield partial
    except (RuntimeError, SafetensorError) as error:
        why = (str(error).splitlines() or [""])[0]
        raise MissingError(f"{file}: cannot be written ({why}); is the disk full?") from error


class EpochOrder(Sampler[Tensor]):
    """Index tensors of the batches of an epoch, for one process of several.

    Every epoch is another permutation, which depends on the seed and the number of the epoch alone.
    All processes draw the same one and take their share of each batch. In the last batch the
    processes must have something: with several of them, fewer poses than processes are left out.
    """

    def __init__(self, batches: DeviceBatches, batch: int, seed: int) -> None:
        self._batches, self._batch, self._seed = batches, batch, seed
        self._epoch = 0
        rest = len(batches) % batch
        dropped = rest if rest < get_world_size() and get_world_size() > 1 else 0
        self._count = len(batches) - dropped

    def set_epoch(self, epoch: int) -> None:
        """Called by mmengine before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self._count / self._batch)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed((self._seed << 20) + self._epoch)
        order = self._batches.order(generator)[: self._count]
        for whole in torch.split(order, self._batch):
            yield whole.tensor_split(get_world_size())[get_rank()]


class _Rows(Dataset[dict[str, Tensor]]):
    """Batches by index tensor; they are on the device already."""

    metainfo: ClassVar[dict[str, str]] = {}
    """mmengine asks for it."""

    def __init__(self, batches: DeviceBatches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: Any) -> dict[str, Tensor]:
        inputs, targets = self._batches.select(index)
        return {"inputs": inputs, "targets": targets}


def _as_is(batch: Any) -> Any:
    return batch


def training_batches(batches: DeviceBatches, batch: int, seed: int) -> DataLoader[Any]:
    """A loader whose every fetch is one index selection on the device."""
    order = EpochOrder(batches, batch, seed)
    return DataLoader(_Rows(batches), batch_size=None, sampler=order, collate_fn=_as_is)


def validation_batches(batches: DeviceBatches, batch: int) -> DataLoader[Any]:
    """All poses in their order, ``batch`` at a time."""
    order = list(torch.split(torch.arange(len(batches), device=batches.device), batch))
    return DataLoader(_Rows(batches), batch_size=None, sampler=order, collate_fn=_as_is)


def pose_loss(answer: Tensor, target: Tensor, loss: Loss) -> Tensor:
    """A loss on grids ``(B, 3, H, W)`` or joints ``(B, 17, 3)``, averaged over the values."""
    if loss == "l2":
        return nn.functional.mse_loss(answer, target)
    if loss == "l1":
        return nn.functional.l1_loss(answer, target)
    distances: Tensor = (answer - target).norm(dim=1 if answer.ndim == 4 else -1)
    return distances.mean()


class TrainingModel(BaseModel):
    """A lifting network with its loss.

    The loss is averaged over the poses of all processes. It is summed up on the device and read
    back once in a while only: asking for it after each step would make a GPU wait.
    """

    def __init__(self, network: LiftingNetwork, loss: Loss) -> None:
        super().__init__()
        self.network, self._loss = network, loss
        self._sum: Tensor | None = None
        self._poses = self._steps = 0

    def forward(self, inputs: Tensor, targets: Tensor, mode: str = "loss") -> dict[str, Any]:
        loss = pose_loss(self.network(inputs), targets, self._loss)
        return {"loss": loss, "poses": len(inputs)}

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
        checkpoint = safe_pickle.load(Path(filename))
        for name in ("meta", "state_dict", "optimizer", "param_schedulers", "message_hub"):
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
                f"{filename}: damaged, training cannot go on from it; --overwrite starts anew"
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


class RepeatableEpochs(Hook):
    """Random numbers of an epoch depend on the seed, its number and the process alone.

    So a training that was killed and goes on draws what it would have drawn.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_train_epoch(self, runner: Runner) -> None:
        torch.manual_seed((self._seed << 32) + (runner.epoch << 12) + get_rank())


def temperature_at(schedule: str, highest: float, epochs: int, epoch: int, share: float) -> float:
    """Attention temperature in ``epoch`` (from 0) after ``share`` of its steps.

    ``none``: constant. ``linear``: from ``highest`` to 1 over the first ``epochs``.
    """
    if schedule == "none":
        return highest
    if epoch >= epochs:
        return 1.0
    return highest - (highest - 1) * (epoch + share) / epochs


class TemperatureSchedule(Hook):
    """Sets the attention's temperature before each step."""

    def __init__(self, schedule: str, highest: float, epochs: int) -> None:
        self._schedule, self._highest, self._epochs = schedule, highest, epochs

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        share = batch_idx / len(runner.train_dataloader)
        runner.training_model.network.set_temperature(
            temperature_at(self._schedule, self._highest, self._epochs, runner.epoch, share)
        )


class SteppedRate(_ParamScheduler):
    """Multiplies the learning rate by ``gamma`` after epochs 1, 1 + decay, 1 + 2 decay and so on.

    Unlike mmengine's ``MultiStepLR`` it needs no list of these epochs, which would go into the
    state and end where the epochs first asked for end.
    """

    def __init__(self, optimizer: Any, decay: int, gamma: float, **kwargs: Any) -> None:
        self.decay, self.gamma = decay, gamma
        super().__init__(optimizer, "lr", **kwargs)

    def _get_value(self) -> list[float]:
        falls = self.last_step > 0 and (self.last_step - 1) % self.decay == 0
        factor = self.gamma if falls else 1.0
        return [group[self.param_name] * factor for group in self.optimizer.param_groups]


class Progress(Hook):
    """Tells how many steps of the epoch are done, and when an epoch's results are safe."""

    priority = "LOWEST"

    def __init__(
        self, report: Callable[[int, int, int], None], epoch_done: Callable[[], None]
    ) -> None:
        self._report, self._epoch_done = report, epoch_done

    def after_val_epoch(self, runner: Runner, metrics: Row | None = None) -> None:
        self._epoch_done()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._report(runner.epoch, batch_idx + 1, len(runner.train_dataloader))


class Results(Hook):
    """After each validation: its figures, and the weights it was made with.

    Runs before the averaged weights are swapped out again. ``write(network, row, is_best)`` must
    write what users find in the run folder. The best figure so far travels in mmengine's message
    hub, and so in the state from which training goes on.
    """

    priority = "ABOVE_NORMAL"

    def __init__(self, write: Callable[[LiftingNetwork, Row, bool], None]) -> None:
        self._write = write

    def after_train_epoch(self, runner: Runner) -> None:
        loss = runner.training_model.take_mean_loss()
        runner.message_hub.update_info("mean_loss", loss)
        runner.message_hub.update_scalar("val/mean_loss", loss)  # the log has it beside the figures
        rate = runner.optim_wrapper.optimizer.param_groups[0]["lr"]
        runner.message_hub.update_info("epoch_lr", rate)

    def after_val_epoch(self, runner: Runner, metrics: Row | None = None) -> None:
        assert metrics is not None
        hub = runner.message_hub
        best = hub.get_info("best_mpjpe", math.inf)
        is_best = metrics["mpjpe"] < best
        hub.update_info("best_mpjpe", min(best, metrics["mpjpe"]))
        network = runner.training_model.network
        temperature = temperature_of(network)
        row = {
            "epoch": runner.epoch,
            "loss": hub.get_info("mean_loss"),
            "lr": hub.get_info("epoch_lr"),
            **({} if temperature is None else {"temperature": temperature}),
            **metrics,
        }
        if get_rank() == 0:
            self._write(network, row, is_best)


def temperature_of(network: LiftingNetwork) -> float | None:
    """The attention temperature that a network has now; None without attention."""
    return None if network.atten_conv1 is None else network.atten_conv1.temperature


class State(Hook):
    """After each validation: all that is needed to go on, in one file that is replaced at once."""

    priority = "VERY_LOW"

    def __init__(self, file: Path) -> None:
        self._file = file

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        # mmengine's histories of scalars could only be read by running code from the file.
        best = {"best_mpjpe": runner.message_hub.get_info("best_mpjpe")}
        checkpoint["message_hub"] = {
            "log_scalars": {},
            "runtime_info": best,
            "resumed_keys": dict.fromkeys(best, True),
        }

    def after_val_epoch(self, runner: Runner, metrics: Row | None = None) -> None:
        if get_rank() != 0:
            return
        meta = {"epoch": runner.epoch, "iter": runner.iter}
        with writing(self._file) as partial:
            runner.save_checkpoint(str(partial.parent), partial.name, meta=meta)
