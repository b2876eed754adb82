"""Files that torch or Python pickled, read without executing anything in them.

Three forms: torch's legacy form (several pickles, then the tensors' bytes; what PyTorch before 1.6
wrote), torch's zip form, and a bare pickle; by Python 2 or 3. Python 2's byte strings become text
as latin-1, tensors of any device lie on the CPU, and sharing of storages between tensors is kept.

A pickle is a program for a small machine. Limiting the names that it may look up is not enough:
Python's machine also calls ``__setstate__``, sets attributes of functions, hashes what was nested
without end and takes memory before it looks whether the file holds as much. So this is Python's
machine with those instructions replaced. A name is never looked up, it becomes a :class:`Global`,
which is text; called are only functions in the table at the end of this module.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import pickletools
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from gridpose.core import InputError, MissingError

_ZIP: Final = b"PK\x03\x04"
_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL: Final = 1001
_DEEPEST: Final = 200
_MOST_DIMENSIONS: Final = 32
_LONGEST_KEY: Final = 100
_LONGEST_NAME: Final = 1000
_FREE_COPIES: Final = 1 << 16


class UnsafeError(Exception):
    """The pickle wants something done that reading data never needs; the text says what."""


@dataclass(frozen=True)
class Global:
    """A class or function that a pickle names. Only the name; it is never looked up."""

    name: str

    def __str__(self) -> str:
        shown = self.name if self.name.isprintable() else repr(self.name)
        return shown if len(shown) <= 100 else f"{shown[:97]}..."


@dataclass(eq=False)
class Opaque:
    """Stands for an instance of a class that is not plain data; its content is left out."""

    class_name: str

    def _ignore(self, *content: object) -> None:
        pass

    append = extend = __setitem__ = _ignore


class _Mapped(mmap.mmap):
    """A mapped file, as an open one: arrays are copied out once, and never is all in memory."""

    def seekable(self) -> bool:  # which zipfile asks, and Python before 3.13 cannot answer
        return True


def load(file: Path) -> Any:
    """What ``file`` holds, in torch's legacy or zip form or as a bare pickle.

    Returns:
        Plain containers and values, NumPy arrays, CPU tensors, and :class:`Opaque` and
        :class:`Global` in place of all else. OrderedDict and defaultdict become dict.

    Raises:
        MissingError: there is no such file.
        InputError: it is damaged, of another kind, or would call code.
    """
    if not file.is_file():
        raise MissingError(f"{file}: no such file")
    try:
        with file.open("rb") as opened:
            stream: Any = _Mapped(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    with stream:
        return _read(stream, len(stream), str(file))


def loads(data: bytes, name: str) -> Any:
    """As :func:`load`, from memory; ``name`` is what errors call it.

    Raises:
        InputError: as for :func:`load`.
    """
    return _read(io.BytesIO(data), len(data), name)


def _read(stream: IO[bytes], size: int, name: str) -> Any:
    try:
        start = stream.read(len(_ZIP))
        stream.seek(0)
        if start == _ZIP:
            return _read_zip(stream, size)
        first = _unpickle(stream, size)
        # As it may be an array, whose comparison is no answer, the type comes first.
        if type(first) is int and first == _LEGACY_MAGIC:
            return _read_legacy(stream, size)
        return first
    except UnsafeError as error:
        raise InputError(
            f"{name}: refused, because reading it would {error}, and that can run any code; "
            "use a file from a source that you trust, with nothing but tensors and plain values"
        ) from error
    except Exception as error:
        # torch's messages go on with a stack trace.
        why = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise InputError(f"{name}: damaged, or no file of PyTorch or pickle ({why})") from error


# The forms of torch's files


class _Storages:
    """Elements of tensors, by the persistent ids that a pickle refers to them with.

    ``make(key, size)`` answers that many bytes ``(size,)`` uint8.
    """

    def __init__(self, make: Callable[[str, int], Tensor]) -> None:
        self._make = make
        self.elements: dict[str, Tensor] = {}

    def find(self, identity: Any) -> Any:
        if identity[0] == "module":
            return identity[1]
        kind, cls, key, _, count, *view = identity
        if kind != "storage" or type(key) is not str or type(count) is not int:
            raise ValueError("a reference of unknown kind")
        if view not in ([], [None]):
            raise ValueError("a view of a storage, as PyTorch before 0.4 wrote")
        dtype = _torch_dtype(cls)
        if key not in self.elements:
            self.elements[key] = self._make(key, count * dtype.itemsize).view(dtype)
        elements = self.elements[key]
        if elements.dtype != dtype or elements.numel() != count:
            raise ValueError("a storage of two kinds")
        return elements


def _read_legacy(stream: IO[bytes], size: int) -> Any:
    """Behind the magic number: version, system, object, storage keys, and the storages."""
    if _unpickle(stream, size) != _LEGACY_PROTOCOL:
        raise ValueError("an unknown version of PyTorch's legacy form")
    if _unpickle(stream, size)["little_endian"] is not True:
        raise ValueError("numbers of another byte order")
    left = size - stream.tell()

    def allocate(key: str, count: int) -> Tensor:
        nonlocal left
        left -= count
        if left < 0:
            raise ValueError("a storage larger than the file")
        return torch.empty(count, dtype=torch.uint8)

    storages = _Storages(allocate)
    result = _unpickle(stream, size, storages)
    keys = _unpickle(stream, size)
    if sorted(keys) != sorted(storages.elements):
        raise ValueError("other storages than announced")
    for key in keys:
        elements = storages.elements[key]
        (count,) = struct.unpack("<q", stream.read(8))
        memory = elements.view(torch.uint8).numpy()
        content = stream.read(memory.nbytes)
        if count != elements.numel() or len(content) != memory.nbytes:
            raise ValueError("a storage is cut off")
        memory[:] = np.frombuffer(content, np.uint8)
    return result


def _read_zip(stream: IO[bytes], size: int) -> Any:
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        roots = {name.partition("/")[0] for name in names}
        # torch stores all as it is; so nothing unfolds to more than the file holds.
        if (
            len(roots) != 1
            or len(names) != len(members)
            or any(member.compress_type != zipfile.ZIP_STORED for member in members)
            or sum(member.file_size for member in members) > size
        ):
            raise ValueError("a zip file that PyTorch did not write")
        (root,) = roots

        def read(key: str, count: int) -> Tensor:
            content = archive.read(f"{root}/data/{key}")
            if len(content) != count:
                raise ValueError("a storage of another size than announced")
            return torch.from_numpy(np.frombuffer(bytearray(content), np.uint8))

        if f"{root}/byteorder" in names and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("numbers of another byte order")
        program = archive.read(f"{root}/data.pkl")
        return _unpickle(io.BytesIO(program), len(program), _Storages(read))


# The machine


def _unpickle(stream: IO[bytes], size: int, storages: _Storages | None = None) -> Any:
    """The value of the pickle where ``stream`` is, which then is behind it."""
    value = _Unpickler(stream, size, storages).load()
    _check_depth(value)
    return value


class _Memo(dict[int, Any]):
    """What a pickle may fetch again, and of what it stores only that.

    Pickles store all, the bytes of each array too, which would be twice in memory.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        start = stream.tell()
        self._fetched: set[Any] | None = None
        try:
            program = pickletools.genops(stream)
            self._fetched = {arg for code, arg, _ in program if code.name.endswith("GET")}
        except ValueError:  # genops does not know all of Python 2's text; or damage, found later
            pass
        stream.seek(start)

    def __setitem__(self, index: int, value: Any) -> None:
        fetched = self._fetched is None or index in self._fetched
        super().__setitem__(index, value if fetched else None)


class _Unpickler(pickle._Unpickler):
    """Python's, with all replaced that could do harm. ``size`` is of the file.

    It is the one in Python, because an instruction of the one in C cannot be replaced.
    """

    stack: list[Any]
    metastack: list[list[Any]]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, stream: IO[bytes], size: int, storages: _Storages | None) -> None:
        super().__init__(stream, encoding="latin1")
        self.memo = _Memo(stream)
        self._storages = storages
        self._copies = 2 * size + _FREE_COPIES

    def load(self) -> Any:
        value = super().load()
        if self.stack or self.metastack:
            raise ValueError("values are left over")
        return value

    def find_class(self, module: Any, name: Any) -> Global:
        self._spend((module, name))
        return Global(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        if self._storages is None:
            raise ValueError("it refers to data that are not in it")
        if type(pid) is not tuple:
            raise ValueError("a reference of unknown kind")
        return self._storages.find(pid)

    def get_extension(self, code: int) -> None:
        raise UnsafeError("use the registry of extensions")

    def _spend(self, content: Iterable[Any]) -> None:
        """Account for copies: an honest pickle holds each once, a bomb fills the memory."""
        sized = (str, bytes, bytearray, list, tuple)
        self._copies -= sum(len(part) for part in content if isinstance(part, sized))
        if self._copies < 0:
            raise ValueError("it holds far less data than it unfolds to")

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Global or type(args) is not tuple:
            raise ValueError("a call of something that is no function")
        builder = _BUILDERS.get(_of_today(function.name))
        if builder is None:
            raise UnsafeError(f"call {function}")
        self._spend(args)
        self.stack.append(builder(*args))

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is np.ndarray and target.dtype == _AWAITED:
            self._spend(state)
            _fill(target, *state)
        elif isinstance(target, np.dtype):
            _set_byte_order(target, *state)
        elif type(target) not in (dict, Opaque):  # torch gives an OrderedDict attributes
            shown = target if type(target) is Global else f"a {type(target).__name__}"
            raise UnsafeError(f"change {shown}")

    def load_newobj(self) -> None:
        self.stack.pop()
        self.stack.append(_instance(self.stack.pop()))

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_newobj()

    def _instantiate(self, cls: Any, args: list[Any]) -> None:
        """Of Python 2's old classes; without arguments none of their code would run."""
        if args:
            raise UnsafeError(f"call {cls}")
        self.stack.append(_instance(cls))

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.stack.append(bytearray(self.read(size)))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._set_items(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, Opaque):
            raise ValueError(f"a {type(target).__name__} takes no entries")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_checked_key(key)] = value

    def load_additems(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(map(_checked_key, items))

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.stack.append(frozenset(map(_checked_key, items)))

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
    }


def _of_today(name: str) -> str:
    """Python 2 and 3, NumPy 1 and 2 call the same modules differently."""
    module, _, last = name.rpartition(".")
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    return f"{module.replace('numpy._core', 'numpy.core')}.{last}"


_HASHABLE: Final = (str, bytes, int, float, complex, type(None), np.generic, Tensor, Opaque, Global)


def _checked_key(key: Any) -> Any:
    """``key``, if hashing it takes neither long nor a deep stack, as nested tuples can."""
    parts = key if type(key) is tuple and len(key) <= _LONGEST_KEY else (key,)
    if not all(isinstance(part, _HASHABLE) for part in parts):
        raise TypeError(f"a {type(key).__name__} as a key")
    return key


def _children(value: Any) -> Iterator[Any]:
    if type(value) in (list, tuple):
        yield from value
    elif type(value) is dict:
        yield from value.values()
    elif type(value) is np.ndarray and value.dtype.hasobject:
        yield from value.flat


def _check_depth(value: Any) -> None:
    """Raises: ValueError: whoever walked through ``value`` would run out of stack."""
    level = [value]
    seen: set[int] = set()
    for _ in range(_DEEPEST):
        below = {id(child): child for parent in level for child in _children(parent)}
        level = [child for key, child in below.items() if key not in seen]
        seen.update(below)
        if not level:
            return
    raise ValueError("nested too deeply")


# What is called in place of what a pickle names


def _instance(cls: Any) -> Opaque:
    if type(cls) is not Global:
        raise ValueError("an instance of something that is no class")
    return Opaque(cls.name)


def _reconstructor(cls: Any, base: Global, state: Any) -> Opaque:
    """How protocols 0 and 1 make an instance."""
    if base.name not in ("__builtin__.object", "builtins.object"):
        raise UnsafeError(f"call {base}")
    return _instance(cls)


def _attribute(*args: Any) -> Global:
    """How methods are written, as mmengine keeps some in its log."""
    match args:
        case (Global(owner), str(name)) if name.isidentifier() and len(owner) < _LONGEST_NAME:
            return Global(f"{owner}.{name}")
    raise UnsafeError("call builtins.getattr")


def _keys(content: Any = ()) -> Iterator[Any]:
    """The members of a set."""
    if type(content) not in (list, tuple):
        raise TypeError("members that are not in a list")
    return map(_checked_key, content)


def _dict(content: Any = ()) -> dict[Any, Any]:
    """OrderedDict too, which keeps its order alike."""
    if type(content) not in (list, tuple):
        raise TypeError("entries that are not in a list")
    return {_checked_key(key): value for key, value in content}


def _raw(content: Any = b"", encoding: str = "latin1") -> bytes | bytearray:
    """Bytes, or the text that stands for them in what Python 2 wrote, or 3 wrote for it."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown encoding")
    if isinstance(content, str):
        return content.encode("latin-1")
    if not isinstance(content, bytes | bytearray):
        raise ValueError("data that are no bytes")
    return content


_PLAIN_DTYPE: Final = re.compile(r"[|<>=]?(?:[?bBhHiIlLqQefdgFDG]|[biufcSUa]\d{1,9}|O8?|O4)")
_AWAITED: Final = np.dtype("V1")
"""Of arrays that a pickle has yet to fill; the pattern lets no other have it."""


def _numpy_dtype(code: Any, *_: Any) -> np.dtype[Any]:
    if isinstance(code, bytes):
        code = code.decode("latin-1")
    if not _PLAIN_DTYPE.fullmatch(code):
        raise ValueError("an array of other things than numbers or text")
    # A copy of our own, because its state changes it.
    dtype: np.dtype[Any] = np.dtype(code, False, True)
    return dtype


def _set_byte_order(dtype: np.dtype[Any], version: Any, order: Any, *rest: Any) -> None:
    order = order.decode() if isinstance(order, bytes) else order
    if order not in ("<", ">", "=", "|") or rest[:3] != (None, None, None):
        raise ValueError("an array of other things than numbers or text")
    native = "<" if sys.byteorder == "little" else ">"
    if order in "<>" and order != native and dtype.itemsize > 1 and not dtype.hasobject:
        size, alignment = (dtype.itemsize, dtype.alignment) if dtype.kind == "U" else (-1, -1)
        dtype.__setstate__((3, order, None, None, None, size, alignment, 0))  # type: ignore[attr-defined]


def _shape(value: Any) -> tuple[int, ...]:
    if (
        type(value) is not tuple
        or len(value) > _MOST_DIMENSIONS
        or not all(type(size) is int and size >= 0 for size in value)
    ):
        raise ValueError("an impossible shape")
    return value


def _array(cls: Global, *_: Any) -> Any:
    """An array that awaits its content."""
    if cls.name != "numpy.ndarray":
        raise UnsafeError(f"call {cls}")
    return np.empty(0, _AWAITED)


def _fill(array: Any, version: Any, shape: Any, dtype: Any, fortran: Any, content: Any) -> None:
    """Give an array its content: a list of objects, else bytes or Python 2's text."""
    count = math.prod(_shape(shape))
    if not dtype.hasobject:
        content = bytes(_raw(content))
        count *= dtype.itemsize
    elif type(content) is not list:
        raise ValueError("objects that are not in a list")
    if len(content) != count:
        raise ValueError("an array of another size than its content")
    # All is checked by now, and numpy takes the bytes without a copy.
    array.__setstate__((1, shape, dtype, bool(fortran), content))


def _array_of_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    """Protocol 5's way."""
    if not isinstance(dtype, np.dtype):
        raise ValueError("an array of unknown things")
    return np.frombuffer(bytearray(_raw(content)), dtype).reshape(_shape(shape), order=order)


def _scalar(dtype: Any, content: Any) -> Any:
    data = bytearray(_raw(content))
    if not isinstance(dtype, np.dtype) or dtype.hasobject or len(data) != dtype.itemsize:
        raise ValueError("a number of another size than its type")
    return np.ndarray((), dtype, data)[()]


_STORAGE_DTYPES: Final[dict[str, torch.dtype]] = {
    "Half": torch.float16,
    "Float": torch.float32,
    "Double": torch.float64,
    "BFloat16": torch.bfloat16,
    "Char": torch.int8,
    "Short": torch.int16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
}
_UNTYPED_DTYPES: Final = (*_STORAGE_DTYPES.values(), torch.uint16, torch.uint32, torch.uint64)


def _torch_dtype(cls: Any) -> torch.dtype:
    """The type of elements of a storage's class or a dtype, by name."""
    if type(cls) is not Global:
        raise ValueError("a type of numbers that is no class")
    name = re.sub(r"^torch\.((cuda|storage)\.)?(\w+)Storage$", r"\3", cls.name)
    dtypes = {str(dtype): dtype for dtype in _UNTYPED_DTYPES} | _STORAGE_DTYPES
    if name not in dtypes:
        raise ValueError(f"{cls} is no type of numbers")
    return dtypes[name]


def _tensor(elements: Tensor, offset: int, shape: Any, stride: Any, *_: Any) -> Tensor:
    # torch checks the rest; elements could be repeated without end by a stride of 0.
    if math.prod(_shape(shape)) > elements.numel():
        raise ValueError("a tensor larger than its storage")
    return elements.as_strided(shape, _shape(stride), offset)


def _typed_tensor(
    elements: Tensor, offset: int, shape: Any, stride: Any, gradient: Any, hooks: Any, dtype: Any
) -> Tensor:
    """A tensor on an untyped storage."""
    return _tensor(elements.view(_torch_dtype(dtype)), offset, shape, stride)


def _parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError("a parameter that is no tensor")
    return tensor


def _device(*parts: Any) -> str:
    if not all(type(part) in (str, int) for part in parts):
        raise ValueError("an unknown device")
    return ":".join(map(str, parts))


_BUILDERS: Final[Mapping[str, Callable[..., Any]]] = {
    "builtins.set": lambda *content: set(_keys(*content)),
    "builtins.frozenset": lambda *content: frozenset(_keys(*content)),
    "builtins.bytes": lambda: b"",  # as protocols 0 to 2 write it
    "builtins.bytearray": lambda *content: bytearray(_raw(*content)),
    "builtins.complex": complex,
    "builtins.getattr": _attribute,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": lambda factory=None, content=(): _dict(content),
    "copyreg._reconstructor": _reconstructor,
    "_codecs.encode": _raw,
    "numpy.dtype": _numpy_dtype,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _array_of_buffer,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _shape,
    "torch.device": _device,
}
