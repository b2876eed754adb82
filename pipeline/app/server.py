"""Serving the page."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gridpose.core import MissingError, UsageError
from gridpose.pipeline.app.access import credentials
from gridpose.pipeline.app.workspace import server_folder

_STOPPING_SECONDS: Final = 5.0


@dataclass(frozen=True)
class AppOptions:
    """Options of :func:`serve`.

    ``auth`` is as :func:`gridpose.pipeline.app.access.credentials` takes it; ``max_size`` counts
    megabytes, ``max_duration`` seconds.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    auth: str | None = None
    max_size: float = 500.0
    max_duration: float = 120.0

    def check(self) -> None:
        """Raises UsageError for a value out of range."""
        if not 0 <= self.port <= 65535:
            raise UsageError(f"`port` {self.port}: must be between 0 and 65535")
        for name, value in (("max_size", self.max_size), ("max_duration", self.max_duration)):
            if not 0 < value < float("inf"):
                raise UsageError(f"`{name}` {value:g}: must be a number above 0")


def serve(options: AppOptions, on_ready: Callable[[str], None]) -> None:
    """Serve the page until an exception (Ctrl-C) ends it; no file is left.

    Args:
        options: see :class:`AppOptions`.
        on_ready: called with the page's address.

    Raises:
        UsageError: a value out of range, an address that others reach without a password.
        MissingError: Gradio is not installed, or the address cannot be listened on.
    """
    options.check()
    auth = credentials(options.auth, options.host)
    with server_folder() as folder:
        # Gradio's folder for files is found out when it is imported.
        try:
            import gradio  # noqa: F401
        except ImportError as error:
            raise MissingError("gridpose app needs Gradio: pip install 'gridpose[app]'") from error
        _serve(options, auth, folder, on_ready)


def _serve(
    options: AppOptions,
    auth: tuple[str, str] | None,
    folder: Path,
    on_ready: Callable[[str], None],
) -> None:
    from gridpose.pipeline.app.job import MEGABYTE, Limits
    from gridpose.pipeline.app.page import STYLE, build_page, theme
    from gridpose.pipeline.app.sessions import Sessions

    sessions = Sessions(folder)
    page = build_page(sessions, Limits(options.max_size, options.max_duration))
    page.queue(api_open=False)
    try:
        _, address, _ = page.launch(
            server_name=options.host,
            server_port=options.port,
            auth=auth,
            max_file_size=round(options.max_size * MEGABYTE),
            theme=theme(),
            css=STYLE,
            quiet=True,
            prevent_thread_lock=True,
            share=False,
            inbrowser=False,
            ssr_mode=False,
            mcp_server=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
        )
    except OSError as error:
        raise MissingError(
            f"`host={options.host}` `port={options.port}` cannot be listened on; "
            "another `port` may be free"
        ) from error
    try:
        on_ready(address)
        threading.Event().wait()
    finally:
        sessions.close(_STOPPING_SECONDS)
        page.close(verbose=False)
