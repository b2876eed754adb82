"""Ending processes together with what they started, and how much of the machine there is."""

from __future__ import annotations

import contextlib
from typing import Final

import psutil

from gridpose.machine import may_have_gpu, usable_cores

THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Tell libraries when they are loaded how many threads they may use."""
WORKER_BYTES: Final = 1.5e9
"""Measured: 1.1 GB with BlazePose on full-HD video; some room for larger frames."""


def descendants(process: int) -> list[psutil.Process]:
    """The children of a process, their children, and so on; none where it has ended."""
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def end_descendants(process: int) -> None:
    """Kill everything that a process has started, at once."""
    for child in descendants(process):
        with contextlib.suppress(psutil.Error):
            child.kill()


def default_workers() -> int:
    """As many as this machine carries: by its graphics processors, else by cores and memory."""
    available: int = psutil.virtual_memory().available
    carried = max(1, min(usable_cores(), int(available / WORKER_BYTES)))
    return graphics_processors() or carried


def graphics_processors() -> int:
    """How many CUDA devices PyTorch can use."""
    if not may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def limit_threads(count: int) -> None:
    """Let OpenCV use so many threads in this process; others obey :data:`THREAD_VARIABLES`."""
    import cv2

    cv2.setNumThreads(count)
