"""What happens between the steps of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from safetensors import SafetensorError
from torch import Tensor, nn

from gridpose.core import MissingError
from gridpose.lifting.model.network import LiftingNetwork
from gridpose.lifting.training.batches import Clock
from gridpose.lifting.training.model import TrainingModel, is_batch_norm, temperature_of
from gridpose.lifting.training.optimizers import learning_rate
from gridpose.lifting.training.options import TrainOptions
from gridpose.lifting.training.validation import Row
from gridpose.storage import replacing

SAMPLE_POSES = 25_600
"""For the statistics of BatchNorm that are kept."""


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


class Schedules(Hook):
    """Sets the learning rate, and the attention's temperature, before each step."""

    def __init__(self, options: TrainOptions, clock: Clock) -> None:
        self._options, self._clock = options, clock

    def before_train(self, runner: Runner) -> None:
        self._clock.start(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        options, epoch = self._options, runner.epoch
        share = self._clock.share(epoch, batch_idx, len(runner.train_dataloader))
        progress = (epoch + share) / options.epochs
        for group in runner.optim_wrapper.optimizer.param_groups:
            group["lr"] = learning_rate(options, group["initial_lr"], epoch, progress)
        network = runner.training_model.network
        if isinstance(network, LiftingNetwork):
            highest = options.network.temperature
            epochs = options.temperature_epochs
            network.set_temperature(
                temperature_at(options.temperature_schedule, highest, epochs, epoch, share)
            )


class FrozenBatchNorm(Hook):
    """Lets BatchNorm keep its statistics in the last epochs, as it will be in use.

    A rare pose whose activations are many times the usual ones, which by chance a batch holds none
    or five of, is otherwise learnt wrongly. Training goes on from the averaged weights, if there
    are any, and from statistics that are measured anew with them.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def before_train_epoch(self, runner: Runner) -> None:
        model = runner.training_model
        first = runner.max_epochs - self._epochs
        if runner.epoch == first:
            averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
            for average in averages:
                model.load_state_dict(average.module.state_dict())
            measure_batch_norm(model, runner.train_dataloader)
            for average in averages:
                average.module.load_state_dict(model.state_dict())
        model.frozen = runner.epoch >= first


@torch.no_grad()
def measure_batch_norm(model: TrainingModel, batches: Iterable[dict[str, Tensor]]) -> None:
    """Measure the means and variances of BatchNorm anew, on about 25,600 poses."""
    norms = [layer for layer in model.modules() if is_batch_norm(layer)]
    momenta = [layer.momentum for layer in norms]
    model.train()
    poses = 0
    for number, batch in enumerate(batches):
        for layer in norms:
            layer.momentum = 1 / (number + 1)  # the mean of all batches
        poses += model(**batch)["poses"] * get_world_size()
        if poses >= SAMPLE_POSES:
            break
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


class Progress(Hook):
    """Tells how many steps of the epoch are done, and when an epoch's results are safe.

    Where time is limited the number of steps is estimated.
    """

    priority = "LOWEST"

    def __init__(
        self,
        clock: Clock,
        report: Callable[[int, int, int], None],
        epoch_done: Callable[[], None],
    ) -> None:
        self._clock, self._report, self._epoch_done = clock, report, epoch_done

    def after_val_epoch(self, runner: Runner, metrics: Row | None = None) -> None:
        self._epoch_done()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        epoch, done, steps = runner.epoch, batch_idx + 1, len(runner.train_dataloader)
        if self._clock.limits_time:
            share = self._clock.share(epoch, done, steps)
            steps = max(done, round(done / share)) if share else done
        self._report(epoch, done, steps)


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
