"""A memory-mapped copy of a dataset, so that it is parsed once and then loads in no time.

One folder for each content: ``v<format>-<digest of the two source files>``, with
``keypoints_px.npy``, ``poses.npy`` and ``index.json``. The sources are hashed at every read, so a
changed file is never served from an old copy. A folder appears under its name only when it is
complete, and is checked against its checksums before it is used; several processes may write at
once.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import time
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import NUM_JOINTS, FloatArray, InputError
from gridpose.lifting.data.files import Table, read_table
from gridpose.storage import file_sha256, sha256

_VERSION: Final = 1
_ARRAYS: Final = {"keypoints_px": 2, "poses": 3}
_STALE_SECONDS: Final = 24 * 3600


def _digests(*files: Path) -> dict[str, str]:
    """SHA-256 of each file by its name, hashed at once: hashing leaves Python's lock."""
    try:
        with ThreadPoolExecutor(len(files)) as pool:
            return dict(zip((f.name for f in files), pool.map(file_sha256, files), strict=True))
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _checksums(arrays: dict[str, FloatArray]) -> dict[str, int]:
    return {
        name: zlib.crc32(array.reshape(-1).view(np.uint8).data) for name, array in arrays.items()
    }


def _read(folder: Path) -> Table | None:
    """The copy in ``folder``; None where there is none or it is damaged."""
    try:
        stored = json.loads((folder / "index.json").read_bytes())
        body = stored["body"]
        if stored["crc32"] != zlib.crc32(json.dumps(body).encode()):
            return None
        lengths = tuple(int(entry[3]) for entry in body["sequences"])
        arrays: dict[str, FloatArray] = {}
        for name, width in _ARRAYS.items():
            # Copy-on-write: processes share the pages, and nobody can harm the file.
            mapped = np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
            if mapped.shape != (sum(lengths), NUM_JOINTS, width) or mapped.dtype != np.float32:
                return None
            arrays[name] = mapped.view(np.ndarray)
        if _checksums(arrays) != body["crc32"]:
            return None
        keys = tuple((str(s), str(a), str(f)) for s, a, f, _ in body["sequences"])
        return Table(keys, lengths, **arrays, notes=tuple(body["notes"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError):
        return None


def _fill(folder: Path, table: Table) -> None:
    arrays: dict[str, FloatArray] = {"keypoints_px": table.keypoints_px, "poses": table.poses}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    body = {
        "sequences": [
            [*key, length] for key, length in zip(table.keys, table.lengths, strict=True)
        ],
        "notes": table.notes,
        "crc32": _checksums(arrays),
    }
    index = {"crc32": zlib.crc32(json.dumps(body).encode()), "body": body}
    (folder / "index.json").write_text(json.dumps(index))


def _sweep(root: Path) -> None:
    """Remove what killed writers left behind."""
    for part in root.glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(part, ignore_errors=True)


def _write(folder: Path, table: Table) -> None:
    """Put ``table`` into ``folder``, in place of a damaged copy.

    Raises:
        OSError: the cache cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    partial = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
    try:
        partial.mkdir()
        _fill(partial, table)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            partial.rename(folder)
        except OSError:
            # Another process was faster: then its copy is as good as ours.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _signature(files: Iterable[Path]) -> list[tuple[int, int, int]]:
    return [(s.st_ino, s.st_size, s.st_mtime_ns) for s in (file.stat() for file in files)]


def load_table(two: Path, three: Path, root: Path | None) -> tuple[Table, dict[str, str]]:
    """Read a split from its cached copy, which is made where it is missing or damaged.

    Args:
        two: the 2D file.
        three: the 3D file.
        root: where the copies are; None does without. Where it cannot be written, so does this, and
            a note of the table says so.

    Returns:
        The split, and the SHA-256 of the two files by their names.

    Raises:
        InputError: the files are not a dataset, or change while they are read.
    """
    before = _signature((two, three))
    hashes = _digests(two, three)
    folder = None
    if root is not None:
        digest = sha256("".join(hashes.values()).encode())
        folder = root / f"v{_VERSION}-{digest[:32]}"
        table = _read(folder)
        if table is not None:
            return table, hashes
    table = read_table(two, three)
    if _signature((two, three)) != before:
        raise InputError(f"{two.parent}: its files changed while they were read; try again")
    if folder is not None:
        try:
            _write(folder, table)
        except OSError as error:
            note = f"{root}: the dataset cannot be kept for faster loading ({error.strerror})"
            table = replace(table, notes=(*table.notes, note))
    return table, hashes
