"""``gridpose render``: stored poses drawn again; and the options that all drawing has."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridpose.pipeline.cli_common import Json, Overwrite, Quiet, Verbose, reports_errors
from gridpose.pipeline.cli_export import Tracks

if TYPE_CHECKING:
    from gridpose.visualize.look import Look


class LayoutChoice(str, Enum):
    """What the picture is made of."""

    side_by_side = "side-by-side"
    overlay = "overlay"
    skeleton = "skeleton"
    inset = "inset"
    views = "views"


class ThemeChoice(str, Enum):
    """Colours of the ground."""

    dark = "dark"
    light = "light"


Layout = Annotated[
    LayoutChoice, typer.Option(help="What is shown; views: from the front, side and top.")
]
ViewText = Annotated[
    str,
    typer.Option(
        "--view", help="Of the 3D scene: default, front, side, top, orbit, or AZIMUTH,ELEVATION."
    ),
]
Resolution = Annotated[
    str | None, typer.Option(help="Of the result: WIDTHxHEIGHT, 720p, 1080p, 4k, ….")
]
Theme = Annotated[ThemeChoice, typer.Option(help="Dark or light ground.")]
Trails = Annotated[bool, typer.Option(help="Draw where hands and feet were a moment ago.")]


def look_of(
    layout: LayoutChoice, view: str, resolution: str | None, theme: ThemeChoice, trails: bool
) -> Look:
    """The look that the options ask for.

    Raises:
        UsageError: a view or resolution that is none.
    """
    from gridpose.visualize.look import Look, parse_resolution
    from gridpose.visualize.views import parse_view

    return Look(
        layout=layout.value,
        resolution=None if resolution is None else parse_resolution(resolution),
        view=parse_view(view),
        theme=theme.value,
        trails=trails,
    )


@reports_errors
def render_command(
    poses: Annotated[Path, typer.Argument(help="A pose file (.npz).")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A video .mp4, a page .html, a contact sheet .png."),
    ],
    video: Annotated[
        Path | None, typer.Option(help="The video that the poses come from, to show it, too.")
    ] = None,
    layout: Annotated[
        LayoutChoice | None,
        typer.Option(help="What is shown; side-by-side with --video, else skeleton."),
    ] = None,
    view: ViewText = "default",
    resolution: Resolution = None,
    theme: Theme = ThemeChoice.dark,
    trails: Trails = False,
    track: Tracks = None,
    start: Annotated[float, typer.Option(help="Second at which to start.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Second at which to stop.")] = None,
    pictures: Annotated[int, typer.Option(help="How many a contact sheet has.")] = 12,
    audio: Annotated[bool, typer.Option(help="Keep the sound of --video.")] = True,
    crf: Annotated[int, typer.Option(help="x264 quality, 0 to 51; lower is better.")] = 22,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json_output: Json = False,
) -> None:
    """Draw stored poses again, with another camera or layout, without detecting.

    \b
    Examples:
      gridpose render dance.npz -o viewer.html --video dance.mp4
      gridpose render dance.npz -o orbit.mp4 --view orbit --resolution 1080p
      gridpose render dance.npz -o sheet.png --theme light
    """  # noqa: D301
    from gridpose.pipeline.console import Console, ProgressDisplay
    from gridpose.pipeline.posefile import read_pose_file
    from gridpose.pipeline.render import RenderOptions, render_poses

    console = Console(quiet, verbose, json_output)
    if layout is None:
        layout = LayoutChoice.skeleton if video is None else LayoutChoice.side_by_side
    options = RenderOptions(
        look=look_of(layout, view, resolution, theme, trails),
        video=video,
        start=start,
        end=end,
        pictures=pictures,
        audio=audio,
        crf=crf,
        overwrite=overwrite,
    )
    tracks = read_pose_file(poses)
    if track:
        tracks = tracks.select(tracks=tracks.rows(track))
    with ProgressDisplay(quiet) as progress:
        warnings = render_poses(tracks, output, options, on_progress=progress.update)
    for warning in warnings:
        console.warn(warning)
    console.result({"output": str(output)}, f"  {output}")
