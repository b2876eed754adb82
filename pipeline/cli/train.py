"""``gridpose train``: the published ``python main.py``."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from gridpose.lifting.training.options import TrainOptions
from gridpose.option import DATA, NETWORK, OPTIMISATION, OUTPUT
from gridpose.pipeline.cli.console import Console, ProgressDisplay
from gridpose.pipeline.cli.options import LiftingModel, with_console, with_options

# Options by the panels of the help that they are in.
_data = partial(typer.Option, rich_help_panel=DATA)
_network = partial(typer.Option, rich_help_panel=NETWORK)
_optimisation = partial(typer.Option, rich_help_panel=OPTIMISATION)
_output = partial(typer.Option, rich_help_panel=OUTPUT)


@with_console
@with_options(TrainOptions)
def train_command(
    options: TrainOptions,
    more_mocap: Annotated[list[Path] | None, typer.Argument(hidden=True, metavar="")] = None,
    data_rootdir: Annotated[
        Path, _data(metavar="FOLDER", help="Data sets are folders in this one.")
    ] = Path("./data/"),
    input_name: Annotated[
        str, _data("--input", metavar="NAME", help="Data set: gt, hrnet, or another's name.")
    ] = "gt",
    fps: Annotated[float, _data(help="Frame rate of the data set, for --temporal.")] = 50.0,
    lifting_model: Annotated[
        LiftingModel,
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
        int | None, _network(min=1, help="Channels: 256, or 128 with --temporal.")
    ] = None,
    num_block: Annotated[int, _network(min=0, help="Residual blocks.")] = 2,
    padding_mode: Annotated[
        tuple[str, str], _network(metavar="A B", help="Of the two branches: c, z or r each.")
    ] = ("c", "r"),
    grid_shape: Annotated[
        tuple[int, int], _network(metavar="H W", help="Other than 5 5 with autogrids only.")
    ] = (5, 5),
    autosgt_prior: Annotated[str, _network(help="What a learnable grid starts from.")] = "standard",
    dropout: Annotated[float, _network(help="Share of channels dropped.")] = 0.25,
    batch: Annotated[
        int | None,
        _optimisation(
            min=1, help="In a step of all processes: 200 poses, or 64 windows with --temporal."
        ),
    ] = None,
    max_temp: Annotated[float, _optimisation(help="Highest attention temperature.")] = 30.0,
    exp: Annotated[str, _output(metavar="NAME", help="Name of the run.")] = "temporary",
    ckpt: Annotated[Path, _output(metavar="FOLDER", help="Runs are folders in this one.")] = Path(
        "checkpoint"
    ),
    procrustes: Annotated[bool, typer.Option("--procrustes", hidden=True)] = False,
    *,
    console: Console,
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
    from gridpose.core import SHIPPED_LIFTERS, MissingError, UsageError
    from gridpose.lifting.model.layers import PaddingModes
    from gridpose.lifting.model.network import NetworkConfig
    from gridpose.lifting.model.temporal import TemporalConfig
    from gridpose.lifting.training.options import TemporalOptions

    # A shell writes `--mocap *.npz` out as one option value and further words.
    if more_mocap and not options.mocap:
        raise UsageError(f"{more_mocap[0]}: nothing is expected here but options")
    mocap = (*options.mocap, *(more_mocap or ()))
    data = None if mocap else data_rootdir / input_name
    if data is not None and not data.is_dir():
        raise MissingError(
            f"{data}: no such folder; train_custom_2d_unnorm.pth.tar and "
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
    options = replace(
        options,
        data=data,
        run=ckpt / exp,
        network=network,
        temporal=over_time,
        mocap=mocap,
        batch=batch or (200 if over_time is None else 64),
    )
    # Of several processes the first one speaks.
    if os.environ.get("RANK", "0") != "0":
        console = Console(quiet=True, verbose=False, json_output=False)
    elif data is not None:
        _doubt(data, console)
    _train(options, console)


def _train(options: TrainOptions, console: Console) -> None:
    from gridpose.lifting.training.trainer import train
    from gridpose.pipeline.result import Progress
    from gridpose.storage import replacing
    from gridpose.visualize.plots import save, training_curves

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
            f"{_figures(row)}{' (best)' if is_best else ''}"
        )
        with replacing(curves) as partial:
            save(training_curves(rows, options.run.name), partial)

    with ProgressDisplay(console.quiet, "steps") as progress:
        result = train(
            options,
            on_start=started,
            on_step=lambda epoch, done, steps: progress.update(
                Progress(epoch * steps + done, options.epochs * steps)
            ),
            on_epoch=epoch_done,
            verbose=console.verbose,
        )
    best = result.best
    files = [str(file) for file in (*result.files, curves)]
    lines = [f"best epoch {best['epoch']:.0f}: {_figures(best)}", *(f"  {file}" for file in files)]
    console.result({"best": best, "epochs": len(result.rows), "files": files}, "\n".join(lines))


def _doubt(folder: Path, console: Console) -> None:
    """Warn of 2D in another program's order of joints."""
    from gridpose.lifting.data.dataset import load_dataset
    from gridpose.pipeline.keypoint_input.plausibility import doubts_of_training

    pixels = load_dataset(folder, "train", exclude_drift=False).keypoints_px
    for sentence in doubts_of_training(pixels):
        console.warn(f"{folder}: {sentence}")


def _figures(row: dict[str, float]) -> str:
    return f"MPJPE {row['mpjpe']:.2f} mm, PA-MPJPE {row['pa_mpjpe']:.2f} mm"
