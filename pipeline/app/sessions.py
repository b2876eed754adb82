"""Who has the page open, which files are theirs, and whose turn it is."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gridpose.core import UsageError

_TURN_POLL_SECONDS = 0.1


class CancelledError(Exception):
    """A job was cancelled, by its user or because they left."""


@dataclass
class Job:
    """A job's ``folder`` for its results, and whether it shall stop."""

    folder: Path
    cancelled: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raises CancelledError when it shall stop."""
        if self.cancelled.is_set():
            raise CancelledError


@dataclass
class _Session:
    uploads: frozenset[Path] = frozenset()
    results: Path | None = None
    job: Job | None = None
    has_ended: bool = False


class Sessions:
    """Files and jobs of everybody who has the page open; for use from many threads.

    A session has the results of its last job only. Uploads are named by their content, so that
    sessions may share one: it goes with the last of them.

    Args:
        folder: where the folders of results are made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def hold(self, session: str, uploads: Collection[Path]) -> None:
        """What a session has uploaded now; what it had before goes."""
        with self._lock:
            self._hold(self._of(session), uploads)

    @contextmanager
    def job(self, session: str) -> Iterator[Job]:
        """Wait for a turn and have it: jobs run one at a time.

        The folder stays until the session's next job, but goes after an exception.

        Raises:
            UsageError: the session has a job already that was not cancelled.
            CancelledError: it was cancelled meanwhile.
        """
        with self._lock:
            mine = self._of(session)
            if mine.job is not None and not mine.job.cancelled.is_set():
                raise UsageError("your last job is not over yet")
            _remove(mine.results)
            folder = Path(tempfile.mkdtemp(prefix="job-", dir=self._folder))
            job = mine.job = Job(folder)
            mine.results = None
        is_whole = False
        try:
            with self._my_turn(job):
                yield job
                job.check()
                is_whole = True
        finally:
            with self._lock:
                if mine.job is job:
                    mine.job = None
                if is_whole and not mine.has_ended:
                    mine.results = job.folder
                else:
                    _remove(job.folder)

    def cancel(self, session: str) -> bool:
        """Stop a session's job; whether there was one."""
        with self._lock:
            mine = self._sessions.get(session)
            if mine is None or mine.job is None:
                return False
            mine.job.cancelled.set()
            return True

    def end(self, session: str) -> None:
        """A session is over: its job stops, its files go."""
        with self._lock:
            mine = self._sessions.pop(session, None)
            if mine is None:
                return
            mine.has_ended = True
            if mine.job is not None:
                mine.job.cancelled.set()
            _remove(mine.results)
            self._hold(mine, ())

    def close(self, seconds: float) -> None:
        """End all sessions, and give a running job so long to stop."""
        for session in list(self._sessions):
            self.end(session)
        if self._turn.acquire(timeout=seconds):
            self._turn.release()

    @contextmanager
    def _my_turn(self, job: Job) -> Iterator[None]:
        while not self._turn.acquire(timeout=_TURN_POLL_SECONDS):
            job.check()
        try:
            job.check()
            yield
        finally:
            self._turn.release()

    def _of(self, session: str) -> _Session:
        return self._sessions.setdefault(session, _Session())

    def _hold(self, mine: _Session, uploads: Collection[Path]) -> None:
        before, mine.uploads = mine.uploads, frozenset(uploads)
        held = mine.uploads.union(*(other.uploads for other in self._sessions.values()))
        for file in before - held:
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                file.parent.rmdir()  # it is the upload's own


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
