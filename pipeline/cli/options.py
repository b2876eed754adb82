"""Commands' options made of the fields of options classes, and ``--help`` in panels."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import Field, fields
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand

from gridpose.option import PANELS, Option


def with_options(
    kind: type[Any], without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take ``options``, an object of an options class, as one option a field.

    Args:
        kind: a dataclass whose fields are described by :class:`gridpose.option.Option`; a field
            described by an options class stands for all of that class's fields.
        without: fields that the command does not offer; they keep their defaults.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())
        made = [_parameter(field, option) for field, option in _described(kind, without)]
        at = next(i for i, parameter in enumerate(own) if parameter.name == "options")
        # What is given by keyword may come in any order.
        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in [*own[:at], *made, *own[at + 1 :]]]

        @functools.wraps(command)
        def wrapped(**given: Any) -> None:
            values = {parameter.name: given.pop(parameter.name) for parameter in made}
            command(**given, options=_object(kind, values))

        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
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
    negative = "" if about.only_on or wanted is not bool else f"/--no-{name[2:]}"
    option = typer.Option(
        name + negative,
        help=about.help,
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
