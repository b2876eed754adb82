"""Whether a result could be written, found out before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gridpose.core import MissingError, UsageError
from gridpose.storage import partial_name


def check_suffix(file: Path, suffixes: Sequence[str]) -> None:
    """Raises UsageError when the name ends in none of them."""
    if file.suffix.lower() not in suffixes:
        raise UsageError(f"{file}: the name must end in one of {', '.join(suffixes)}")


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
        raise UsageError(f"{file}: exists already; pass `overwrite=True` to replace it")
    if not file.absolute().parent.is_dir():
        raise MissingError(f"{file.absolute().parent}: no such folder for the output")
    partial = partial_name(file)
    try:
        partial.touch(exist_ok=False)
        partial.unlink()
    except OSError as error:
        raise MissingError(f"{file}: cannot be written ({error.strerror})") from error
