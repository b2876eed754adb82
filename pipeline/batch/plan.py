"""What is left to do: the videos that were found, held against the journal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Final, Literal

from gridpose.pipeline.batch.finding import Found
from gridpose.pipeline.batch.journal import Entry
from gridpose.pipeline.batch.options import BatchOptions
from gridpose.pipeline.batch.work import POSES, VIDEO, Task

Why = Literal["new", "interrupted", "changed", "options", "missing", "again", "done", "failed"]
"""``again``: it failed before, or was left out, and is tried anew. The last two are not done."""
WORDS: Final[Mapping[Why, str]] = {
    "new": "new",
    "interrupted": "was interrupted",
    "changed": "has changed",
    "options": "other options",
    "missing": "results are missing",
    "again": "again",
    "done": "done before",
    "failed": "failed before",
}


@dataclass(frozen=True)
class Item:
    """A video, its line in the journal, and why it is done or not."""

    entry: Entry
    why: Why

    @property
    def due(self) -> bool:
        return self.why not in ("done", "failed")


def plan(
    found: Sequence[Found], known: Mapping[str, Entry], output: Path, options: BatchOptions
) -> list[Item]:
    """An item for every video, in the same order."""
    taken = {_folded(entry.result) for entry in known.values()}
    items = []
    for video in found:
        before = known.get(video.path)
        if before is None:
            result = _free_name(video.path, taken)
            taken.add(_folded(result))
            items.append(Item(Entry(video.path, result, video.size, video.mtime_ns), "new"))
            continue
        why = _why(video, before, output, options)
        if why not in ("done", "failed"):
            before = replace(before, size=video.size, mtime_ns=video.mtime_ns)
        if before.state == "running":  # by a run that has ended
            before = replace(before, state="pending", worker=None)
        items.append(Item(before, why))
    return items


def task_of(item: Item, folder: Path, output: Path, options: BatchOptions) -> Task:
    """What an engine needs to know."""
    entry = item.entry
    return Task(
        path=entry.path,
        source=folder / entry.path,
        root=output,
        result=output / entry.result,
        options=options.video,
        render=options.render,
        max_duration=options.max_duration,
        # A new date alone, as copying gives, is no reason to do everything again.
        done_sha256=entry.sha256 if item.why == "changed" and entry.state == "done" else None,
    )


def _why(video: Found, before: Entry, output: Path, options: BatchOptions) -> Why:
    if before.state in ("pending", "running"):
        return "interrupted" if before.attempts else "new"
    if before.options != options.digest:
        return "options"
    same = (before.size, before.mtime_ns) == (video.size, video.mtime_ns)
    if before.state == "skipped":
        return "again"
    if before.state == "failed":
        return "changed" if not same else "again" if options.retry_failed else "failed"
    if not _intact(before, output, options.render):
        return "missing"
    return "done" if same else "changed"


def _intact(entry: Entry, output: Path, render: bool) -> bool:
    """Whether the results are there, as large as they were."""
    sizes = json.loads(entry.outputs or "{}")
    for suffix in (VIDEO, POSES) if render else (POSES,):
        file = output / (entry.result + suffix)
        try:
            if file.stat().st_size != sizes.get(suffix):
                return False
        except OSError:
            return False
    return True


def _free_name(path: str, taken: Iterable[str]) -> str:
    """Where results go: the same path without the suffix, or with it where that is taken."""
    pure = PurePath(path)
    plain = str(pure.with_name(pure.stem))
    candidates = [plain, path] + [f"{path}-{number}" for number in range(2, 1000)]
    return next(name for name in candidates if _folded(name) not in taken)


def _folded(name: str) -> str:
    """File systems may not tell upper from lower case."""
    return name.casefold()
