"""``gridpose data``: making data sets, and saying what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from gridpose.pipeline.cli.console import Console
from gridpose.pipeline.cli.options import Overwrite, with_console

if TYPE_CHECKING:
    from gridpose.lifting.data.convert import Conversion

data_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Make data sets in the published format, and look into them.",
)


Split = Literal["train", "test"]


DataRoot = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="DATA_ROOT", help="Data sets are folders in this one."),
]


def _check_outputs(folder: Path, splits: tuple[Split, ...], overwrite: bool) -> None:
    """Find out before any work whether the files could be written."""
    from gridpose.core import MissingError, UsageError
    from gridpose.lifting.data.files import dataset_files
    from gridpose.pipeline.outputs import check_output

    if folder.name in ("", ".", ".."):
        raise UsageError("--input: must be the name of a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingError(f"{folder}: cannot be made ({error.strerror})") from error
    for split in splits:
        for file in dataset_files(folder, split):
            check_output(file, overwrite)


def _input_name(given: str | None, keypoints: Path | None) -> str:
    """The data set's name: as given, else after the 2D file, else ``gt``."""
    from gridpose.core import UsageError

    name = given
    if name is None and keypoints is not None:
        name = keypoints.stem.removeprefix("data_2d_h36m_")
    name = name or "gt"
    if Path(name).name != name:
        raise UsageError(f"--input {name}: must be a name without slashes")
    return name


def _conversion_summary(conversion: Conversion) -> dict[str, Any]:
    return {
        "sequences": len(conversion.data2d),
        "frames": conversion.frames,
        "cut": [
            {"key": list(key), "frames_3d": three, "frames_2d": two}
            for key, (three, two) in conversion.cut.items()
        ],
        "without_2d": conversion.without_2d,
        "pixel_error": conversion.pixel_error,
    }


@data_app.command()
@with_console
def convert(
    poses: Annotated[Path, typer.Argument(metavar="POSES", help="VideoPose3D's data_3d_h36m.npz.")],
    output: DataRoot,
    keypoints: Annotated[
        Path | None,
        typer.Option(
            "--keypoints", "-k", help="data_2d_h36m_*.npz; without it the 3D is projected."
        ),
    ] = None,
    input_name: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="NAME", help="Name of the data set; default: after --keypoints, gt."
        ),
    ] = None,
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Turn VideoPose3D's Human3.6M files into the published format.

    Writes DATA_ROOT/NAME/{train,test}_custom_{2d,3d}_unnorm.pth.tar, 3D in the axes of the four
    cameras. Without --keypoints the 2D is the exact projection, lens distortion included, as in
    data_2d_h36m_gt.npz. Names of actions are carried over as they are. Where 2D and 3D have not
    the same number of frames, both are cut to the shorter. Nothing in the files is executed.

    Call true 2D gt: tests with any other name leave out the three recordings of S9 that the
    published protocol leaves out with detected 2D.

    \b
    Examples:
      gridpose data convert data_3d_h36m.npz -o data
      gridpose data convert data_3d_h36m.npz -k data_2d_h36m_cpn_ft_h36m_dbb.npz -o data --input cpn
    """  # noqa: D301
    from gridpose.core import InputError
    from gridpose.lifting.data.convert import VideoPose3D, convert_split
    from gridpose.lifting.data.files import write_dataset

    splits: tuple[Split, ...] = get_args(Split)
    folder = output / _input_name(input_name, keypoints)
    _check_outputs(folder, splits, overwrite)
    source = VideoPose3D.open(poses, keypoints)
    summary: dict[str, Any] = {}
    files: list[str] = []
    for split in splits:
        console.info(f"{split}: converting")
        conversion = convert_split(source, split)
        if not conversion.data2d:
            console.warn(f"{split}: there is no recording of its subjects; no file is written")
            continue
        files += map(str, write_dataset(folder, split, conversion.data2d, conversion.data3d))
        summary[split] = _conversion_summary(conversion)
        if conversion.cut:
            most = max(abs(three - two) for three, two in conversion.cut.values())
            console.warn(
                f"{split}: {len(conversion.cut)} sequences cut to the shorter of 2D and 3D,"
                f" by {most} frames at most"
            )
        for name in conversion.without_2d:
            console.warn(f"{split}: left out {name}: {keypoints} has no 2D of it")
    if not files:
        raise InputError(f"{poses}: has no recording of the subjects S1 S5 S6 S7 S8 S9 S11")
    lines = [
        f"{split}: {entry['sequences']} sequences, {entry['frames']} frames"
        + (
            ""
            if entry["pixel_error"] is None
            else f"; 2D {entry['pixel_error']:.1f} px from the 3D (median)"
        )
        for split, entry in summary.items()
    ]
    console.result(
        {"folder": str(folder), "input": folder.name, "splits": summary, "files": files},
        "\n".join([*lines, *(f"  {file}" for file in files)]),
    )


@data_app.command()
@with_console
def build(
    mocap: Annotated[
        list[Path],
        typer.Argument(
            metavar="MOCAP",
            help=".npz with positions (N, 17, 3) metres, z up, clip, clip_names, action.",
        ),
    ],
    output: DataRoot,
    input_name: Annotated[
        str, typer.Option("--input", metavar="NAME", help="Name of the data set.")
    ] = "mocap",
    split: Annotated[Split, typer.Option(help="Which half to write.")] = "train",
    views: Annotated[int, typer.Option(min=1, help="Cameras that see each clip.")] = 4,
    noise: Annotated[
        float, typer.Option(help="Standard deviation of the 2D's error in pixels; 0 is exact.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same data.")] = 0,
    max_frames: Annotated[
        int | None, typer.Option(help="Keep so many poses over all views, evenly over the clips.")
    ] = None,
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Make a data set in the published format from motion capture and virtual cameras.

    Bones get Human3.6M's mean lengths. The cameras are like Human3.6M's (1000x1000 px, focal length
    about 1146 px, no distortion), all round, 8 degrees below to 30 above, 3 to 7 m away or as far
    as it takes to have the whole person in the frame. Long ways are cut into pieces.

    Clips are dealt out to the subjects of the published protocol, S1 S5 S6 S7 S8 for training, S9
    S11 for tests, so that every program for this format reads them. Those are groups of clips, not
    people; clips of one performer stay together where their names (or an array subject) tell.

    \b
    Examples:
      gridpose data build mocap_train.npz extra_train.npz -o data --input mocap
      gridpose data build mocap_test.npz -o data --input mocap --split test --noise 5
    """  # noqa: D301
    from gridpose.lifting.data.build import BuildOptions, build_split
    from gridpose.lifting.data.files import write_dataset

    options = BuildOptions(views=views, noise_px=noise, seed=seed, max_frames=max_frames)
    folder = output / _input_name(input_name, None)
    _check_outputs(folder, (split,), overwrite)
    data2d, data3d = build_split(mocap, split, options)
    files = [str(file) for file in write_dataset(folder, split, data2d, data3d)]
    frames = sum(len(pixels) for pixels in data2d.values())
    console.result(
        {
            "folder": str(folder),
            "input": folder.name,
            "split": split,
            "sequences": len(data2d),
            "frames": frames,
            "subjects": sorted({subject for subject, _, _ in data2d}),
            "files": files,
        },
        "\n".join(
            [
                f"{split}: {len(data2d)} sequences, {frames} frames",
                *(f"  {file}" for file in files),
            ]
        ),
    )


def _show(information: dict[str, Any]) -> str:
    """What :func:`gridpose.lifting.data.info.examine` found, as tables."""
    import io

    from rich.console import Console as RichConsole
    from rich.table import Table

    text = io.StringIO()
    # Written into a string first: the width is the terminal's, or that of a page.
    console = RichConsole(file=text, highlight=False, width=min(RichConsole().width, 100))

    def counts(title: str, entries: dict[str, dict[str, int]]) -> None:
        table = Table(title=title, title_justify="left")
        table.add_column("name")
        table.add_column("sequences", justify="right")
        table.add_column("frames", justify="right")
        for name, entry in entries.items():
            table.add_row(name, str(entry["sequences"]), str(entry["frames"]))
        console.print(table)

    for split, entry in information["splits"].items():
        console.print(
            f"{split}: {entry['frames']} frames, {entry['sequences']} sequences", style="bold"
        )
        for reason in entry["left_out"]["reasons"]:
            console.print(reason)
        counts("subjects", entry["subjects"])
        counts("actions", entry["actions"])
        for kind, unit in (("keypoints_px", "px"), ("poses_mm", "mm")):
            ranges = zip("xyz", entry[kind]["min"], entry[kind]["max"], strict=False)
            words = ", ".join(f"{axis} {low:.0f} to {high:.0f}" for axis, low, high in ranges)
            console.print(f"{'2D' if unit == 'px' else '3D'} in {unit}: {words}")
        lengths = ", ".join(f"{k} {v:.0f}" for k, v in entry["bone_lengths_mm"].items())
        console.print(f"mean bone lengths in mm: {lengths}")
        for name, digest in entry["sha256"].items():
            console.print(f"{digest}  {name}", soft_wrap=True)
        console.print()
    return text.getvalue().rstrip()


@data_app.command()
@with_console
def info(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="DATA_ROOT/NAME.")],
    *,
    console: Console,
) -> None:
    """Say what is in a data set, what the protocol leaves out of it, and what looks wrong.

    \b
    Examples:
      gridpose data info data/hrnet
      gridpose data info data/gt --json
    """  # noqa: D301
    from gridpose.lifting.data.dataset import default_exclude_drift, load_dataset
    from gridpose.lifting.data.info import examine
    from gridpose.pipeline.keypoint_input.plausibility import doubts_of_training

    information = examine(folder)
    for split, entry in information["splits"].items():
        drift = default_exclude_drift(split, folder.resolve().name)
        pixels = load_dataset(folder, split, exclude_drift=drift).keypoints_px
        entry["warnings"] += doubts_of_training(pixels)
        for warning in entry["warnings"]:
            console.warn(f"{split}: {warning}")
    console.result(information, "" if console.json_output or console.quiet else _show(information))
