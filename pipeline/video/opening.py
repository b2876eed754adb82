"""Which kind of source a path is."""

from __future__ import annotations

from pathlib import Path

from gridpose.core import UsageError
from gridpose.pipeline.video.endpoints import ImageSource, Source
from gridpose.pipeline.video.ffmpeg import StreamInfo
from gridpose.pipeline.video.reader import VideoReader, is_image
from gridpose.pipeline.video.sequence import DEFAULT_RATE, PictureSequence, is_sequence


def open_source(
    source: Path,
    start: float = 0.0,
    end: float | None = None,
    stride: int = 1,
    fps: float | None = None,
    info: StreamInfo | None = None,
) -> Source:
    """The frames of a video, a picture or numbered pictures.

    Args:
        source: a file, a folder of pictures, or a name with ``%04d`` in it.
        start: second at which to start.
        end: second at which to stop.
        stride: take every n-th frame.
        fps: rate of numbered pictures.
        info: what is known of a video.

    Raises:
        InputError: it cannot be used.
        UsageError: a rate for what has one of its own.
    """
    if is_sequence(source):
        return PictureSequence(source, fps or DEFAULT_RATE, start, end, stride)
    if fps is not None:
        raise UsageError(
            f"`fps={fps:g}` is the rate of numbered pictures, which {source} is none of; "
            "`true_fps` says how quickly slow motion was filmed"
        )
    return (
        ImageSource(source) if is_image(source) else VideoReader(source, start, end, stride, info)
    )
