"""Arrays of an ``.npz`` file; nothing in it is executed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gridpose.core import AnyArray, InputError
from gridpose.storage import NPZ_ERRORS


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
    except NPZ_ERRORS as error:
        raise InputError(f"{file}: not an npz file ({error})") from error
