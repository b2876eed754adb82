"""Files that torch or Python pickled, read without executing anything in them.

Three forms: torch's legacy form (several pickles, then the tensors' bytes; what PyTorch before 1.6
wrote), torch's zip form, and a bare pickle; by Python 2 or 3. ``pickle_machine`` says why nothing
can run. Python 2's byte strings become text as latin-1, tensors of any device lie on the CPU, and
sharing of storages between tensors is kept.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch

from gridpose.core import InputError, MissingError
from gridpose.safe_pickle.builders import BUILDERS, Storage, tensor_dtype
from gridpose.safe_pickle.machine import Data, Inert, InertClass, Machine, UnsafeError

__all__ = ["Inert", "InertClass", "load", "loads"]

_ZIP: Final = b"PK\x03\x04"
_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL: Final = 1001
_ZIP_HEADER: Final = 30
# All that a damaged file can provoke; a defect of ours would be another.
_DAMAGE: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)


def load(file: Path) -> Any:
    """What ``file`` holds, in torch's legacy or zip form or as a bare pickle.

    Returns:
        Plain containers and values, NumPy arrays, CPU tensors, and :class:`Inert` and
        :class:`InertClass` in place of all else. OrderedDict and defaultdict become dict.

    Raises:
        MissingError: there is no such file.
        InputError: it is damaged, of another kind, or would call code.
    """
    if not file.is_file():
        raise MissingError(f"{file}: no such file")
    try:
        with file.open("rb") as opened:
            # Arrays are copied out of the mapping once; a read would hold the file beside them.
            data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    return loads(data, str(file))


def loads(data: Data, name: str) -> Any:
    """As :func:`load`, from memory; ``name`` is what errors call it.

    Raises:
        InputError: as for :func:`load`.
    """
    try:
        if data[:4] == _ZIP:
            return _zip(data)
        first, position = Machine(BUILDERS).run(data)
        # As it may be an array, whose comparison is no answer, the type comes first.
        if type(first) is int and first == _LEGACY_MAGIC:
            return _legacy(data, position)
        return first
    except UnsafeError as error:
        raise InputError(
            f"{name}: refused, because reading it would {error}, and that can run any code; "
            "use a file from a source that you trust, with nothing but tensors and plain values"
        ) from error
    except _DAMAGE as error:
        # torch's messages go on with a stack trace.
        why = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise InputError(f"{name}: damaged, or no file of PyTorch or pickle ({why})") from error


class _LegacyStorages:
    """Makes the storages that a legacy pickle speaks of; their bytes follow behind it."""

    def __init__(self, available: int) -> None:
        self.storages: dict[str, Storage] = {}
        self._left = available

    def __call__(self, identity: Any) -> Any:
        if type(identity) is tuple and len(identity) == 4 and identity[0] == "module":
            return identity[1]
        key, dtype, count = _storage_identity(identity, 6)
        if identity[5] is not None:
            raise ValueError("a view of a storage, as PyTorch before 0.4 wrote")
        if key not in self.storages:
            self._left -= count * dtype.itemsize
            if self._left < 0:
                raise ValueError("a storage larger than the file")
            self.storages[key] = Storage(torch.empty(count, dtype=dtype))
        return _as_declared(self.storages[key], dtype, count)


def _storage_identity(identity: Any, length: int) -> tuple[str, torch.dtype, int]:
    """Key, type and number of elements."""
    if type(identity) is not tuple or len(identity) != length or identity[0] != "storage":
        raise ValueError("a reference of unknown kind")
    _, cls, key, location, count, *_ = identity
    if (
        type(cls) is not InertClass
        or type(key) is not str
        or type(location) is not str
        or type(count) is not int
        or count < 0
    ):
        raise ValueError("a reference of unknown kind")
    return key, tensor_dtype(cls), count


def _as_declared(storage: Storage, dtype: torch.dtype, count: int) -> Storage:
    if storage.elements.dtype != dtype or storage.elements.numel() != count:
        raise ValueError("a storage of two kinds")
    return storage


def _bytes_of(storage: Storage) -> memoryview:
    """The memory of a storage, to write to."""
    content: memoryview = storage.elements.view(torch.uint8).numpy().data
    return content


def _legacy(data: Data, position: int) -> Any:
    """Behind the magic number: version, system, object, storage keys, and the storages."""
    version, position = Machine(BUILDERS).run(data, position)
    if version != _LEGACY_PROTOCOL:
        raise ValueError("an unknown version of PyTorch's legacy form")
    system, position = Machine(BUILDERS).run(data, position)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise ValueError("numbers of another byte order")
    storages = _LegacyStorages(len(data) - position)
    result, position = Machine(BUILDERS, storages).run(data, position)
    keys, position = Machine(BUILDERS).run(data, position)
    if (
        type(keys) is not list
        or not all(type(key) is str for key in keys)
        or sorted(keys) != sorted(storages.storages)
    ):
        raise ValueError("other storages than announced")
    for key in keys:
        storage = storages.storages[key]
        (count,) = struct.unpack_from("<q", data, position)
        start, target = position + 8, _bytes_of(storage)
        position = start + len(target)
        if count != storage.elements.numel() or position > len(data):
            raise ValueError("a storage is cut off")
        target[:] = memoryview(data)[start:position]
    return result


class _ZipStorages:
    """Reads the storages of a zip file, one member each."""

    def __init__(self, data: Data, members: Mapping[str, tuple[int, int, int]]) -> None:
        self._data, self._members = data, members
        self._storages: dict[str, Storage] = {}

    def __call__(self, identity: Any) -> Storage:
        key, dtype, count = _storage_identity(identity, 5)
        if key not in self._storages:
            start, end, checksum = self._members[f"data/{key}"]
            if end - start != count * dtype.itemsize:
                raise ValueError("a storage of another size than announced")
            storage = Storage(torch.empty(count, dtype=dtype))
            _bytes_of(storage)[:] = memoryview(self._data)[start:end]
            if zlib.crc32(_bytes_of(storage)) != checksum:
                raise ValueError("a storage with a wrong checksum")
            self._storages[key] = storage
        return _as_declared(self._storages[key], dtype, count)


def _zip(data: Data) -> Any:
    members = _zip_members(data)
    if "data.pkl" not in members:
        raise ValueError("a zip file without data.pkl")
    start, end, checksum = members["data.pkl"]
    order_start, order_end, _ = members.get("byteorder", (0, 0, 0))
    if data[order_start:order_end] not in (b"", b"little"):
        raise ValueError("numbers of another byte order")
    if zlib.crc32(memoryview(data)[start:end]) != checksum:
        raise ValueError("a wrong checksum")
    result, _ = Machine(BUILDERS, _ZipStorages(data, members)).run(data, start, end)
    return result


def _opened(data: Data) -> Any:
    """``data`` as an open file; a mapping is one."""
    return io.BytesIO(data) if isinstance(data, bytes) else data


def _zip_members(data: Data) -> dict[str, tuple[int, int, int]]:
    """Where the members lie, ``name: (start, end, CRC-32)``, without the common first folder.

    Nothing is unpacked: torch stores members as they are, and so they must be.
    """
    members: dict[str, tuple[int, int, int]] = {}
    with zipfile.ZipFile(_opened(data)) as archive:
        infos = archive.infolist()
    roots = {info.filename.partition("/")[0] for info in infos}
    if len(roots) != 1:
        raise ValueError("a zip file that PyTorch did not write")
    for info in infos:
        header = data[info.header_offset : info.header_offset + _ZIP_HEADER]
        if len(header) != _ZIP_HEADER or header[:4] != _ZIP:
            raise ValueError("a damaged zip file")
        start = info.header_offset + _ZIP_HEADER + sum(struct.unpack("<HH", header[26:30]))
        end = start + info.file_size
        name = info.filename.partition("/")[2]
        if (
            info.compress_type != zipfile.ZIP_STORED
            or info.compress_size != info.file_size
            or info.flag_bits & 1
            or end > len(data)
            or name in members
        ):
            raise ValueError("a zip file that PyTorch did not write")
        members[name] = (start, end, info.CRC)
    spans = sorted((start, end) for start, end, _ in members.values())
    if any(start < end for (_, end), (start, _) in pairwise(spans)):
        raise ValueError("members of the zip file overlap")
    return members
