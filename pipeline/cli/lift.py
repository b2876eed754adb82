"""``gridpose lift``: 2D keypoints made 3D."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridpose.core import Precision
from gridpose.pipeline.cli.console import Console
from gridpose.pipeline.cli.options import Device, Overwrite, with_console
from gridpose.pipeline.options import VideoOptions


def _said_of(field: str) -> str:
    """What :class:`VideoOptions` says of a field: ``video`` has the same option."""
    help: str = VideoOptions.__annotations__[field].__metadata__[0].help
    return help


LifterFile = Annotated[str, typer.Option("--lifter", help=_said_of("lifter"))]
LifterPrecision = Annotated[
    Precision, typer.Option(help="Arithmetic of the network; fp16 and bf16 need a GPU.")
]
Fov = Annotated[float | None, typer.Option(help=_said_of("fov"))]


@with_console
def lift_command(
    keypoints: Annotated[
        Path,
        typer.Argument(
            help="A gridpose .npz or pose file, a VideoPose3D .npz, COCO annotations or results, "
            "or mmpose predictions (JSON)."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .npz with poses_3d.")],
    image_size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT, where the file has no image_size.")
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(
            help="Order of the keypoints, where the file does not tell: human3.6m-17, coco-17, "
            "halpe-26, blazepose-33 or coco-wholebody-133."
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames per second, where the file does not tell; says that its poses are frames."
        ),
    ] = None,
    lifter: LifterFile = "default",
    device: Device = "auto",
    precision: LifterPrecision = "fp32",
    fov: Fov = None,
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Lift 2D keypoints that you already have to 3D.

    Reads .npz files of gridpose and VideoPose3D, and JSON of COCO and mmpose.
    poses_3d is (..., 17, 3) metres, hip at the origin, camera axes: x right, y down, z away.

    \b
    Example:
      gridpose lift keypoints.npz -o poses.npz --image-size 1920x1080
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
    check_output(output, overwrite)
    loaded = load_lifter(lifter, device=device, precision=precision)
    lifted = lift_file(keypoints, output, loaded, size, fov, convention, fps)
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
