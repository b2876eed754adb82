"""Progress of a batch: all of it, and each video that is being worked on."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from gridpose.pipeline.batch.run import BatchProgress
from gridpose.pipeline.batch.work import Outcome
from gridpose.pipeline.cli.errors import as_options


class BatchDisplay:
    """Bars on a terminal, and a line for every finished video; a context manager."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=quiet or not on_terminal,
        )
        self._all = self._bars.add_task("videos", total=None)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> BatchDisplay:
        self._bars.start()
        return self

    def update(self, news: BatchProgress) -> None:
        """Show an event."""
        event, path = news.event, news.event.task.path
        self._bars.update(self._all, completed=news.finished, total=news.total)
        if event.what == "sent":
            self._tasks[path] = self._bars.add_task(printable(path)[-40:], total=None)
        elif event.progress is not None:
            done, total = event.progress.done, event.progress.total
            total = None if total is None else max(total, done)
            self._bars.update(self._tasks[path], completed=done, total=total)
        elif event.outcome is not None:
            self._bars.remove_task(self._tasks.pop(path))
            if not self._quiet:
                line = f"[{news.finished}/{news.total}] {printable(path)}: "
                said = printable(as_options(described(event.outcome)))
                print(line + said, file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


def described(outcome: Outcome) -> str:
    """An outcome in a few words."""
    if outcome.state == "done":
        rate = (outcome.frames or 0) / max(outcome.seconds, 1e-6)
        return (
            f"{outcome.frames} frames, {outcome.people} people, {outcome.seconds:.1f} s "
            f"({rate:.1f} fps)"
        )
    if outcome.state == "unchanged":
        return "has a new date, but is the same"
    return f"{outcome.state}: {outcome.message}"


def printable(text: str) -> str:
    """``text`` in one line that every terminal can show: names may have any bytes in them."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()
