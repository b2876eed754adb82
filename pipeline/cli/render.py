"""``gridpose render``: stored poses drawn again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gridpose.option import INPUT, OUTPUT, PICTURE
from gridpose.pipeline.cli.console import Console, ProgressDisplay
from gridpose.pipeline.cli.options import Overwrite, Tracks, with_console, with_options
from gridpose.visualize.look import LayoutName, Look


@with_console
@with_options(Look, without=["layout"])
def render_command(
    poses: Annotated[Path, typer.Argument(help="A pose file (.npz).")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A video .mp4, a page .html, a contact sheet .png.",
            rich_help_panel=OUTPUT,
        ),
    ],
    options: Look,
    video: Annotated[
        Path | None,
        typer.Option(
            help="The video that the poses come from, to show it, too.", rich_help_panel=INPUT
        ),
    ] = None,
    layout: Annotated[
        LayoutName | None,
        typer.Option(
            help="What is shown; side-by-side with --video, else skeleton.",
            rich_help_panel=PICTURE,
        ),
    ] = None,
    track: Tracks = None,
    start: Annotated[
        float, typer.Option(help="Second at which to start.", rich_help_panel=INPUT)
    ] = 0.0,
    end: Annotated[
        float | None, typer.Option(help="Second at which to stop.", rich_help_panel=INPUT)
    ] = None,
    pictures: Annotated[
        int, typer.Option(help="How many a contact sheet has.", rich_help_panel=PICTURE)
    ] = 12,
    audio: Annotated[
        bool, typer.Option(help="Keep the sound of --video.", rich_help_panel=OUTPUT)
    ] = True,
    crf: Annotated[
        int,
        typer.Option(help="x264 quality, 0 to 51; lower is better.", rich_help_panel=OUTPUT),
    ] = 22,
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Draw stored poses again, with another camera or layout, without detecting.

    \b
    Examples:
      gridpose render dance.npz -o viewer.html --video dance.mp4
      gridpose render dance.npz -o orbit.mp4 --view orbit --resolution 1080p
      gridpose render dance.npz -o sheet.png --theme light
    """  # noqa: D301
    from gridpose.pipeline.poses.file import read_pose_file
    from gridpose.pipeline.render import RenderOptions, render_poses

    look = replace(options, layout=layout or ("skeleton" if video is None else "side-by-side"))
    tracks = read_pose_file(poses)
    if track:
        tracks = tracks.select(tracks=tracks.rows(track))
    with ProgressDisplay(console.quiet) as progress:
        warnings = render_poses(
            tracks,
            output,
            RenderOptions(look, video, start, end, pictures, audio, crf, overwrite),
            on_progress=progress.update,
        )
    for warning in warnings:
        console.warn(warning)
    console.result({"output": str(output)}, f"  {output}")
