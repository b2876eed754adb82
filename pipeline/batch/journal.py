"""What was done with each video, kept on disk so that nothing is lost and nothing done twice.

SQLite in WAL mode: a process or a machine may die at any moment. Paths are kept as bytes, for not
every name is Unicode.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final, Literal

from gridpose.core import MissingError

State = Literal["pending", "running", "done", "failed", "skipped"]
VERSION: Final = 1
_BUSY_SECONDS = 30.0


@dataclass(frozen=True)
class Entry:
    """A video's line in the journal.

    ``path`` is below the folder and ``result`` below the output folder, without suffix. ``sha256``
    is the content's; ``options`` a digest; ``outputs`` JSON, sizes by suffix. ``kind`` and
    ``message`` tell of an error. ``started`` in seconds since 1970, ``seconds`` of work,
    ``duration`` of the video.
    """

    path: str
    result: str
    size: int
    mtime_ns: int
    sha256: str | None = None
    options: str | None = None
    state: State = "pending"
    kind: str | None = None
    message: str | None = None
    warnings: str | None = None
    outputs: str | None = None
    attempts: int = 0
    started: float | None = None
    seconds: float | None = None
    duration: float | None = None
    frames: int | None = None
    people: int | None = None
    worker: str | None = None


_COLUMNS: Final = tuple(field.name for field in fields(Entry))
_SCHEMA: Final = (
    f"CREATE TABLE IF NOT EXISTS videos ({', '.join(_COLUMNS)}, "
    "PRIMARY KEY (path), UNIQUE (result)) WITHOUT ROWID"
)
_SAVE: Final = (
    f"INSERT OR REPLACE INTO videos ({', '.join(_COLUMNS)}) "
    f"VALUES ({', '.join('?' * len(_COLUMNS))})"
)


class Journal:
    """The entries of one output folder; a context manager.

    A full disk does not end a batch: what cannot be written now is written with the next entry.

    Raises:
        MissingError: the file cannot be opened, or is none of ours.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._waiting: dict[str, Entry] = {}
        try:
            self._database = sqlite3.connect(
                file, timeout=_BUSY_SECONDS, isolation_level="IMMEDIATE"
            )
            self._open()
        except sqlite3.Error as error:
            raise MissingError(f"{file}: the journal cannot be used ({error})") from error

    def _open(self) -> None:
        # Where shared memory is not to be had (some network drives) SQLite keeps its old mode.
        self._database.execute("PRAGMA journal_mode = WAL")
        # A power cut must not undo what was said to be done.
        self._database.execute("PRAGMA synchronous = FULL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._database.execute(_SCHEMA)
            self._database.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise MissingError(
                f"{self.file}: was written by another version of gridpose (format {version}, "
                f"not {VERSION}); take another output folder"
            )

    def entries(self) -> dict[str, Entry]:
        """Everything that is known, by path."""
        rows = self._database.execute(f"SELECT {', '.join(_COLUMNS)} FROM videos")
        known = [
            Entry(os.fsdecode(path), os.fsdecode(result), *rest) for path, result, *rest in rows
        ]
        return {**{entry.path: entry for entry in known}, **self._waiting}

    def save(self, *entries: Entry) -> None:
        """Write entries, all or none, or keep them for later where the disk is full."""
        self._waiting.update({entry.path: entry for entry in entries})
        rows = [
            (os.fsencode(path), os.fsencode(result), *rest)
            for path, result, *rest in map(astuple, self._waiting.values())
        ]
        try:
            with self._database:
                self._database.executemany(_SAVE, rows)
        except sqlite3.OperationalError:
            return
        self._waiting.clear()

    @property
    def behind(self) -> int:
        """How many entries could not be written yet."""
        return len(self._waiting)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting:
            self.save()
        self._database.close()
