"""Options that commands share or make of the fields of options classes; ``--help`` in panels."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand

from gridpose.option import INPUT, OUTPUT, PANELS, Option
from gridpose.pipeline.cli.console import Console
from gridpose.pipeline.cli.errors import as_options, reports_errors

Command = Callable[..., None]

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
PaddingMode = Annotated[
    tuple[str, str] | None,
    typer.Option(metavar="A B", help="Two of c, z, r; published checkpoints do not say which."),
]
InputName = Annotated[
    str, typer.Option("--input", metavar="NAME", help="Data set: gt, hrnet, or another's name.")
]


def with_options(kind: type[Any], without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Let a command take ``options``, an object of an options class, as one option a field.

    Args:
        kind: a dataclass whose fields are described by :class:`gridpose.option.Option`; a field
            described by an options class stands for all of that class's fields.
        without: fields that the command does not offer; they keep their defaults.
    """
    parameters = [_parameter(field, option) for field, option in _described(kind, without)]
    return _made_of("options", parameters, lambda values: _object(kind, values))


def with_console(command: Command) -> Command:
    """Let a command take ``console`` as ``--quiet``, ``--verbose`` and ``--json``.

    Errors become one sentence and an exit code.
    """
    flags = {"quiet": Quiet, "verbose": Verbose, "json_output": Json}
    parameters = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation
        )
        for name, annotation in flags.items()
    ]
    return reports_errors(
        _made_of("console", parameters, lambda values: Console(**values))(command)
    )


def with_ignored(kinds: Mapping[str, type[Any]]) -> Callable[[Command], Command]:
    """Let a command take ``ignored``, those options given that are taken without effect.

    Args:
        kinds: types of the options by name; ``--help`` does not have them.
    """
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, typer.Option(hidden=True)],
        )
        for name, kind in kinds.items()
    ]
    return _made_of(
        "ignored",
        parameters,
        lambda values: [f"--{name}" for name, value in values.items() if value is not None],
    )


def _made_of(
    name: str, made: Sequence[inspect.Parameter], make: Callable[[Mapping[str, Any]], Any]
) -> Callable[[Command], Command]:
    """Put other parameters in the place of one that is made of them."""

    def decorate(command: Command) -> Command:
        own = dict(inspect.signature(command, eval_str=True).parameters)
        del own[name]
        # What is given by keyword may come in any order.
        kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.values()]

        @functools.wraps(command)
        def wrapped(**given: Any) -> None:
            values = {parameter.name: given.pop(parameter.name) for parameter in made}
            command(**given, **{name: make(values)})

        signature = inspect.Signature([*kept, *made])
        wrapped.__signature__ = signature  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return wrapped

    return decorate


class InPanels(TyperCommand):
    """A command whose ``--help`` lists options below the headings of their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in ("Arguments", *PANELS)}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                plain = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panel = getattr(parameter, "rich_help_panel", None) or plain
                sections.setdefault(panel, []).append(record)
        last = sections.pop("Options", [])  # those of every command
        for panel, records in [*sections.items(), ("Options", last)]:
            if records:
                with formatter.section(panel):
                    formatter.write_dl(records)


def _described(
    kind: type[Any], without: Collection[str] = ()
) -> Iterator[tuple[Field[Any], Option]]:
    for field in fields(kind):
        about = _about(field)
        if field.name in without or about is None:
            continue
        if isinstance(about, Option):
            yield field, about
        else:
            yield from _described(about, without)


def _about(field: Field[Any]) -> Option | type[Any] | None:
    """What the field is described by."""
    return field.type.__metadata__[0] if get_origin(field.type) is Annotated else None  # type: ignore[union-attr]


def _parameter(field: Field[Any], about: Option) -> inspect.Parameter:
    """A parameter that Typer makes an option of."""
    name = f"--{about.name or field.name.replace('_', '-')}"
    wanted = about.type or get_args(field.type)[0]
    default = about.default if about.default is not None else field.default
    if get_origin(wanted) is tuple:  # any number of one type
        wanted, default = list[get_args(wanted)[0]] | None, None  # type: ignore[misc]
    negative = (
        "" if about.only_on or bool not in (wanted, *get_args(wanted)) else f"/--no-{name[2:]}"
    )
    option = typer.Option(
        name + negative,
        help=as_options(about.help),
        rich_help_panel=about.panel,
        metavar=about.metavar,
        min=about.least,
        max=about.most,
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[wanted, option],
    )


def _object(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """An options object of what the command line gives; fields that are not given are default."""
    given: dict[str, Any] = {}
    for field in fields(kind):
        about = _about(field)
        if isinstance(about, type):
            given[field.name] = _object(about, values)
        elif about is not None and field.name in values:
            value = values[field.name]
            if get_origin(get_args(field.type)[0]) is tuple:
                value = tuple(value or ())
            elif about.parse is not None and value is not None:
                value = about.parse(value)
            given[field.name] = value
    return kind(**given)
