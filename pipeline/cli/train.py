"""``gridpose train``: the published ``python main.py``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gridpose.pipeline.cli.common import Json, Quiet, Verbose, reports_errors

if TYPE_CHECKING:
    from gridpose.lifting.training.options import TrainOptions
    from gridpose.lifting.training.trainer import TrainResult

# Options by the panels of the help that they are in.
_data = partial(typer.Option, rich_help_panel="Data")
_network = partial(typer.Option, rich_help_panel="Network")
_optimisation = partial(typer.Option, rich_help_panel="Optimisation")
_output = partial(typer.Option, rich_help_panel="Output")
_machine = partial(typer.Option, rich_help_panel="Machine")


def _train(options: TrainOptions, quiet: bool, verbose: bool, json_output: bool) -> None:
    import os

    from gridpose.lifting.training.trainer import train
    from gridpose.pipeline.cli.console import Console, ProgressDisplay
    from gridpose.pipeline.result import Progress
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
    more_mocap: Annotated[list[Path] | None, typer.Argument(hidden=True, metavar="")] = None,
    data_rootdir: Annotated[
        Path,
        _data(metavar="FOLDER", help="Data sets are folders in this one."),
    ] = Path("./data/"),
    input_name: Annotated[
        str,
        _data("--input", metavar="NAME", help="Data set: gt, hrnet, or another's name."),
    ] = "gt",
    fps: Annotated[
        float,
        _data(help="Frame rate of the data set, for --temporal."),
    ] = 50.0,
    select_on: Annotated[
        Literal["val", "test"],
        _data(
            help="Choose the best epoch on held-out performances of the training subjects, or on"
            " the test set, as the published code does: its results are then too good."
        ),
    ] = "val",
    val_share: Annotated[float, _data(help="Share of performances held out.")] = 0.05,
    mocap: Annotated[
        list[Path] | None,
        _data(
            metavar="FILES...",
            help="Instead of a data set: motion capture (.npz) that poses are drawn from, seen by"
            " virtual cameras and a detector that errs.",
        ),
    ] = None,
    still: Annotated[
        list[Path] | None,
        _data(
            metavar="FILE",
            help="With --mocap and --temporal: draw people who hardly move from this file (may be"
            " given several times).",
        ),
    ] = None,
    steps: Annotated[int, _data(min=1, help="Of an epoch, with --mocap.")] = 1000,
    lifting_model: Annotated[
        Literal["gridconv", "dgridconv", "dgridconv_autogrids"],
        _network(metavar="MODEL", help="gridconv, dgridconv or dgridconv_autogrids."),
    ] = "gridconv",
    temporal: Annotated[
        str | None,
        _network(
            metavar="FILE",
            help="Train a network that sees time around this lifter of single frames (a checkpoint"
            " or default-frame), which stays as it is.",
        ),
    ] = None,
    hidsize: Annotated[
        int | None,
        _network(min=1, help="Channels: 256, or 128 with --temporal."),
    ] = None,
    num_block: Annotated[int, _network(min=0, help="Residual blocks.")] = 2,
    padding_mode: Annotated[
        tuple[str, str],
        _network(metavar="A B", help="Of the two branches: c, z or r each."),
    ] = ("c", "r"),
    grid_shape: Annotated[
        tuple[int, int],
        _network(metavar="H W", help="Other than 5 5 with autogrids only."),
    ] = (5, 5),
    autosgt_prior: Annotated[str, _network(help="What a learnable grid starts from.")] = "standard",
    dropout: Annotated[float, _network(help="Share of channels dropped.")] = 0.25,
    load: Annotated[
        Path | None,
        _network(metavar="FILE", help="Checkpoint to start from."),
    ] = None,
    loss: Annotated[
        Literal["l2", "l1", "sqrtl2"],
        _optimisation(
            help="On the 75 values of the grid (of autogrids and with --mocap on the 51 of the"
            " joints): mean square, mean absolute, mean distance."
        ),
    ] = "l2",
    epoch: Annotated[int, _optimisation(min=1, help="How many.")] = 200,
    seconds: Annotated[
        float | None,
        _optimisation(
            help="With --mocap: end after so much time, whatever the steps; epochs are equal shares"
            " of it."
        ),
    ] = None,
    batch: Annotated[
        int | None,
        _optimisation(
            min=1, help="In a step of all processes: 200 poses, or 64 windows with --temporal."
        ),
    ] = None,
    test_batch: Annotated[int, _optimisation(min=1, help="Poses lifted at once.")] = 1000,
    optimizer: Annotated[
        Literal["adam", "adamw", "muon"],
        _optimisation(help="muon: for weight matrices, AdamW for the rest; needs torch 2.9."),
    ] = "adam",
    lr: Annotated[float, _optimisation(help="Learning rate.")] = 1e-3,
    lr_schedule: Annotated[
        Literal["stepped", "trapezoid"],
        _optimisation(
            help="stepped: as published, by --lr-decay and --lr-gamma; trapezoid: up from 0, down"
            " to 0, by --warm-up and --cool-down."
        ),
    ] = "stepped",
    lr_decay: Annotated[
        int,
        _optimisation(min=1, metavar="N", help="It falls after epochs 1, N+1, 2N+1, ..."),
    ] = 10,
    lr_gamma: Annotated[float, _optimisation(help="By this factor.")] = 0.96,
    warm_up: Annotated[
        float,
        _optimisation(metavar="SHARE", help="Share of the training over which it rises."),
    ] = 0.03,
    cool_down: Annotated[
        float,
        _optimisation(metavar="SHARE", help="Share at the end over which it falls."),
    ] = 0.5,
    grid_lr: Annotated[
        float,
        _optimisation(help="A learnable grid's learning rate, times the others'."),
    ] = 1.0,
    max_temp: Annotated[float, _optimisation(help="Highest attention temperature.")] = 30.0,
    temp_epoch: Annotated[
        int,
        _optimisation(min=1, help="Epochs over which it falls."),
    ] = 10,
    temperature_schedule: Annotated[
        Literal["none", "linear"],
        _optimisation(
            help="none: constant, which made the published models; linear: down to 1, as meant."
        ),
    ] = "none",
    ema: Annotated[
        float | None,
        _optimisation(metavar="DECAY", help="Average weights, as with 0.999."),
    ] = None,
    frozen_epochs: Annotated[
        int,
        _optimisation(
            min=0, help="Last epochs, with BatchNorm's statistics as they will be in use."
        ),
    ] = 0,
    seed: Annotated[
        int,
        _optimisation(min=0, max=2**31 - 1, help="Of all random numbers."),
    ] = 0,
    exp: Annotated[str, _output(metavar="NAME", help="Name of the run.")] = "temporary",
    ckpt: Annotated[
        Path,
        _output(metavar="FOLDER", help="Runs are folders in this one."),
    ] = Path("checkpoint"),
    resume: Annotated[
        bool,
        _output("--resume", help="Go on where the run stopped."),
    ] = False,
    overwrite: Annotated[
        bool,
        _output("--overwrite", help="Replace results that exist."),
    ] = False,
    device: Annotated[str, _machine(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        Literal["fp32", "fp16", "bf16"],
        _machine(help="fp16 and bf16: mixed precision, on a GPU."),
    ] = "fp32",
    compile_network: Annotated[
        bool,
        _machine("--compile", help="Compile the network; pays off in long runs on GPUs."),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json_output: Json = False,
    procrustes: Annotated[bool, typer.Option("--procrustes", hidden=True)] = False,
) -> None:
    """Train a lifter on Human3.6M or data of your own in the published format, or from mocap.

    Takes the options of the published `python main.py`, which may be written with _ or -, and has
    its defaults. A run can be interrupted at any time; --resume goes on after its last epoch.
    Several processes (GPUs) share the batches under torchrun.

    \b
    Examples:
      gridpose train --input hrnet --lifting_model dgridconv --padding_mode c z --exp hrnet
      gridpose train --input hrnet --lifting_model dgridconv --padding_mode c z --exp hrnet --resume
      gridpose train --input hrnet --temporal checkpoint/hrnet/best.safetensors --exp over-time
      gridpose train --mocap mocap/*.npz --lifting-model dgridconv --epoch 20 --optimizer muon
      torchrun --nproc-per-node 8 --no-python gridpose train --input gt --exp gt
    """  # noqa: D301
    from typing import cast

    from gridpose.core import SHIPPED_LIFTERS, MissingError, UsageError
    from gridpose.lifting.model.layers import PaddingModes
    from gridpose.lifting.model.network import NetworkConfig
    from gridpose.lifting.model.temporal import TemporalConfig
    from gridpose.lifting.training.options import TemporalOptions, TrainOptions

    # A shell writes `--mocap *.npz` out as one option value and further words.
    if more_mocap and not mocap:
        raise UsageError(f"{more_mocap[0]}: nothing is expected here but options")
    files = (*(mocap or ()), *(more_mocap or ()))
    folder = None if files else data_rootdir / input_name
    if folder is not None and not folder.is_dir():
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
        kind=lifting_model,
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
        mocap=files,
        still=tuple(still or ()),
        steps=steps,
        seconds=seconds,
        loss=loss,
        epochs=epoch,
        batch=batch or (200 if over_time is None else 64),
        test_batch=test_batch,
        optimizer=optimizer,
        lr=lr,
        lr_schedule=lr_schedule,
        lr_decay=lr_decay,
        lr_gamma=lr_gamma,
        warm_up=warm_up,
        cool_down=cool_down,
        frozen_epochs=frozen_epochs,
        temperature_schedule=temperature_schedule,
        temperature_epochs=temp_epoch,
        grid_lr=grid_lr,
        select_on=select_on,
        val_share=val_share,
        ema=ema,
        seed=seed,
        device=device,
        precision=precision,
        compile=compile_network,
        load=load,
        resume=resume,
        overwrite=overwrite,
    )
    _train(options, quiet, verbose, json_output)
