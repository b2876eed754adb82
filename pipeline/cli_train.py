"""``gridpose train``: the published ``python main.py``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridpose.pipeline.cli_common import (
    DataRoot,
    Device,
    InputName,
    Json,
    ModelName,
    Overwrite,
    PrecisionName,
    Quiet,
    Verbose,
    reports_errors,
)

if TYPE_CHECKING:
    from gridpose.lifting.training.options import TrainOptions
    from gridpose.lifting.training.training import TrainResult


class LossName(str, Enum):
    """Losses."""

    l2 = "l2"
    l1 = "l1"
    sqrtl2 = "sqrtl2"


class SelectionName(str, Enum):
    """What the best epoch is chosen on."""

    val = "val"
    test = "test"


class TemperatureName(str, Enum):
    """Schedules of the attention's temperature."""

    none = "none"
    linear = "linear"


def _train(options: TrainOptions, quiet: bool, verbose: bool, json_output: bool) -> None:
    import os

    from gridpose.lifting.training.training import train
    from gridpose.pipeline.console import Console, ProgressDisplay
    from gridpose.pipeline.job import Progress
    from gridpose.storage import replacing
    from gridpose.visualize.plots import save, training_curves

    # Of several processes the first one speaks.
    speaks = os.environ.get("RANK", "0") == "0"
    console = Console(quiet or not speaks, verbose, json_output and speaks)
    curves = options.run / "curves.png"

    def started(described: dict[str, Any]) -> None:
        data = described["data"]
        for line in data["left_out"]:
            console.info(line)
        for note in described["notes"]:
            console.info(f"note: {note}")
        validation = data["validation"]
        console.info(
            f"training on {data['training']['frames']} poses; the best epoch is chosen on "
            f"{validation['frames']} ({validation['split']}); results in {options.run}"
        )

    def epoch_done(rows: list[dict[str, float]], is_best: bool) -> None:
        row = rows[-1]
        console.info(
            f"epoch {row['epoch']:.0f}/{options.epochs}: loss {row['loss']:.6f}, "
            f"MPJPE {row['mpjpe']:.2f} mm, PA-MPJPE {row['pa_mpjpe']:.2f} mm"
            f"{' (best)' if is_best else ''}"
        )
        with replacing(curves) as partial:
            save(training_curves(rows, options.run.name), partial)

    with ProgressDisplay(quiet or not speaks, "steps") as progress:
        result = train(
            options,
            on_start=started,
            on_step=lambda epoch, done, steps: progress.update(
                Progress(epoch * steps + done, options.epochs * steps)
            ),
            on_epoch=epoch_done,
            verbose=verbose and speaks,
        )
    if speaks:
        _report(console, result, curves)


def _report(console: Any, result: TrainResult, curves: Path) -> None:
    files = [str(file) for file in (*result.files, curves)]
    best = result.best
    console.result(
        {"best": best, "epochs": len(result.rows), "files": files},
        f"best epoch {best['epoch']:.0f}: MPJPE {best['mpjpe']:.2f} mm, "
        f"PA-MPJPE {best['pa_mpjpe']:.2f} mm\n" + "\n".join(f"  {file}" for file in files),
    )


@reports_errors
def train_command(
    data_rootdir: DataRoot = Path("./data/"),
    input_name: InputName = "gt",
    exp: Annotated[str, typer.Option(metavar="NAME", help="Name of the run.")] = "temporary",
    ckpt: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Runs are folders in this one.")
    ] = Path("checkpoint"),
    lifting_model: Annotated[
        ModelName,
        typer.Option(metavar="MODEL", help="gridconv, dgridconv or dgridconv_autogrids."),
    ] = ModelName.gridconv,
    hidsize: Annotated[
        int | None, typer.Option(min=1, help="Channels: 256, or 128 with --temporal.")
    ] = None,
    num_block: Annotated[int, typer.Option(min=0, help="Residual blocks.")] = 2,
    padding_mode: Annotated[
        tuple[str, str], typer.Option(metavar="A B", help="Of the two branches: c, z or r each.")
    ] = ("c", "r"),
    grid_shape: Annotated[
        tuple[int, int], typer.Option(metavar="H W", help="Other than 5 5 with autogrids only.")
    ] = (5, 5),
    autosgt_prior: Annotated[
        str, typer.Option(help="What a learnable grid starts from.")
    ] = "standard",
    loss: Annotated[
        LossName,
        typer.Option(
            help="On the 75 values of the grid (of autogrids on the 51 of the joints): mean square,"
            " mean absolute, mean distance."
        ),
    ] = LossName.l2,
    epoch: Annotated[int, typer.Option(min=1, help="How many.")] = 200,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="In a step of all processes: 200 poses, or 64 windows with --temporal."
        ),
    ] = None,
    test_batch: Annotated[int, typer.Option(min=1, help="Poses lifted at once.")] = 1000,
    lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = 1e-3,
    lr_decay: Annotated[
        int, typer.Option(min=1, metavar="N", help="It falls after epochs 1, N+1, 2N+1, ...")
    ] = 10,
    lr_gamma: Annotated[float, typer.Option(help="By this factor.")] = 0.96,
    grid_lr: Annotated[
        float, typer.Option(help="A learnable grid's learning rate, times the others'.")
    ] = 1.0,
    dropout: Annotated[float, typer.Option(help="Share of channels dropped.")] = 0.25,
    max_temp: Annotated[float, typer.Option(help="Highest attention temperature.")] = 30.0,
    temp_epoch: Annotated[int, typer.Option(min=1, help="Epochs over which it falls.")] = 10,
    temperature_schedule: Annotated[
        TemperatureName,
        typer.Option(
            help="none: constant, which made the published models; linear: down to 1, as meant."
        ),
    ] = TemperatureName.none,
    select_on: Annotated[
        SelectionName,
        typer.Option(
            help="Choose the best epoch on held-out performances of the training subjects, or on"
            " the test set, as the published code does: its results are then too good."
        ),
    ] = SelectionName.val,
    val_share: Annotated[float, typer.Option(help="Share of performances held out.")] = 0.05,
    ema: Annotated[
        float | None, typer.Option(metavar="DECAY", help="Average weights, as with 0.999.")
    ] = None,
    load: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Checkpoint to start from.")
    ] = None,
    temporal: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Train a network that sees time around this lifter of single frames (a checkpoint"
            " or default-frame), which stays as it is.",
        ),
    ] = None,
    fps: Annotated[float, typer.Option(help="Frame rate of the data, for --temporal.")] = 50.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of all random numbers.")] = 0,
    device: Device = "auto",
    precision: Annotated[
        PrecisionName, typer.Option(help="fp16 and bf16: mixed precision, on a GPU.")
    ] = PrecisionName.fp32,
    compile_network: Annotated[
        bool, typer.Option("--compile", help="Compile the network; pays off in long runs on GPUs.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json_output: Json = False,
    procrustes: Annotated[bool, typer.Option("--procrustes", hidden=True)] = False,
) -> None:
    """Train a lifter on Human3.6M or data of your own in the published format.

    Takes the options of the published `python main.py`, which may be written with _ or -, and has
    its defaults. A run can be interrupted at any time; --resume goes on after its last epoch.
    Several processes (GPUs) share the batches under torchrun.

    \b
    Examples:
      gridpose train --input hrnet --lifting_model dgridconv --padding_mode c z --exp hrnet
      gridpose train --input hrnet --lifting_model dgridconv --padding_mode c z --exp hrnet --resume
      gridpose train --input hrnet --temporal checkpoint/hrnet/best.safetensors --exp over-time
      torchrun --nproc-per-node 8 --no-python gridpose train --input gt --exp gt
    """  # noqa: D301
    from typing import cast

    from gridpose.core import SHIPPED_LIFTERS, MissingError
    from gridpose.lifting.layers import PaddingModes
    from gridpose.lifting.network import NetworkConfig
    from gridpose.lifting.temporal import TemporalConfig
    from gridpose.lifting.training.options import TemporalOptions, TrainOptions

    folder = data_rootdir / input_name
    if not folder.is_dir():
        raise MissingError(
            f"{folder}: no such folder; train_custom_2d_unnorm.pth.tar and "
            "train_custom_3d_unnorm.pth.tar are expected in it (--data_rootdir, --input)"
        )
    over_time = None
    if temporal is not None:
        if temporal not in SHIPPED_LIFTERS and not Path(temporal).is_file():
            raise MissingError(f"--temporal {temporal}: no such checkpoint")
        over_time = TemporalOptions(temporal, TemporalConfig(hidden=hidsize or 128), fps)
    network = NetworkConfig(
        kind=lifting_model.value,
        hidden=hidsize or 256,
        blocks=num_block,
        grid_shape=grid_shape,
        # NetworkConfig refuses other letters.
        padding_mode=cast("PaddingModes", padding_mode),
        temperature=max_temp,
        dropout=dropout,
        prior=autosgt_prior,
    )
    options = TrainOptions(
        data=folder,
        run=ckpt / exp,
        network=network,
        temporal=over_time,
        loss=loss.value,
        epochs=epoch,
        batch=batch or (200 if over_time is None else 64),
        test_batch=test_batch,
        lr=lr,
        lr_decay=lr_decay,
        lr_gamma=lr_gamma,
        temperature_schedule=temperature_schedule.value,
        temperature_epochs=temp_epoch,
        grid_lr=grid_lr,
        select_on=select_on.value,
        val_share=val_share,
        ema=ema,
        seed=seed,
        device=device,
        precision=precision.value,
        compile=compile_network,
        load=load,
        resume=resume,
        overwrite=overwrite,
    )
    _train(options, quiet, verbose, json_output)
