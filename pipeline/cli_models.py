"""``gridpose models``: lifters of the published code made ours, and a look into any."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gridpose.pipeline.cli_common import (
    BOTH_SPELLINGS,
    Json,
    ModelName,
    Overwrite,
    Quiet,
    Verbose,
    reports_errors,
)
from gridpose.pipeline.cli_errors import as_options
from gridpose.pipeline.cli_weights import add_to as add_weight_commands

if TYPE_CHECKING:
    from gridpose.lifting.checkpoint import Checkpoint
    from gridpose.lifting.layers import PaddingModes
    from gridpose.lifting.network import LiftingNetwork

models_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Weights: what there is, fetching and checking it; convert published lifters.",
)
add_weight_commands(models_app)

_PICTURES = (".png", ".pdf", ".svg")

Model = Annotated[
    ModelName | None,
    typer.Option(
        metavar="MODEL",
        help="What the network must be: gridconv, dgridconv or dgridconv_autogrids.",
    ),
]
Padding = Annotated[
    tuple[str, str] | None,
    typer.Option(metavar="A B", help="Two of c, z, r; published checkpoints do not say which."),
]
Temperature = Annotated[
    float | None, typer.Option(help="Of the attention; published checkpoints are right at 30.")
]
GridShape = Annotated[
    tuple[int, int] | None,
    typer.Option(metavar="H W", help="Of a grid that is not square."),
]


class StoredPrecision(str, Enum):
    """How weights are stored."""

    fp32 = "fp32"
    fp16 = "fp16"


@models_app.command(context_settings=BOTH_SPELLINGS)
@reports_errors
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A published .pth.tar.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file.")],
    lifting_model: Model = None,
    padding_mode: Padding = None,
    temperature: Temperature = None,
    grid_shape: GridShape = None,
    precision: Annotated[
        StoredPrecision, typer.Option(help="Of the stored weights; fp16 halves the file.")
    ] = StoredPrecision.fp32,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json_output: Json = False,
) -> None:
    """Turn a checkpoint of the published GridConv code into safetensors.

    Nothing in the file is executed: what wants to call code is refused by name. The architecture
    is read off the weights. Padding modes and temperature are not in published files: they come
    from the options, else hrnet* gets c z, gt* c r, and all get 30. Options may be written with
    underscores, too.

    \b
    Examples:
      gridpose models convert hrnet_d_gridconv.pth.tar -o hrnet.safetensors
      gridpose models convert mine.pth.tar -o mine.safetensors --padding-mode c r --precision fp16
      gridpose video dance.mp4 -o skeletons.mp4 --lifter hrnet.safetensors
    """  # noqa: D301
    import torch

    from gridpose.core import InputError, UsageError
    from gridpose.lifting.checkpoint import is_safetensors, save_checkpoint
    from gridpose.lifting.published import read_published
    from gridpose.pipeline.console import Console
    from gridpose.pipeline.outputs import check_output
    from gridpose.storage import replacing, sha256

    if output.suffix.lower() != ".safetensors":
        raise UsageError(f"{output}: the name must end in .safetensors")
    if is_safetensors(source):
        raise InputError(f"{source}: is safetensors already; only .pth.tar files need conversion")
    check_output(output, overwrite)
    checkpoint, notices = read_published(
        source,
        kind=None if lifting_model is None else lifting_model.value,
        padding_mode=cast("PaddingModes | None", padding_mode),
        temperature=temperature,
        grid_shape=grid_shape,
    )
    dtype = torch.float16 if precision is StoredPrecision.fp16 else torch.float32
    for name, value in checkpoint.state.items():
        if value.is_floating_point() and not value.to(dtype).isfinite().all():
            raise InputError(f"{source}: {name} is too large for {precision.value}; use fp32")
    with replacing(output) as partial:
        save_checkpoint(checkpoint, partial, dtype)
    console = Console(quiet, verbose, json_output)
    for notice in notices:
        console.warn(notice)  # what is assumed here stays in the file
    description = _description(checkpoint, checkpoint.build())
    digest = sha256(output.read_bytes())
    console.result(
        {
            "output": str(output),
            "sha256": digest,
            "precision": precision.value,
            **description,
            "notices": [as_options(notice) for notice in notices],
        },
        f"{output}: {_architecture(checkpoint)}, {' '.join(checkpoint.network.padding_mode)} "
        f"padding, temperature {checkpoint.network.temperature:g}, "
        f"{description['parameters']:,} parameters as {precision.value}",
    )


@models_app.command(context_settings=BOTH_SPELLINGS)
@reports_errors
def show(
    lifter: Annotated[
        str, typer.Argument(metavar="FILE", help="default, a .safetensors or a published .pth.tar.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Draw the grid: .png, .pdf or .svg."),
    ] = None,
    padding_mode: Padding = None,
    temperature: Temperature = None,
    grid_shape: GridShape = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json_output: Json = False,
) -> None:
    """Say what a lifter is, and which joints lie where on its grid.

    The network convolves a grid of joints, 3x3 cells at a time. Where joints lie is fixed by hand
    or learned; a cell may hold the mean of two joints, and a joint may have several cells.

    \b
    Examples:
      gridpose models show default
      gridpose models show run/best.safetensors -o grid.png
      gridpose models show gt_d_gridconv_autogrids.pth.tar --json
    """  # noqa: D301
    from gridpose.core import JOINT_NAMES, UsageError
    from gridpose.lifting import load_lifter
    from gridpose.pipeline.console import Console
    from gridpose.pipeline.outputs import check_output

    if output is not None:
        if output.suffix.lower() not in _PICTURES:
            raise UsageError(f"{output}: the name must end in one of {', '.join(_PICTURES)}")
        check_output(output, overwrite)
    loaded = load_lifter(
        lifter,
        padding_mode=cast("PaddingModes | None", padding_mode),
        temperature=temperature,
        grid_shape=grid_shape,
    )
    checkpoint = loaded.checkpoint
    console = Console(quiet, verbose, json_output)
    for notice in loaded.notices:
        console.info(f"note: {notice}")
    cells = _cells(loaded.network)
    held = {joint for row in cells for cell in row for joint in cell}
    lost = [joint for joint in range(len(JOINT_NAMES)) if cells and joint not in held]
    if output is not None:
        if not cells:
            raise UsageError(f"{loaded.name}: no joints are laid out on a grid of this shape")
        _draw(output, cells, lost, checkpoint, loaded.name)
    description = {
        "lifter": loaded.name,
        "sha256": loaded.weights_sha256,
        **_description(checkpoint, loaded.network),
        "normalisation": checkpoint.normalisation,
        "fov_degrees": checkpoint.fov_degrees,
        "training": checkpoint.training,
        "metrics": checkpoint.metrics,
        "grid": [[list(cell) for cell in row] for row in cells],
        "joints_without_cell": lost,
        "notices": [as_options(notice) for notice in loaded.notices],
        "picture": None if output is None else str(output),
    }
    console.result(description, _text(description, checkpoint, cells, lost))


def _architecture(checkpoint: Checkpoint) -> str:
    network = checkpoint.network
    height, width = network.grid_shape
    blocks = f"{network.blocks} block{'' if network.blocks == 1 else 's'}"
    return f"{network.kind}, {network.hidden} channels, {blocks}, grid {height}x{width}"


def _description(checkpoint: Checkpoint, built: LiftingNetwork) -> dict[str, Any]:
    network = checkpoint.network
    return {
        "lifting_model": network.kind,
        "hidden": network.hidden,
        "blocks": network.blocks,
        "grid_shape": list(network.grid_shape),
        "padding_mode": list(network.padding_mode),
        "temperature": network.temperature,
        "parameters": sum(parameter.numel() for parameter in built.parameters()),
    }


def _cells(network: LiftingNetwork) -> list[list[tuple[int, ...]]]:
    """Joints of each cell; no rows where the paper lays out no joints on such a grid."""
    import torch

    from gridpose.lifting.sgt import GRID_SHAPE, sgt_matrices

    height, width = network.config.grid_shape
    if network.sgt_layer is not None:
        with torch.inference_mode():
            to_grid, _ = network.sgt_layer()
    elif (height, width) == GRID_SHAPE:
        to_grid, _ = sgt_matrices(torch.device("cpu"), torch.float32)
    else:
        return []
    joints = [tuple(row.nonzero().flatten().tolist()) for row in to_grid]
    return [joints[row * width : (row + 1) * width] for row in range(height)]


def _draw(
    output: Path,
    cells: list[list[tuple[int, ...]]],
    lost: list[int],
    checkpoint: Checkpoint,
    name: str,
) -> None:
    from gridpose.storage import replacing
    from gridpose.visualize.grid import draw_grid

    learned = checkpoint.network.kind == "dgridconv_autogrids"
    figure = draw_grid(
        cells,
        f"{name}: {'learned' if learned else 'handcrafted'} grid",
        f"without a cell: {_joints(lost)}" if lost else _architecture(checkpoint),
    )
    with replacing(output) as partial:
        figure.savefig(partial, dpi=150)


def _joints(joints: list[int]) -> str:
    from gridpose.core import JOINT_NAMES

    return ", ".join(f"{joint} {JOINT_NAMES[joint].replace('_', ' ')}" for joint in joints)


def _text(
    description: dict[str, Any],
    checkpoint: Checkpoint,
    cells: list[list[tuple[int, ...]]],
    lost: list[int],
) -> str:
    normalisation = str(checkpoint.normalisation)
    if normalisation == "person":
        normalisation += f", field of view {checkpoint.fov_degrees:g} degrees where unknown"
    facts = {
        "lifter": description["lifter"],
        "network": _architecture(checkpoint),
        "parameters": f"{description['parameters']:,}",
        "padding": " ".join(description["padding_mode"]),
        "temperature": f"{description['temperature']:g}",
        "normalisation": normalisation,
        "training": _flat(checkpoint.training),
        "metrics": _flat(checkpoint.metrics),
        "SHA-256": description["sha256"],
    }
    lines = [f"{name:<14}{value}" for name, value in facts.items() if value]
    if not cells:
        return "\n".join([*lines, "no joints are laid out on a grid of this shape"])
    learned = checkpoint.network.kind == "dgridconv_autogrids"
    lines += ["", "learned grid" if learned else "handcrafted grid", *_table(cells)]
    if lost:
        lines.append(f"without a cell: {_joints(lost)}")
    if description["picture"] is not None:
        lines.append(f"drawn to {description['picture']}")
    return "\n".join(lines)


def _flat(values: dict[str, Any]) -> str:
    """``a 1, b 2``; what is nested deeper is for --json."""
    shown = []
    for name, value in values.items():
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            shown.append(f"{name} {' '.join(value)}")
        elif isinstance(value, str | int | float):
            shown.append(f"{name} {f'{value:.6g}' if isinstance(value, float) else value}")
    return ", ".join(shown)


def _table(cells: list[list[tuple[int, ...]]]) -> list[str]:
    from gridpose.core import JOINT_NAMES

    def label(joints: tuple[int, ...]) -> str:
        names = (
            JOINT_NAMES[joint].replace("left_", "L ").replace("right_", "R ") for joint in joints
        )
        return f"{'+'.join(map(str, joints)):>3} {'+'.join(names)}"

    labels = [[label(cell) for cell in row] for row in cells]
    widths = [max(len(row[column]) for row in labels) for column in range(len(labels[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in labels
    ]
