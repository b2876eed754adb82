"""What happens between the steps of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.optim import _ParamScheduler
from mmengine.runner import Runner
from safetensors import SafetensorError
from torch import nn

from gridpose.core import MissingError
from gridpose.lifting.training.model import temperature_of
from gridpose.lifting.training.validation import Row
from gridpose.storage import replacing


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


class Results(Hook):
    """After each validation: its figures, and the weights it was made with.

    Runs before the averaged weights are swapped out again. ``write(network, row, is_best)`` must
    write what users find in the run folder. The best figure so far travels in mmengine's message
    hub, and so in the state from which training goes on.
    """

    priority = "ABOVE_NORMAL"

    def __init__(self, write: Callable[[nn.Module, Row, bool], None]) -> None:
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
