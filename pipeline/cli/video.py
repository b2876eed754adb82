"""``gridpose video``: the main job."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridpose.option import OUTPUT
from gridpose.pipeline.cli.console import Console, ProgressDisplay
from gridpose.pipeline.cli.options import with_console, with_options
from gridpose.pipeline.options import VideoOptions

if TYPE_CHECKING:
    from gridpose.detectors import Detector


@with_console
@with_options(VideoOptions)
def video_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="A video or picture; numbered pictures as a folder or frame-%04d.png; with yt-dlp "
            "an address.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The result: .mp4; .png or .jpg for a picture.",
            rich_help_panel=OUTPUT,
        ),
    ],
    options: VideoOptions,
    *,
    console: Console,
) -> None:
    """Turn a video (or picture) of people into one of their 3D skeletons.

    \b
    Examples:
      gridpose video dance.mp4 -o skeletons.mp4
      gridpose video dance.mp4 -o skeletons.mp4 --save-poses dance.npz --persons largest
      gridpose video photo.jpg -o photo-3d.png
      gridpose video dance.mp4 -o skeletons.mp4 --detector hrnet --flip-test
      gridpose video frames/ -o skeletons.mp4 --fps 25
    """  # noqa: D301
    run(source, output, options, console)


def run(source: str | Path, output: Path, options: VideoOptions, console: Console) -> None:
    """Do the main job and tell of it."""
    from gridpose.pipeline.models import Models
    from gridpose.pipeline.run import run_video

    with Models(options) as models:
        with ProgressDisplay(console.quiet) as progress:

            def announce(detector: Detector) -> None:
                console.info(f"detector: {detector.name} ({detector.reason})")
                for notice in detector.notices:
                    console.warn(notice)
                progress.begin()

            result = run_video(
                source,
                output,
                options,
                models=models,
                on_progress=progress.update,
                on_detector=announce,
            )
        for warning in result.warnings:
            console.warn(warning)
        files = "\n".join(f"  {file}" for file in result.files)
        rate = result.frames / result.seconds
        console.result(
            result.summary(),
            f"{result.frames} frames, {len(result.track_ids)} people, "
            f"{result.seconds:.1f} s ({rate:.1f} fps)\n{files}",
        )
        if models.lifter_is_to_convert:  # now that the result is there
            console.info("converting the lifter, so that it loads faster from now on (once)")
            with suppress(KeyboardInterrupt):
                models.convert_lifter()
