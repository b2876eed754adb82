"""What a training is asked for."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from gridpose.core import UsageError
from gridpose.lifting.model.network import NetworkConfig
from gridpose.lifting.model.temporal import TemporalConfig
from gridpose.lifting.training.model import Loss

SelectOn = Literal["val", "test"]
MAX_SEED = 2**31 - 1

FREE = (
    "epochs", "device", "test_batch", "resume", "overwrite", "load", "run",
    "data", "mocap", "still",
)  # fmt: skip
"""Options in which a run and its continuation may differ; data are compared by content."""


@dataclass(frozen=True)
class TemporalOptions:
    """A network that sees time is to be trained."""

    frames: str
    """The lifter of single frames that it belongs to: a file or the name of a shipped one."""
    network: TemporalConfig = field(default_factory=TemporalConfig)
    fps: float = 50.0
    """Frame rate of a data set; motion capture has its own."""


@dataclass(frozen=True)
class TrainOptions:
    """What to train on, what, and how; defaults are those of the published code."""

    data: Path | None
    """Folder with ``{train,test}_custom_{2d,3d}_unnorm.pth.tar``; None with ``mocap``."""
    run: Path
    """Folder for results."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    temporal: TemporalOptions | None = None
    """If given, this is trained and not the network before it, and a batch is of windows."""
    mocap: tuple[Path, ...] = ()
    """Motion capture files from which poses (or windows) are drawn instead of a data set's."""
    still: tuple[Path, ...] = ()
    """Those from which windows are drawn in which people hardly move; ``mocap`` if none."""
    steps: int = 1000
    """Of an epoch with motion capture."""
    seconds: float | None = None
    """All epochs together take this long with motion capture, whatever the steps."""
    loss: Loss = "l2"
    """On a data set's poses on the grid; on joints with motion capture or a learnable grid."""
    epochs: int = 200
    batch: int = 200
    """In a step of all processes."""
    test_batch: int = 1000
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    lr: float = 1e-3
    lr_schedule: Literal["stepped", "trapezoid"] = "stepped"
    lr_decay: int = 10
    lr_gamma: float = 0.96
    """Stepped: the rate is multiplied by this after epochs 1, 1 + lr_decay, 1 + 2 lr_decay, …"""
    warm_up: float = 0.03
    cool_down: float = 0.5
    """Trapezoid: shares of the training over which the rate rises from 0, and falls to 0."""
    frozen_epochs: int = 0
    """The last epochs, in which BatchNorm keeps its statistics, as it will be in use."""
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


def check_options(options: TrainOptions, device: torch.device) -> None:
    """Raises: UsageError: values that no training can have."""
    positive = {
        "epochs": options.epochs,
        "batch": options.batch,
        "test_batch": options.test_batch,
        "steps": options.steps,
        "lr": options.lr,
        "lr_decay": options.lr_decay,
        "lr_gamma": options.lr_gamma,
        "temperature_epochs": options.temperature_epochs,
    }
    if options.seconds is not None:
        positive["seconds"] = options.seconds
    if options.temporal is not None:
        positive["fps"] = options.temporal.fps
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise UsageError(f"`{name}` {value}: must be a number above 0")
    if not 0 <= options.grid_lr < math.inf:
        raise UsageError(f"`grid_lr` {options.grid_lr}: must be a number, at least 0")
    if not 0 <= options.seed <= MAX_SEED:
        raise UsageError(f"`seed` {options.seed}: must lie between 0 and {MAX_SEED}")
    if options.ema is not None and not 0 < options.ema < 1:
        raise UsageError(f"`ema` {options.ema}: must lie between 0 and 1")
    for name in ("warm_up", "cool_down"):
        if not 0 <= getattr(options, name) <= 1:
            raise UsageError(f"`{name}` {getattr(options, name)}: must lie between 0 and 1")
    if not 0 <= options.frozen_epochs < options.epochs:
        raise UsageError(f"`frozen_epochs` {options.frozen_epochs}: must be fewer than all epochs")
    if options.network.kind != "dgridconv_autogrids" and options.network.grid_shape != (5, 5):
        raise UsageError("only dgridconv_autogrids trains on another grid than 5x5")
    if options.precision != "fp32" and device.type != "cuda":
        # Emulated half precision is an order of magnitude slower.
        raise UsageError(f"`precision` {options.precision} needs a GPU; use fp32 on the CPU")
    if options.precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise UsageError("this GPU has no bf16; use fp16 or fp32")
    if options.temporal is not None and (options.load is not None or options.compile):
        raise UsageError("`temporal` goes with neither `load` nor `compile`")
    if options.optimizer == "muon" and options.grid_lr != 1:
        raise UsageError("`grid_lr` goes with the optimisers adam and adamw only")
    _check_mocap(options)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if options.batch < world:
        raise UsageError(f"`batch` {options.batch}: smaller than the number of processes, {world}")
    if options.seconds is not None and world > 1:
        raise UsageError("`seconds` is for a single process; give `steps`")


def _check_mocap(options: TrainOptions) -> None:
    if (options.data is None) != bool(options.mocap):
        raise UsageError("a training is on a data set or on motion capture (`mocap`)")
    if not options.mocap and options.seconds is not None:
        raise UsageError("`seconds` goes with `mocap` only")
    if options.still and (options.temporal is None or not options.mocap):
        raise UsageError("`still` goes with `mocap` and `temporal` only")
