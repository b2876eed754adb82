"""``gridpose export``: a pose file in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Write poses for other programs; docs/formats.md tells axes and units.

    \b
    Examples:
      gridpose export dance.npz -o dance.bvh --track 1
      gridpose export dance.npz -o dance.csv -o dance.c3d
    """  # noqa: D301
    from gridpose.pipeline.exports import export_poses
    from gridpose.pipeline.poses.file import read_pose_file

    tracks = read_pose_file(poses)
    files: list[Path] = []
    for file in output:
        exported = export_poses(
            tracks, file, track_ids=track or None, foot_lock=foot_lock, overwrite=overwrite
        )
        files += exported.files
        for note in exported.notes:
            console.warn(note)
    console.result(
        {"files": [str(file) for file in files]}, "\n".join(f"  {file}" for file in files)
    )
