"""All that a pickle may ask for beyond plain values: a fixed list, each with its arguments checked.

The keys are what Python would have called; the values are functions of ours, which a pickle never
gets hold of.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from gridpose.safe_pickle.machine import (
    Builder,
    InertClass,
    Machine,
    UnsafeError,
    checked_key,
    new_instance,
)

_PLAIN_DTYPE: Final = re.compile(r"[|<>=]?(?:[?bBhHiIlLqQefdgFDG]|[biufcSUa]\d{1,9}|O8?|O4)")
_MOST_DIMENSIONS: Final = 32


class Storage:
    """The elements that tensors are views of: ``(N,)`` on the CPU; bytes where untyped."""

    __slots__ = ("elements",)

    def __init__(self, elements: Tensor) -> None:
        self.elements = elements


def _shape(value: Any) -> tuple[int, ...]:
    if (
        type(value) is not tuple
        or len(value) > _MOST_DIMENSIONS
        or not all(type(size) is int and size >= 0 for size in value)
    ):
        raise ValueError("an impossible shape")
    return value


def _raw(value: Any) -> bytes | bytearray:
    """Bytes, or the text that Python 3 makes of Python 2's byte strings."""
    if type(value) is str:
        return value.encode("latin-1")
    if type(value) not in (bytes, bytearray):
        raise ValueError("data that are no bytes")
    return value  # type: ignore[no-any-return]


# Containers


def _pairs(machine: Machine, args: tuple[Any, ...]) -> dict[Any, Any]:
    """OrderedDict and dict, which keep their order alike."""
    (content,) = args or ([],)
    if type(content) not in (list, tuple, dict):
        raise ValueError("entries that are not in a container")
    machine.spend(2 * len(content))
    pairs = content.items() if type(content) is dict else content
    return {checked_key(key): value for key, value in pairs}


def _default_dict(machine: Machine, args: tuple[Any, ...]) -> dict[Any, Any]:
    return _pairs(machine, args[1:])


def _elements(machine: Machine, args: tuple[Any, ...]) -> Any:
    (content,) = args or ((),)
    if type(content) not in (list, tuple, set, frozenset, dict):
        raise ValueError("elements that are not in a container")
    machine.spend(len(content))
    return content


def _list(machine: Machine, args: tuple[Any, ...]) -> list[Any]:
    return list(_elements(machine, args))


def _tuple(machine: Machine, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_elements(machine, args))


def _set(machine: Machine, args: tuple[Any, ...]) -> set[Any]:
    return set(map(checked_key, _elements(machine, args)))


def _frozenset(machine: Machine, args: tuple[Any, ...]) -> frozenset[Any]:
    return frozenset(map(checked_key, _elements(machine, args)))


# Plain values


def _encode(machine: Machine, args: tuple[Any, ...]) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    text, encoding = args
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown encoding")
    machine.spend(len(text))
    return text.encode("latin-1")


def _bytes(machine: Machine, args: tuple[Any, ...]) -> bytes:
    """How Python 3 writes empty bytes for Python 2."""
    if args:
        raise ValueError("bytes of something")
    return b""


def _bytearray(machine: Machine, args: tuple[Any, ...]) -> bytearray:
    content, *encoding = args or (b"",)
    if encoding not in ([], ["latin-1"], ["latin1"]):
        raise ValueError("bytes in an unknown encoding")
    data = _raw(content)
    machine.spend(len(data))
    return bytearray(data)


def _attribute(machine: Machine, args: tuple[Any, ...]) -> InertClass:
    """How methods are written, as mmengine keeps some in its log: a longer name, still inert."""
    if len(args) == 2:
        owner, name = args
        if type(owner) is InertClass and type(name) is str and name.isidentifier():
            machine.spend(len(name))
            return InertClass(f"{owner.name}.{name}")
    raise UnsafeError("call builtins.getattr")


def _complex(machine: Machine, args: tuple[Any, ...]) -> complex:
    real, imaginary = args
    return complex(float(real), float(imaginary))


def _reconstructor(machine: Machine, args: tuple[Any, ...]) -> Any:
    """How protocols 0 and 1 make an instance."""
    cls, base, state = args
    if type(base) is not InertClass:
        raise ValueError("an instance of something that is no class")
    if base.name not in ("__builtin__.object", "builtins.object"):
        raise UnsafeError(f"call {base}")
    if state is not None:
        raise ValueError("an object made of a value")
    return new_instance(cls, ())


def _new_object(machine: Machine, args: tuple[Any, ...]) -> Any:
    return new_instance(args[0], args[1:])


# NumPy


def _dtype(machine: Machine, args: tuple[Any, ...]) -> np.dtype[Any]:
    code = args[0]
    if type(code) is bytes:
        code = code.decode("latin-1")
    if type(code) is not str or not _PLAIN_DTYPE.fullmatch(code):
        raise ValueError("an array of other things than numbers or text")
    # A copy of our own, because its state changes it.
    dtype: np.dtype[Any] = np.dtype(code, False, True)

    def restore(machine: Machine, state: Any) -> None:
        order = state[1].decode() if type(state[1]) is bytes else state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise ValueError("an array of other things than numbers or text")
        native = "<" if sys.byteorder == "little" else ">"
        if order in "<>" and order != native and dtype.itemsize > 1 and not dtype.hasobject:
            size, alignment = (dtype.itemsize, dtype.alignment) if dtype.kind == "U" else (-1, -1)
            dtype.__setstate__((3, order, None, None, None, size, alignment, 0))  # type: ignore[attr-defined]

    machine.awaits_state(dtype, restore)
    return dtype


def _array(machine: Machine, args: tuple[Any, ...]) -> Any:
    """An empty array, whose content comes as its state."""
    cls, *_ = args
    if type(cls) is not InertClass:
        raise ValueError("an array of no class")
    if cls.name != "numpy.ndarray":
        raise UnsafeError(f"call {cls}")
    array = np.empty(0, np.int8)

    def restore(machine: Machine, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        size = math.prod(_shape(shape))
        if not isinstance(dtype, np.dtype) or type(fortran) not in (bool, int):
            raise ValueError("an array of unknown things")
        if dtype.hasobject:
            if type(content) is not list or len(content) != size:
                raise ValueError("an array of another size than its content")
            machine.spend(8 * size)
        else:
            content = bytes(_raw(content))
            machine.spend(len(content))
            if len(content) != size * dtype.itemsize:
                raise ValueError("an array of another size than its content")
        # All arguments are checked by now, and numpy takes the bytes without a copy.
        checked: Any = (1, shape, dtype, bool(fortran), content)
        array.__setstate__(checked)

    machine.awaits_state(array, restore)
    return array


def _array_of_buffer(machine: Machine, args: tuple[Any, ...]) -> Any:
    """Protocol 5's way."""
    content, dtype, shape, order = args
    data = _raw(content)
    machine.spend(len(data))
    if not isinstance(dtype, np.dtype) or dtype.hasobject or order not in ("C", "F"):
        raise ValueError("an array of unknown things")
    if len(data) != math.prod(_shape(shape)) * dtype.itemsize:
        raise ValueError("an array of another size than its content")
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order=order)


def _scalar(machine: Machine, args: tuple[Any, ...]) -> Any:
    dtype, content = args
    data = _raw(content)
    machine.spend(len(data))
    if not isinstance(dtype, np.dtype) or dtype.hasobject or len(data) != dtype.itemsize:
        raise ValueError("a number of another size than its type")
    return np.ndarray((), dtype, bytearray(data))[()]


# torch


def _tensor(machine: Machine, args: tuple[Any, ...]) -> Tensor:
    storage, offset, shape, stride, *_ = args
    if type(storage) is not Storage:
        raise ValueError("a tensor without elements")
    return _view(storage.elements, offset, shape, stride)


def _view(elements: Tensor, offset: Any, shape: Any, stride: Any) -> Tensor:
    shape, stride, (offset,) = _shape(shape), _shape(stride), _shape((offset,))
    count = math.prod(shape)
    reach = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) + 1
    if count > elements.numel() or (count and reach > elements.numel()):
        raise ValueError("a tensor larger than its storage")
    if not count:
        return torch.empty(shape, dtype=elements.dtype)
    return elements.as_strided(shape, stride, offset)


def _typed_tensor(machine: Machine, args: tuple[Any, ...]) -> Tensor:
    """A tensor on an untyped storage."""
    storage, offset, shape, stride, _, _, dtype, *_ = args
    if type(storage) is not Storage or type(dtype) is not InertClass:
        raise ValueError("a tensor without elements or type")
    elements = storage.elements
    wanted = tensor_dtype(dtype)
    if elements.dtype != torch.uint8 or elements.numel() % wanted.itemsize:
        raise ValueError("a tensor of another type than its storage")
    return _view(elements.view(wanted), offset, shape, stride)


_ELEMENTS: Final = (
    torch.float16,
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bool,
    torch.complex64,
    torch.complex128,
)
_DTYPES: Final[Mapping[str, torch.dtype]] = {str(dtype): dtype for dtype in _ELEMENTS}
_STORAGES: Final[Mapping[str, torch.dtype]] = {
    f"{module}.{name}Storage": dtype
    for module in ("torch", "torch.cuda")
    for name, dtype in {
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
    }.items()
} | {"torch.storage.UntypedStorage": torch.uint8, "torch.UntypedStorage": torch.uint8}


def tensor_dtype(cls: InertClass) -> torch.dtype:
    """The type of elements of a storage's class or a dtype, by name.

    Raises:
        ValueError: no such type.
    """
    dtype = _DTYPES.get(cls.name) or _STORAGES.get(cls.name)
    if dtype is None:
        raise ValueError(f"{cls} is no type of numbers")
    return dtype


def _parameter(machine: Machine, args: tuple[Any, ...]) -> Tensor:
    tensor, *_ = args
    if not isinstance(tensor, Tensor):
        raise ValueError("a parameter that is no tensor")
    return tensor


def _size(machine: Machine, args: tuple[Any, ...]) -> tuple[int, ...]:
    (sizes,) = args
    return _shape(sizes)


def _device(machine: Machine, args: tuple[Any, ...]) -> str:
    if not all(type(part) in (str, int) for part in args):
        raise ValueError("an unknown device")
    return ":".join(map(str, args))


BUILDERS: Final[Mapping[str, Builder]] = MappingProxyType(
    {
        "builtins.dict": _pairs,
        "builtins.list": _list,
        "builtins.tuple": _tuple,
        "builtins.set": _set,
        "builtins.frozenset": _frozenset,
        "builtins.bytes": _bytes,
        "builtins.bytearray": _bytearray,
        "builtins.complex": _complex,
        "builtins.getattr": _attribute,
        "collections.OrderedDict": _pairs,
        "collections.defaultdict": _default_dict,
        "copyreg._reconstructor": _reconstructor,
        "copyreg.__newobj__": _new_object,
        "_codecs.encode": _encode,
        "numpy.dtype": _dtype,
        "numpy.core.multiarray._reconstruct": _array,
        "numpy.core.multiarray.scalar": _scalar,
        "numpy.core.numeric._frombuffer": _array_of_buffer,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _typed_tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.Size": _size,
        "torch.device": _device,
    }
)
