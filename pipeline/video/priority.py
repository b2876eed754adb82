"""Who goes first when there are fewer cores than things to do.

Detection is the longest stage and hands each frame back and forth between threads. Wherever one of
them has to queue for a core the whole run waits; the other stages have time to spare. On two cores
this is worth a sixth of the run.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from typing import Any

_NICER = 19


def give_way() -> None:
    """Lower the priority of the calling thread, and of what it starts from now on."""
    _lower(threading.get_native_id())


def spawn(
    arguments: list[str], *, gives_way: bool = True, **streams: Any
) -> subprocess.Popen[bytes]:
    """Start a child process, with lower priority if it gives way.

    It is out of reach of the terminal's Ctrl-C, which is for us; we end our children ourselves.
    """
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "linux" and sys.version_info >= (3, 11):
        # Linux shares cores out among sessions first, and heeds priorities only within each.
        options = {"process_group": 0}
    child = subprocess.Popen(arguments, **streams, **options)
    if gives_way:
        _lower(child.pid)
    return child


def _lower(thread: int) -> None:
    # Elsewhere priorities belong to processes, and ours is not to be lowered.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            ours = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, thread, ours + _NICER)
