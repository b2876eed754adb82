"""Finding the videos below a folder, by what is in files rather than by what they are called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from gridpose.core import InputError
from gridpose.pipeline.video.ffmpeg import probe

_VIDEO_SUFFIX: Final = re.compile(
    r"\.(mp4|m4v|mov|mkv|webm|avi|wmv|asf|flv|mpg|mpeg|m2v|ts|m2ts|mts"
    r"|3gp|3g2|ogv|vob|mxf|rm|rmvb|dv|divx)"
)
"""Whatever is called so is meant to be a video: a broken one is reported, not passed over."""
_STILL_PICTURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*")
_SIGNATURES: Final = (
    re.compile(rb"....(ftyp|moov|mdat|wide|free|skip|pnot)", re.DOTALL),  # QuickTime's family
    re.compile(rb"\x1aE\xdf\xa3"),  # Matroska, WebM
    re.compile(rb"RIFF....AVI ", re.DOTALL),
    re.compile(rb"FLV\x01"),
    re.compile(rb"0&\xb2u\x8ef\xcf\x11"),  # ASF
    re.compile(rb"\x00\x00\x01[\xb3\xba]"),  # MPEG
    re.compile(rb"(G.{187}){2}G", re.DOTALL),  # transport stream
    re.compile(rb"(.{4}G.{187}){2}", re.DOTALL),  # of Blu-ray
    re.compile(rb"OggS"),
    re.compile(rb"GIF8[79]a"),
    re.compile(rb"\.RMF"),
    re.compile(rb"\x06\x0e+4\x02\x05\x01\x01\r\x01\x02\x01\x01\x02"),  # MXF
)
_HEAD_BYTES: Final = 1024
PARTIAL: Final = re.compile(r"^\..*\.[0-9a-f]{8}\.part\.\w+$", re.DOTALL)
"""Names of results that are not finished; see :func:`gridpose.storage.partial_name`."""
_SIDE_CAR: Final = "._"
"""What names begin with in which macOS keeps a file's attributes on foreign disks."""


@dataclass(frozen=True)
class Found:
    """A file: its ``path`` below the folder, as the file system spells it; bytes; mtime in ns."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Search:
    """Result of :func:`find_videos`: the videos, largest first, and sentences for the user."""

    videos: list[Found]
    warnings: list[str]


def find_videos(
    folder: Path,
    without: Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Search:
    """All videos below ``folder``, largest first.

    Files with a video's suffix, and others that begin like a video and have a frame that can be
    decoded. Links to folders are not followed, so that none is visited twice or for ever.

    Args:
        folder: where to look.
        without: a folder that is left out.
        include: globs of paths below the folder, or of names; none takes everything.
        exclude: likewise, of what to leave out.
    """
    warnings: list[str] = []
    videos = [
        found
        for found in _files(folder, without.resolve(), warnings)
        if _wanted(found.path, include, exclude) and _is_video(folder / found.path, found.size)
    ]
    return Search(sorted(videos, key=lambda found: (-found.size, found.path)), warnings)


def _files(folder: Path, without: Path, warnings: list[str]) -> Iterator[Found]:
    def note(error: OSError) -> None:
        warnings.append(f"{error.filename}: cannot be looked into ({error.strerror})")

    for place, names, files in os.walk(folder, onerror=note):
        names[:] = sorted(name for name in names if (Path(place) / name).resolve() != without)
        for name in files:
            file = Path(place) / name
            if name.startswith(_SIDE_CAR):
                continue
            try:
                status = file.stat()
            except OSError as error:
                # A link to nowhere, or to itself: only what is meant to be a video is reported.
                if _VIDEO_SUFFIX.fullmatch(file.suffix.lower()):
                    warnings.append(f"{file}: cannot be read ({error.strerror})")
                continue
            if file.is_file() and not PARTIAL.match(name):
                path = str(file.relative_to(folder))
                yield Found(path, status.st_size, status.st_mtime_ns)


def _wanted(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    names = (path, Path(path).name)

    def matches(globs: Sequence[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in globs for name in names)

    return (not include or matches(include)) and not matches(exclude)


def _is_video(file: Path, size: int) -> bool:
    if _VIDEO_SUFFIX.fullmatch(file.suffix.lower()):
        return True
    if not size:
        return False
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return False
    if head.startswith(_STILL_PICTURES) or not any(known.match(head) for known in _SIGNATURES):
        return False
    try:
        probe(file)  # sound, too, comes in these containers
    except InputError:
        return False
    return True
