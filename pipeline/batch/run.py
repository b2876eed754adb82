"""A folder of videos in, a folder of results out: resumable, and accounted for to the last file."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from gridpose.core import InputError, MissingError, UsageError
from gridpose.pipeline.batch.finding import PARTIAL, find_videos
from gridpose.pipeline.batch.journal import Entry, Journal
from gridpose.pipeline.batch.options import BatchOptions
from gridpose.pipeline.batch.plan import WORDS, Item, plan, task_of
from gridpose.pipeline.batch.report import write_reports
from gridpose.pipeline.batch.work import Engine, Event, Outcome, Task

STATE_FOLDER: Final = ".gridpose"
JOURNAL: Final = "journal.sqlite3"
_LOCK: Final = "lock"
_HOLDER: Final = "running.json"
_NOTED: Final = ["state", "kind", "message", "sha256", "seconds", "duration", "frames", "people"]
"""What an outcome and its entry in the journal both have."""


@dataclass(frozen=True)
class BatchResult:
    """How a batch went.

    ``entries`` has every video that was found; ``planned`` says by path why it was done or not.
    ``seconds`` of the whole run.
    """

    output: Path
    entries: list[Entry]
    planned: dict[str, str]
    seconds: float
    done_now: int = 0
    warnings: list[str] = field(default_factory=list)
    reports: list[Path] = field(default_factory=list)

    @property
    def failed(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state == "failed"]

    @property
    def states(self) -> dict[str, int]:
        """How many videos are in each state."""
        return dict(Counter(entry.state for entry in self.entries))

    def summary(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "output": str(self.output),
            "videos": len(self.entries),
            "states": self.states,
            "done_now": self.done_now,
            "seconds": round(self.seconds, 3),
            "failed": [
                {"path": entry.path, "kind": entry.kind, "message": entry.message}
                for entry in self.failed
            ],
            "reports": [str(file) for file in self.reports],
            "warnings": self.warnings,
        }


@dataclass(frozen=True)
class BatchProgress:
    """News of a batch: ``event`` of one of its videos, ``finished`` of ``total`` to do."""

    event: Event
    finished: int
    total: int


def run_batch(
    folder: str | Path,
    output: str | Path,
    options: BatchOptions | None = None,
    *,
    dry_run: bool = False,
    on_progress: Callable[[BatchProgress], None] | None = None,
    engine: Engine | None = None,
) -> BatchResult:
    """Do every video below a folder that is not done yet.

    Results mirror the folder: ``a/b.mov`` becomes ``a/b.mp4`` and ``a/b.npz``. What was done is
    kept in ``.gridpose/journal.sqlite3`` in the output folder, so that a run that was interrupted,
    however it was, goes on where it stopped. A video that cannot be done is recorded, and the
    others go on.

    Args:
        folder: with videos.
        output: for results; made when missing.
        options: see :class:`BatchOptions`.
        dry_run: change nothing, only say what would be done.
        on_progress: called with news of every video.
        engine: what runs the videos; by default what the options say.

    Raises:
        InputError: there is no such folder.
        UsageError: options or folders that do not fit.
        MissingError: the output folder cannot be written to, or is used by another run.
    """
    folder, output, options = Path(folder), Path(output), options or BatchOptions()
    started = time.monotonic()
    options.check()
    _check_folders(folder, output)
    state = output / STATE_FOLDER
    search = find_videos(folder, output, options.include, options.exclude)
    if dry_run:
        known: dict[str, Entry] = {}
        if (state / JOURNAL).exists():
            with Journal(state / JOURNAL) as journal:
                known = journal.entries()
        items = plan(search.videos, known, output, options)
        entries = [item.entry for item in items]
        return BatchResult(
            output, entries, _reasons(items), time.monotonic() - started, warnings=search.warnings
        )
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingError(f"{state}: cannot be made ({error.strerror})") from error
    with _locked(state), Journal(state / JOURNAL) as journal:
        _remove_partials(output)
        items = plan(search.videos, journal.entries(), output, options)
        journal.save(*(item.entry for item in items if item.why == "new"))
        bookkeeping = _Bookkeeping(journal, items, options.digest)
        try:
            tasks = [task_of(item, folder, output, options) for item in items if item.due]
            if tasks:
                _work_off(tasks, engine or _engine(options), bookkeeping, on_progress)
        finally:
            bookkeeping.close()
            entries = list(bookkeeping.entries.values())
            reports = write_reports(output, folder, entries, options)
        warnings = list(search.warnings)
        if journal.behind:
            warnings.append(
                f"{journal.file}: {journal.behind} results were not noted and will be done again"
            )
        seconds = time.monotonic() - started
        return BatchResult(
            output, entries, _reasons(items), seconds, bookkeeping.done_now, warnings, reports
        )


def _check_folders(folder: Path, output: Path) -> None:
    if not folder.exists():
        raise InputError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; use gridpose video for one video")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is not a folder")
    if folder.resolve().is_relative_to(output.resolve()):
        raise UsageError(
            f"{output}: results need a folder of their own, which the videos are not in"
        )


def _reasons(items: list[Item]) -> dict[str, str]:
    return {item.entry.path: WORDS[item.why] for item in items}


def _locked(state: Path) -> AbstractContextManager[object]:
    """Hold the lock of an output folder; the system frees it when the process ends."""
    holder = state / _HOLDER
    try:
        lock = FileLock(state / _LOCK).acquire(blocking=False)
    except Timeout as error:
        try:
            who = json.loads(holder.read_text())
            text = f"process {who['process']} on {who['host']}, since {who['since']}"
        except (OSError, ValueError, KeyError):
            text = "another process"
        raise MissingError(f"{state.parent}: a batch is already at work there ({text})") from error
    except OSError as error:
        raise MissingError(f"{state}: cannot be locked ({error.strerror})") from error
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holder.write_text(
        json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since})
    )
    return lock


def _engine(options: BatchOptions) -> Engine:
    if options.engine == "ray":
        from gridpose.pipeline.batch.ray_engine import RayEngine

        return RayEngine(options.video, options.address, options.workers, options.timeout)
    from gridpose.pipeline.batch.pool import Pool
    from gridpose.pipeline.batch.processes import default_workers

    return Pool(options.video, options.workers or default_workers(), options.timeout)


class _Bookkeeping:
    """Keeps the journal up to date with what the engine tells."""

    def __init__(self, journal: Journal, items: Iterable[Item], digest: str) -> None:
        self._journal, self._digest = journal, digest
        self.entries = {item.entry.path: item.entry for item in items}
        self._before = dict(self.entries)
        self.done_now = 0

    def take(self, event: Event) -> None:
        """Note an event."""
        entry = self.entries[event.task.path]
        if event.what == "sent":
            entry = replace(
                entry,
                state="running",
                attempts=entry.attempts + 1,
                started=time.time(),
                worker=event.worker,
            )
        elif event.outcome is not None:
            entry = self._finished(entry, event.outcome)
            if entry.state == "failed":
                _remove_partials_of(event.task)
        else:
            return
        self.entries[entry.path] = entry
        self._journal.save(entry)

    def close(self) -> None:
        """What is still being worked on will not be finished."""
        for path, entry in self.entries.items():
            if entry.state == "running":
                self.entries[path] = replace(entry, state="pending", worker=None)
                self._journal.save(self.entries[path])

    def _finished(self, entry: Entry, outcome: Outcome) -> Entry:
        if outcome.state == "unchanged":
            before = self._before[entry.path]
            return replace(before, state="done", attempts=entry.attempts)
        self.done_now += outcome.state == "done"
        return replace(
            entry,
            options=self._digest,
            warnings="\n".join(outcome.warnings) or None,
            outputs=json.dumps(outcome.sizes) if outcome.sizes else None,
            **{name: getattr(outcome, name) for name in _NOTED},
        )


def _work_off(
    tasks: list[Task],
    engine: Engine,
    bookkeeping: _Bookkeeping,
    on_progress: Callable[[BatchProgress], None] | None,
) -> None:
    finished = 0
    events = engine.run(tasks)
    with closing(events):  # type: ignore[type-var]
        for event in events:
            bookkeeping.take(event)
            finished += event.what == "finished"
            if on_progress is not None:
                on_progress(BatchProgress(event, finished, len(tasks)))


def _remove_partials(output: Path) -> None:
    """Remove what runs that were killed left unfinished; nobody else is at work there."""
    for place, _, files in os.walk(output):
        for name in files:
            if PARTIAL.match(name):
                (Path(place) / name).unlink(missing_ok=True)


def _remove_partials_of(task: Task) -> None:
    """Of a video whose worker was killed."""
    start = f".{task.result.name}"[:60]
    if task.result.parent.is_dir():
        for file in task.result.parent.iterdir():
            if file.name.startswith(start) and PARTIAL.match(file.name):
                file.unlink(missing_ok=True)
