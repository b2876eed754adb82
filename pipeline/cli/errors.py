"""Errors as the command line has them: one sentence, in words of its options, and an exit code.

Messages of the library name what a Python caller would set, in backquotes: "`overwrite=True`
replaces it", "`batch_size` 0: must be at least 1". On the command line they name options.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final, NoReturn, ParamSpec

import typer

P = ParamSpec("P")

INTERRUPTED: Final = 130
TERMINATED: Final = 143


class TerminatedError(BaseException):
    """A polite request to end (SIGTERM); like Ctrl-C not for ordinary handlers."""


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
_MESSAGES: Final = ("message", "notes", "notices", "warnings")
"""What they are called in the JSON of a command."""


def as_options(text: str) -> str:
    """A message of the library, with options in place of the parameters that it names."""
    return _PARAMETER.sub(lambda match: _option(match[1], match[2]), text)


def in_options(values: Any, are_messages: bool = False) -> Any:
    """Values for JSON, with :func:`as_options` of the messages among them; names of files stay."""
    if isinstance(values, str):
        return as_options(values) if are_messages else values
    if isinstance(values, dict):
        return {key: in_options(value, key in _MESSAGES) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [in_options(value, are_messages) for value in values]
    return values


def _option(parameter: str, value: str | None) -> str:
    name = _OTHER_NAMES.get(parameter, parameter.replace("_", "-"))
    if value == "False":
        return f"--no-{name}"
    if value in (None, "True"):
        return f"--{name}"
    return f"--{name} {value}"


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn errors into one sentence and the right exit code."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        from gridpose.core import GridposeError

        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            _leave(INTERRUPTED)
        except TerminatedError:
            _leave(TERMINATED)
        except BrokenPipeError:
            _leave(1)
        except typer.Exit:
            raise
        except Exception as error:
            if isinstance(error, GridposeError):
                text, code = str(error), error.exit_code
            else:
                kind = type(error).__name__
                text, code = f"{kind}: {error} (a defect in gridpose; --verbose shows where)", 1
            if kwargs.get("verbose"):
                traceback.print_exc()
            print(f"error: {as_options(text)}", file=sys.stderr)
            raise typer.Exit(code) from error

    return wrapped


def _leave(code: int) -> NoReturn:
    """End at once: files are cleaned up by now, and native threads may still be at work."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)
