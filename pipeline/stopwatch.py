"""How long the stages of a run are at work, and what processor time they cost."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

STAGES: Final = ("decode", "detect", "lift", "render", "encode")
LOAD, NETWORKS = "load", "networks"


class Stopwatch:
    """Busy and processor seconds by stage, from any thread.

    Busy times overlap. Processor times add up to the whole process's and its children's: besides
    the stages there are ``load``, for libraries and models, and ``networks``, for the threads in
    which OpenVINO or torch run the networks and for what no stage accounts for.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._cpu = dict.fromkeys((LOAD, *STAGES), 0.0)
        self._children = dict.fromkeys(STAGES, 0.0)
        self._started = time.process_time()
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            busy, used = time.perf_counter() - started, time.thread_time() - cpu
            with self._lock:
                self._cpu[stage] += used
                if stage in self.seconds:
                    self.seconds[stage] += busy

    def child(self, stage: str, cpu_seconds: float) -> None:
        """Note what a child process of a stage has cost."""
        self._children[stage] += cpu_seconds

    def cpu_seconds(self) -> dict[str, float]:
        """Processor seconds since the beginning."""
        rest = time.process_time() - self._started - sum(self._cpu.values())
        own = {stage: cpu + self._children.get(stage, 0.0) for stage, cpu in self._cpu.items()}
        return {**own, NETWORKS: max(rest, 0.0)}


def reap(process: subprocess.Popen[bytes]) -> float:
    """Wait for the end of a child process.

    Returns:
        Its processor seconds; 0 where the system does not tell, or it was waited for before.
    """
    if process.returncode is None and hasattr(os, "wait4"):
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except ChildProcessError:
            pass  # another thread was faster
        else:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime
    process.wait()
    return 0.0
