"""A batch on a Ray cluster: the same work as on one machine, as Ray's tasks.

Ray starts a task again when its machine or process is lost. Only this program writes the journal:
SQLite is not for files that several machines share.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from typing import Any, Final

from gridpose.core import MissingError
from gridpose.pipeline.batch.pool import GRACE_SECONDS
from gridpose.pipeline.batch.processes import THREAD_VARIABLES, end_descendants, limit_threads
from gridpose.pipeline.batch.work import Event, Outcome, Task, work
from gridpose.pipeline.models import Models
from gridpose.pipeline.options import VideoOptions

_RETRIES: Final = 2
_CONNECT_SECONDS: Final = 20
_WAIT_SECONDS: Final = 1.0
_QUEUED_PER_SLOT: Final = 1.5
"""A little more than can run, so that nobody waits for the next video."""


class RayEngine:
    """Runs tasks on a cluster; the output folder must be the same on all its machines.

    Each task takes one processor core, or with GPUs in the cluster (and no device chosen) one of
    them. Models stay loaded in Ray's processes, which do many tasks.

    Args:
        options: for every video.
        address: of the cluster; None starts one on this machine.
        workers: videos that are worked on at the same time; None as many as the cluster carries.
        timeout: seconds of work for a second of video, on top of two minutes.

    Raises:
        MissingError: Ray is not installed.
    """

    def __init__(
        self, options: VideoOptions, address: str | None, workers: int | None, timeout: float
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingError(
                "`engine=ray` needs Ray, which is not installed: pip install 'gridpose[ray]'"
            ) from error
        self._ray: Any = ray
        self._options, self._address = options, address
        self._workers, self._timeout = workers, timeout

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """See :class:`gridpose.pipeline.batch.work.Engine`.

        Raises:
            MissingError: the cluster cannot be reached.
        """
        ray = self._ray
        self._connect()
        remote = self._remote()
        waiting = deque(tasks)
        running: dict[Any, Task] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._most():
                    task = waiting.popleft()
                    running[remote.remote(task, self._timeout)] = task
                    yield Event("sent", task, "ray")
                ready, _ = ray.wait(list(running), num_returns=1, timeout=_WAIT_SECONDS)
                for reference in ready:
                    task = running.pop(reference)
                    yield Event("finished", task, "ray", outcome=self._outcome(task, reference))
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)
            ray.shutdown()

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        threads = dict.fromkeys(THREAD_VARIABLES, "1")
        try:
            _try_to_connect(self._address)
            self._ray.init(
                address="local" if self._address is None else self._address,
                include_dashboard=None if self._address else False,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"env_vars": threads},
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            where = self._address or "on this machine"
            raise MissingError(f"no Ray cluster {where}: {reason}") from error

    def _remote(self) -> Any:
        options = self._options

        def do(task: Task, timeout: float) -> Outcome:
            return run_task(task, options, timeout)

        return self._ray.remote(do).options(
            **{"num_cpus": 0, "num_gpus": 1} if self._graphics() else {"num_cpus": 1},
            max_retries=_RETRIES,
            name="gridpose",
        )

    def _graphics(self) -> bool:
        there = self._ray.cluster_resources().get("GPU", 0) >= 1
        return there and self._options.device != "cpu"

    def _most(self) -> int:
        """How many tasks may be with Ray now; machines may have come or gone."""
        if self._workers is not None:
            return self._workers
        slots = self._ray.cluster_resources().get("GPU" if self._graphics() else "CPU", 1)
        return max(1, int(slots * _QUEUED_PER_SLOT))

    def _outcome(self, task: Task, reference: Any) -> Outcome:
        ray = self._ray
        try:
            outcome: Outcome = ray.get(reference)
        except ray.exceptions.OutOfMemoryError:
            text = f"{task.source}: the machine that worked on it ran out of memory"
            return Outcome(task.path, "failed", "memory", text)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MissingError):
                raise MissingError(str(error.cause)) from error
            return Outcome(task.path, "failed", "defect", f"{task.source}: {error.cause}")
        except ray.exceptions.RayError as error:
            text = f"{task.source}: lost with its process or machine ({type(error).__name__})"
            return Outcome(task.path, "failed", "died", text)
        return outcome


def _try_to_connect(address: str | None) -> None:
    """Find out at once whether anybody is there; Ray itself tries for many minutes.

    Raises:
        OSError: nobody is.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


def run_task(task: Task, options: VideoOptions, timeout: float) -> Outcome:
    """One video, in one of Ray's processes.

    Args:
        task: what to do.
        options: for which models are loaded, once.
        timeout: seconds of work for a second of video, on top of two minutes; the process ends
            when it takes longer.
    """
    limit_threads(1)
    with ExitStack() as alarms:

        def on_start(duration: float | None) -> None:
            if duration is not None:
                alarm = threading.Timer(GRACE_SECONDS + timeout * duration, _end_process)
                alarm.daemon = True
                alarm.start()
                alarms.callback(alarm.cancel)

        return work(task, _models(options), on_start)


@lru_cache(maxsize=1)
def _models(options: VideoOptions) -> Models:
    models = Models(options)
    models.load()
    return models


def _end_process() -> None:
    end_descendants(os.getpid())
    os._exit(1)
