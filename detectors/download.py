"""Fetching large files over bad connections: resumed, verified, and there only when complete."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gridpose.core import MissingError
from gridpose.storage import file_sha256

if TYPE_CHECKING:
    import requests

_BLOCK: Final = 1 << 16
_LARGEST: Final = 4 << 30
"""Bytes after which a body of unknown length is taken for endless."""

OnProgress = Callable[[int, int | None], None]
"""Called with bytes present and bytes expected (None where unknown)."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        connect_seconds: for a connection.
        read_seconds: for the next bytes.
        tries: how often in a row an address may fail without sending anything new.
        pause_seconds: before the second try; doubled from try to try.
    """

    connect_seconds: float = 15.0
    read_seconds: float = 30.0
    tries: int = 4
    pause_seconds: float = 1.0


class NowhereError(MissingError):
    """No address gave the file; ``failures`` are the addresses and why they did not."""

    def __init__(self, file: Path, failures: Sequence[str]) -> None:
        reasons = "; ".join(failures) or "no address is known"
        super().__init__(
            f"{file.name} could not be downloaded ({reasons}); go on later with the same "
            f"command, or put the file by hand at {file}"
        )
        self.failures = tuple(failures)


class _WorthRetryingError(Exception):
    """The connection failed; the same address may answer yet."""


class _UselessError(Exception):
    """The address will not give the file."""


def download(
    urls: Sequence[str],
    file: Path,
    sha256: str,
    size: int | None = None,
    *,
    on_progress: OnProgress | None = None,
    patience: Patience | None = None,
) -> None:
    """Fetch ``file`` from the first address that has it.

    What has arrived stays beside ``file`` under another name until all of it is there and its
    checksum is right; a later call goes on from it. Proxies of the environment are used. While one
    process fetches a file, others that want it wait.

    Args:
        urls: ``http`` or ``https`` addresses in order of preference.
        file: where it shall lie; its folder is made.
        sha256: hex digits that its SHA-256 starts with: all 64, or fewer where no more are known.
        size: in bytes, where known.

    Raises:
        NowhereError: no address gave the right file.
        MissingError: it cannot be written.
    """
    with alone(file):
        if file.is_file() and file_sha256(file).startswith(sha256):
            return  # another process was faster
        _Fetch(file, sha256, size, on_progress, patience or Patience()).from_any(urls)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """While in it, other processes that want to put ``file`` there wait; its folder is made.

    Raises:
        MissingError: the disk said no.
    """
    import filelock

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(file.with_name(f".{file.name}.lock")):
            yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            remedy = "make room, or set GRIDPOSE_HOME to another folder; what has arrived is kept"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
            remedy = "set GRIDPOSE_HOME to another folder"
        else:
            raise
        raise MissingError(f"{file}: cannot be written ({error.strerror}); {remedy}") from error


class _Fetch:
    """One file on its way."""

    def __init__(
        self,
        file: Path,
        sha256: str,
        size: int | None,
        on_progress: OnProgress | None,
        patience: Patience,
    ) -> None:
        self._file, self._sha256, self._size = file, sha256.lower(), size
        self._on_progress, self._patience = on_progress, patience
        self._part = file.with_name(f".{file.name}.part")

    def from_any(self, urls: Sequence[str]) -> None:
        failures = []
        for url in urls:
            try:
                self._from_one(url)
            except _UselessError as error:
                failures.append(f"{url}: {error}")
            else:
                self._part.replace(self._file)
                return
        raise NowhereError(self._file, failures)

    def _from_one(self, url: str) -> None:
        """Get all of it, with as many requests as it takes.

        Raises:
            _UselessError: this address has not got it.
        """
        if not url.startswith(("http://", "https://")):
            raise _UselessError("only http and https are fetched")
        resumed = self._present() > 0
        if resumed and file_sha256(self._part).startswith(self._sha256):
            return
        failed = 0
        while True:
            before = self._present()
            try:
                self._request(url)
            except _WorthRetryingError as error:
                failed = 1 if self._present() > before else failed + 1
                if failed >= self._patience.tries:
                    raise _UselessError(str(error)) from error
                time.sleep(self._patience.pause_seconds * 2 ** (failed - 1))
                continue
            found = file_sha256(self._part)
            if found.startswith(self._sha256):
                return
            self._part.unlink()
            if not resumed:
                raise _UselessError(
                    f"sent another file: its SHA-256 is {found}, not {self._sha256}"
                )
            # The first piece may have been of another file, or of another state of this one.
            resumed = False

    def _present(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _request(self, url: str) -> None:
        """Get the rest of it in one request.

        Raises:
            _WorthRetryingError: less than all of it came.
            _UselessError: the server has not got it.
        """
        import requests

        start = self._present()
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        waits = (self._patience.connect_seconds, self._patience.read_seconds)
        try:
            with requests.get(url, headers=headers, stream=True, timeout=waits) as response:
                self._receive(response, start)
        except requests.Timeout as error:
            raise _WorthRetryingError("the server did not answer in time") from error
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise _UselessError("no usable address") from error
        except requests.TooManyRedirects as error:
            raise _UselessError("too many redirects") from error
        except requests.RequestException as error:
            raise _WorthRetryingError(_plain(error)) from error

    def _receive(self, response: requests.Response, start: int) -> None:
        """Write the answer to a request for all bytes from ``start`` on."""
        status, sent = response.status_code, response.headers.get("Content-Range", "")
        answered = f"the server answered {status} {response.reason}"
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            self._part.unlink()
            raise _WorthRetryingError("the server has no rest of it to send")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise _WorthRetryingError(answered)
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise _UselessError(answered)
        if status == HTTPStatus.OK:
            start = 0  # all of it, whatever was asked for
        elif not sent.startswith(f"bytes {start}-"):
            raise _UselessError("the server sent another part than was asked for")
        declared = response.headers.get("Content-Length", "")
        total = start + int(declared) if declared.isdecimal() else None
        if total is not None and self._size is not None and total != self._size:
            raise _UselessError(f"has {total} bytes where {self._size} are expected")
        limit = total or self._size or _LARGEST
        present = start
        with self._part.open("ab" if start else "wb") as stream:
            for block in response.iter_content(_BLOCK):
                present += len(block)
                if present > limit:
                    stream.truncate(0)
                    raise _UselessError(f"sent more than {limit} bytes")
                stream.write(block)
                if self._on_progress is not None:
                    self._on_progress(present, total or self._size)
        if total is not None and present < total:
            raise _WorthRetryingError(f"the connection ended after {present} of {total} bytes")


def _plain(error: BaseException) -> str:
    """The innermost reason, without addresses of objects."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
