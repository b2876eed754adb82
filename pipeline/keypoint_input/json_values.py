"""JSON, read with bounds, and its values, checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from gridpose.core import AnyArray, DoubleArray, InputError

MAX_JSON_BYTES: Final = 2 << 30
"""Python takes about five times as much memory while it reads."""
_MAX_TEXT: Final = 256
_LARGEST_INT: Final = 2**63 - 1


def load_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: not JSON, damaged, or too large.
    """
    try:
        size = file.stat().st_size
        if size > MAX_JSON_BYTES:
            raise InputError(
                f"{file}: has {size / 2**30:.1f} GB; JSON of at most {MAX_JSON_BYTES >> 30} GB is "
                "read, so split it"
            )
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{file}: not a JSON file of keypoints ({reason})") from error


def shown(value: Any) -> str:
    """A value in few characters, for messages."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Entry:
    """An object in a JSON file and, for messages, where it stands there.

    Its methods read a member; they raise InputError where there is none, or one of another kind.
    """

    where: str
    members: dict[str, Any]

    def __contains__(self, key: str) -> bool:
        return key in self.members

    def value(self, key: str) -> Any:
        """Anything."""
        if key not in self.members:
            raise InputError(f"{self.where} has no {key}")
        return self.members[key]

    def entries(self, key: str) -> list[Entry]:
        """A list of objects."""
        return entries(self.value(key), f"{self.where}.{key}")

    def numbers(self, key: str) -> DoubleArray:
        """A list of numbers, (N,)."""
        return numbers(self.value(key), f"{self.where}.{key}")

    def number(self, key: str) -> float:
        """A single number."""
        return float(numbers([self.value(key)], f"{self.where}.{key}")[0])

    def whole(self, key: str) -> int:
        """A whole number."""
        value = self.value(key)
        if _is_whole(value):
            return int(value)
        raise InputError(f"{self.where}.{key} must be a whole number, not {shown(value)}")

    def identifier(self, key: str) -> int | str:
        """A whole number or a short text."""
        value: int | str = self.value(key)
        if _is_whole(value) or (type(value) is str and len(value) <= _MAX_TEXT):
            return value
        raise InputError(
            f"{self.where}.{key} must be a whole number or a short text, not {shown(value)}"
        )


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= _LARGEST_INT  # true and false are none


def entries(value: Any, where: str) -> list[Entry]:
    """A list of objects.

    Raises:
        InputError: something else.
    """
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list, not {shown(value)}")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise InputError(f"{where}[{index}] must be an object, not {shown(item)}")
    return [Entry(f"{where}[{index}]", item) for index, item in enumerate(value)]


def numbers(value: Any, where: str) -> DoubleArray:
    """A list of numbers, (N,); numbers in quotes, true and false are none.

    Raises:
        InputError: something else.
    """
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list of numbers, not {shown(value)}")
    if not {int, float}.issuperset(map(type, value)):
        wrong = next(each for each in value if type(each) not in (int, float))
        raise InputError(f"{where} must be numbers, but has {shown(wrong)}")
    try:
        return np.array(value, np.float64)
    except OverflowError as error:
        raise InputError(f"{where} has a number that is too large") from error


def column(values: Sequence[int | str]) -> AnyArray:
    """Identifiers as an array (N,): of int64, or of text where one is a text."""
    if all(isinstance(value, int) for value in values):
        return np.array(values, np.int64)
    return np.array([str(value) for value in values], np.str_)
