"""Who may reach the page."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Final

from gridpose.core import MissingError, UsageError

AUTH_VARIABLE: Final = "GRIDPOSE_APP_AUTH"


def credentials(auth: str | None, host: str) -> tuple[str, str] | None:
    """User and password that the page asks for; None lets everybody on this machine in.

    Args:
        auth: ``USER:PASSWORD``, or ``@FILE`` with such a line, which no list of processes shows;
            None takes ``$GRIDPOSE_APP_AUTH``.
        host: address that will be listened on.

    Raises:
        UsageError: others could reach that address and there is no password, or no such pair.
        MissingError: the file cannot be read.
    """
    text = os.environ.get(AUTH_VARIABLE) if auth is None else auth
    if not text:
        if is_loopback(host):
            return None
        raise UsageError(
            f"`host={host}` can be reached by other machines, so it needs `auth`, or "
            f"{AUTH_VARIABLE}: USER:PASSWORD"
        )
    if text.startswith("@"):
        text = _first_line(Path(text[1:]))
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise UsageError("`auth` must be USER:PASSWORD, or @FILE with that in it")
    return user, password


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # another name, whatever it may resolve to
        return False


def _first_line(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MissingError(f"{file}: cannot be read, and `auth` names it") from error
