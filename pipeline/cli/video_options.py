"""Options of the main job, which ``gridpose video`` and ``gridpose batch`` share."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridpose.pipeline.timeline import Persons


class DetectorName(str, Enum):
    """Detectors by name."""

    auto = "auto"
    blazepose = "blazepose"
    blazepose_full = "blazepose-full"
    blazepose_lite = "blazepose-lite"
    hrnet = "hrnet"


class PersonBoxesName(str, Enum):
    """What finds persons for HRNet."""

    auto = "auto"
    blazepose = "blazepose"
    mmdet = "mmdet"
    full_frame = "full-frame"


class EngineCpuName(str, Enum):
    """What runs HRNet on a CPU."""

    openvino = "openvino"
    torch = "torch"


class PrecisionChoiceName(str, Enum):
    """Arithmetic of detector and lifter."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


class SmoothingName(str, Enum):
    """Temporal filters."""

    none = "none"
    one_euro = "one-euro"
    savgol = "savgol"
    butterworth = "butterworth"


class GravityName(str, Enum):
    """What says which way is up."""

    level = "level"
    estimate = "estimate"


DetectorChoice = Annotated[
    DetectorName, typer.Option(help="2D keypoint detector; auto takes the best at hand.")
]
DetectorWeights = Annotated[
    str | None,
    typer.Option(help="For hrnet: a name of gridpose models list, or an mmpose .pth file."),
]
DetectorConfig = Annotated[
    str | None,
    typer.Option(help="For hrnet: mmpose config, by name or file (a Python program: it runs)."),
]
PersonBoxes = Annotated[
    PersonBoxesName, typer.Option(help="For hrnet: what finds people in a frame.")
]
FlipTest = Annotated[
    bool, typer.Option(help="For hrnet: look at mirrored people too; better, twice the time.")
]
Compiled = Annotated[
    bool, typer.Option("--compile", help="For hrnet run by torch: compile it, for long videos.")
]
EngineCpu = Annotated[
    EngineCpuName | None,
    typer.Option(help="For hrnet on a CPU; OpenVINO by default, where it is installed."),
]
PrecisionOption = Annotated[
    PrecisionChoiceName,
    typer.Option(
        help="fp16 needs a GPU; auto is fp32, but for hrnet on a CPU bf16 if keypoints stay."
    ),
]
PersonsText = Annotated[
    str, typer.Option("--persons", help="Whom to keep: all, largest, or the N largest.")
]
SmoothingChoice = Annotated[
    SmoothingName, typer.Option(help="Temporal filter of keypoints and world poses.")
]
RepairFlag = Annotated[
    bool,
    typer.Option(
        help="Fill short gaps of the detector; for lifters of single frames also mend exchanged"
        " sides and outliers, which the default one knows by itself."
    ),
]
ConstantBones = Annotated[bool, typer.Option(help="Keep each person's bone lengths constant.")]
GravityChoice = Annotated[
    GravityName, typer.Option(help="Which way is up: as in a level camera, or as people stand.")
]
Trajectory = Annotated[
    bool, typer.Option(help="People move through the world, in metres; needs a still camera.")
]
Stride = Annotated[int, typer.Option(min=1, help="Take every n-th frame.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Frames handled at once.")]
Audio = Annotated[bool, typer.Option(help="Keep the sound.")]
Crf = Annotated[int, typer.Option(min=0, max=51, help="x264 quality; lower is better.")]


def persons_of(text: str) -> Persons:
    """``all``, ``largest`` or a number of persons.

    Raises:
        UsageError: none of these.
    """
    if text == "all":
        return "all"
    if text == "largest":
        return "largest"
    if text.isdecimal() and int(text) > 0:
        return int(text)
    from gridpose.core import UsageError

    raise UsageError(f"--persons {text}: must be all, largest or a number of persons")
