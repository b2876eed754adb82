"""Training a lifter on a data set in the published format, on mmengine's Runner.

What is trained is a lifting network, or a network that sees time around one that is there already.

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
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from gridpose.core import InputError, MissingError, UsageError
from gridpose.devices import resolve_device
from gridpose.lifting.checkpoint import Checkpoint, save_checkpoint
from gridpose.lifting.data.dataset import (
    PoseDataset,
    Sequence,
    default_exclude_drift,
    load_dataset,
)
from gridpose.lifting.data.device_batches import DeviceBatches
from gridpose.lifting.forward import FrameLifter
from gridpose.lifting.lifter import load_lifter
from gridpose.lifting.network import LiftingNetwork, build_network
from gridpose.lifting.temporal import TemporalNetwork
from gridpose.lifting.temporal_checkpoint import TemporalCheckpoint, save_temporal
from gridpose.lifting.training.batches import (
    Batches,
    sequence_batches,
    training_batches,
    validation_batches,
)
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
    Progress,
    RepeatableEpochs,
    Results,
    State,
    SteppedRate,
    TemperatureSchedule,
    writing,
)
from gridpose.lifting.training.model import (
    LOG_EVERY,
    TrainingModel,
    grid_error,
    temperature_of,
)
from gridpose.lifting.training.options import (
    FREE,
    TemporalOptions,
    TrainOptions,
    check_options,
)
from gridpose.lifting.training.processes import first_process_first, processes, rank
from gridpose.lifting.training.runner import LiftingRunner
from gridpose.lifting.training.temporal import temporal_error
from gridpose.lifting.training.validation import (
    Evaluator,
    Row,
    SequenceEvaluator,
    SequenceValidationLoop,
    ValidationLoop,
)
from gridpose.lifting.training.windows import SequenceWindows


@dataclass(frozen=True)
class TrainResult:
    """Where a run ended: its rows of figures, the best of them, and the files."""

    rows: list[Row]
    best: Row
    files: list[Path]


def split_performances(dataset: PoseDataset, share: float) -> tuple[PoseDataset, PoseDataset]:
    """Hold performances out: ``(the rest, about a share of them)``.

    A performance is held out with all its cameras, and they are spread evenly over the sorted list,
    so over subjects and actions.

    Raises:
        UsageError: the share is not between 0 and 1.
        InputError: there are fewer than two performances.
    """
    if not 0 < share < 1:
        raise UsageError(f"the share held out must lie between 0 and 1, not at {share}")

    def performance(sequence: Sequence) -> tuple[str, str]:
        return sequence.subject, sequence.performance

    every = sorted({performance(sequence) for sequence in dataset.sequences})
    if len(every) < 2:
        raise InputError(
            "the training data hold a single performance, so none can be held out to choose the "
            "best epoch; pass --select-on test"
        )
    count = min(len(every) - 1, max(1, round(share * len(every))))
    held = {every[int((number + 0.5) * len(every) / count)] for number in range(count)}
    return (
        dataset.filter(lambda sequence: performance(sequence) not in held),
        dataset.filter(lambda sequence: performance(sequence) in held),
    )


def _network(options: TrainOptions) -> LiftingNetwork:
    torch.manual_seed(options.seed)
    network = build_network(options.network)
    if options.load is not None and not options.resume:
        config = options.network
        lifter = load_lifter(
            options.load,
            kind=config.kind,
            padding_mode=config.padding_mode,
            grid_shape=config.grid_shape,
        )
        if (lifter.network.config.hidden, lifter.network.config.blocks) != (
            config.hidden,
            config.blocks,
        ):
            raise UsageError(
                f"{options.load}: has {lifter.network.config.hidden} channels and "
                f"{lifter.network.config.blocks} blocks; give --hidsize and --num-block so"
            )
        network.load_state_dict(lifter.network.state_dict())
    if options.compile:
        network.compile()
    return network


def _optimizer(options: TrainOptions, network: nn.Module, device: torch.device) -> dict[str, Any]:
    """Configuration of mmengine's optimizer wrapper."""
    wrapper: dict[str, Any] = {
        "type": "OptimWrapper",
        "optimizer": {"type": "Adam", "lr": options.lr},
    }
    if device.type == "cuda":
        # A few kernels instead of dozens, and gradients that overflowed are no question to the
        # host.
        wrapper["optimizer"]["fused"] = True
    learns_grid = isinstance(network, LiftingNetwork) and network.sgt_layer is not None
    if learns_grid and options.grid_lr != 1:
        keys = {"sgt_trans_mat": {"lr_mult": options.grid_lr}}
        wrapper["paramwise_cfg"] = {"custom_keys": keys}
    if options.precision != "fp32":
        dtype = {"fp16": "float16", "bf16": "bfloat16"}[options.precision]
        wrapper.update(type="AmpOptimWrapper", dtype=dtype)
    return wrapper


def _history(options: TrainOptions, row: Row, described: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint tells of its training."""
    return {
        "epoch": row["epoch"],
        "data_sha256": described["data"]["sha256"],
        "frames": described["data"]["training"]["frames"],
        "selected_on": options.select_on,
        "options": {k: v for k, v in described["options"].items() if k not in FREE},
    }


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}


@dataclass(frozen=True)
class _Task:
    """What differs between training a lifter of single frames and a network that sees time.

    Attributes:
        network: to be trained.
        error: its loss, as :class:`TrainingModel` takes it.
        batches: of training.
        validation: mmengine's configuration of it: loader, loop and evaluator.
        save: writes a checkpoint of the network, of an epoch's figures and of what is told of the
            training.
        hooks: further ones.
    """

    network: nn.Module
    error: Callable[..., Tensor]
    batches: Batches
    validation: dict[str, Any]
    save: Callable[[nn.Module, Row, dict[str, Any], Path], None]
    hooks: tuple[Hook, ...] = ()


def _frame_task(
    options: TrainOptions,
    network: LiftingNetwork,
    data: PoseDataset,
    held: PoseDataset,
    device: torch.device,
) -> _Task:
    def save(current: nn.Module, row: Row, history: dict[str, Any], file: Path) -> None:
        temperature = temperature_of(current)
        config = network.config
        if temperature is not None:
            config = replace(config, temperature=temperature)
        metrics = {name: row[name] for name in ("mpjpe", "pa_mpjpe")}
        save_checkpoint(
            Checkpoint(config, _state(current), "published", training=history, metrics=metrics),
            file,
        )

    grids = network.sgt_layer is None
    batches = DeviceBatches(
        data.keypoints_px, data.poses, device, grid_inputs=grids, grid_targets=grids
    )
    held_poses = DeviceBatches(held.keypoints_px, held.poses, device)
    schedule = TemperatureSchedule(
        options.temperature_schedule, options.network.temperature, options.temperature_epochs
    )
    return _Task(
        network,
        partial(grid_error, loss=options.loss),
        batches,
        {
            "val_dataloader": validation_batches(held_poses, options.test_batch),
            "val_cfg": {"type": ValidationLoop},
            "val_evaluator": Evaluator(held.actions()),
        },
        save,
        (schedule,),
    )


def _temporal_task(
    options: TemporalOptions,
    network: TemporalNetwork,
    data: PoseDataset,
    held: PoseDataset,
    device: torch.device,
) -> _Task:
    checkpoint = load_lifter(options.frames).checkpoint
    fov = checkpoint.fov_degrees
    frames = FrameLifter(checkpoint.build(), checkpoint.normalisation, fov)
    frames.to(device).requires_grad_(False)

    def error(current: TemporalNetwork, **windows: Any) -> Tensor:
        return temporal_error(current, frames, **windows)[0]

    def save(current: nn.Module, row: Row, history: dict[str, Any], file: Path) -> None:
        names = ("mpjpe", "pa_mpjpe", "mpjve", "acceleration")
        metrics = {name: row[name] for name in names if name in row}
        save_temporal(
            TemporalCheckpoint(network.config, _state(current), history, metrics, checkpoint),
            file,
            torch.float32,
        )

    return _Task(
        network,
        error,
        SequenceWindows(data, options.fps, fov, device),
        {
            "val_dataloader": sequence_batches(held),
            "val_cfg": {"type": SequenceValidationLoop},
            "val_evaluator": SequenceEvaluator(held, frames, options.fps, fov),
        },
        save,
    )


def _task(
    options: TrainOptions, data: PoseDataset, held: PoseDataset, device: torch.device
) -> _Task:
    if options.temporal is None:
        return _frame_task(options, _network(options), data, held, device)
    torch.manual_seed(options.seed)
    network = TemporalNetwork(options.temporal.network)
    return _temporal_task(options.temporal, network, data, held, device)


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
    batch, so that the result does not depend on the number of processes. With the same options on
    the same machine the CPU gives the same weights bit for bit, also after an interruption.

    Args:
        on_start: gets what ``config.json`` says, before the first step; first process only.
        on_step: gets the epoch (from 0), steps done and steps in an epoch; first process only.
        on_epoch: gets all rows so far and whether the last is the best; first process only.
        verbose: let mmengine tell what it does, on stderr.

    Raises:
        UsageError: options that contradict each other, or the run folder.
        MissingError: no data, no such device, nothing to go on from.
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
    with first_process_first():  # it makes the cache of the data for all
        data = load_dataset(options.data, "train", exclude_drift=False)
        if options.select_on == "test":
            drift = default_exclude_drift("test", options.data.name)
            held = load_dataset(options.data, "test", exclude_drift=drift)
        else:
            data, held = split_performances(data, options.val_share)
        task = _task(options, data, held, device)
        described = describe_run(options, data, held)
        if first_process:
            rows = prepare_folder(options, described)
            on_start(described)

    def write(current: nn.Module, row: Row, is_best: bool) -> None:
        del rows[int(row["epoch"]) - 1 :]  # what a killed run may have written beyond its state
        rows.append(row)
        history = _history(options, row, described)
        for name in (BEST, LAST) if is_best else (LAST,):
            with writing(options.run / name) as unfinished:
                task.save(current, row, history, unfinished)
        write_rows(options.run / CURVES, rows)

    def epoch_done() -> None:
        on_epoch(rows, all(row["mpjpe"] > rows[-1]["mpjpe"] for row in rows[:-1]))

    hooks: list[Any] = [
        RepeatableEpochs(options.seed),
        *task.hooks,
        Results(write),
        State(options.run / STATE),
    ]
    if first_process:
        hooks.append(Progress(on_step, epoch_done))
    if options.ema is not None:
        hooks.append({"type": "EMAHook", "momentum": 1 - options.ema})
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
            train_dataloader=training_batches(task.batches, options.batch, options.seed),
            train_cfg={"by_epoch": True, "max_epochs": options.epochs, "val_interval": 1},
            **task.validation,
            optim_wrapper=_optimizer(options, task.network, device),
            param_scheduler={
                "type": SteppedRate,
                "end": sys.maxsize,  # else it would be in the state that the epochs end here
                "decay": options.lr_decay,
                "gamma": options.lr_gamma,
            },
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
