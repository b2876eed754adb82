"""What a training is asked for. The command line takes its options, with their help, from here."""

# Annotations are objects here, not strings: the command line reads them. Nothing heavy, not even
# NumPy, is imported at the top, so that ``gridpose train --help`` comes at once.

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from gridpose.option import DATA, MACHINE, NETWORK, OPTIMISATION, OUTPUT, Option

if TYPE_CHECKING:
    import torch

    from gridpose.lifting.model.network import NetworkConfig
    from gridpose.lifting.model.temporal import TemporalConfig

Loss = Literal["l2", "l1", "sqrtl2"]
"""Mean squared error; mean absolute error; mean Euclidean distance of joints (or cells)."""
MAX_SEED = 2**31 - 1

FREE = (
    "epochs", "device", "test_batch", "resume", "overwrite", "load", "run",
    "data", "mocap", "still",
)  # fmt: skip
"""Options in which a run and its continuation may differ; data are compared by content."""


def _default_network() -> "NetworkConfig":
    from gridpose.lifting.model.network import NetworkConfig

    return NetworkConfig()


def _default_temporal_network() -> "TemporalConfig":
    from gridpose.lifting.model.temporal import TemporalConfig

    return TemporalConfig()


@dataclass(frozen=True)
class TemporalOptions:
    """A network that sees time is to be trained."""

    frames: str
    """The lifter of single frames that it belongs to: a file or the name of a shipped one."""
    network: "TemporalConfig" = field(default_factory=_default_temporal_network)
    fps: float = 50.0
    """Frame rate of a data set; motion capture has its own."""


@dataclass(frozen=True)
class TrainOptions:
    """What to train on, what, and how; defaults are those of the published code.

    Attributes:
        data: folder with ``{train,test}_custom_{2d,3d}_unnorm.pth.tar``; None with ``mocap``.
        run: folder for results.
        network: the lifter of single frames to train.
        temporal: if given, this is trained and not ``network``, and a batch is of windows.
        batch: in a step of all processes.
        mocap: motion capture files from which poses (or windows) are drawn instead.
        still: those from which windows are drawn in which people hardly move; ``mocap`` if none.
        ema: decay of averaged weights, which are then what is measured and kept.

    The others are as the help of the command line says.
    """

    data: Path | None = None
    run: Path = Path("checkpoint/temporary")
    network: "NetworkConfig" = field(default_factory=_default_network)
    temporal: TemporalOptions | None = None
    batch: int = 200
    select_on: Annotated[
        Literal["val", "test"],
        Option(
            "Choose the best epoch on held-out performances of the training subjects, or on the "
            "test set, as the published code does: its results are then too good.",
            DATA,
        ),
    ] = "val"
    val_share: Annotated[float, Option("Share of performances held out.", DATA)] = 0.05
    mocap: Annotated[
        tuple[Path, ...],
        Option(
            "Instead of a data set: motion capture (.npz) that poses are drawn from, seen by "
            "virtual cameras and a detector that errs.",
            DATA,
            metavar="FILES...",
        ),
    ] = ()
    still: Annotated[
        tuple[Path, ...],
        Option(
            "With `mocap` and `temporal`: draw people who hardly move from this file (may be "
            "given several times).",
            DATA,
            metavar="FILE",
        ),
    ] = ()
    steps: Annotated[int, Option("Of an epoch, with `mocap`.", DATA, least=1)] = 1000
    load: Annotated[Path | None, Option("Checkpoint to start from.", NETWORK, metavar="FILE")] = (
        None
    )
    loss: Annotated[
        Loss,
        Option(
            "On the 75 values of the grid (of autogrids and with `mocap` on the 51 of the joints): "
            "mean square, mean absolute, mean distance.",
            OPTIMISATION,
        ),
    ] = "l2"
    epochs: Annotated[int, Option("How many.", OPTIMISATION, name="epoch", least=1)] = 200
    seconds: Annotated[
        float | None,
        Option(
            "With `mocap`: end after so much time, whatever the steps; epochs are equal shares of "
            "it.",
            OPTIMISATION,
        ),
    ] = None
    test_batch: Annotated[int, Option("Poses lifted at once.", OPTIMISATION, least=1)] = 1000
    optimizer: Annotated[
        Literal["adam", "adamw", "muon"],
        Option("muon: for weight matrices, AdamW for the rest; needs torch 2.9.", OPTIMISATION),
    ] = "adam"
    lr: Annotated[float, Option("Learning rate.", OPTIMISATION)] = 1e-3
    lr_schedule: Annotated[
        Literal["stepped", "trapezoid"],
        Option(
            "stepped: as published, by `lr_decay` and `lr_gamma`; trapezoid: up from 0, down to 0, "
            "by `warm_up` and `cool_down`.",
            OPTIMISATION,
        ),
    ] = "stepped"
    lr_decay: Annotated[
        int, Option("It falls after epochs 1, N+1, 2N+1, ...", OPTIMISATION, metavar="N", least=1)
    ] = 10
    lr_gamma: Annotated[float, Option("By this factor.", OPTIMISATION)] = 0.96
    warm_up: Annotated[
        float,
        Option("Share of the training over which it rises.", OPTIMISATION, metavar="SHARE"),
    ] = 0.03
    cool_down: Annotated[
        float, Option("Share at the end over which it falls.", OPTIMISATION, metavar="SHARE")
    ] = 0.5
    grid_lr: Annotated[
        float, Option("A learnable grid's learning rate, times the others'.", OPTIMISATION)
    ] = 1.0
    temperature_epochs: Annotated[
        int, Option("Epochs over which it falls.", OPTIMISATION, name="temp-epoch", least=1)
    ] = 10
    temperature_schedule: Annotated[
        Literal["none", "linear"],
        Option(
            "none: constant, which made the published models; linear: down to 1, as meant.",
            OPTIMISATION,
        ),
    ] = "none"
    ema: Annotated[
        float | None, Option("Average weights, as with 0.999.", OPTIMISATION, metavar="DECAY")
    ] = None
    frozen_epochs: Annotated[
        int,
        Option(
            "Last epochs, with BatchNorm's statistics as they will be in use.",
            OPTIMISATION,
            least=0,
        ),
    ] = 0
    seed: Annotated[int, Option("Of all random numbers.", OPTIMISATION, least=0, most=MAX_SEED)] = 0
    device: Annotated[str, Option("auto, cpu, cuda or cuda:N.", MACHINE)] = "auto"
    precision: Annotated[
        Literal["fp32", "fp16", "bf16"],
        Option("fp16 and bf16: mixed precision, on a GPU.", MACHINE),
    ] = "fp32"
    compile: Annotated[
        bool,
        Option("Compile the network; pays off in long runs on GPUs.", MACHINE, only_on=True),
    ] = False
    resume: Annotated[bool, Option("Go on where the run stopped.", OUTPUT, only_on=True)] = False
    overwrite: Annotated[bool, Option("Replace results that exist.", OUTPUT, only_on=True)] = False


def check_options(options: TrainOptions, device: "torch.device") -> None:
    """Raises: UsageError: values that no training can have."""
    from gridpose.core import UsageError

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
    if options.precision == "bf16":
        import torch

        if not torch.cuda.is_bf16_supported():
            raise UsageError("this GPU has no bf16; use fp16 or fp32")
    if options.temporal is not None and (options.load is not None or options.compile):
        raise UsageError("`temporal` goes with neither `load` nor `compile`")
    if options.optimizer == "muon" and options.grid_lr != 1:
        raise UsageError("`grid_lr` goes with the optimisers adam and adamw only")
    if (options.data is None) != bool(options.mocap):
        raise UsageError("a training is on a data set or on motion capture (`mocap`)")
    if not options.mocap and options.seconds is not None:
        raise UsageError("`seconds` goes with `mocap` only")
    if options.still and (options.temporal is None or not options.mocap):
        raise UsageError("`still` goes with `mocap` and `temporal` only")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if options.batch < world:
        raise UsageError(f"`batch` {options.batch}: smaller than the number of processes, {world}")
    if options.seconds is not None and world > 1:
        raise UsageError("`seconds` is for a single process; give `steps`")
