"""The ``gridpose`` command and its subcommands.

``gridpose --help`` must not wait for what commands need: the module of each is imported when it is
called, and NumPy, torch, OpenVINO and OpenCV inside of it.
"""

from __future__ import annotations

import signal
from importlib import import_module
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from gridpose.pipeline.cli.errors import TerminatedError
from gridpose.pipeline.cli.options import BOTH_SPELLINGS, InPanels

COMMANDS: Final = {
    "video": "Turn a video or picture into one of 3D skeletons.",
    "demo": "Fetch a sample video and run the main job on it.",
    "batch": "Do every video below a folder.",
    "app": "Do the main job in a browser.",
    "live": "Show the skeletons of whoever is in front of a camera.",
    "lift": "Lift 2D keypoints that you already have to 3D.",
    "render": "Draw stored poses again.",
    "export": "Write poses for other programs.",
    "angles": "Joint angles over time.",
    "train": "Train a lifter.",
    "eval": "Measure a lifter.",
    "data": "Make data sets in the published format.",
    "models": "Weights: fetch, check, convert.",
    "doctor": "Say what is installed and what works.",
}
"""A sentence for the list of each; its module here has its name but for `_OTHER_MODULES`."""
_OTHER_MODULES: Final = {"app": "web"}
_BOTH_SPELLINGS: Final = ("train", "eval")


def load_command(name: str) -> Any:
    """A command by name; its module has it as ``NAME_command``, or ``NAME_app`` for several."""
    module = import_module(f"gridpose.pipeline.cli.{_OTHER_MODULES.get(name, name)}")
    group: typer.Typer | None = getattr(module, f"{name}_app", None)
    if group is not None:
        return get_command(group)
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    settings = BOTH_SPELLINGS if name in _BOTH_SPELLINGS else None
    alone.command(name=name, cls=InPanels, context_settings=settings)(
        getattr(module, f"{name}_command")
    )
    return get_command(alone)


class _Commands(TyperGroup):
    """Knows of its commands no more than is listed until one is called."""

    def resolve_command(self, ctx: Any, args: Any) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name and listed else None, rest


app = typer.Typer(
    name="gridpose",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _sentence in COMMANDS.items():
    app.command(name=_name, help=_sentence)(lambda: None)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        print(f"gridpose {version('gridpose')}")
        raise typer.Exit


@app.callback()
def main_options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A video of people in, a video of their 3D skeletons out.

    \b
    Example:
      gridpose video dance.mp4 -o skeletons.mp4 --save-poses dance.npz
    """  # noqa: D301


def _terminate(*_: object) -> NoReturn:
    raise TerminatedError


def main() -> None:
    """Entry point of the ``gridpose`` command."""
    signal.signal(signal.SIGTERM, _terminate)
    app(prog_name="gridpose")
