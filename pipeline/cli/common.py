"""What all commands share: option types, and errors as one sentence with an exit code."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, ParamSpec

import typer

from gridpose.option import INPUT, OUTPUT
from gridpose.pipeline.cli.errors import as_options

P = ParamSpec("P")

INTERRUPTED = 130
TERMINATED = 143


class TerminatedError(BaseException):
    """A polite request to end (SIGTERM); like Ctrl-C not for ordinary handlers."""


BOTH_SPELLINGS: Final[dict[str, Any]] = {
    "token_normalize_func": lambda name: name.replace("_", "-")
}
"""Settings of a command whose options have published names, which are written with underscores."""

LiftingModel = Literal["gridconv", "dgridconv", "dgridconv_autogrids"]
"""The lifting networks by their published names."""


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print details, and tracebacks.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace results that exist.", rich_help_panel=OUTPUT),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where networks run: auto, cpu, cuda or cuda:N; auto takes a GPU if there is one."
    ),
]
Tracks = Annotated[
    list[int] | None,
    typer.Option(
        "--track", help="Only this person; may be given several times.", rich_help_panel=INPUT
    ),
]
DataRoot = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Data sets are folders in this one.")
]
InputName = Annotated[
    str, typer.Option("--input", metavar="NAME", help="Data set: gt, hrnet, or another's name.")
]


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn errors into one sentence and the right exit code."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        from gridpose.core import GridposeError

        verbose = bool(kwargs.get("verbose"))
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
            text, code = str(error), 1
            if isinstance(error, GridposeError):
                code = error.exit_code
            else:
                kind = type(error).__name__
                text = f"{kind}: {error} (a defect in gridpose; --verbose shows where)"
            if verbose:
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
