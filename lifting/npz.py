"""Arrays of an ``.npz`` file; nothing in it is executed."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import AnyArray, InputError

UNREADABLE: Final = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    MemoryError,
    TypeError,
    AttributeError,  # of a .npy file
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise for files that are damaged, encrypted or of another kind."""


def read_arrays(
    file: Path, names: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, AnyArray]:
    """Read arrays by their names; those that are ``optional`` where they are there.

    Raises:
        InputError: not such a file, or an array is missing.
    """
    try:
        with np.load(file, allow_pickle=False) as data:
            missing = [name for name in names if name not in data]
            if missing:
                raise InputError(f"{file}: no array {', '.join(missing)}")
            return {name: data[name] for name in (*names, *optional) if name in data}
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except UNREADABLE as error:
        raise InputError(f"{file}: not an npz file ({error})") from error
