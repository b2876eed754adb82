"""Where gridpose keeps what it fetched or built once."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import platformdirs

from gridpose.core import MissingError


def cache_dir() -> Path:
    """``$GRIDPOSE_HOME``, or the user's cache folder; made when missing.

    Raises:
        MissingError: it cannot be made.
    """
    home = os.environ.get("GRIDPOSE_HOME")
    folder = Path(home) if home else Path(platformdirs.user_cache_dir("gridpose", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingError(
            f"{folder}: cannot make the cache folder ({error.strerror}); set GRIDPOSE_HOME"
        ) from error
    return folder


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def write_atomically(file: Path, data: bytes) -> None:
    """Write ``file`` so that other processes see all of it or nothing.

    Raises:
        MissingError: the folder cannot be written to.
    """
    try:
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            partial = Path(folder) / file.name
            partial.write_bytes(data)
            os.replace(partial, file)
    except OSError as error:
        raise MissingError(
            f"{file}: cannot write ({error.strerror}); set GRIDPOSE_HOME to another folder"
        ) from error
