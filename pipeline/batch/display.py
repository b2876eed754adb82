"""Progress of a batch: all of it, and each video that is being worked on."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gridpose.pipeline.batch.run import BatchProgress

if TYPE_CHECKING:
    from gridpose.pipeline.batch.work import Outcome


class BatchDisplay:
    """Bars on a terminal, a line for every finished video elsewhere; a context manager."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bars: Any = None
        self._all: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> BatchDisplay:
        if not self._quiet and sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bars.start()
        return self

    def update(self, news: BatchProgress) -> None:
        """Show an event."""
        event = news.event
        if self._quiet:
            return
        if event.what == "finished" and event.outcome is not None:
            line = f"[{news.finished}/{news.total}] {printable(event.task.path)}: "
            print(line + printable(described(event.outcome)), file=sys.stderr, flush=True)
        if self._bars is not None:
            self._show(news)

    def _show(self, news: BatchProgress) -> None:
        event = news.event
        if self._all is None:
            self._all = self._bars.add_task("videos", total=news.total)
        self._bars.update(self._all, completed=news.finished)
        if event.what == "sent":
            self._tasks[event.task.path] = self._bars.add_task(
                printable(event.task.path)[-40:], total=None
            )
        elif event.what == "progress" and event.progress is not None:
            done, total = event.progress.done, event.progress.total
            self._bars.update(
                self._tasks[event.task.path],
                completed=done,
                total=None if total is None else max(total, done),
            )
        elif event.what == "finished":
            self._bars.remove_task(self._tasks.pop(event.task.path))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
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
