"""Results that appear under their name only when they are complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridpose.core import MissingError, UsageError


def check_output(file: Path, overwrite: bool) -> None:
    """Find out before any work whether a result could be written.

    Raises:
        UsageError: it exists and may not be overwritten, or is a folder.
        MissingError: its folder is missing or cannot be written to.
    """
    try:
        is_folder, exists = file.is_dir(), file.exists()
    except OSError as error:
        raise MissingError(f"{file}: cannot be written ({error.strerror})") from error
    if is_folder:
        raise UsageError(f"{file}: is a folder; give the name of a file")
    if exists and not overwrite:
        raise UsageError(f"{file}: exists already; pass --overwrite to replace it")
    if not file.absolute().parent.is_dir():
        raise MissingError(f"{file.absolute().parent}: no such folder for the output")
    partial = partial_name(file)
    try:
        partial.touch(exist_ok=False)
        partial.unlink()
    except OSError as error:
        raise MissingError(f"{file}: cannot be written ({error.strerror})") from error


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
