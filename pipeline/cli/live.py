"""``gridpose live``: the camera in front of you."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gridpose.pipeline.cli.console import Console
from gridpose.pipeline.cli.errors import reports_errors
from gridpose.pipeline.cli.options import Quiet, Verbose, with_options
from gridpose.pipeline.live.options import LiveOptions


@reports_errors
@with_options(LiveOptions)
def live_command(
    options: LiveOptions,
    source: Annotated[
        str,
        typer.Argument(
            metavar="[SOURCE]",
            help="A camera, 0 or /dev/video0; a stream, rtsp:// or http://; or a file, which is "
            "played in real time.",
        ),
    ] = "0",
    quiet: Quiet = False,
    verbose: Verbose = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the poses of each frame, a line of JSON each.")
    ] = False,
) -> None:
    """Show the 3D skeletons of whoever is in front of a camera, as they move.

    Space pauses, l switches the layout, q or Esc ends.

    \b
    Examples:
      gridpose live
      gridpose live rtsp://192.168.1.20/stream --record out.mp4 --save-poses out.npz
      gridpose live 1 --serve --osc 9000
      gridpose live dance.mp4 --json --no-serve > poses.jsonl
    """  # noqa: D301
    from gridpose.pipeline.live.run import run_live

    console = Console(quiet, verbose, json_output)
    result = run_live(source, options, say=console.info, lines=sys.stdout if json_output else None)
    console.info(
        f"{result.frames} frames, {result.dropped} dropped, {result.seconds:.1f} s; latency "
        f"{result.latency_median:.0f} ms, 95 % below {result.latency_p95:.0f} ms"
    )
