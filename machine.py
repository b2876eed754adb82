"""What this machine has, told without torch."""

from __future__ import annotations

import ctypes
import os


def may_have_gpu() -> bool:
    """Whether there can be a CUDA device, told without torch: by its driver's library."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def usable_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
