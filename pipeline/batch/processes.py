"""Ending processes together with what they started, and how much of the machine there is."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

from gridpose.core import usable_cores

THREAD_VARIABLES: Final = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
)
WORKER_BYTES: Final = 1.5e9
"""Measured: 1.1 GB with BlazePose on full-HD video; some room for larger frames."""


def descendants(process: int) -> list[int]:
    """Ids of the children of a process, of their children, and so on; Linux only, else none."""
    found: list[int] = []
    waiting = [process]
    while waiting:
        for tasks in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(child) for child in tasks.read_text().split()]
                found += children
                waiting += children
    return found


def end_descendants(process: int) -> None:
    """Kill everything that a process has started, at once."""
    for child in descendants(process):
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)


def resident_bytes(process: int) -> int | None:
    """Memory of a process; None where that is not to be had."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> float:
    """Memory that is free for new processes; infinite where that is not to be had."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        return float(line.split()[1]) * 1024
    return float("inf")


def default_workers() -> int:
    """As many as this machine carries: by its graphics processors, else by cores and memory."""
    graphics = graphics_processors()
    if graphics:
        return graphics
    return max(1, min(usable_cores(), int(available_bytes() / WORKER_BYTES)))


def graphics_processors() -> int:
    """How many CUDA devices PyTorch can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def limit_threads(count: int) -> None:
    """Let PyTorch and OpenCV use so many threads in this process."""
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def device_of(worker: int, wanted: str, graphics: int) -> str:
    """The device of a worker by its number: with several graphics processors one for each."""
    if wanted != "auto" or not graphics:
        return wanted
    return f"cuda:{worker % graphics}"
