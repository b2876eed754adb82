"""Training lifters, on mmengine's Runner.

What is trained is a lifting network, or a network that sees time around one that is there already;
on a data set in the published format, or on poses drawn from motion capture.

A run has a folder of its own: ``best.safetensors`` and ``last.safetensors`` (there from the first
epoch on, and replaced at once), ``state.pth`` from which training goes on, ``curves.csv`` with a
row for each epoch, ``config.json`` with all options, versions and the hashes of the data, and
``logs`` with mmengine's log and TensorBoard's.
"""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gridpose.core import MissingError
from gridpose.devices import resolve_device
from gridpose.lifting.training.batches import Clock
from gridpose.lifting.training.folder import (
    BEST,
    CONFIG,
    CURVES,
    LAST,
    STATE,
    describe_run,
    prepare_folder,
    write_rows,
)
from gridpose.lifting.training.hooks import (
    FrozenBatchNorm,
    Progress,
    RepeatableEpochs,
    Results,
    Schedules,
    State,
    writing,
)
from gridpose.lifting.training.model import LOG_EVERY, TrainingModel
from gridpose.lifting.training.optimizers import build_optimizer
from gridpose.lifting.training.options import FREE, TrainOptions, check_options
from gridpose.lifting.training.processes import first_process_first, processes, rank
from gridpose.lifting.training.runner import LiftingRunner
from gridpose.lifting.training.task import build_task
from gridpose.lifting.training.validation import Row, Validation


@dataclass(frozen=True)
class TrainResult:
    """Where a run ended: its rows of figures, the best of them, and the files."""

    rows: list[Row]
    best: Row
    files: list[Path]


def train(
    options: TrainOptions,
    *,
    on_start: Callable[[dict[str, Any]], None] = lambda described: None,
    on_step: Callable[[int, int, int], None] = lambda epoch, done, steps: None,
    on_epoch: Callable[[list[Row], bool], None] = lambda rows, is_best: None,
    verbose: bool = False,
) -> TrainResult:
    """Train, or go on training.

    Under ``torchrun`` each process takes its share of every batch and BatchNorm sees the whole
    batch, so that on a data set the result does not depend on the number of processes. With the
    same options on the same machine the CPU gives the same weights bit for bit, also after an
    interruption, unless time is limited.

    Args:
        on_start: gets what ``config.json`` says, before the first step; first process only.
        on_step: gets the epoch (from 0), steps done and steps in an epoch; first process only.
        on_epoch: gets all rows so far and whether the last is the best; first process only.
        verbose: let mmengine tell what it does, on stderr.

    Raises:
        UsageError: options that contradict each other, or the run folder.
        MissingError: no data, no such device, no such optimiser, nothing to go on from.
        InputError: bad data or a bad checkpoint to start from.
    """
    device = resolve_device(options.device)
    check_options(options, device)
    with (
        # What the caller draws at random afterwards is none of our business.
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        processes(device) as device,
    ):
        return _train(options, device, on_start, on_step, on_epoch, verbose)


def _train(
    options: TrainOptions,
    device: torch.device,
    on_start: Callable[[dict[str, Any]], None],
    on_step: Callable[[int, int, int], None],
    on_epoch: Callable[[list[Row], bool], None],
    verbose: bool,
) -> TrainResult:
    first_process = rank() == 0
    rows: list[Row] = []
    clock = Clock(options.epochs, options.seconds)
    with first_process_first():  # it makes the cache of the data for all
        task = build_task(options, clock, device)
        optimizer = build_optimizer(options, task.network)
        described = describe_run(options, task.data, task.notes)
        if first_process:
            rows = prepare_folder(options, described)
            on_start(described)

    def write(current: nn.Module, row: Row, is_best: bool) -> None:
        del rows[int(row["epoch"]) - 1 :]  # what a killed run may have written beyond its state
        rows.append(row)
        history = {
            "epoch": row["epoch"],
            "data_sha256": described["data"]["sha256"],
            "frames": described["data"]["training"]["frames"],
            "selected_on": options.select_on,
            "options": {k: v for k, v in described["options"].items() if k not in FREE},
        }
        for name in (BEST, LAST) if is_best else (LAST,):
            with writing(options.run / name) as unfinished:
                task.save(current, row, history, unfinished)
        write_rows(options.run / CURVES, rows)

    def epoch_done() -> None:
        on_epoch(rows, all(row["mpjpe"] > rows[-1]["mpjpe"] for row in rows[:-1]))

    hooks: list[Any] = [
        RepeatableEpochs(options.seed),
        Schedules(options, clock),
        Results(write),
        State(options.run / STATE),
    ]
    if options.frozen_epochs:
        hooks.append(FrozenBatchNorm(options.frozen_epochs))
    if first_process:
        hooks.append(Progress(clock, on_step, epoch_done))
    if options.ema is not None:
        average: dict[str, Any] = {"type": "EMAHook", "momentum": 1 - options.ema}
        if options.mocap:  # over fewer steps at first: the random weights are soon forgotten
            average |= {"ema_type": "MomentumAnnealingEMA", "gamma": 9}
        hooks.append(average)
    backends = [{"type": "LocalVisBackend"}]
    with contextlib.suppress(ImportError):
        import_module("torch.utils.tensorboard")
        backends.append({"type": "TensorboardVisBackend"})
    # mmengine's log goes to stdout, which is for results.
    with contextlib.redirect_stdout(sys.stderr):
        runner = LiftingRunner(
            model=TrainingModel(task.network, task.error),
            work_dir=str(options.run / "logs"),
            device=device,
            train_dataloader=task.batches,
            train_cfg={"by_epoch": True, "max_epochs": options.epochs, "val_interval": 1},
            val_dataloader=[task.held],
            val_cfg={"type": Validation},
            val_evaluator=task.held,
            optim_wrapper=optimizer,
            default_hooks={
                "checkpoint": None,
                "logger": {"type": "LoggerHook", "interval": LOG_EVERY},
            },
            custom_hooks=hooks,
            log_processor={"window_size": 1},
            log_level="INFO" if verbose else "ERROR",
            visualizer={"type": "Visualizer", "vis_backends": backends},
            launcher="pytorch" if torch.distributed.is_initialized() else "none",
            load_from=str(options.run / STATE) if options.resume else None,
            resume=options.resume,
            randomness={"seed": options.seed},
            # mmengine keeps state under this name for the whole process.
            experiment_name=uuid.uuid4().hex,
        )
        try:
            runner.train()
        except BrokenPipeError:  # whoever read our messages has gone
            raise
        except OSError as error:
            raise MissingError(f"{options.run}: cannot be written ({error.strerror})") from error
        finally:
            runner.close()
    best = min(rows, key=lambda row: row["mpjpe"]) if rows else {}
    names = (BEST, LAST, STATE, CURVES, CONFIG)
    return TrainResult(rows, best, [options.run / name for name in names])
