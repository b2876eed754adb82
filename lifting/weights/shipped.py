"""The weights that come with the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from gridpose.core import SHIPPED_LIFTERS
from gridpose.storage import sha256

SHIPPED, SHIPPED_FRAMES = SHIPPED_LIFTERS
_WEIGHTS: Final = {
    SHIPPED: ("default-frame.safetensors", "default-temporal.safetensors"),
    SHIPPED_FRAMES: ("default-frame.safetensors",),
}


@contextmanager
def shipped_weights(name: str) -> Iterator[list[Path]]:
    """Files of a shipped lifter, that of single frames first; none for any other name."""
    with ExitStack() as stack:
        folder = files("gridpose.lifting.weights")
        yield [stack.enter_context(as_file(folder / file)) for file in _WEIGHTS.get(name, ())]


@cache
def shipped_sha256(name: str) -> str:
    """SHA-256 of a shipped lifter's files, one after the other."""
    with shipped_weights(name) as weights:
        return sha256(b"".join(file.read_bytes() for file in weights))
