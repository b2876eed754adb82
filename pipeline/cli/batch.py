"""``gridpose batch``: a folder of videos."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gridpose.pipeline.cli.render import (
    Layout,
    LayoutChoice,
    Resolution,
    Theme,
    ThemeChoice,
    Trails,
    ViewText,
    look_of,
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
    Device,
    Fov,
    Json,
    LifterFile,
    Quiet,
    Verbose,
    reports_errors,
)

if TYPE_CHECKING:
    from gridpose.pipeline.batch import BatchResult

PARTLY_FAILED: Final = 5
_MOST_ROWS: Final = 20


class EngineChoice(str, Enum):
    """Where the work is done."""

    local = "local"
    ray = "ray"


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    from gridpose.core import UsageError

    raise UsageError(f"--workers {text}: must be auto or a number of processes")


@reports_errors
def batch_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With videos, at any depth.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUTDIR", help="For results; the tree is mirrored."),
    ],
    render: Annotated[bool, typer.Option(help="Write videos, or pose files only.")] = True,
    workers: Annotated[
        str, typer.Option(metavar="N|auto", help="Processes that work at the same time.")
    ] = "auto",
    include: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Only these, by path or name.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="None of these, by path or name.")
    ] = None,
    max_duration: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Leave out longer videos.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed before.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(help="Seconds of work allowed for a second of video, and two minutes more."),
    ] = 60.0,
    engine: Annotated[
        EngineChoice, typer.Option(help="This machine, or a Ray cluster.")
    ] = EngineChoice.local,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT.")
    ] = None,
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
    stride: Stride = 1,
    batch_size: BatchSize = 8,
    layout: Layout = LayoutChoice.side_by_side,
    view: ViewText = "default",
    resolution: Resolution = None,
    theme: Theme = ThemeChoice.dark,
    trails: Trails = False,
    audio: Audio = True,
    crf: Crf = 22,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json_output: Json = False,
) -> None:
    """Do every video below a folder: a drawn .mp4 and a pose file .npz of each.

    Run it again to go on after an interruption; what is done is not done twice. Videos that
    cannot be done are recorded, the others go on, and the exit code is 5. What became of each:
    OUTDIR/report.html and report.csv.

    \b
    Examples:
      gridpose batch videos -o results
      gridpose batch videos -o results --workers 4 --no-render --exclude 'drafts/*'
      gridpose batch /share/videos -o /share/results --engine ray --address auto
    """  # noqa: D301
    from gridpose.detectors.options import HRNetOptions
    from gridpose.pipeline.batch import BatchOptions, run_batch
    from gridpose.pipeline.batch.display import BatchDisplay, printable
    from gridpose.pipeline.console import Console
    from gridpose.pipeline.job import VideoOptions

    video = VideoOptions(
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
        stride=stride,
        batch_size=batch_size,
        look=look_of(layout, view, resolution, theme, trails),
        audio=audio,
        crf=crf,
    )
    options = BatchOptions(
        video=video,
        render=render,
        workers=_workers(workers),
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        max_duration=max_duration,
        retry_failed=retry_failed,
        timeout=timeout,
        engine=engine.value,
        address=address,
    )
    console = Console(quiet, verbose, json_output)
    with BatchDisplay(quiet) as display:
        result = run_batch(folder, output, options, dry_run=dry_run, on_progress=display.update)
    for warning in result.warnings:
        console.warn(warning)
    if dry_run:
        lines = [f"{what}: {printable(path)}" for path, what in result.planned.items()]
        console.result({"planned": result.planned}, "\n".join([*lines, f"{len(lines)} videos"]))
        return
    _tell_failures(console_table(result), quiet)
    states = ", ".join(f"{count} {state}" for state, count in sorted(result.states.items()))
    text = f"{len(result.entries)} videos: {states or 'none'}; {result.done_now} done now, "
    files = "".join(f"\n  {file}" for file in result.reports)
    console.result(result.summary(), f"{text}{result.seconds:.1f} s{files}")
    if result.failed:
        raise typer.Exit(PARTLY_FAILED)


def console_table(result: BatchResult) -> list[str]:
    """A line for each video that failed; of many, the first ones."""
    from gridpose.pipeline.batch.display import printable

    rows = [f"failed ({entry.kind}): {printable(entry.message or '')}" for entry in result.failed]
    if len(rows) > _MOST_ROWS:
        rows = [*rows[:_MOST_ROWS], f"... and {len(rows) - _MOST_ROWS} more: see the report"]
    return rows


def _tell_failures(rows: list[str], quiet: bool) -> None:
    for row in rows:
        typer.echo(row, err=True)
