"""``gridpose models list``, ``download`` and ``verify``: weights that detectors can use."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridpose.pipeline.cli.console import Console, ProgressDisplay
from gridpose.pipeline.cli.options import with_console

if TYPE_CHECKING:
    from gridpose.detectors.registry import Model

_MEGABYTE = 1_000_000


def _known(model: Model) -> dict[str, Any]:
    from gridpose.detectors.registry import copies, sources, weights_file

    present = copies(model)
    file = present[0] if present else weights_file(model)
    return {
        "name": model.name,
        "present": bool(present),
        "file": str(file),
        "size": file.stat().st_size if present else model.size,
        "sha256": model.sha256,
        "input_size": list(model.input_size),
        "yields": model.yields,
        "quality": model.quality,
        "licence": model.licence,
        "urls": [*sources(model), *([model.archive.url] if model.archive else [])],
    }


@with_console
def list_command(
    *,
    console: Console,
) -> None:
    """List the weights that detectors can use, and which are here.

    \b
    Example:
      gridpose models list
    """  # noqa: D301
    from gridpose.detectors.registry import MODELS

    models = [_known(model) for model in MODELS.values()]
    lines = []
    for model in models:
        size = f"{model['size'] / _MEGABYTE:.0f} MB" if model["size"] else "size unknown"
        width, height = model["input_size"]
        lines.append(
            f"{'here' if model['present'] else '-':<5}{model['name']:<24}{width}x{height:<5}"
            f"{model['yields']:<14}{model['quality']}, {size}"
        )
        lines.append(f"     {model['licence']}")
    console.result({"models": models}, "\n".join(lines))


@with_console
def download_command(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="As gridpose models list has them."),
    ],
    *,
    console: Console,
) -> None:
    """Fetch weights into the cache; an interrupted download goes on where it stopped.

    Their SHA-256 is checked before they are used. GRIDPOSE_HOME moves the cache; GRIDPOSE_MIRROR
    is the address of a folder with copies that is tried first.

    \b
    Examples:
      gridpose models download hrnet-w48-coco
      gridpose models download hrnet-w32-coco hrnet-w32-h36m --json
    """  # noqa: D301
    from gridpose.detectors.fetch import fetch
    from gridpose.detectors.registry import check, model, right_copy

    wanted = [model(name) for name in names]
    for one in wanted:
        fault = check(one)
        if fault is None:
            console.info(f"{one.name}: is here already")
            continue
        if fault != "missing":
            console.warn(f"{one.name}: {fault}; fetching it again")
        console.info(f"{one.name}: {one.licence}")
        with ProgressDisplay(console.quiet, "MB") as display:
            fetch(one, partial(_show, display))
    files = {one.name: str(right_copy(one)) for one in wanted}
    console.result({"downloaded": files}, "\n".join(files.values()))


def _show(display: ProgressDisplay, done: int, total: int | None) -> None:
    from gridpose.pipeline.result import Progress

    whole = None if total is None else -(-total // _MEGABYTE)
    display.update(Progress(done // _MEGABYTE, whole))


@with_console
def verify_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Default: all that are here.")
    ] = None,
    *,
    console: Console,
) -> None:
    """Check the SHA-256 of weights in the cache and of those that came with the installation.

    Ends with exit code 3 when one is damaged, 4 when one that was named is missing.

    \b
    Examples:
      gridpose models verify
      gridpose models verify hrnet-w48-coco
    """  # noqa: D301
    from gridpose.core import InputError, MissingError
    from gridpose.detectors.registry import MODELS, check, is_present, model

    chosen = [model(name) for name in names or ()] or [m for m in MODELS.values() if is_present(m)]
    faults = {one.name: check(one) for one in chosen}
    console.result(
        {"verified": [{"name": name, "fault": fault} for name, fault in faults.items()]},
        "\n".join(f"{name}: {fault or 'right'}" for name, fault in faults.items())
        or "no weights are here",
    )
    bad = [name for name, fault in faults.items() if fault is not None]
    if bad:
        missing = all(faults[name] == "missing" for name in bad)
        text = (
            f"{', '.join(bad)}: {'not here' if missing else 'missing or damaged'}; "
            f"gridpose models download {' '.join(bad)} fetches {'it' if len(bad) == 1 else 'them'}"
        )
        raise MissingError(text) if missing else InputError(text)


def add_to(models_app: typer.Typer) -> None:
    """Register the commands."""
    models_app.command(name="list")(list_command)
    models_app.command(name="download")(download_command)
    models_app.command(name="verify")(verify_command)
