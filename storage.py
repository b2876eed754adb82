"""Files: the cache folder, hashes, and results that appear only when they are complete."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


def file_sha256(file: Path) -> str:
    """Hex digest of a file's content, which is not held in memory."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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


def partial_name(file: Path) -> Path:
    """A name beside ``file`` for its unfinished content, with the same suffix."""
    # File systems limit the bytes of a name, not its characters.
    stem = file.stem.encode(errors="surrogateescape")[:100].decode(errors="ignore")
    return file.with_name(f".{stem}.{secrets.token_hex(4)}.part{file.suffix}")


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A name to write to; at the end it becomes ``file``, or is removed after an exception.

    Raises:
        MissingError: the disk said no.
    """
    partial = partial_name(file)
    try:
        yield partial
        os.replace(partial, file)
    except OSError as error:
        raise MissingError(f"{file}: cannot be written ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)
