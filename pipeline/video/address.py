"""Videos at addresses, by means of yt-dlp where that is installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from gridpose.core import InputError, MissingError
from gridpose.pipeline.video.ffmpeg import ffmpeg_program

_ADDRESS: Final = re.compile(r"https?://.+", re.IGNORECASE)
_TOO_HIGH: Final = 1080
"""Lines that more of would help nobody to find joints."""

_CAUSE: Final = re.compile(r"\n| \(caused by ")


class _Silent:
    """In place of yt-dlp's messages: it raises what matters of them."""

    def debug(self, _: str) -> None: ...
    def warning(self, _: str) -> None: ...
    def error(self, _: str) -> None: ...


def is_address(source: str | Path) -> bool:
    """Whether a source is to be fetched from the web; a path never is."""
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def fetch(address: str, folder: Path) -> Path:
    """Fetch the video of a page or of an address itself into a folder.

    Raises:
        MissingError: yt-dlp is not installed.
        InputError: the video cannot be had.
    """
    try:
        import yt_dlp
    except ImportError as error:
        raise MissingError(
            f"{address}: to fetch videos, pip install yt-dlp; or save it to a file first"
        ) from error

    options: dict[str, Any] = {
        "outtmpl": str(folder / "%(title).80B [%(id).40B].%(ext)s"),
        "format": f"bv*[height<={_TOO_HIGH}]+ba/b[height<={_TOO_HIGH}]/bv*+ba/b",
        "ffmpeg_location": ffmpeg_program(),
        "noplaylist": True,
        "noprogress": True,
        "logger": _Silent(),
    }
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            found = downloader.extract_info(address)
            file = Path(found["requested_downloads"][0]["filepath"])
    except yt_dlp.utils.YoutubeDLError as error:
        said = _CAUSE.split(str(error).removeprefix("ERROR: "), maxsplit=1)[0]
        raise InputError(f"{address}: cannot be fetched ({said})") from error
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(f"{address}: has no single video") from error
    return file
