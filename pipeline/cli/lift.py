"""``gridpose lift``: 2D keypoints made 3D."""

from __future__ import annotations

import textwrap
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Final

import typer

from gridpose.core import Precision
from gridpose.pipeline.cli.console import Console
from gridpose.pipeline.cli.options import with_console, with_options
from gridpose.pipeline.options import VideoOptions

_LIFTED: Final = frozenset(
    {"lifter", "device", "persons", "smoothing", "repair", "constant_bones", "gravity"}
    | {"trajectory", "fov", "overwrite"}
)
"""Options of ``video`` that ``lift`` has too."""
_WITHOUT: Final = [field.name for field in fields(VideoOptions) if field.name not in _LIFTED]


def _show_conventions(name: str | None) -> str | None:
    """Print the known orders of keypoints and end, if ``list`` is asked for."""
    if name != "list":
        return name
    from gridpose.detectors.conventions import CONVENTIONS

    for convention in CONVENTIONS.values():
        typer.echo(f"{convention.name}: {len(convention.keypoints)} keypoints")
        names = convention.keypoints
        shown = names if len(names) <= 40 else (*names[:26], f"... {names[-1]}")
        typer.echo(textwrap.fill(", ".join(shown), 96, initial_indent="  ", subsequent_indent="  "))
    raise typer.Exit


Fov = Annotated[
    float | None, typer.Option(help=VideoOptions.__annotations__["fov"].__metadata__[0].help)
]
LifterPrecision = Annotated[
    Precision, typer.Option(help="Arithmetic of the network; fp16 and bf16 need a GPU.")
]


@with_console
@with_options(VideoOptions, without=_WITHOUT)
def lift_command(
    options: VideoOptions,
    keypoints: Annotated[
        Path,
        typer.Argument(
            help="Keypoints of OpenPose (a file or folder), AlphaPose, mmpose, MediaPipe, COCO, "
            "DeepLabCut (CSV), Detectron or VideoPose3D (.npz), a table (CSV), an .npy or .npz, or "
            "a pose file."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .npz with poses_3d.")],
    image_size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT, where the file has no image_size.")
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            is_eager=True,
            callback=_show_conventions,
            help="Order of the keypoints, where the file does not tell: human3.6m-17, coco-17, "
            "halpe-26, halpe-136, blazepose-33, coco-wholebody-133, openpose-body-25 or "
            "openpose-coco-18; `list` shows their keypoints.",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames per second, where the file does not tell; says that its poses are frames."
        ),
    ] = None,
    normalized: Annotated[
        bool,
        typer.Option(
            "--normalized", help="Keypoints are shares of the picture, 0 to 1, rather than pixels."
        ),
    ] = False,
    precision: LifterPrecision = "fp32",
    *,
    console: Console,
) -> None:
    """Lift 2D keypoints that you already have to 3D.

    Writes a pose file, as `gridpose video --save-poses` does, for render, export and angles.
    The kind of file is told by its content. People are followed where the file does not know them
    apart. poses_3d is in metres, hip at the origin, camera axes: x right, y down, z away.

    \b
    Examples:
      gridpose lift keypoints.npz -o poses.npz --image-size 1920x1080
      gridpose lift openpose/json -o poses.npz --image-size 1920x1080 --fps 25
      gridpose lift alphapose-results.json -o poses.npz --image-size 1280x720
      gridpose lift landmarks.json -o poses.npz --normalized --image-size 1280x720
    """  # noqa: D301
    from gridpose.core import UsageError
    from gridpose.lifting import load_lifter
    from gridpose.pipeline.keypoint_input.lift import lift_file
    from gridpose.pipeline.outputs import check_output

    size = None
    if image_size is not None:
        width, _, height = image_size.lower().partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise UsageError(f"--image-size {image_size}: must be like 1920x1080")
        size = (int(width), int(height))
    if output.suffix.lower() != ".npz":
        raise UsageError(f"{output}: the name must end in .npz")
    options.check()
    check_output(output, options.overwrite)
    loaded = load_lifter(str(options.lifter), device=options.device, precision=precision)
    lifted = lift_file(
        keypoints,
        output,
        loaded,
        size,
        None,
        convention,
        fps,
        normalized=normalized,
        options=options,
    )
    for warning in lifted.warnings:
        console.warn(warning)
    console.result(
        {
            "output": str(output),
            "poses_3d": list(lifted.shape),
            "convention": lifted.convention,
            "lifter": loaded.name,
        },
        f"{output}: poses_3d {lifted.shape}",
    )
