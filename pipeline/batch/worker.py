"""A worker process: loads the models once, then does the videos it is sent, one after another."""

from __future__ import annotations

import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Final, Literal, NamedTuple

from gridpose.core import GridposeError
from gridpose.pipeline.batch.processes import end_descendants, limit_threads
from gridpose.pipeline.batch.work import Outcome, Task, work
from gridpose.pipeline.models import Models
from gridpose.pipeline.options import VideoOptions
from gridpose.pipeline.result import Progress

_PROGRESS_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 1.0


class Message(NamedTuple):
    """From a worker: ``ready``; ``unable`` (it cannot load its models); ``started`` on a video of
    ``duration`` seconds; ``progress`` of it; ``finished`` with an ``outcome``.
    """

    what: Literal["ready", "unable", "started", "progress", "finished"]
    text: str = ""
    duration: float | None = None
    progress: Progress | None = None
    outcome: Outcome | None = None


def main(connection: Connection, options: VideoOptions, threads: int) -> None:
    """Runs in the worker until the connection ends.

    Args:
        connection: to the parent: tasks come in, :class:`Message` go out.
        options: for which to load the models.
        threads: how many each library may use.
    """
    # Ctrl-C reaches the whole terminal; the parent says what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(
        target=_end_with_parent, args=(os.getppid(),), daemon=True, name="watch"
    ).start()
    limit_threads(threads)
    told = 0.0

    def on_start(duration: float | None) -> None:
        connection.send(Message("started", duration=duration))

    def on_progress(progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= _PROGRESS_SECONDS:
            told = time.monotonic()
            connection.send(Message("progress", progress=progress))

    with Models(options) as models:
        try:
            models.load()
        except GridposeError as error:
            connection.send(Message("unable", str(error)))
            return
        connection.send(Message("ready"))
        while (task := _next_task(connection)) is not None:
            outcome = work(task, models, on_start, on_progress)
            connection.send(Message("finished", outcome=outcome))


def _next_task(connection: Connection) -> Task | None:
    try:
        task: Task | None = connection.recv()
    except EOFError:
        return None
    return task


def _end_with_parent(parent: int) -> None:
    """End this process, and what it started, when the parent has ended, however it did."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    end_descendants(os.getpid())
    os._exit(1)
