"""What the page does with one video or picture: the main job, and everything to take home."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from gridpose.core import InputError, PoseTracks
from gridpose.pipeline.exports import FORMATS, export_poses
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


@dataclass
class Made:
    """The ``drawn`` video or picture and the ``viewer`` page, of so many ``frames`` and ``people``;
    figures of ``angles``, one a person; all ``files`` to take home; and ``notes`` for the user.
    """

    drawn: Path
    viewer: Path
    frames: int
    people: int
    angles: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
        on_progress: called after every frame, while waiting for one, and with None for what comes
            after all frames; what it raises ends the job.

    Raises:
        InputError: it cannot be used, or exceeds the limits. The upload is called by its name.
        GridposeError: as :func:`~gridpose.pipeline.run_video` does.
    """
    source = _beside_results(upload, folder)
    is_picture = is_image(source)
    is_known = _check_limits(source, limits) is not None

    last = Progress(0, None)

    def on_frame(progress: Progress) -> None:
        nonlocal last
        last = progress if is_known else Progress(progress.done, None)
        on_progress(last)

    drawn = folder / f"{source.stem}-3d{'.png' if is_picture else '.mp4'}"
    result = run_video(
        source,
        drawn,
        # Browsers' recordings do not say how long they are, and files may lie about it.
        replace(options, save_poses=(source.with_suffix(".npz"),), end=limits.seconds),
        on_progress=on_frame,
        while_waiting=lambda: on_progress(last),
    )
    made = Made(drawn, source.with_suffix(".html"), result.frames, len(result.track_ids))
    made.files += result.files
    made.notes += result.warnings
    if not is_picture and result.frames >= limits.seconds * result.fps:
        made.notes.append(f"only the first {limits.seconds:g} s were taken: no more is allowed")
    on_progress(None)
    look = replace(options.look, layout="skeleton")
    video = None if is_picture else source
    render_poses(result.poses, made.viewer, RenderOptions(look, video))
    made.files.append(made.viewer)
    if result.poses.present.any():
        _export(result.poses, source, made, on_progress)
        if not is_picture:  # curves of one moment are points
            figures = source.with_name(f"{source.stem}-angles.png")
            made.angles += write_angles(result.poses, figures).files
            made.files += made.angles
    source.unlink()
    return made


def _export(
    poses: PoseTracks, source: Path, made: Made, on_progress: Callable[[Progress | None], None]
) -> None:
    """Write what other programs read."""
    for suffix in FORMATS:
        file = source.with_suffix(suffix)
        if file not in made.files:
            on_progress(None)
            exported = export_poses(poses, file)
            made.files += exported.files
            made.notes += [f"{file.name}: {note}" for note in exported.notes]
    made.files += write_angles(poses, source.with_name(f"{source.stem}-angles.csv")).files


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


def _check_limits(source: Path, limits: Limits) -> float | None:
    """How long a video says it is, in seconds.

    Raises:
        InputError: it is too long, or the upload too large.
    """
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
    return duration
