"""What the page does with one video or picture: the main job, and everything to take home."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gridpose.core import InputError
from gridpose.pipeline.exports import FORMATS
from gridpose.pipeline.exports.angles import write_angles
from gridpose.pipeline.options import VideoOptions
from gridpose.pipeline.render import RenderOptions, render_poses
from gridpose.pipeline.result import Progress
from gridpose.pipeline.run import run_video
from gridpose.pipeline.video.ffmpeg import probe
from gridpose.pipeline.video.reader import is_image

_STRANGE: Final = re.compile(r"[^\w. -]")
_LONGEST_NAME: Final = 80
MEGABYTE: Final = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What is taken on: ``megabytes`` (of 2**20 bytes) and ``seconds`` of a video at most."""

    megabytes: float
    seconds: float


@dataclass(frozen=True)
class Made:
    """Results: the ``drawn`` video or picture, the ``viewer`` page, figures of ``angles`` (a person
    each), all ``files`` to download, and ``notes`` for the user.
    """

    drawn: Path
    viewer: Path
    angles: list[Path]
    files: list[Path]
    notes: list[str]
    frames: int
    people: int


def run_job(
    upload: Path,
    folder: Path,
    options: VideoOptions,
    limits: Limits,
    on_progress: Callable[[Progress | None], None],
) -> Made:
    """Do the main job and write every export.

    Args:
        upload: the video or picture.
        folder: an empty one, for the results.
        options: of :func:`~gridpose.pipeline.run_video`; files to write are added.
        limits: of the upload.
        on_progress: called after every frame, with None before what comes after all frames; what it
            raises ends the job.

    Raises:
        InputError: it cannot be used, or exceeds the limits. The upload is called by its name.
        GridposeError: as :func:`~gridpose.pipeline.run_video` does.
    """
    source = _beside_results(upload, folder)
    is_picture = is_image(source)
    _check_limits(source, limits)
    stem = source.stem
    drawn = folder / f"{stem}-3d{'.png' if is_picture else '.mp4'}"
    exports = tuple(folder / f"{stem}{suffix}" for suffix in FORMATS)
    result = run_video(
        source,
        drawn,
        # Browsers' recordings do not say how long they are, and files may lie about it.
        replace(options, save_poses=exports, end=limits.seconds),
        on_progress=on_progress,
        # Loading takes seconds, in which somebody may cancel.
        on_detector=lambda _: on_progress(Progress(0, None)),
    )
    files, notes = list(result.files), list(result.warnings)
    if not is_picture and result.frames >= limits.seconds * result.fps:
        notes.append(f"only the first {limits.seconds:g} s were taken, which is what is allowed")
    on_progress(None)
    viewer = folder / f"{stem}.html"
    look = replace(options.look, layout="skeleton")
    render_poses(result.poses, viewer, RenderOptions(look, None if is_picture else source))
    files.append(viewer)
    angles: list[Path] = []
    if result.poses.present.any():
        on_progress(None)
        files += write_angles(result.poses, folder / f"{stem}-angles.csv").files
        if not is_picture:  # curves of one moment are points
            angles = write_angles(result.poses, folder / f"{stem}-angles.png").files
    source.unlink()
    people = len(result.track_ids)
    return Made(drawn, viewer, angles, [*files, *angles], notes, result.frames, people)


def _beside_results(upload: Path, folder: Path) -> Path:
    """The upload under a plain name of its own, whatever becomes of it while the job runs."""
    if not upload.is_file():
        raise InputError("the upload is gone; please upload it again")
    name = _STRANGE.sub("_", upload.name)
    suffix = Path(name).suffix
    source = folder / f"{Path(name).stem[:_LONGEST_NAME].strip('. ') or 'upload'}{suffix}"
    try:
        os.link(upload, source)
    except OSError:
        shutil.copyfile(upload, source)
    return source


def _check_limits(source: Path, limits: Limits) -> None:
    """Raises InputError for an upload that is too large, or a video that says it is too long."""
    megabytes = source.stat().st_size / MEGABYTE
    if megabytes > limits.megabytes:
        raise InputError(
            f"{source.name} has {megabytes:.1f} MB, and {limits.megabytes:g} MB are allowed here"
        )
    duration = None if is_image(source) else probe(source).duration
    if duration is not None and duration > limits.seconds:
        raise InputError(
            f"{source.name} is {duration:.0f} s long, and {limits.seconds:g} s are allowed here; "
            "please cut it shorter"
        )
