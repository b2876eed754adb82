"""What the library calls a parameter the command line calls an option.

Messages of the library name what a Python caller would set, in backquotes: "`overwrite=True`
replaces it", "`batch_size` 0: must be at least 1". On the command line they name options.
"""

from __future__ import annotations

import re
from typing import Any, Final

_PARAMETER: Final = re.compile(r"(?<![^\s(])`([a-z_]\w*)(?:=([^`]*))?`(?!\w)")

_OTHER_NAMES: Final = {
    "compiled": "compile",
    "noise_px": "noise",
    "weights": "detector-weights",
    "config": "detector-config",
    "run": "exp",
    "epochs": "epoch",
    "temperature_epochs": "temp-epoch",
    "hidden": "hidsize",
    "blocks": "num-block",
}
"""Options whose names are not those of their parameters."""


def as_options(text: str) -> str:
    """A message of the library, with options in place of the parameters that it names."""
    return _PARAMETER.sub(lambda match: _option(match[1], match[2]), text)


def in_options(values: Any) -> Any:
    """Values for JSON, with :func:`as_options` of every text among them."""
    if isinstance(values, str):
        return as_options(values)
    if isinstance(values, dict):
        return {key: in_options(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [in_options(value) for value in values]
    return values


def _option(parameter: str, value: str | None) -> str:
    name = _OTHER_NAMES.get(parameter, parameter.replace("_", "-"))
    if value == "False":
        return f"--no-{name}"
    if value in (None, "True"):
        return f"--{name}"
    return f"--{name} {value}"
