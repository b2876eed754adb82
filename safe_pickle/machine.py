"""An interpreter for pickles that cannot run code.

A pickle is a program for a small stack machine, and Python's own machine calls whatever the program
names. Limiting the names it may look up (``find_class``) is not enough: it still calls
``__setstate__``, sets attributes of what it was given (functions and classes included), and takes
memory before it looks whether the file holds as much. So this module is a machine of its own:

* A name in a pickle is never looked up. It becomes an :class:`InertClass`, which is text.
* There is no instruction to call. What Python would call is looked up by that text in a fixed table
  of our own builders (``pickle_builders``); anything else is refused by name.
* Instances of unknown classes become :class:`Inert`, which keeps their state and does nothing.
* Attributes are never set; items are added to plain lists, dicts and sets only.
* Nothing is allocated that the file does not hold: lengths are checked against it before reading,
  and what builders copy is counted (:meth:`Machine.spend`).

It is written in Python, which is fast enough: arrays are single instructions in a pickle.
"""

from __future__ import annotations

import codecs
import pickletools
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any, Final

import numpy as np
import torch

Data = bytes | mmap
"""What pickles are read from."""

_HIGHEST_PROTOCOL: Final = 5
_KEY_PARTS: Final = 100
_DEEPEST: Final = 200
_COPIES: Final = 2
_FREE_BYTES: Final = 1 << 20


class UnsafeError(Exception):
    """The pickle wants something done that reading data never needs; the text says what."""


@dataclass(frozen=True)
class InertClass:
    """A class or function that a pickle names. Only the name; it is never looked up."""

    name: str

    def __str__(self) -> str:
        shown = self.name if self.name.isprintable() else repr(self.name)
        return shown if len(shown) <= 100 else f"{shown[:97]}..."


@dataclass(eq=False)
class Inert:
    """Stands for an instance of a class that is not plain data.

    ``state`` is what the instance would have been given to restore itself, usually a dict of its
    attributes. ``entries`` and ``elements`` are the content of subclasses of dict and list.
    """

    class_name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<inert {self.class_name}>"


Builder = Callable[["Machine", tuple[Any, ...]], Any]
"""Makes a plain value of arguments, which it checks."""
Restorer = Callable[["Machine", Any], None]
"""Gives a value that a builder made its state."""


# Instructions: how many bytes the argument takes, and what it means.


def _integer(line: bytes) -> int:
    # Protocol 0 writes booleans as 00 and 01.
    return line == b"01" if line in (b"00", b"01") else int(line)


def _quoted(line: bytes) -> str:
    line = line.strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    raw: bytes = codecs.escape_decode(line[1:-1])[0]
    return raw.decode("latin-1")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _latin1(data: bytes) -> str:
    return data.decode("latin-1")


def _long(line: bytes) -> int:
    return int(line.removesuffix(b"L"))


def _float(data: bytes) -> float:
    value: float = struct.unpack(">d", data)[0]
    return value


# By pickletools' names of arguments. Width: bytes of a fixed argument, or of the count in front of
# a counted one; lines end with a newline.
_FIXED: Final[Mapping[str, tuple[int, Callable[[bytes], Any]]]] = {
    "uint1": (1, _little),
    "uint2": (2, _little),
    "int4": (4, _signed),
    "uint4": (4, _little),
    "uint8": (8, _little),
    "float8": (8, _float),
}
_COUNTED: Final[Mapping[str, tuple[int, Callable[[bytes], Any]]]] = {
    "string1": (1, _latin1),
    "string4": (4, _latin1),
    "bytes1": (1, bytes),
    "bytes4": (4, bytes),
    "bytes8": (8, bytes),
    "bytearray8": (8, bytearray),
    "unicodestring1": (1, _utf8),
    "unicodestring4": (4, _utf8),
    "unicodestring8": (8, _utf8),
    "long1": (1, _signed),
    "long4": (4, _signed),
}
_LINES: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "stringnl": _quoted,
    "stringnl_noescape": _latin1,
    "unicodestringnl": lambda line: line.decode("raw-unicode-escape"),
    "decimalnl_short": _integer,
    "decimalnl_long": _long,
    "floatnl": float,
    "stringnl_noescape_pair": lambda lines: tuple(map(_utf8, lines.split(b"\n"))),
}
_DECODE: Final[Mapping[str, Callable[[bytes], Any]]] = {
    **{kind: decode for kind, (_, decode) in (*_FIXED.items(), *_COUNTED.items())},
    **_LINES,
}
_INSTRUCTIONS: Final = {
    ord(op.code): (op.name, "" if op.arg is None else op.arg.name) for op in pickletools.opcodes
}
_GETS: Final = frozenset(("GET", "BINGET", "LONG_BINGET"))
_PUTS: Final = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_PUSHED: Final = frozenset(
    (
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "FLOAT",
        "BINFLOAT",
    )
)

# Python 2 and 3, numpy 1 and 2 call the same modules differently.
_RENAMED: Final[Mapping[str, str]] = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
}


@dataclass(frozen=True)
class _Program:
    """One pickle: ``data[start:end]``, where ``end`` is at most where the pickle ends."""

    data: Data
    start: int
    end: int

    def __iter__(self) -> Iterator[tuple[str, str, int, int]]:
        """Name, kind of argument ("" for none), and where the argument lies: ``data[first:last]``.

        Raises:
            ValueError: no such instruction, or the data end too early.
        """
        data, position, end = self.data, self.start, self.end
        while position < end:
            code = data[position]
            if code not in _INSTRUCTIONS:
                raise ValueError(f"no instruction {code} at byte {position}")
            name, kind = _INSTRUCTIONS[code]
            first = last = position + 1
            position = last
            if kind in _FIXED:
                position = last = first + _FIXED[kind][0]
            elif kind in _COUNTED:
                width = _COUNTED[kind][0]
                first += width
                position = last = first + _little(data[first - width : min(first, end)])
            elif kind:
                last = data.find(b"\n", first, end)
                if kind == "stringnl_noescape_pair" and last >= 0:
                    last = data.find(b"\n", last + 1, end)
                position = last + 1 if last >= 0 else end + 1
            if position > end:
                break
            yield name, kind, first, last
            if name == "STOP":
                return
        raise ValueError("the data end too early")


class Machine:
    """Runs one pickle, see the module's docstring."""

    def __init__(
        self,
        builders: Mapping[str, Builder],
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        """``persistent`` answers persistent ids: values that lie elsewhere in the file."""
        self._builders, self._persistent = builders, persistent
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._restorers: dict[int, tuple[Any, Restorer]] = {}
        self._budget = 0

    def run(self, data: Data, start: int = 0, end: int | None = None) -> tuple[Any, int]:
        """The value of the pickle at ``start``, and the position behind the pickle.

        Raises:
            UnsafeError: it wants to call something that is not in the table of builders.
            ValueError, TypeError, IndexError, KeyError, OverflowError, RuntimeError: not a pickle,
                or a damaged one.
        """
        program = _Program(data, start, len(data) if end is None else end)
        self._budget = _COPIES * (program.end - start) + _FREE_BYTES
        # Python 2 memoises all, arrays' bytes too. Only what is fetched again is worth keeping.
        fetched = {
            int(_DECODE[kind](data[first:last]))
            for name, kind, first, last in program
            if name in _GETS
        }
        for name, kind, first, last in program:
            argument = _DECODE[kind](data[first:last]) if kind else None
            if name == "STOP":
                if len(self._stack) != 1 or self._marked:
                    raise ValueError("values are left over")
                value = self._stack.pop()
                _check_depth(value)
                return value, last
            if name in _PUTS or name == "MEMOIZE":
                index = len(self._memo) if argument is None else int(argument)
                self._memo[index] = self._stack[-1] if index in fetched else None
            else:
                self._operate(name, argument)
        raise ValueError("the data end too early")

    def spend(self, size: int) -> None:
        """Account for ``size`` more bytes or elements that a builder copies.

        An honest pickle holds each once; one that lets a small file fill the memory does not.

        Raises:
            ValueError: more than the file can account for.
        """
        self._budget -= size
        if self._budget < 0:
            raise ValueError("it holds far less data than it unfolds to")

    def awaits_state(self, value: object, restore: Restorer) -> None:
        """The pickle may give ``value`` its state, once, through ``restore``."""
        # Kept with the value: ids are unique among living objects only.
        self._restorers[id(value)] = (value, restore)

    def _operate(self, name: str, argument: Any) -> None:
        stack = self._stack
        match name:
            case _ if name in _PUSHED:
                stack.append(argument)
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[int(argument)])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._tuple(int(name[-1]))
            case "MARK":
                self._mark()
            case "TUPLE":
                items = tuple(self._pop_mark())
                self._stack.append(items)
            case "REDUCE":
                args, function = stack.pop(), stack.pop()
                stack.append(self._call(function, args))
            case "GLOBAL":
                stack.append(_named(*argument))
            case "STACK_GLOBAL":
                last, module = stack.pop(), stack.pop()
                stack.append(_named(module, last))
            case "BUILD":
                self._build(stack.pop())
            case "BINPERSID":
                stack.append(self._persistent_value(stack.pop()))
            case "PERSID":
                stack.append(self._persistent_value(argument))
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_SET":
                stack.append(set())
            case "LIST":
                elements = self._pop_mark()
                self._stack.append(elements)
            case "DICT":
                entries = self._pop_mark()
                self._stack.append({})
                self._set_items(entries)
            case "FROZENSET":
                members = self._pop_mark()
                self._stack.append(frozenset(map(checked_key, members)))
            case "APPEND":
                self._append([stack.pop()])
            case "APPENDS":
                self._append(self._pop_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set_items([key, value])
            case "SETITEMS":
                self._set_items(self._pop_mark())
            case "ADDITEMS":
                self._add_items(self._pop_mark())
            case "NEWOBJ":
                args, cls = stack.pop(), stack.pop()
                stack.append(new_instance(cls, args))
            case "NEWOBJ_EX":
                options, args, cls = stack.pop(), stack.pop(), stack.pop()
                if type(args) is not tuple or type(options) is not dict:
                    raise ValueError("an instance without arguments")
                stack.append(new_instance(cls, (*args, options) if options else args))
            case "INST":
                args = self._pop_mark()
                self._stack.append(_old_instance(_named(*argument), args))
            case "OBJ":
                cls, *args = self._pop_mark()
                self._stack.append(_old_instance(cls, args))
            case "POP" if stack:
                stack.pop()
            case "POP" | "POP_MARK":
                self._pop_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PROTO":
                if argument > _HIGHEST_PROTOCOL:
                    raise ValueError(f"pickle protocol {argument} is unknown")
            case "FRAME":
                pass  # only says how much Python should read at once
            case _:
                # EXT1, EXT2, EXT4, NEXT_BUFFER, READONLY_BUFFER: things outside the file.
                raise UnsafeError(f"use the instruction {name}")

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _mark(self) -> None:
        if len(self._marked) >= _DEEPEST:
            raise ValueError("nested too deeply")
        self._marked.append(self._stack)
        self._stack = []

    def _tuple(self, count: int) -> None:
        items = self._stack[len(self._stack) - count :]
        if len(items) != count:
            raise ValueError("too few values")
        del self._stack[len(self._stack) - count :]
        self._stack.append(tuple(items))

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is Inert:
            target = target.elements
        if type(target) is not list:
            raise ValueError(f"a {type(target).__name__} takes no elements")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is Inert:
            target = target.entries
        if type(target) is not dict or len(items) % 2:
            raise ValueError(f"a {type(target).__name__} takes no entries")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def _add_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not set:
            raise ValueError(f"a {type(target).__name__} takes no members")
        target.update(map(checked_key, items))

    def _call(self, function: Any, args: Any) -> Any:
        if type(function) is not InertClass or type(args) is not tuple:
            raise ValueError("a call of something that is no function")
        module, _, name = function.name.rpartition(".")
        builder = self._builders.get(f"{_RENAMED.get(module, module)}.{name}")
        if builder is None:
            raise UnsafeError(f"call {function}")
        return builder(self, args)

    def _build(self, state: Any) -> None:
        target = self._stack[-1]
        if type(target) is Inert:
            target.state = state
        elif id(target) in self._restorers:
            _, restore = self._restorers.pop(id(target))
            restore(self, state)
        elif type(target) is not dict:
            # Attributes of an OrderedDict (torch keeps version numbers there) are left out.
            shown = target if type(target) is InertClass else f"a {type(target).__name__}"
            raise UnsafeError(f"change {shown}")

    def _persistent_value(self, identity: Any) -> Any:
        if self._persistent is None:
            raise ValueError("it refers to data that are not in it")
        return self._persistent(identity)


def _named(module: Any, name: Any) -> InertClass:
    if type(module) is not str or type(name) is not str:
        raise ValueError("a name that is not text")
    return InertClass(f"{module}.{name}")


def new_instance(cls: Any, args: Any) -> Inert:
    """A stand-in for an instance of ``cls``.

    Raises:
        ValueError: ``cls`` is no class, or ``args`` no tuple.
    """
    if type(cls) is not InertClass or type(args) is not tuple:
        raise ValueError("an instance of something that is no class")
    return Inert(cls.name, args)


def _old_instance(cls: Any, args: list[Any]) -> Inert:
    """Of Python 2's old classes; without arguments none of their code would run."""
    if args and type(cls) is InertClass:
        raise UnsafeError(f"call {cls}")
    return new_instance(cls, ())


_SCALARS: Final = (str, bytes, int, float, bool, complex, type(None))


def checked_key(key: Any) -> Any:
    """``key``, if it is safe to hash.

    Tuples are hashed by recursion without end or memory in Python, so only small ones will do.

    Raises:
        TypeError: it is not.
    """
    if type(key) in _SCALARS or isinstance(key, (np.generic, torch.Tensor, Inert, InertClass)):
        return key
    parts, count = [key], 0
    while parts:
        part = parts.pop()
        count += 1
        if type(part) is tuple and count + len(part) <= _KEY_PARTS:
            parts.extend(part)
        elif type(part) not in _SCALARS and not isinstance(part, np.generic):
            raise TypeError(f"a {type(part).__name__} as a key")
    return key


def _children(value: Any) -> Iterator[Any]:
    kind = type(value)
    if kind in (list, tuple):
        yield from value
    elif kind is dict:
        yield from value.values()
    elif kind is Inert:
        yield from (value.args, value.state, value.entries, value.elements)
    elif kind is np.ndarray and value.dtype.hasobject:
        yield from value.ravel()


def _check_depth(value: Any) -> None:
    """Raises: ValueError: whoever walked through ``value`` would run out of stack."""
    containers = (list, tuple, dict, Inert, np.ndarray)
    level, seen = [value], set()
    for _ in range(_DEEPEST):
        below = []
        for parent in level:
            for child in _children(parent):
                if type(child) in containers and id(child) not in seen:
                    seen.add(id(child))
                    below.append(child)
        if not below:
            return
        level = below
    raise ValueError("nested too deeply")
