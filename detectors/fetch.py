"""Fetching a registered model: by itself, or out of a package of a registry that holds it."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from gridpose.core import MissingError
from gridpose.detectors.download import NowhereError, OnProgress, Patience, alone, download
from gridpose.detectors.registry import Archive, Model, sources, weights_file
from gridpose.storage import file_sha256, replacing

_BRIEFLY: Final = Patience(connect_seconds=5.0, tries=2)
"""For an address when the file can be had elsewhere too."""


def fetch(
    model: Model, on_progress: OnProgress | None = None, patience: Patience | None = None
) -> Path:
    """Fetch a model into the cache, from its addresses or else from its archive.

    Args:
        model: what to fetch.
        on_progress: called as for :func:`~gridpose.detectors.download.download`.
        patience: how long servers are waited for.

    Returns:
        The verified file.

    Raises:
        MissingError: nothing gave the right file, or it cannot be written.
    """
    file, archive = weights_file(model), model.archive
    try:
        download(
            sources(model),
            file,
            model.sha256,
            model.size,
            on_progress=on_progress,
            patience=patience or (_BRIEFLY if archive else None),
        )
    except NowhereError as error:
        if archive is None:
            raise
        try:
            _from_archive(archive, model, file, on_progress, patience)
        except NowhereError as other:
            raise NowhereError(file, (*error.failures, *other.failures)) from None
    return file


def _from_archive(
    archive: Archive,
    model: Model,
    file: Path,
    on_progress: OnProgress | None,
    patience: Patience | None,
) -> None:
    """Take the file out of its archive, which does not stay.

    Raises:
        NowhereError: the archive cannot be had.
        MissingError: the disk is full, or the archive holds another file.
    """
    package = file.with_name(f".{file.name}.archive")
    with alone(file):
        if file.is_file() and file_sha256(file).startswith(model.sha256):
            return  # another process was faster
        download(
            (archive.url,), package, archive.sha256, on_progress=on_progress, patience=patience
        )
        try:
            with replacing(file) as partial:
                with _member(package, archive.member) as source, partial.open("wb") as target:
                    shutil.copyfileobj(source, target)
                found = file_sha256(partial)
                if not found.startswith(model.sha256):
                    raise MissingError(
                        f"{archive.url} holds another {archive.member}: its SHA-256 is {found}, "
                        f"not {model.sha256}"
                    )
        finally:
            package.unlink(missing_ok=True)
            package.with_name(f".{package.name}.lock").unlink(missing_ok=True)


@contextmanager
def _member(package: Path, name: str) -> Iterator[IO[bytes]]:
    """A file in a wheel or in a gzipped tar archive."""
    if zipfile.is_zipfile(package):
        with zipfile.ZipFile(package) as wheel, wheel.open(name) as stream:
            yield stream
        return
    with tarfile.open(package, "r:gz") as tarball:
        member = tarball.extractfile(name)
        if member is None:
            raise KeyError(name)
        with member:
            yield member
