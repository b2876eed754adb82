"""``gridpose models``: lifters of the published code made ours, and a look into any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from gridpose.pipeline.cli.console import Console, aligned
from gridpose.pipeline.cli.options import (
    BOTH_SPELLINGS,
    LiftingModel,
    Overwrite,
    PaddingMode,
    with_console,
)
from gridpose.pipeline.cli.weights import add_to as add_weight_commands

if TYPE_CHECKING:
    from gridpose.lifting.model.layers import PaddingModes

models_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Weights: what there is, fetching and checking it; convert published lifters.",
)
add_weight_commands(models_app)

_PICTURES = (".png", ".pdf", ".svg")

Model = Annotated[
    LiftingModel | None,
    typer.Option(
        metavar="MODEL",
        help="What the network must be: gridconv, dgridconv or dgridconv_autogrids.",
    ),
]
Temperature = Annotated[
    float | None, typer.Option(help="Of the attention; published checkpoints are right at 30.")
]
GridShape = Annotated[
    tuple[int, int] | None,
    typer.Option(metavar="H W", help="Of a grid that is not square."),
]


@models_app.command(context_settings=BOTH_SPELLINGS)
@with_console
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A published .pth.tar.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file.")],
    lifting_model: Model = None,
    padding_mode: PaddingMode = None,
    temperature: Temperature = None,
    grid_shape: GridShape = None,
    precision: Annotated[
        Literal["fp32", "fp16"], typer.Option(help="Of the stored weights; fp16 halves the file.")
    ] = "fp32",
    overwrite: Overwrite = False,
    *,
    console: Console,
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
    from gridpose.lifting.description import describe_network
    from gridpose.lifting.weights.checkpoint import is_safetensors, save_checkpoint
    from gridpose.lifting.weights.published import read_published
    from gridpose.pipeline.outputs import check_output
    from gridpose.storage import file_sha256, replacing

    if output.suffix.lower() != ".safetensors":
        raise UsageError(f"{output}: the name must end in .safetensors")
    if is_safetensors(source):
        raise InputError(f"{source}: is safetensors already; only .pth.tar files need conversion")
    check_output(output, overwrite)
    checkpoint, notices = read_published(
        source,
        kind=lifting_model,
        padding_mode=cast("PaddingModes | None", padding_mode),
        temperature=temperature,
        grid_shape=grid_shape,
    )
    dtype = torch.float16 if precision == "fp16" else torch.float32
    for name, value in checkpoint.state.items():
        if value.is_floating_point() and not value.to(dtype).isfinite().all():
            raise InputError(f"{source}: {name} is too large for {precision}; use fp32")
    with replacing(output) as partial:
        save_checkpoint(checkpoint, partial, dtype)
    for notice in notices:
        console.warn(notice)  # what is assumed here stays in the file
    description = describe_network(checkpoint.build())
    console.result(
        {
            "output": str(output),
            "sha256": file_sha256(output),
            "precision": precision,
            **description,
            "notices": list(notices),
        },
        f"{output}: {_architecture(description)}, {' '.join(description['padding_mode'])} "
        f"padding, temperature {description['temperature']:g}, "
        f"{description['parameters']:,} parameters as {precision}",
    )


@models_app.command(context_settings=BOTH_SPELLINGS)
@with_console
def show(
    lifter: Annotated[
        str, typer.Argument(metavar="FILE", help="default, a .safetensors or a published .pth.tar.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Draw the grid: .png, .pdf or .svg."),
    ] = None,
    padding_mode: PaddingMode = None,
    temperature: Temperature = None,
    grid_shape: GridShape = None,
    overwrite: Overwrite = False,
    *,
    console: Console,
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
    from gridpose.core import UsageError
    from gridpose.lifting import load_lifter
    from gridpose.lifting.description import describe_network, grid_cells, joints_without_cell
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
    for notice in loaded.notices:
        console.info(f"note: {notice}")
    cells = grid_cells(loaded.network)
    lost = joints_without_cell(cells)
    description = {
        "lifter": loaded.name,
        "sha256": loaded.weights_sha256,
        **describe_network(loaded.network),
        "normalisation": checkpoint.normalisation,
        "fov_degrees": checkpoint.fov_degrees,
        "training": checkpoint.training,
        "metrics": checkpoint.metrics,
        "grid": [[list(cell) for cell in row] for row in cells],
        "joints_without_cell": lost,
        "notices": list(loaded.notices),
        "picture": None if output is None else str(output),
    }
    if output is not None:
        _draw(output, description)
    console.result(description, _text(description))


def _architecture(description: dict[str, Any]) -> str:
    height, width = description["grid_shape"]
    blocks = f"{description['blocks']} block{'' if description['blocks'] == 1 else 's'}"
    kind, hidden = description["lifting_model"], description["hidden"]
    return f"{kind}, {hidden} channels, {blocks}, grid {height}x{width}"


def _draw(output: Path, description: dict[str, Any]) -> None:
    from gridpose.core import UsageError
    from gridpose.storage import replacing
    from gridpose.visualize.grid import draw_grid

    if not description["grid"]:
        name = description["lifter"]
        raise UsageError(f"{name}: no joints are laid out on a grid of this shape")
    figure = draw_grid(
        description["grid"],
        f"{description['lifter']}: {_kind_of_grid(description)}",
        _without_cell(description) or _architecture(description),
    )
    with replacing(output) as partial:
        figure.savefig(partial, dpi=150)


def _text(description: dict[str, Any]) -> str:
    normalisation = str(description["normalisation"])
    if normalisation == "person":
        normalisation += f", field of view {description['fov_degrees']:g} degrees where unknown"
    facts = {
        "lifter": description["lifter"],
        "network": _architecture(description),
        "parameters": f"{description['parameters']:,}",
        "padding": " ".join(description["padding_mode"]),
        "temperature": f"{description['temperature']:g}",
        "normalisation": normalisation,
        "training": _flat(description["training"]),
        "metrics": _flat(description["metrics"]),
        "SHA-256": description["sha256"],
    }
    lines = [f"{name:<14}{value}" for name, value in facts.items() if value]
    if not description["grid"]:
        return "\n".join([*lines, "no joints are laid out on a grid of this shape"])
    cells = aligned([[_label(cell) for cell in row] for row in description["grid"]])
    lines += ["", _kind_of_grid(description), *cells]
    if lost := _without_cell(description):
        lines.append(lost)
    if description["picture"] is not None:
        lines.append(f"drawn to {description['picture']}")
    return "\n".join(lines)


def _kind_of_grid(description: dict[str, Any]) -> str:
    learned = description["lifting_model"] == "dgridconv_autogrids"
    return "learned grid" if learned else "handcrafted grid"


def _without_cell(description: dict[str, Any]) -> str:
    """Names the joints that lie nowhere on the grid; empty where all lie somewhere."""
    from gridpose.core import JOINT_NAMES

    lost = [
        f"{joint} {JOINT_NAMES[joint].replace('_', ' ')}"
        for joint in description["joints_without_cell"]
    ]
    return f"without a cell: {', '.join(lost)}" if lost else ""


def _flat(values: dict[str, Any]) -> str:
    """``a 1, b 2``; what is nested deeper is for --json."""
    shown = []
    for name, value in values.items():
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            shown.append(f"{name} {' '.join(value)}")
        elif isinstance(value, str | int | float):
            shown.append(f"{name} {f'{value:.6g}' if isinstance(value, float) else value}")
    return ", ".join(shown)


def _label(joints: list[int]) -> str:
    from gridpose.core import JOINT_NAMES

    names = "+".join(JOINT_NAMES[joint] for joint in joints)
    short = names.replace("left_", "L ").replace("right_", "R ")
    return f"{'+'.join(map(str, joints)):>3} {short}"
