"""The ``gridpose`` command and its subcommands.

Everything heavy is imported inside the commands: ``gridpose --help`` must not wait for torch,
OpenVINO or OpenCV.
"""

from __future__ import annotations

import signal
from typing import Annotated, NoReturn

import typer

from gridpose.pipeline.cli.angles import angles_command
from gridpose.pipeline.cli.batch import batch_command
from gridpose.pipeline.cli.data import data_app
from gridpose.pipeline.cli.demo import demo_command
from gridpose.pipeline.cli.doctor import doctor_command
from gridpose.pipeline.cli.eval import evaluate_command
from gridpose.pipeline.cli.export import export_command
from gridpose.pipeline.cli.lift import lift_command
from gridpose.pipeline.cli.models import models_app
from gridpose.pipeline.cli.options import InPanels
from gridpose.pipeline.cli.render import render_command
from gridpose.pipeline.cli.video import video_command
from gridpose.pipeline.cli_common import BOTH_SPELLINGS, TerminatedError
from gridpose.pipeline.cli_train import train_command

app = typer.Typer(
    name="gridpose",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="video", cls=InPanels)(video_command)
app.command(name="demo")(demo_command)
app.command(name="batch", cls=InPanels)(batch_command)
app.command(name="lift")(lift_command)
app.command(name="render", cls=InPanels)(render_command)
app.command(name="export")(export_command)
app.command(name="angles")(angles_command)
app.command(name="train", cls=InPanels, context_settings=BOTH_SPELLINGS)(train_command)
app.command(name="eval", context_settings=BOTH_SPELLINGS)(evaluate_command)
app.command(name="doctor")(doctor_command)
app.add_typer(data_app, name="data")
app.add_typer(models_app, name="models")


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
    app()
