"""JSON, read with bounds, and its values, checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from gridpose.core import AnyArray, DoubleArray, FloatArray, InputError

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


def items(value: Any, where: str) -> list[dict[str, Any]]:
    """A list of objects.

    Raises:
        InputError: something else.
    """
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list, not {shown(value)}")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise InputError(f"{where}[{index}] must be an object, not {shown(item)}")
    return value


def member(item: dict[str, Any], key: str, where: str) -> Any:
    """``item[key]``.

    Raises:
        InputError: there is none.
    """
    if key not in item:
        raise InputError(f"{where} has no {key}")
    return item[key]


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


def number(value: Any, where: str) -> float:
    """A single number.

    Raises:
        InputError: something else.
    """
    return float(numbers([value], where)[0])


def identifier(value: Any, where: str) -> int | str:
    """A whole number or a text.

    Raises:
        InputError: something else, or too long.
    """
    if type(value) is int and abs(value) <= _LARGEST_INT:
        return value
    if type(value) is str and len(value) <= _MAX_TEXT:
        return value
    raise InputError(f"{where} must be a whole number or a short text, not {shown(value)}")


def whole(value: Any, where: str) -> int:
    """A whole number.

    Raises:
        InputError: something else.
    """
    if type(value) is int and abs(value) <= _LARGEST_INT:
        return value
    raise InputError(f"{where} must be a whole number, not {shown(value)}")


def column(values: Sequence[int | str]) -> AnyArray:
    """Identifiers as an array (N,): of int64, or of text where one is a text."""
    if all(isinstance(value, int) for value in values):
        return np.array(values, np.int64)
    return np.array([str(value) for value in values], np.str_)


def single(values: Sequence[DoubleArray], empty: tuple[int, ...]) -> FloatArray:
    """Arrays of one shape stacked as float32; ``empty`` is the shape of one where there is none."""
    with np.errstate(over="ignore"):  # too large is not finite, and that is absent
        stacked = np.stack(values) if values else np.empty((0, *empty))
        return stacked.astype(np.float32)
