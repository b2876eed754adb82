"""Worker processes on this machine, watched over: who dies or hangs is replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from gridpose.core import GridposeError, MissingError
from gridpose.machine import usable_cores
from gridpose.pipeline.batch import worker as worker_program
from gridpose.pipeline.batch.processes import (
    THREAD_VARIABLES,
    end_descendants,
    graphics_processors,
)
from gridpose.pipeline.batch.work import Event, Outcome, Task
from gridpose.pipeline.batch.worker import Message
from gridpose.pipeline.options import VideoOptions

GRACE_SECONDS: Final = 120.0
"""Allowed for every video, on top of what its duration gives it."""
STALL_SECONDS: Final = 600.0
"""Who says nothing for so long has stopped working."""
LOADING_SECONDS: Final = 900.0
_MOST_FAILED_STARTS: Final = 3
_POLL_SECONDS: Final = 1.0
_ENDING_SECONDS: Final = 10.0


@dataclass
class _Worker:
    number: int
    process: SpawnProcess
    connection: Connection
    last_message: float
    """When it last said something, by the monotonic clock."""
    task: Task | None = None
    deadline: float | None = None
    ready: bool = False
    lost: bool = False
    """Whether its end of the connection is closed, as when it has died."""

    @property
    def name(self) -> str:
        return f"{self.number + 1}"


@dataclass
class Pool:
    """Worker processes, each with models of its own.

    Attributes:
        options: what the models are loaded for.
        workers: how many.
        timeout: seconds of work for a second of video, on top of :data:`GRACE_SECONDS`.
        stall: seconds of silence after which a worker has stopped working.
    """

    options: VideoOptions
    workers: int
    timeout: float = 60.0
    stall: float = STALL_SECONDS
    _running: dict[int, _Worker] = field(default_factory=dict)
    _failed_starts: int = 0

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """See :class:`gridpose.pipeline.batch.work.Engine`."""
        waiting = deque(tasks)
        graphics = graphics_processors() if self.options.device == "auto" else 0
        try:
            while waiting or any(worker.task for worker in self._running.values()):
                self._start_missing(len(waiting), graphics)
                for worker in self._running.values():
                    if worker.ready and worker.task is None and waiting:
                        yield self._send(worker, waiting.popleft())
                for worker in self._with_messages():
                    yield from self._receive(worker)
                for worker in list(self._running.values()):
                    yield from self._check(worker)
            self._let_end()
        finally:
            for worker in list(self._running.values()):
                self._end(worker)

    def _start_missing(self, waiting: int, graphics: int) -> None:
        """Start workers until there is one for each task that waits, or as many as may be."""
        free = sum(worker.task is None for worker in self._running.values())
        missing = [number for number in range(self.workers) if number not in self._running]
        for number in missing[: max(0, waiting - free)]:
            # With several graphics processors, one for each worker.
            device = f"cuda:{number % graphics}" if graphics else self.options.device
            self._running[number] = self._started(number, device)

    def _started(self, number: int, device: str) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        threads = max(1, usable_cores() // self.workers)
        process = context.Process(
            target=worker_program.main,
            args=(theirs, replace(self.options, device=device, save_poses=()), threads),
            name=f"gridpose-worker-{number + 1}",
        )
        # Libraries read these once, when they are loaded.
        with _environment(dict.fromkeys(THREAD_VARIABLES, str(threads))):
            process.start()
        theirs.close()
        return _Worker(number, process, ours, time.monotonic())

    def _with_messages(self) -> list[_Worker]:
        by_connection = {worker.connection: worker for worker in self._running.values()}
        return [by_connection[found] for found in wait(list(by_connection), _POLL_SECONDS)]  # type: ignore[index]

    def _send(self, worker: _Worker, task: Task) -> Event:
        worker.task, worker.deadline, worker.last_message = task, None, time.monotonic()
        with contextlib.suppress(OSError):  # it has just died, which will be noticed
            worker.connection.send(task)
        return Event("sent", task, worker.name)

    def _receive(self, worker: _Worker) -> Iterator[Event]:
        try:
            message: Message = worker.connection.recv()
        except (EOFError, OSError):
            worker.lost = True
            return
        worker.last_message = time.monotonic()
        if message.what == "unable":
            raise MissingError(message.text)
        if message.what == "ready":
            worker.ready, self._failed_starts = True, 0
        elif message.what == "started" and message.duration is not None:
            worker.deadline = worker.last_message + GRACE_SECONDS + self.timeout * message.duration
        elif message.what == "progress" and worker.task is not None:
            yield Event("progress", worker.task, worker.name, progress=message.progress)
        elif message.what == "finished" and worker.task is not None:
            task, worker.task, worker.deadline = worker.task, None, None
            yield Event("finished", task, worker.name, outcome=message.outcome)

    def _check(self, worker: _Worker) -> Iterator[Event]:
        """Notice that a worker has died or hangs; it is then no longer one of ours."""
        now = time.monotonic()
        kind, silent = "timeout", now - worker.last_message
        if worker.lost:
            worker.process.join(_ENDING_SECONDS)
            kind, message = "died", _cause_of_end(worker.process.exitcode)
        elif not worker.ready and silent > LOADING_SECONDS:
            message = "the models did not load"
        elif worker.deadline is not None and now > worker.deadline:
            message = "took longer than its duration allows"
        elif worker.task is not None and silent > self.stall:
            message = f"made no progress for {self.stall:.0f} s"
        else:
            return
        self._end(worker)
        if worker.task is not None:
            text = f"{worker.task.source}: {message}"
            outcome = Outcome(worker.task.path, "failed", kind, text)
            yield Event("finished", worker.task, worker.name, outcome=outcome)
        elif not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise GridposeError(f"no worker process gets to work: {message}")

    def _end(self, worker: _Worker) -> None:
        """Kill a worker and what it started, wherever it is."""
        if worker.process.pid is not None and worker.process.is_alive():
            end_descendants(worker.process.pid)
            worker.process.kill()
        worker.process.join(_ENDING_SECONDS)
        worker.connection.close()
        self._running.pop(worker.number, None)

    def _let_end(self) -> None:
        """Let workers that have nothing to do end by themselves."""
        for worker in self._running.values():
            with contextlib.suppress(OSError):
                worker.connection.send(None)
        end = time.monotonic() + _ENDING_SECONDS
        for worker in self._running.values():
            worker.process.join(max(0.0, end - time.monotonic()))


def _cause_of_end(status: int | None) -> str:
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        hint = ", perhaps for want of memory" if -status == signal.SIGKILL else ""
        return f"the process that worked on it was ended by {name}{hint}"
    return f"the process that worked on it ended with status {status}"


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
