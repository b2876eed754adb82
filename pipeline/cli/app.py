"""The ``gridpose`` command: a thin skin over the Python API.

Everything heavy is imported inside the commands: ``gridpose --help`` must not wait for torch,
OpenVINO or OpenCV.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gridpose.pipeline.cli.angles import angles_command
from gridpose.pipeline.cli.batch import batch_command
from gridpose.pipeline.cli.data import data_app
from gridpose.pipeline.cli.eval import evaluate_command
from gridpose.pipeline.cli.export import export_command
from gridpose.pipeline.cli.models import models_app
from gridpose.pipeline.cli.render import (
    Layout,
    LayoutChoice,
    Resolution,
    Theme,
    ThemeChoice,
    Trails,
    ViewText,
    look_of,
    render_command,
)
from gridpose.pipeline.cli.video_options import (
    Audio,
    BatchSize,
    Compiled,
    ConstantBones,
    Crf,
    DetectorChoice,
    DetectorConfig,
    DetectorName,
    DetectorWeights,
    EngineCpu,
    FlipTest,
    GravityChoice,
    GravityName,
    PersonBoxes,
    PersonBoxesName,
    PersonsText,
    PrecisionChoiceName,
    PrecisionOption,
    RepairFlag,
    SmoothingChoice,
    SmoothingName,
    Stride,
    Trajectory,
    persons_of,
)
from gridpose.pipeline.cli_common import (
    BOTH_SPELLINGS,
    Device,
    Fov,
    Json,
    LifterFile,
    Overwrite,
    Precision,
    PrecisionName,
    Quiet,
    TerminatedError,
    Verbose,
    reports_errors,
)
from gridpose.pipeline.cli_train import train_command

if TYPE_CHECKING:
    from gridpose.detectors import Detector
    from gridpose.pipeline.console import Console
    from gridpose.pipeline.job import VideoOptions

app = typer.Typer(
    name="gridpose",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(models_app, name="models")


def _run(
    source: Path, output: Path, options: VideoOptions, quiet: bool, verbose: bool, json_output: bool
) -> None:
    from gridpose.pipeline.console import Console, ProgressDisplay
    from gridpose.pipeline.run import run_video

    console = Console(quiet, verbose, json_output)

    def announce(detector: Detector) -> None:
        console.info(f"detector: {detector.name} ({detector.reason})")
        for notice in detector.notices:
            console.warn(notice)

    with ProgressDisplay(quiet) as progress:
        result = run_video(
            source,
            output,
            options,
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
    _convert(options, console)


def _convert(options: VideoOptions, console: Console) -> None:
    """Let the next runs start faster; now that the result is there."""
    from gridpose.pipeline.lifters import convert_lifter, is_to_convert

    chosen = options.lifter
    if not isinstance(chosen, (str, Path)):
        return
    if is_to_convert(chosen, options.device, options.precision):
        console.info("converting the lifter, so that it loads faster from now on (once)")
        with suppress(KeyboardInterrupt):
            convert_lifter()


@app.command()
@reports_errors
def video(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A video, or a picture.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The result: .mp4; .png or .jpg for a picture.")
    ],
    detector: DetectorChoice = DetectorName.auto,
    detector_weights: DetectorWeights = None,
    detector_config: DetectorConfig = None,
    person_boxes: PersonBoxes = PersonBoxesName.auto,
    flip_test: FlipTest = False,
    compile_: Compiled = False,
    engine_cpu: EngineCpu = None,
    lifter: LifterFile = "default",
    device: Device = "auto",
    precision: PrecisionOption = PrecisionChoiceName.auto,
    persons: PersonsText = "all",
    smoothing: SmoothingChoice = SmoothingName.savgol,
    repair: RepairFlag = True,
    constant_bones: ConstantBones = False,
    gravity: GravityChoice = GravityName.level,
    trajectory: Trajectory = False,
    fov: Fov = None,
    start: Annotated[float, typer.Option(help="Second at which to start.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Second at which to stop.")] = None,
    stride: Stride = 1,
    batch_size: BatchSize = 8,
    save_poses: Annotated[
        list[Path] | None,
        typer.Option(
            help="Also write the numbers: .npz, or what export writes; may be given several times."
        ),
    ] = None,
    layout: Layout = LayoutChoice.side_by_side,
    view: ViewText = "default",
    resolution: Resolution = None,
    theme: Theme = ThemeChoice.dark,
    trails: Trails = False,
    audio: Audio = True,
    crf: Crf = 22,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json_output: Json = False,
) -> None:
    """Turn a video (or picture) of people into one of their 3D skeletons.

    \b
    Examples:
      gridpose video dance.mp4 -o skeletons.mp4
      gridpose video dance.mp4 -o skeletons.mp4 --save-poses dance.npz --persons largest
      gridpose video photo.jpg -o photo-3d.png
      gridpose video dance.mp4 -o skeletons.mp4 --detector hrnet --flip-test
    """  # noqa: D301
    from gridpose.detectors.options import HRNetOptions
    from gridpose.pipeline.job import VideoOptions

    options = VideoOptions(
        detector=detector.value,
        hrnet=HRNetOptions(
            weights=detector_weights,
            config=detector_config,
            person_boxes=person_boxes.value,
            flip_test=flip_test,
            compiled=compile_,
            engine_cpu=None if engine_cpu is None else engine_cpu.value,
        ),
        lifter=lifter,
        device=device,
        precision=precision.value,
        persons=persons_of(persons),
        smoothing=smoothing.value,
        repair=repair,
        constant_bones=constant_bones,
        gravity=gravity.value,
        trajectory=trajectory,
        fov=fov,
        start=start,
        end=end,
        stride=stride,
        batch_size=batch_size,
        save_poses=tuple(save_poses or ()),
        look=look_of(layout, view, resolution, theme, trails),
        audio=audio,
        crf=crf,
        overwrite=overwrite,
    )
    _run(source, output, options, quiet, verbose, json_output)


@app.command()
@reports_errors
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The video; the poses get its name and .npz.")
    ] = Path("gridpose-demo.mp4"),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json_output: Json = False,
) -> None:
    """Fetch a real sample video once and run the main job on it.

    The sample (two people, 230 frames) comes from the PyPI package sports2d, BSD-3-Clause.

    \b
    Example:
      gridpose demo --overwrite
    """  # noqa: D301
    from gridpose.pipeline.console import Console
    from gridpose.pipeline.job import VideoOptions
    from gridpose.pipeline.sample import sample_video

    Console(quiet, verbose, json_output).info("sample video: from PyPI once, then from the cache")
    options = VideoOptions(save_poses=(output.with_suffix(".npz"),), overwrite=overwrite)
    _run(sample_video(), output, options, quiet, verbose, json_output)


@app.command()
@reports_errors
def lift(
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
    precision: Precision = PrecisionName.fp32,
    fov: Fov = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json_output: Json = False,
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
    from gridpose.pipeline.console import Console
    from gridpose.pipeline.keypoint_files import lift_file
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
    loaded = load_lifter(lifter, device=device, precision=precision.value)
    lifted = lift_file(keypoints, output, loaded, size, fov, convention, fps)
    console = Console(quiet, verbose, json_output)
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


@app.command()
@reports_errors
def doctor(
    verbose: Verbose = False,
    json_output: Json = False,
) -> None:
    """Say what is installed and what works, and the command that mends each lack.

    Ends with exit code 4 when the main job cannot run.

    \b
    Example:
      gridpose doctor
    """  # noqa: D301
    from gridpose.pipeline.console import Console
    from gridpose.pipeline.doctor import examine

    findings = examine()
    lines = []
    for finding in findings:
        mark = "ok     " if finding.ok else ("MISSING" if finding.needed else "-      ")
        lines.append(f"{mark} {finding.name}: {finding.detail}")
        if finding.mend:
            lines.append(f"          mend: {finding.mend}")
    works = all(finding.ok for finding in findings if finding.needed)
    Console(False, verbose, json_output).result(
        {"ok": works, "findings": [finding.to_dict() for finding in findings]}, "\n".join(lines)
    )
    if not works:
        raise typer.Exit(4)


app.command(name="angles")(angles_command)
app.command(name="batch")(batch_command)
app.command(name="export")(export_command)
app.command(name="render")(render_command)
app.command(name="train", context_settings=BOTH_SPELLINGS)(train_command)
app.command(name="eval", context_settings=BOTH_SPELLINGS)(evaluate_command)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        print(f"gridpose {version('gridpose')}")
        raise typer.Exit


@app.callback()
def main_options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A video of people in, a video of their 3D skeletons out.

    \b
    Example:
      gridpose video dance.mp4 -o skeletons.mp4 --save-poses dance.npz
    """  # noqa: D301


def _terminate(*_: object) -> NoReturn:
    raise TerminatedError


def main() -> None:
    """Entry point of the ``gridpose`` command."""
    signal.signal(signal.SIGTERM, _terminate)
    app()
