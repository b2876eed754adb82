"""``gridpose demo``: the main job on a sample video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridpose.pipeline.cli.console import Console
from gridpose.pipeline.cli.options import Overwrite, with_console
from gridpose.pipeline.cli.video import run


@with_console
def demo_command(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The video; the poses get its name and .npz.")
    ] = Path("gridpose-demo.mp4"),
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Fetch a real sample video once and run the main job on it.

    The sample (two people, 230 frames) comes from the PyPI package sports2d, BSD-3-Clause.

    \b
    Example:
      gridpose demo --overwrite
    """  # noqa: D301
    from gridpose.pipeline.options import VideoOptions
    from gridpose.pipeline.sample import sample_video

    console.info("sample video: from PyPI once, then from the cache")
    options = VideoOptions(save_poses=(output.with_suffix(".npz"),), overwrite=overwrite)
    run(sample_video(), output, options, console)
