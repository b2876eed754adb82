"""``gridpose eval``: the published ``python main.py --eval``, with both protocols in one run."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gridpose.pipeline.cli.console import Console, ProgressDisplay, aligned
from gridpose.pipeline.cli.data import Split
from gridpose.pipeline.cli.lift import Fov, LifterPrecision
from gridpose.pipeline.cli.options import (
    DataRoot,
    Device,
    InputName,
    LiftingModel,
    Overwrite,
    PaddingMode,
    with_console,
    with_ignored,
)

if TYPE_CHECKING:
    from gridpose.lifting import Lifter
    from gridpose.lifting.evaluation import ActionErrors, EvaluationReport

_PLOT_SUFFIXES = (".png", ".pdf", ".svg")
_FOR_TRAINING: dict[str, type[Any]] = {
    **dict.fromkeys(("exp", "ckpt", "loss", "autosgt_prior"), str),
    **dict.fromkeys(("lr", "lr_gamma", "dropout", "max_temp"), float),
    **dict.fromkeys(("lr_decay", "epoch", "batch", "temp_epoch"), int),
}
"""Options of the published program that it takes with ``--eval``, too."""

_COLUMNS = {
    "mpjpe": ("MPJPE", "{:.2f}"),
    "pa_mpjpe": ("PA-MPJPE", "{:.2f}"),
    "x": ("x", "{:.1f}"),
    "y": ("y", "{:.1f}"),
    "z": ("z", "{:.1f}"),
    "pck150": ("PCK %", "{:.1%}"),
    "auc": ("AUC %", "{:.1%}"),
}


def _table(result: EvaluationReport, aligned_first: bool) -> list[list[str]]:
    """Cells: the head, the actions, and two rows of means."""
    names = list(_COLUMNS)
    if aligned_first:
        names[:2] = names[1::-1]

    def row(name: str, errors: ActionErrors) -> list[str]:
        cells = [_COLUMNS[key][1].format(getattr(errors, key)).rstrip("%") for key in names]
        return [name, str(errors.samples), *cells]

    return [
        ["action", "poses", *(_COLUMNS[key][0] for key in names)],
        *(row(name, errors) for name, errors in result.per_action.items()),
        row("mean of actions", result.total),
        row("mean of poses", result.frame_mean),
    ]


def _rich(table: Sequence[Sequence[str]]) -> str:
    """The table for a terminal, with its escape codes."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    head, *rows = table
    for number, name in enumerate(head):
        drawn.add_column(name, justify="right" if number else "left", no_wrap=True)
    for number, row in enumerate(rows):
        mean = number >= len(rows) - 2
        last_action = number == len(rows) - 3
        drawn.add_row(*map(Text, row), style="bold" if mean else "", end_section=last_action)
    # A line that a narrow terminal wraps can be read, a number cut short cannot.
    wide = Console(width=1000)
    needed = Measurement.get(wide, wide.options, drawn).maximum
    console = Console(width=max(Console().width, needed))
    with console.capture() as capture:
        console.print(drawn)
    return capture.get().strip("\n")


def _text(
    result: EvaluationReport, left_out: Sequence[str], aligned_first: bool, terminal: bool
) -> str:
    table = _table(result, aligned_first)
    headline = [f"MPJPE {result.mpjpe:.3f} mm", f"PA-MPJPE {result.pa_mpjpe:.3f} mm"]
    if aligned_first:
        headline.reverse()
    lines = [
        f"{', '.join(headline)} over {result.samples} poses",
        _rich(table) if terminal else "\n".join(aligned(table, numbers=True)),
    ]
    if result.mpjve is not None:
        lines.append(f"MPJVE {result.mpjve:.3f} mm per frame")
    if result.acceleration is not None:
        lines.append(f"acceleration error {result.acceleration:.3f} mm per frame squared")
    lines += [f"protocol: {result.protocol}", *(left_out or ["left out: nothing"])]
    settings = []
    if result.temperature is not None:
        settings.append(f"temperature {result.temperature:g}")
    if result.padding is not None:
        settings.append(f"padding {' '.join(result.padding)}")
    settings.append(f"flip test {'on' if result.flip_test else 'off'}")
    return "\n".join([*lines, f"lifter: {', '.join(settings)}"])


def _check_paths(
    load: str, folder: Path, split: str, csv: Path | None, plot: Path | None, overwrite: bool
) -> None:
    """Find out before any work whether everything is there and the results can be written."""
    from gridpose.core import SHIPPED_LIFTERS, MissingError, UsageError
    from gridpose.pipeline.outputs import check_output

    if plot is not None and plot.suffix.lower() not in _PLOT_SUFFIXES:
        raise UsageError(f"--plot {plot}: the name must end in {', '.join(_PLOT_SUFFIXES)}")
    if csv is not None and plot is not None and csv.absolute() == plot.absolute():
        raise UsageError(f"{csv}: --csv and --plot must be different files")
    for file in (csv, plot):
        if file is not None:
            check_output(file, overwrite)
    if load not in SHIPPED_LIFTERS and not Path(load).is_file():
        raise MissingError(
            f"{load}: no such checkpoint; --load takes a .safetensors file, a published .pth.tar,"
            " default or default-frame"
        )
    if not folder.is_dir():
        raise MissingError(
            f"{folder}: no such folder; {split}_custom_2d_unnorm.pth.tar and"
            f" {split}_custom_3d_unnorm.pth.tar are expected in it (--data_rootdir, --input)"
        )


def _check_size(lifter: Lifter, load: str, hidsize: int | None, num_block: int | None) -> None:
    from gridpose.core import UsageError

    network = lifter.checkpoint.network
    for option, wanted, found in (
        ("--hidsize", hidsize, network.hidden),
        ("--num_block", num_block, network.blocks),
    ):
        if wanted is not None and wanted != found:
            raise UsageError(f"{load}: was made with {option} {found}, not {wanted}")


def _plot(result: EvaluationReport, title: str, file: Path) -> None:
    from dataclasses import asdict

    from gridpose.storage import replacing
    from gridpose.visualize.plots import evaluation_figure, save

    figure = evaluation_figure(
        {name: asdict(errors) for name, errors in result.per_action.items()},
        result.per_joint,
        (result.mpjpe, result.pa_mpjpe),
        title,
        result.protocol,
    )
    with replacing(file) as partial:
        save(figure, partial)


@with_console
@with_ignored(_FOR_TRAINING)
def eval_command(
    load: Annotated[
        str, typer.Option(metavar="FILE", help="default, .safetensors or published .pth.tar.")
    ],
    data_rootdir: DataRoot = Path("./data/"),
    input_name: InputName = "gt",
    split: Annotated[Split, typer.Option(help="Which half of the data.")] = "test",
    procrustes: Annotated[
        bool, typer.Option("--procrustes", help="Print PA-MPJPE first; both are always computed.")
    ] = False,
    flip_test: Annotated[
        bool, typer.Option("--flip-test", help="Average with the answer to the mirrored person.")
    ] = False,
    lifting_model: Annotated[
        LiftingModel | None,
        typer.Option(
            metavar="MODEL",
            help="What the checkpoint must be: gridconv, dgridconv, dgridconv_autogrids.",
        ),
    ] = None,
    padding_mode: PaddingMode = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the attention, instead of the checkpoint's.")
    ] = None,
    grid_shape: Annotated[
        tuple[int, int] | None, typer.Option(metavar="H W", help="What the checkpoint must have.")
    ] = None,
    hidsize: Annotated[int | None, typer.Option(help="What the checkpoint must have.")] = None,
    num_block: Annotated[int | None, typer.Option(help="What the checkpoint must have.")] = None,
    test_batch: Annotated[int, typer.Option(min=1, help="Poses lifted at once.")] = 1000,
    fov: Fov = None,
    fps: Annotated[
        float, typer.Option(help="Frame rate of the data, for lifters that see time.")
    ] = 50.0,
    device: Device = "auto",
    precision: LifterPrecision = "fp32",
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the table; a row an action.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also draw errors by action and joint; .png, .pdf, .svg"),
    ] = None,
    overwrite: Overwrite = False,
    evaluate_only: Annotated[bool, typer.Option("--eval", hidden=True)] = False,
    *,
    ignored: list[str],
    console: Console,
) -> None:
    """Measure a lifter on Human3.6M or data of your own in the published format.

    Takes the options of the published `python main.py --eval`, which may be written with _ or -.
    Prints MPJPE and PA-MPJPE in mm by action and in total, errors along x, y and z, PCK at 150 mm,
    AUC, MPJVE and acceleration error, and what the exclusion rules left out: with detected 2D (any
    --input but gt) three recordings of S9 do not count, so gt and hrnet results are over different
    frames.

    \b
    Examples:
      gridpose eval --load hrnet_dgridconv.pth.tar --data_rootdir data --input hrnet
      gridpose eval --load gt_d_gridconv.pth.tar --input gt --padding_mode c r --procrustes
      gridpose eval --load default --input gt --fov 47 --csv table.csv --plot errors.png
      gridpose eval --load run/best.safetensors --input hrnet --flip-test --json
    """  # noqa: D301
    folder = data_rootdir / input_name
    _check_paths(load, folder, split, csv, plot, overwrite)

    from gridpose.core import UsageError
    from gridpose.lifting import load_lifter
    from gridpose.lifting.data.dataset import default_exclude_drift, describe_left_out, load_dataset
    from gridpose.lifting.evaluation import describe_protocol, evaluate
    from gridpose.lifting.model.layers import PaddingModes
    from gridpose.pipeline.result import Progress
    from gridpose.storage import replacing

    lifter = load_lifter(
        load,
        device=device,
        precision=precision,
        kind=lifting_model,
        # The checkpoint's reader refuses other letters.
        padding_mode=cast("PaddingModes | None", padding_mode),
        temperature=temperature,
        grid_shape=grid_shape,
        batch_size=test_batch,
    )
    _check_size(lifter, load, hidsize, num_block)
    if lifter.sees_time and not 0 < fps < math.inf:
        raise UsageError(f"--fps {fps}: must be a number above 0")
    if fov is not None and lifter.checkpoint.normalisation != "person":
        ignored = [*ignored, "--fov"]
    if ignored:
        console.info(f"no effect on this evaluation: {', '.join(ignored)}")
    exclude_drift = default_exclude_drift(split, input_name)
    dataset = load_dataset(folder, split, exclude_drift=exclude_drift)
    for note in (*lifter.notices, *dataset.notes):
        console.info(f"note: {note}")
    with ProgressDisplay(console.quiet) as progress:
        result = evaluate(
            lifter,
            dataset,
            fps=fps,
            flip_test=flip_test,
            fov_degrees=fov,
            protocol=describe_protocol(dataset, input_name, split, exclude_drift),
            on_progress=lambda done, total: progress.update(Progress(done, total)),
        )
    files = [file for file in (csv, plot) if file is not None]
    if csv is not None:
        with replacing(csv) as partial:
            partial.write_text(result.to_csv(), encoding="utf-8")
    if plot is not None:
        _plot(result, f"{lifter.name}, {input_name} {split}", plot)
    left_out = describe_left_out(dataset)
    text = _text(result, left_out, procrustes, terminal=sys.stdout.isatty())
    console.result(
        {
            **result.to_dict(),
            "input": input_name,
            "split": split,
            "data": str(folder),
            "data_sha256": dataset.sha256,
            "lifter": lifter.name,
            "lifter_sha256": lifter.weights_sha256,
            "lifting_model": lifter.checkpoint.network.kind,
            "device": str(lifter.device),
            "precision": lifter.precision,
            "files": [str(file) for file in files],
        },
        "\n".join([text, *map(str, files)]),
    )
