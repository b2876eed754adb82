"""What the command line prints: progress and messages on stderr, one JSON line on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gridpose.pipeline.cli.errors import as_options, in_options

if TYPE_CHECKING:
    from gridpose.pipeline.result import Progress

_LINE_SECONDS = 10.0
_TELLING = 10
"""Of what is done at least, for a rate that says when the rest will be: the first of many that are
under way at a time come late."""


class Console:
    """Messages at the verbosity that the user asked for."""

    def __init__(self, quiet: bool, verbose: bool, json_output: bool) -> None:
        self.quiet, self.verbose, self.json_output = quiet, verbose, json_output

    def info(self, text: str) -> None:
        """News that ``--quiet`` turns off."""
        if not self.quiet:
            print(as_options(text), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Something the user must know; always shown."""
        print(f"warning: {as_options(text)}", file=sys.stderr, flush=True)

    def result(self, values: dict[str, Any], text: str) -> None:
        """The outcome: one JSON object with ``--json``, else words."""
        if self.json_output:
            print(json.dumps(in_options(values)), flush=True)
        elif not self.quiet:
            print(text, flush=True)


def aligned(rows: Sequence[Sequence[str]], numbers: bool = False) -> list[str]:
    """Lines of a table; with ``numbers`` all columns but the first are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def cell(column: int, text: str) -> str:
        right = numbers and column > 0
        return text.rjust(widths[column]) if right else text.ljust(widths[column])

    return ["  ".join(cell(*place) for place in enumerate(row)).rstrip() for row in rows]


class ProgressDisplay:
    """A bar with rate and time left on a terminal, a line now and then elsewhere."""

    def __init__(self, quiet: bool, unit: str = "frames") -> None:
        self._quiet = quiet
        self._unit = unit
        self._rate = "fps" if unit == "frames" else f"{unit}/s"
        self._bar: Any = None
        self._task: Any = None
        self._started = self._last_line = time.monotonic()
        self._done_at_start = 0
        self._has_begun = False

    def __enter__(self) -> ProgressDisplay:
        if not self._quiet and sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self._unit),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=RichConsole(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None, rate="")
        return self

    def begin(self) -> None:
        """Set-up is over: frames are worked on from now on, if none is finished yet.

        Without this the first one begins it, which is wrong where many are under way at a time.
        """
        self._has_begun = True
        self._started = self._last_line = time.monotonic()

    def update(self, progress: Progress) -> None:
        """Show how far the run is."""
        if self._quiet:
            return
        now = time.monotonic()
        if (
            progress.done <= 1 and not self._has_begun
        ):  # what came before was set-up, which tells nothing of the rest
            self._started = self._last_line = now
            self._done_at_start = progress.done
        rate = (progress.done - self._done_at_start) / max(now - self._started, 1e-6)
        if self._bar is not None:
            total = None if progress.total is None else max(progress.total, progress.done)
            self._bar.update(
                self._task, completed=progress.done, total=total, rate=f"{rate:.1f} {self._rate}"
            )
        elif now - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            share, speed = "", ""
            if progress.total:
                share = f" of about {progress.total}"
            if not self._has_begun or progress.done >= _TELLING:
                speed = f", {rate:.1f} {self._rate}"
                if progress.total:
                    left = max(0.0, (progress.total - progress.done) / rate)
                    speed += f", {left:.0f} s left"
            print(f"{progress.done}{share} {self._unit}{speed}", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
