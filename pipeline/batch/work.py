"""One video of a batch: what every engine runs, wherever it runs it, and what it tells of it."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, Protocol

from gridpose.core import GridposeError, InputError, MissingError
from gridpose.pipeline.models import Models
from gridpose.pipeline.options import VideoOptions
from gridpose.pipeline.result import Progress
from gridpose.pipeline.run import run_video
from gridpose.pipeline.video.ffmpeg import probe
from gridpose.pipeline.video.reader import check_readable
from gridpose.storage import file_sha256

VIDEO: Final = ".mp4"
POSES: Final = ".npz"
_KINDS: Final = {2: "usage", 3: "input", 4: "missing"}
"""What an error is called, by its exit code."""


@dataclass(frozen=True)
class Task:
    """A video to do. Everything in it can be sent to another process or machine.

    Attributes:
        path: below the input folder; names the task.
        source: the file.
        root: the output folder, which results may not leave.
        result: results without their suffix.
        options: of the run; detector and lifter by name or file.
        render: write a video too, not pose files only.
        max_duration: leave it out when it is longer, seconds.
        done_sha256: content of the file of which the results are there already.
    """

    path: str
    source: Path
    root: Path
    result: Path
    options: VideoOptions
    render: bool = True
    max_duration: float | None = None
    done_sha256: str | None = None

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the results."""
        return (VIDEO, POSES) if self.render else (POSES,)

    def output(self, suffix: str) -> Path:
        """A result; names may have dots, so suffixes are added, not replaced."""
        return self.result.with_name(self.result.name + suffix)


@dataclass(frozen=True)
class Outcome:
    """How a video went.

    ``kind`` and ``message`` tell why it failed or was skipped; ``sizes`` are the results' bytes by
    suffix; ``seconds`` of work, ``duration`` of the video. "unchanged" means that only the date of
    the file is new.
    """

    path: str
    state: Literal["done", "failed", "skipped", "unchanged"]
    kind: str | None = None
    message: str | None = None
    warnings: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    sha256: str | None = None
    seconds: float = 0.0
    duration: float | None = None
    frames: int | None = None
    people: int | None = None


@dataclass(frozen=True)
class Event:
    """News of a task: it was sent to a ``worker``, has got so far, or has an ``outcome``."""

    what: Literal["sent", "progress", "finished"]
    task: Task
    worker: str
    progress: Progress | None = None
    outcome: Outcome | None = None


class Engine(Protocol):
    """Runs tasks, each once, and tells how they go."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """Start with the first ones; ends when all have finished.

        Closing the iterator ends all work at once.

        Raises:
            GridposeError: nothing can be run, say because the models cannot be loaded.
        """
        ...


def work(
    task: Task,
    models: Models,
    on_start: Callable[[float | None], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Do one video; whatever goes wrong with it is an outcome, not an error.

    Args:
        task: what to do.
        models: loaded for these options.
        on_start: called with the video's duration, once it is known to be one.
        on_progress: called after every finished frame.
    """
    started = time.monotonic()
    try:
        outcome = _run(task, models, on_start, on_progress)
    except GridposeError as error:
        kind = _KINDS.get(error.exit_code, "error")
        outcome = Outcome(task.path, "failed", kind, str(error))
    except MemoryError:
        outcome = Outcome(task.path, "failed", "memory", f"{task.source}: not enough memory")
    except OSError as error:
        text = f"{error.filename or task.source}: {error.strerror or error}"
        outcome = Outcome(task.path, "failed", "system", text)
    except Exception as error:  # noqa: BLE001 - one video must not end the others
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{where.name}:{where.lineno}"
        text = f"{type(error).__name__}: {error} (a defect in gridpose, {place})"
        outcome = Outcome(task.path, "failed", "defect", text)
    return replace(outcome, seconds=time.monotonic() - started)


def _run(
    task: Task,
    models: Models,
    on_start: Callable[[float | None], None] | None,
    on_progress: Callable[[Progress], None] | None,
) -> Outcome:
    check_readable(task.source)
    if task.done_sha256 is not None:
        sha256 = file_sha256(task.source)
        if sha256 == task.done_sha256:
            return Outcome(task.path, "unchanged", sha256=sha256)
    info = probe(task.source)
    duration = info.duration
    if task.max_duration is not None and duration is not None and duration > task.max_duration:
        why = f"is {duration:.0f} s long, more than {task.max_duration:g} s"
        return Outcome(task.path, "skipped", "long", f"{task.source}: {why}", duration=duration)
    if on_start is not None:
        on_start(duration)
    _make_folder(task)
    options = replace(task.options, save_poses=(task.output(POSES),), overwrite=True)
    video = task.output(VIDEO) if task.render else None
    result = run_video(
        task.source, video, options, models=models, on_progress=on_progress, info=info
    )
    return Outcome(
        task.path,
        "done",
        warnings=tuple(result.warnings),
        sizes={suffix: _on_disk(task.output(suffix)) for suffix in task.suffixes},
        sha256=result.meta["source_sha256"],
        duration=duration,
        frames=result.frames,
        people=len(result.track_ids),
    )


def _make_folder(task: Task) -> None:
    """Make the result's folder, unless a link there leads out of the output folder."""
    folder = task.result.parent
    if not folder.resolve().is_relative_to(task.root.resolve()):
        raise InputError(f"{folder}: a link leads out of the output folder {task.root}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingError(f"{folder}: cannot be made ({error.strerror})") from error


def _on_disk(file: Path) -> int:
    """Bytes of a file, which outlasts a power cut from now on."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
