"""``gridpose batch``: a folder of videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gridpose.option import OUTPUT
from gridpose.pipeline.batch.options import BatchOptions
from gridpose.pipeline.cli.console import Console
from gridpose.pipeline.cli.errors import as_options
from gridpose.pipeline.cli.options import with_console, with_options

if TYPE_CHECKING:
    from gridpose.pipeline.batch import BatchResult

PARTLY_FAILED: Final = 5
_MOST_ROWS: Final = 20


@with_console
@with_options(BatchOptions, without=["start", "end", "fps", "select", "save_poses", "overwrite"])
def batch_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With videos, at any depth.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUTDIR",
            help="Folder for the results, which mirrors the other one.",
            rich_help_panel=OUTPUT,
        ),
    ],
    options: BatchOptions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    *,
    console: Console,
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
    from gridpose.pipeline.batch import run_batch
    from gridpose.pipeline.cli.batch_display import BatchDisplay, printable

    with BatchDisplay(console.quiet) as display:
        result = run_batch(folder, output, options, dry_run=dry_run, on_progress=display.update)
    for warning in result.warnings:
        console.warn(warning)
    if dry_run:
        lines = [f"{what}: {printable(path)}" for path, what in result.planned.items()]
        console.result({"planned": result.planned}, "\n".join([*lines, f"{len(lines)} videos"]))
        return
    for line in _failures(result):
        typer.echo(as_options(line), err=True)
    states = ", ".join(f"{count} {state}" for state, count in sorted(result.states.items()))
    text = f"{len(result.entries)} videos: {states or 'none'}; {result.done_now} done now, "
    files = "".join(f"\n  {file}" for file in result.reports)
    console.result(result.summary(), f"{text}{result.seconds:.1f} s{files}")
    if result.failed:
        raise typer.Exit(PARTLY_FAILED)


def _failures(result: BatchResult) -> list[str]:
    """A line for each video that failed; of many, the first ones."""
    from gridpose.pipeline.cli.batch_display import printable

    lines = [f"failed ({entry.kind}): {printable(entry.message or '')}" for entry in result.failed]
    if len(lines) > _MOST_ROWS:
        lines[_MOST_ROWS:] = [f"... and {len(lines) - _MOST_ROWS} more: see the report"]
    return lines
