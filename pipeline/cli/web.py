"""``gridpose app``: the main job in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from gridpose.pipeline.cli.console import Console
from gridpose.pipeline.cli.options import with_console


@with_console
def app_command(
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs --auth.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="USER:PASSWORD",
            help="Ask for a name and a password; @FILE reads them from a file. By default "
            "GRIDPOSE_APP_AUTH of the environment.",
        ),
    ] = None,
    max_size: Annotated[
        float, typer.Option(metavar="MB", help="Largest upload that is taken.")
    ] = 500.0,
    max_duration: Annotated[
        float, typer.Option(metavar="SECONDS", help="Longest video that is taken.")
    ] = 120.0,
    *,
    console: Console,
) -> None:
    """Do the main job in a browser: drop a video, see and download what comes of it.

    Needs Gradio: pip install 'gridpose[app]'. Files are removed when a page is closed.

    \b
    Examples:
      gridpose app
      gridpose app --host 0.0.0.0 --auth @password.txt --max-duration 30
    """  # noqa: D301
    from gridpose.pipeline.app.server import AppOptions, serve

    options = AppOptions(host, port, auth, max_size, max_duration)
    serve(
        options,
        lambda address: console.result({"address": address}, f"{address} (Ctrl-C ends it)"),
    )
