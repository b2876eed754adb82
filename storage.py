"""Files: the cache folder, hashes, and results that appear only when they are complete."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import platformdirs
from numpy.lib import format as npy_format
from numpy.typing import DTypeLike

from gridpose.core import AnyArray, MissingError

NPZ_ERRORS: Final = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a foreign, cut or damaged file as npz may raise."""


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


@dataclass(frozen=True)
class ArrayInPieces:
    """An array that is never in memory as a whole: its parts along the first axis, in order."""

    shape: tuple[int, ...]
    dtype: DTypeLike
    pieces: Iterable[AnyArray]


def save_npz(file: Path, arrays: Mapping[str, AnyArray | ArrayInPieces]) -> None:
    """Write a compressed ``.npz``, which appears only when it is complete.

    Raises:
        ValueError: an array of Python objects, which would have to be pickled.
        MissingError: the disk said no.
    """
    with (
        replacing(file) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                if isinstance(array, np.ndarray):
                    npy_format.write_array(stream, array, allow_pickle=False)  # type: ignore[no-untyped-call]
                    continue
                kind = npy_format.dtype_to_descr(np.dtype(array.dtype))  # type: ignore[no-untyped-call]
                header = {"descr": kind, "fortran_order": False, "shape": array.shape}
                npy_format.write_array_header_1_0(stream, header)  # type: ignore[no-untyped-call]
                for piece in array.pieces:
                    stream.write(piece.tobytes())
