"""``gridpose export``: a pose file in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gridpose.pipeline.cli.console import Console
from gridpose.pipeline.cli.options import Overwrite, Tracks, with_console


@with_console
def export_command(
    poses: Annotated[Path, typer.Argument(help="A pose file (.npz).")],
    output: Annotated[
        list[Path],
        typer.Option(
            "--output",
            "-o",
            help="The result: .json, .csv, .bvh, .trc, .c3d, .glb or .npz; several may be given.",
        ),
    ],
    track: Tracks = None,
    foot_lock: Annotated[
        bool,
        typer.Option(
            "--foot-lock",
            help="Keep feet where they stand: none slides, bones get constant lengths, and people "
            "move as their feet carry them.",
        ),
    ] = False,
    fps: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Poses per second of .bvh, .trc and .c3d; else the video's nominal rate.",
        ),
    ] = None,
    trim: Annotated[
        bool,
        typer.Option(
            "--trim",
            help="Leave out what is before the first and after the last frame with somebody in "
            "it; else .bvh, .trc, .c3d and .glb last as long as the video.",
        ),
    ] = False,
    skeleton: Annotated[
        Literal["gridpose", "mixamo", "unreal"],
        typer.Option(help="Whose names the bones of .bvh and .glb have."),
    ] = "gridpose",
    separate: Annotated[
        bool,
        typer.Option("--separate", help="A file for each person, NAME_pN, as .bvh always has."),
    ] = False,
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Write poses for other programs; docs/formats.md tells axes and units.

    \b
    Examples:
      gridpose export dance.npz -o dance.bvh --track 1
      gridpose export dance.npz -o dance.csv -o dance.c3d
      gridpose export dance.npz -o dance.glb --skeleton mixamo --separate
    """  # noqa: D301
    from gridpose.pipeline.exports import export_poses
    from gridpose.pipeline.poses.file import read_pose_file

    tracks = read_pose_file(poses)
    files: list[Path] = []
    for file in output:
        exported = export_poses(
            tracks,
            file,
            track_ids=track or None,
            foot_lock=foot_lock,
            fps=fps,
            trim=trim,
            skeleton=skeleton,
            separate=separate,
            overwrite=overwrite,
        )
        files += exported.files
        for note in exported.notes:
            console.warn(note)
    console.result(
        {"files": [str(file) for file in files]}, "\n".join(f"  {file}" for file in files)
    )
