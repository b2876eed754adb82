"""Who has the page open, which files are theirs, and whose turn it is."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gridpose.core import UsageError

LONGEST_QUEUE = 20
_POLL_SECONDS = 0.1


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
        self._jobs: list[Job] = []
        """The one that runs, and those that wait, in their order."""
        self._lock = threading.Condition()

    def hold(self, session: str, uploads: Collection[Path]) -> None:
        """What a session has uploaded now; what it had before goes."""
        with self._lock:
            self._hold(self._of(session), uploads)

    @contextmanager
    def job(self, session: str, on_waiting: Callable[[int], None]) -> Iterator[Job]:
        """Wait for a turn and have it: jobs run one at a time, in the order of asking.

        The folder stays until the session's next job, but goes after an exception.

        Args:
            session: whose job it is.
            on_waiting: called again and again with how many are to be done before.

        Raises:
            UsageError: the session has a job already that was not cancelled, or too many wait.
            CancelledError: it was cancelled meanwhile.
        """
        job = self._queued(session)
        mine = self._of(session)
        is_whole = False
        try:
            self._wait(job, on_waiting)
            yield job
            job.check()
            is_whole = True
        finally:
            with self._lock:
                self._jobs.remove(job)
                self._lock.notify_all()
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
        with self._lock:
            self._lock.wait_for(lambda: not self._jobs, seconds)

    def _queued(self, session: str) -> Job:
        with self._lock:
            mine = self._of(session)
            if mine.job is not None and not mine.job.cancelled.is_set():
                raise UsageError("your last job is not over yet")
            if len(self._jobs) > LONGEST_QUEUE:
                raise UsageError(f"{LONGEST_QUEUE} jobs are waiting already; please try later")
            _remove(mine.results)
            mine.results = None
            mine.job = Job(Path(tempfile.mkdtemp(prefix="job-", dir=self._folder)))
            self._jobs.append(mine.job)
            return mine.job

    def _wait(self, job: Job, on_waiting: Callable[[int], None]) -> None:
        while True:
            with self._lock:
                is_turn = self._lock.wait_for(lambda: self._jobs[0] is job, _POLL_SECONDS)
                before = self._jobs.index(job)
            job.check()
            if is_turn:
                return
            on_waiting(before)

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
