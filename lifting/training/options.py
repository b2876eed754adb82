"""What a training is asked for."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from gridpose.core import UsageError
from gridpose.lifting.network import NetworkConfig
from gridpose.lifting.temporal import TemporalConfig
from gridpose.lifting.training.model import Loss

SelectOn = Literal["val", "test"]
MAX_SEED = 2**31 - 1

FREE = ("epochs", "device", "test_batch", "resume", "overwrite", "load", "data", "run")
"""Options in which a run and its continuation may differ."""


@dataclass(frozen=True)
class TemporalOptions:
    """A network that sees time is to be trained."""

    frames: str
    """The lifter of single frames that it belongs to: a file or the name of a shipped one."""
    network: TemporalConfig = field(default_factory=TemporalConfig)
    fps: float = 50.0
    """Frame rate of the data."""


@dataclass(frozen=True)
class TrainOptions:
    """What to train on, what, and how; defaults are those of the published code."""

    data: Path
    """Folder with ``{train,test}_custom_{2d,3d}_unnorm.pth.tar``."""
    run: Path
    """Folder for results."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    temporal: TemporalOptions | None = None
    """If given, this is trained and not the network before it, and a batch is of windows."""
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


def check_options(options: TrainOptions, device: torch.device) -> None:
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
    if options.temporal is not None and not 0 < options.temporal.fps < math.inf:
        raise UsageError(f"--fps {options.temporal.fps}: must be a number above 0")
    if options.temporal is not None and (options.load is not None or options.compile):
        raise UsageError("--temporal goes with neither --load nor --compile")
    if options.batch < world:
        raise UsageError(f"--batch {options.batch}: smaller than the number of processes, {world}")
