"""``gridpose angles``: joint angles of a pose file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridpose.pipeline.cli.console import Console
from gridpose.pipeline.cli.options import Overwrite, Tracks, with_console


@with_console
def angles_command(
    poses: Annotated[Path, typer.Argument(help="A pose file (.npz).")],
    output: Annotated[
        list[Path],
        typer.Option(
            "--output", "-o", help="A table .csv, curves .png, .pdf or .svg; several may be given."
        ),
    ],
    track: Tracks = None,
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Angles of knees, hips, elbows, shoulders and trunk over time, in degrees.

    What each is: docs/motion.md. Several people have a figure each, NAME_pN.png.

    \b
    Example:
      gridpose angles dance.npz -o angles.png -o angles.csv --track 1
    """  # noqa: D301
    from gridpose.pipeline.exports.angles import write_angles
    from gridpose.pipeline.poses.file import read_pose_file

    tracks = read_pose_file(poses)
    files: list[Path] = []
    for file in output:
        written = write_angles(tracks, file, track_ids=track or None, overwrite=overwrite)
        files += written.files
    console.result(
        {"files": [str(file) for file in files]}, "\n".join(f"  {file}" for file in files)
    )
