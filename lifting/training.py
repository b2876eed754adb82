"""Training a lifting network on a data set in the published format, on mmengine's Runner.

A run has a folder of its own: ``best.safetensors`` and ``last.safetensors`` (there from the first
epoch on, and replaced at once), ``state.pth`` from which training goes on, ``curves.csv`` with a
row for each epoch, ``config.json`` with all options, versions and the hashes of the data, and
``logs`` with mmengine's log and TensorBoard's.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from gridpose.core import GridposeError, InputError, MissingError, UsageError
from gridpose.lifting.checkpoint import Checkpoint, save_checkpoint
from gridpose.lifting.dataset import (
    PoseDataset,
    Sequence,
    default_exclude_drift,
    describe_left_out,
    load_dataset,
)
from gridpose.lifting.device_batches import DeviceBatches
from gridpose.lifting.lifter import load_lifter, resolve_device
from gridpose.lifting.network import LiftingNetwork, NetworkConfig, build_network
from gridpose.lifting.training_parts import (
    LOG_EVERY,
    Evaluator,
    LiftingRunner,
    Loss,
    Progress,
    RepeatableEpochs,
    Results,
    Row,
    State,
    SteppedRate,
    TemperatureSchedule,
    TrainingModel,
    ValidationLoop,
    temperature_of,
    training_batches,
    validation_batches,
    writing,
)
from gridpose.storage import replacing

SelectOn = Literal["val", "test"]
STATE = "state.pth"
CURVES = "curves.csv"
CONFIG = "config.json"
BEST, LAST = "best.safetensors", "last.safetensors"
MAX_SEED = 2**31 - 1

# What may differ between a run and its continuation.
_FREE = ("epochs", "device", "test_batch", "resume", "overwrite", "load", "data", "run")


@dataclass(frozen=True)
class TrainOptions:
    """What to train on, what, and how; defaults are those of the published code."""

    data: Path
    """Folder with ``{train,test}_custom_{2d,3d}_unnorm.pth.tar``."""
    run: Path
    """Folder for results."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: Loss = "l2"
    epochs: int = 200
    batch: int = 200
    test_batch: int = 1000
    lr: float = 1e-3
    lr_decay: int = 10
    lr_gamma: float = 0.96
    """The learning rate is multiplied by this after epochs 1, 1 + lr_decay, 1 + 2 lr_decay, …"""
    temperature_schedule: Literal["none", "linear"] = "none"
    temperature_epochs: int = 10
    grid_lr: float = 1.0
    """Learning rate of a learnable grid, as a multiple of the others'."""
    select_on: SelectOn = "val"
    val_share: float = 0.05
    ema: float | None = None
    """Decay of averaged weights, which are then what is measured and kept."""
    seed: int = 0
    device: str = "auto"
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    compile: bool = False
    load: Path | None = None
    """Checkpoint to start from."""
    resume: bool = False
    overwrite: bool = False


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


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


@contextlib.contextmanager
def _processes(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes when started by torchrun; answer this process's device."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield device
        return
    if device.type == "cuda":
        device = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            raise GridposeError(
                f"process {_rank()} ends because another one did; that one says why"
            ) from error
        raise
    finally:
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _first_process_first() -> Iterator[None]:
    """The first process runs the block, then the others do; its error is the error of all."""
    if not torch.distributed.is_initialized():
        yield
        return
    failed: list[GridposeError | None] = [None]
    if _rank() > 0:
        torch.distributed.broadcast_object_list(failed)
        if failed[0] is not None:
            raise failed[0]
        yield
        return
    try:
        yield
    except GridposeError as error:
        failed[0] = error
        raise
    finally:
        torch.distributed.broadcast_object_list(failed)


def _check(options: TrainOptions, device: torch.device) -> None:
    """Raises: UsageError: values that no training can have."""
    positive = {
        "--epoch": options.epochs,
        "--batch": options.batch,
        "--test-batch": options.test_batch,
        "--lr": options.lr,
        "--lr-decay": options.lr_decay,
        "--lr-gamma": options.lr_gamma,
        "--temp-epoch": options.temperature_epochs,
    }
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise UsageError(f"{name} {value}: must be a number above 0")
    if not 0 <= options.grid_lr < math.inf:
        raise UsageError(f"--grid-lr {options.grid_lr}: must be a number, at least 0")
    if not 0 <= options.seed <= MAX_SEED:
        raise UsageError(f"--seed {options.seed}: must lie between 0 and {MAX_SEED}")
    if options.ema is not None and not 0 < options.ema < 1:
        raise UsageError(f"--ema {options.ema}: must lie between 0 and 1")
    if options.network.kind != "dgridconv_autogrids" and options.network.grid_shape != (5, 5):
        raise UsageError("only dgridconv_autogrids trains on another grid than 5x5")
    if options.precision != "fp32" and device.type != "cuda":
        # Emulated half precision is an order of magnitude slower.
        raise UsageError(f"--precision {options.precision} needs a GPU; use fp32 on the CPU")
    if options.precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise UsageError("this GPU has no bf16; use fp16 or fp32")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if options.batch < world:
        raise UsageError(f"--batch {options.batch}: smaller than the number of processes, {world}")


def _described(options: TrainOptions, train: PoseDataset, val: PoseDataset) -> dict[str, Any]:
    """What ``config.json`` says."""
    values = asdict(options)
    values.update(data=str(options.data), run=str(options.run))
    values["load"] = None if options.load is None else str(options.load)
    return {
        "options": values,
        "data": {
            "sha256": {**train.sha256, **val.sha256},
            "training": {"sequences": len(train.sequences), "frames": len(train)},
            "validation": {
                "split": "test" if options.select_on == "test" else "held out of train",
                "sequences": [[s.subject, s.action, s.file_name, len(s)] for s in val.sequences],
                "frames": len(val),
            },
            "left_out": [*dict.fromkeys(describe_left_out(train) + describe_left_out(val))],
        },
        "notes": [*dict.fromkeys((*train.notes, *val.notes))],
        "versions": {name: version(name) for name in ("gridpose", "torch", "mmengine", "numpy")},
    }


def _prepare_folder(options: TrainOptions, described: dict[str, Any]) -> list[Row]:
    """Make the run folder, or check that it can be gone on with; answer the rows so far.

    Raises:
        UsageError: it has another run's results, or was started with other options or data.
        MissingError: there is nothing to go on from, or the folder cannot be written.
    """
    run, rows = options.run, []
    if options.resume:
        if not (run / STATE).is_file() or not (run / CONFIG).is_file():
            raise MissingError(f"{run}: no training to go on with (no {STATE}); leave --resume out")
        _compare(run, described)
        rows = _read_rows(run / CURVES)
    elif not options.overwrite and any((run / name).exists() for name in (STATE, BEST, LAST)):
        raise UsageError(
            f"{run}: has a training already; --resume goes on with it, --overwrite starts anew, "
            "--exp NAME takes another folder"
        )
    try:
        run.mkdir(parents=True, exist_ok=True)
        for unfinished in run.glob(".*.part.*"):  # of a run that was killed
            unfinished.unlink()
        if not options.resume:
            for name in (STATE, CURVES, "curves.png", BEST, LAST):
                (run / name).unlink(missing_ok=True)
        with replacing(run / CONFIG) as partial:
            partial.write_text(json.dumps(described, indent=1))
    except OSError as error:
        raise MissingError(f"{run}: cannot be written ({error.strerror})") from error
    return rows


def _compare(run: Path, described: dict[str, Any]) -> None:
    """Raises: UsageError: a run was started with other options or data."""
    now = json.loads(json.dumps(described))
    try:
        before = json.loads((run / CONFIG).read_text())
        differing = [
            name
            for name, value in now["options"].items()
            if name not in _FREE and before["options"].get(name) != value
        ]
        if before["data"]["sha256"] != now["data"]["sha256"]:
            differing.append("the data")
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{run / CONFIG}: damaged, so this training cannot go on; --overwrite starts anew"
        ) from error
    if differing:
        raise UsageError(
            f"{run}: was started with other values of {', '.join(differing)}; give the same, "
            "or train into another folder (--exp)"
        )


def _read_rows(file: Path) -> list[Row]:
    try:
        with file.open(newline="") as stream:
            rows = [
                {n: int(value) if n == "epoch" else float(value) for n, value in row.items()}
                for row in csv.DictReader(stream)
            ]
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            raise ValueError("not an epoch a row")
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: damaged, so this training cannot go on; --overwrite starts anew"
        ) from error
    return rows


def _write_rows(file: Path, rows: list[Row]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(file) as partial, partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows({n: repr(v) for n, v in row.items()} for row in rows)


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


def _optimizer(options: TrainOptions, network: LiftingNetwork) -> dict[str, Any]:
    """Configuration of mmengine's optimizer wrapper."""
    wrapper: dict[str, Any] = {
        "type": "OptimWrapper",
        "optimizer": {"type": "Adam", "lr": options.lr},
    }
    if network.sgt_layer is not None and options.grid_lr != 1:
        keys = {"sgt_trans_mat": {"lr_mult": options.grid_lr}}
        wrapper["paramwise_cfg"] = {"custom_keys": keys}
    if options.precision != "fp32":
        dtype = {"fp16": "float16", "bf16": "bfloat16"}[options.precision]
        wrapper.update(type="AmpOptimWrapper", dtype=dtype)
    return wrapper


def _checkpoint(
    options: TrainOptions, network: LiftingNetwork, row: Row, described: dict[str, Any]
) -> Checkpoint:
    temperature = temperature_of(network)
    config = network.config
    if temperature is not None:
        config = replace(config, temperature=temperature)
    return Checkpoint(
        network=config,
        state={name: value.detach().cpu() for name, value in network.state_dict().items()},
        normalisation="published",
        training={
            "epoch": row["epoch"],
            "data_sha256": described["data"]["sha256"],
            "frames": described["data"]["training"]["frames"],
            "selected_on": options.select_on,
            "options": {k: v for k, v in described["options"].items() if k not in _FREE},
        },
        metrics={name: row[name] for name in ("mpjpe", "pa_mpjpe")},
    )


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
    _check(options, device)
    with (
        # What the caller draws at random afterwards is none of our business.
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        _processes(device) as device,
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
    first_process = _rank() == 0
    rows: list[Row] = []
    with _first_process_first():  # it makes the cache of the data for all
        data = load_dataset(options.data, "train", exclude_drift=False)
        if options.select_on == "test":
            drift = default_exclude_drift("test", options.data.name)
            held = load_dataset(options.data, "test", exclude_drift=drift)
        else:
            data, held = split_performances(data, options.val_share)
        network = _network(options)
        described = _described(options, data, held)
        if first_process:
            rows = _prepare_folder(options, described)
            on_start(described)

    grids = network.sgt_layer is None
    batches = DeviceBatches(
        data.keypoints_px, data.poses, device, grid_inputs=grids, grid_targets=grids
    )
    validation = DeviceBatches(held.keypoints_px, held.poses, device)

    def write(current: LiftingNetwork, row: Row, is_best: bool) -> None:
        del rows[int(row["epoch"]) - 1 :]  # what a killed run may have written beyond its state
        rows.append(row)
        checkpoint = _checkpoint(options, current, row, described)
        for name in (BEST, LAST) if is_best else (LAST,):
            with writing(options.run / name) as partial:
                save_checkpoint(checkpoint, partial)
        _write_rows(options.run / CURVES, rows)

    def epoch_done() -> None:
        on_epoch(rows, all(row["mpjpe"] > rows[-1]["mpjpe"] for row in rows[:-1]))

    hooks: list[Any] = [
        RepeatableEpochs(options.seed),
        TemperatureSchedule(
            options.temperature_schedule, options.network.temperature, options.temperature_epochs
        ),
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
            model=TrainingModel(network, options.loss),
            work_dir=str(options.run / "logs"),
            device=device,
            train_dataloader=training_batches(batches, options.batch, options.seed),
            train_cfg={"by_epoch": True, "max_epochs": options.epochs, "val_interval": 1},
            val_dataloader=validation_batches(validation, options.test_batch),
            val_cfg={"type": ValidationLoop},
            val_evaluator=Evaluator(held.actions()),
            optim_wrapper=_optimizer(options, network),
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
