#!/usr/bin/env python
"""Measure a lifter on a benchmark file, by family of movement, and draw where it errs most.

    python scripts/evaluate_lifter.py bench_test.npz --actions mocap_test.npz --sheet worst.png
    python scripts/evaluate_lifter.py bench_temporal.npz

The benchmark holds known 3D poses and what known cameras saw of them, exactly and with the errors
of a detector. All errors are in millimetres, with the hip at the origin; for sequences, those of
velocities and accelerations are in mm per frame and per frame². They are then measured of the
lifter alone, and of all that ``gridpose video`` does to keypoints and poses.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gridpose.core import BONES, AnyArray, FloatArray, GridposeError, MissingError
from gridpose.lifting import Lifter, load_lifter
from gridpose.lifting.benchmark import (
    Benchmark,
    BenchmarkResult,
    MeanErrors,
    Measurement,
    measure,
    read_actions,
    read_benchmark,
)
from gridpose.lifting.temporal_benchmark import (
    LiftSequence,
    SequenceErrors,
    measure_sequences,
    read_sequences,
)
from gridpose.pipeline.motion.choices import Smoothing
from gridpose.pipeline.motion.lifting_chain import LiftingChain
from gridpose.pipeline.motion.timeline import steadied
from gridpose.pipeline.motion.tracking import Observation
from gridpose.visualize.bones import line_colour
from gridpose.visualize.palette import Colour, Family, blend
from gridpose.visualize.plots import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WHITE: Final[Colour] = (255, 255, 255)
INK: Final = "#2b3038"
EDGE: Final = "#d33"
COLOURS: Final = Family(left=(224, 123, 0), right=(40, 92, 224), trunk=(60, 66, 76))
"""The project's hues, dark enough for paper."""
PAPER: Final = 0.38
"""How much of its colour the truth keeps."""
COLUMNS: Final = 4
PANEL_INCHES: Final = (1.45, 1.75)
HALF_METRES: Final = 0.95
"""Half of what a 3D view shows; a person stretched out to the fingertips is about 2.2 m long."""
VIEWS: Final = ("2D", "camera", "side")


class Input(str, Enum):
    """Kind of 2D keypoints."""

    noisy = "noisy"
    exact = "exact"


def table(first_column: str, groups: dict[str, tuple[MeanErrors, MeanErrors]]) -> str:
    """Aligned columns: a row for each group's errors given exact and noisy 2D."""
    width = max(len(name) for name in (first_column, *groups))
    lines = [
        f"{'':<{width}} {'':>6}   {'exact 2D':^16}   {'noisy 2D':^16}",
        f"{first_column:<{width}} {'poses':>6}   {'MPJPE':>7} {'PA':>8}   {'MPJPE':>7} {'PA':>8}",
    ]
    for name, pair in groups.items():
        numbers = "   ".join(f"{errors.mpjpe:7.1f} {errors.pa_mpjpe:8.1f}" for errors in pair)
        lines.append(f"{name:<{width}} {pair[0].samples:6d}   {numbers}")
    return "\n".join(lines)


def describe(result: BenchmarkResult) -> str:
    """Tables by family and by joint."""
    exact, noisy = result.exact, result.noisy
    families = {name: (exact.by_family[name], noisy.by_family[name]) for name in exact.by_family}
    families["all"] = (exact.overall, noisy.overall)
    joints = {name: (exact.by_joint[name], noisy.by_joint[name]) for name in exact.by_joint}
    return f"{table('family', families)}\n\n{table('joint', joints)}"


def as_in_video(lifter: Lifter, repair: bool, smoothing: Smoothing) -> LiftSequence:
    """Keypoints to poses through the stages of ``gridpose video``, frame by frame."""
    default = load_lifter()

    def lift(
        keypoints: FloatArray, image_size: AnyArray, confidence: FloatArray, fps: float
    ) -> FloatArray:
        width, height = (int(side) for side in image_size)
        judge = None if lifter.sees_time else default
        chain = LiftingChain(lifter, judge, (width, height), None, fps, repair, smoothing)
        poses: list[FloatArray] = []

        def take(at_end: bool) -> None:
            poses.extend(people[1].steady for people in chain.finished(at_end))

        for points, sure in zip(keypoints, confidence, strict=True):
            box = np.concatenate((points.min(0), points.max(0)))
            chain.add({1: Observation(box, points, sure)})
            take(at_end=False)
        take(at_end=True)
        return steadied(np.stack(poses), fps, smoothing, repair and not lifter.sees_time)

    return lift


def evaluate_sequences(
    file: Path, lifter: Lifter, repair: bool, smoothing: Smoothing
) -> dict[str, SequenceErrors]:
    """Errors on a benchmark of sequences."""
    sequences, fps = read_sequences(file)
    video = as_in_video(lifter, repair, smoothing)
    return {
        "exact 2D": measure_sequences(lifter.lift_sequence, sequences, fps, exact=True),
        "disturbed 2D": measure_sequences(lifter.lift_sequence, sequences, fps, exact=False),
        "exact 2D, as in gridpose video": measure_sequences(video, sequences, fps, exact=True),
        "disturbed 2D, as in gridpose video": measure_sequences(video, sequences, fps, exact=False),
    }


def describe_sequences(errors: dict[str, SequenceErrors]) -> str:
    """A table."""
    width = max(map(len, errors))
    lines = [f"{'':<{width}}   {'MPJPE':>7} {'PA':>7} {'velocity':>9} {'acceleration':>13}"]
    lines += [
        f"{name:<{width}}   {each.mpjpe:7.2f} {each.pa_mpjpe:7.2f} {each.mpjve:9.2f} "
        f"{each.acceleration:13.2f}"
        for name, each in errors.items()
    ]
    return "\n".join(lines)


def is_temporal(file: Path) -> bool:
    """Whether a benchmark holds sequences."""
    try:
        with zipfile.ZipFile(file) as archive:
            return "sequence.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def shade(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def draw_skeleton(axes: Axes, points: AnyArray, width: float, opacity: float) -> None:
    """Bones of ``(17, 2)`` points, limbs in the colour of their side at ``opacity`` on white."""
    for parent, child in BONES:
        colour = shade(blend(line_colour(child, COLOURS), WHITE, opacity))
        ends = points[[parent, child]]
        axes.plot(*ends.T, color=colour, linewidth=width, solid_capstyle="round")


def frame_panel(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[], aspect="equal")
    for spine in axes.spines.values():
        spine.set_color("#c9ced6")


def look_at(axes: Axes, points: AnyArray, half: float) -> None:
    """Show a square of twice ``half`` around the middle of ``points``, y down."""
    x, y = (points.max(0) + points.min(0)) / 2
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))


def draw_keypoints(axes: Axes, keypoints: AnyArray, exact: AnyArray, size: AnyArray) -> None:
    """2D keypoints over the exact projections, cropped to the person; the frame's edge in red."""
    draw_skeleton(axes, exact, 3.4, PAPER)
    draw_skeleton(axes, keypoints, 1.3, 1.0)
    width, height = size
    axes.plot([0, width, width, 0, 0], [0, 0, height, height, 0], color=EDGE, linewidth=0.8)
    look_at(axes, exact, 0.62 * float(np.ptp(exact, axis=0).max()))


def draw_worst(
    benchmark: Benchmark, measurement: Measurement, kind: Input, count: int, title: str
) -> Figure:
    """The poses with the largest MPJPE, the worst first.

    Each has three panels: its 2D keypoints, and truth (broad, pale) and answer (thin, strong)
    seen from the camera and from its right, where depth grows to the right. Both views have one
    scale, the same for all poses.
    """
    rows = np.argsort(-measurement.mpjpe, kind="stable")[:count]
    lines = -(-len(rows) // COLUMNS)
    across, down = COLUMNS * len(VIEWS) * PANEL_INCHES[0] + 0.4, lines * PANEL_INCHES[1] + 0.9
    figure = Figure(figsize=(across, down), facecolor="white")
    FigureCanvasAgg(figure)
    head, side = 0.8 / down, 0.2 / across
    cell_width, cell_height = (1 - 2 * side) / COLUMNS, (1 - head - 0.1 / down) / lines
    figure.text(side, 1 - 0.25 / down, title, fontsize=12, weight="bold", color=INK, va="center")
    draw_legend(figure, side, 1 - 0.5 / down, kind)
    keypoints = benchmark.keypoints_noisy_px if kind is Input.noisy else benchmark.keypoints_px
    gap = 0.06 / across
    for place, row in enumerate(rows):
        left = side + place % COLUMNS * cell_width
        low = 1 - head - (place // COLUMNS + 1) * cell_height
        panel = (cell_width - 3.5 * gap) / len(VIEWS)
        first, camera, beside = (
            figure.add_axes((left + i * (panel + gap / 2), low, panel, cell_height - 0.3 / down))
            for i in range(len(VIEWS))
        )
        draw_keypoints(
            first, keypoints[row], benchmark.keypoints_px[row], benchmark.image_size[row]
        )
        truth, answer = benchmark.poses_camera[row], measurement.poses[row]
        for axes, view in ((camera, (0, 1)), (beside, (2, 1))):
            draw_skeleton(axes, truth[:, view], 3.4, PAPER)
            draw_skeleton(axes, answer[:, view], 1.3, 1.0)
            both = np.concatenate((truth, answer))[:, view]
            look_at(axes, both, max(HALF_METRES, 0.52 * float(np.ptp(both, axis=0).max())))
        for axes, name in zip((first, camera, beside), VIEWS, strict=True):
            frame_panel(axes)
            axes.text(0.04, 0.03, name, transform=axes.transAxes, fontsize=6, color="#6b7280")
        clip = benchmark.clip_names[benchmark.clip[row]]
        errors = f"{measurement.mpjpe[row]:.0f} mm, PA {measurement.pa_mpjpe[row]:.0f}"
        above = low + cell_height - 0.2 / down
        figure.text(left, above, f"{clip} #{row}", fontsize=7.5, color=INK, va="center")
        end = left + 3 * panel + gap
        figure.text(
            end, above, errors, fontsize=7.5, weight="bold", color=INK, va="center", ha="right"
        )
    return figure


def draw_legend(figure: Figure, left: float, level: float, kind: Input) -> None:
    """What colours and lines mean."""
    marks = [
        Line2D([], [], color=shade(COLOURS.left), linewidth=2, label="left"),
        Line2D([], [], color=shade(COLOURS.right), linewidth=2, label="right"),
        Line2D([], [], color=shade(COLOURS.trunk), linewidth=2, label="trunk and head"),
        Line2D([], [], color=shade(blend(COLOURS.trunk, WHITE, PAPER)), linewidth=4, label="truth"),
        Line2D([], [], color=shade(COLOURS.trunk), linewidth=1.3, label=f"{kind.value} 2D, answer"),
        Line2D([], [], color=EDGE, linewidth=0.8, label="edge of the frame"),
    ]
    figure.legend(
        handles=marks,
        loc="center left",
        bbox_to_anchor=(left, level),
        borderaxespad=0,
        borderpad=0,
        ncols=len(marks),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )


def main(
    bench: Annotated[Path, typer.Argument(metavar="BENCH", help="a benchmark file, .npz")],
    lifter: Annotated[
        str, typer.Option(help="default, default-frame, or a checkpoint")
    ] = "default",
    actions: Annotated[
        Path | None, typer.Option(help=".npz with clip_names and action, to name families by")
    ] = None,
    flip_test: Annotated[bool, typer.Option(help="average with the mirrored person's")] = False,
    true_fov: Annotated[bool, typer.Option(help="tell the lifter each camera's lens")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
    sheet: Annotated[Path | None, typer.Option(help="picture of the worst poses")] = None,
    worst: Annotated[int, typer.Option(min=1, help="how many the sheet shows")] = 24,
    worst_of: Annotated[Input, typer.Option(help="which 2D the sheet is about")] = Input.noisy,
    repair: Annotated[bool, typer.Option(help="of sequences, as gridpose video has it")] = True,
    smoothing: Annotated[
        Smoothing, typer.Option(help="of sequences, as gridpose video has it")
    ] = "savgol",
) -> None:
    try:
        loaded = load_lifter(lifter)
        if is_temporal(bench):
            errors = evaluate_sequences(bench, loaded, repair, smoothing)
            figures = {name: asdict(each) for name, each in errors.items()}
            head = {"benchmark": bench.name, "lifter": loaded.name}
            print(json.dumps({**head, **figures}) if as_json else describe_sequences(errors))
            return
        benchmark = read_benchmark(bench)
        families = benchmark.families(None if actions is None else read_actions(actions))
        result = measure(loaded, benchmark, families, flip_test=flip_test, true_fov=true_fov)
        conditions = (
            f"flip test {'on' if flip_test else 'off'}, "
            f"{'true' if true_fov else 'assumed'} field of view"
        )
        if sheet is not None:
            count = min(worst, len(benchmark))
            title = (
                f"{bench.name}: the {count} worst of {len(benchmark)} poses, {worst_of.value} 2D"
                f" (lifter {loaded.name}, {conditions})"
            )
            measurement: Measurement = getattr(result, worst_of.value)
            try:
                save(draw_worst(benchmark, measurement, worst_of, count, title), sheet, dpi=110)
            except (OSError, ValueError) as error:
                raise MissingError(f"{sheet}: cannot be written ({error})") from error
    except GridposeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from error
    if as_json:
        values = {
            "benchmark": bench.name,
            "lifter": loaded.name,
            "weights_sha256": loaded.weights_sha256,
            "flip_test": flip_test,
            "true_fov": true_fov,
            "unit": "mm",
            "exact": result.exact.to_dict(),
            "noisy": result.noisy.to_dict(),
        }
        print(json.dumps(values))
        return
    print(f"{bench.name}, lifter {loaded.name}, {conditions}; mm, hip at the origin\n")
    print(describe(result))


if __name__ == "__main__":
    typer.run(main)
