"""The one folder that a server's files are in."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

_PREFIX: Final = "gridpose-app-"
_VARIABLES: Final = ("TMPDIR", "TEMP", "TMP", "GRADIO_TEMP_DIR")


@contextmanager
def server_folder() -> Iterator[Path]:
    """A new folder for all temporary files of this process, which is removed at the end.

    Folders of servers that were killed are removed first. Who lives holds a lock beside its folder,
    which ends with the process, however that ends.
    """
    place = Path(tempfile.gettempdir())
    _sweep(place)
    folder = place / f"{_PREFIX}{secrets.token_hex(8)}"
    with ExitStack() as stack:
        stack.callback(_lock_of(folder).unlink, missing_ok=True)
        stack.enter_context(FileLock(_lock_of(folder)))  # first: another server may sweep
        folder.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(_temporary_files_in(folder))
        yield folder


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have all of this process and of those it starts there."""
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, str(folder)))
    tempfile.tempdir = None  # to be looked up anew
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        tempfile.tempdir = None


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _sweep(place: Path) -> None:
    """Remove what servers that are no more have left."""
    for lock_file in place.glob(f"{_PREFIX}*.lock"):
        try:
            with FileLock(lock_file, timeout=0):
                shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
                lock_file.unlink(missing_ok=True)
        except (Timeout, OSError):  # it lives, or is another user's
            continue
