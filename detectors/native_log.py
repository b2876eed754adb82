"""Keeping native libraries' log lines off the terminal.

MediaPipe's C++ code writes to file descriptor 2 whenever it likes, also from its own threads, and
can neither be configured nor asked to stop. While a :class:`NativeLog` is open, descriptor 2 leads
to a temporary file and ``sys.stderr`` to where it led before.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from typing import ClassVar, TextIO


def _is_descriptor_2(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 2
    except (OSError, ValueError):
        return False


def _open_descriptor_2() -> None:
    """A daemon may have closed it: then nobody listens, and files must not get its number."""
    try:
        os.fstat(2)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != 2:
            os.dup2(null, 2)
            os.close(null)


class NativeLog:
    """Diverts descriptor 2 from creation to :meth:`close`; may be open several times over."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _open: ClassVar[int] = 0
    _saved: ClassVar[int] = -1
    _python: ClassVar[tuple[TextIO, TextIO] | None] = None

    def __init__(self) -> None:
        self._closed = False
        with NativeLog._lock:
            if NativeLog._open == 0:
                NativeLog._divert()
            NativeLog._open += 1

    @staticmethod
    def _divert() -> None:
        _open_descriptor_2()
        with tempfile.TemporaryFile(prefix="gridpose-") as log:
            if sys.stderr is not None:
                sys.stderr.flush()
            NativeLog._saved = os.dup(2)
            if _is_descriptor_2(sys.stderr):
                ours = os.fdopen(
                    os.dup(NativeLog._saved), "w", buffering=1, errors="backslashreplace"
                )
                NativeLog._python = (sys.stderr, ours)
                sys.stderr = ours
            os.dup2(log.fileno(), 2)

    def close(self) -> None:
        """Give descriptor 2 back, once the last user is done."""
        with NativeLog._lock:
            if self._closed:
                return
            self._closed = True
            NativeLog._open -= 1
            if NativeLog._open:
                return
            os.dup2(NativeLog._saved, 2)
            os.close(NativeLog._saved)
            if NativeLog._python is not None:
                original, ours = NativeLog._python
                if sys.stderr is ours:
                    sys.stderr = original
                ours.flush()
                NativeLog._python = None
