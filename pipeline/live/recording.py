"""What is kept of a live session: a video and poses, whole however the session ends."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from gridpose.core import GridposeError, ImageArray, Person
from gridpose.pipeline.poses.spool import PoseSpool
from gridpose.pipeline.video.priority import give_way
from gridpose.pipeline.video.writer import VideoWriter

_MOST_WAITING: Final = 15
"""Pictures; what an encoder that is slower than the camera leaves behind is skipped."""


class VideoRecording:
    """Encodes pictures in a thread of its own, so that the session need not wait.

    Args:
        file: the video; it appears when it is finished.
        size: width, height px, even.
        fps: rate of the video.

    Raises:
        GridposeError: ffmpeg cannot be started.
    """

    def __init__(self, file: Path, size: tuple[int, int], fps: float) -> None:
        self.file, self.size = file, size
        self.skipped = 0
        self._writer = VideoWriter(
            file, size, Fraction(fps).limit_denominator(1001), preset="ultrafast"
        )
        self._waiting: queue.Queue[tuple[ImageArray, float] | None] = queue.Queue(_MOST_WAITING)
        self._error: GridposeError | None = None
        self._thread = threading.Thread(target=self._encode, daemon=True, name="recording")
        self._thread.start()

    def add(self, image: ImageArray, time: float) -> None:
        """The picture shown from second ``time`` on.

        Raises:
            GridposeError: the encoder failed, perhaps some pictures ago.
        """
        if self._error is not None:
            raise self._error
        try:
            self._waiting.put_nowait((image, time))
        except queue.Full:
            self.skipped += 1

    def _encode(self) -> None:
        give_way()
        while (item := self._waiting.get()) is not None:
            if self._error is None:
                try:
                    self._writer.write(*item)
                except GridposeError as error:
                    self._error = error

    def finish(self) -> None:
        """Encode what is left and give the file its name.

        Raises:
            GridposeError: the encoder failed; there is no file then.
        """
        self._waiting.put(None)
        self._thread.join()
        try:
            if self._error is not None:
                raise self._error
            self._writer.close()
        finally:
            self._writer.abort()


class Recording:
    """A video and a pose file, each if it is wanted.

    Args:
        video: file of the video.
        poses: the pose file.
        fps: rate of both.
        image_size: width, height of the source, px.
    """

    def __init__(
        self, video: Path | None, poses: Path | None, fps: float, image_size: tuple[int, int]
    ) -> None:
        self._video_file, self._poses_file, self._fps = video, poses, fps
        self._video: VideoRecording | None = None
        self._spool = PoseSpool(fps, image_size) if poses is not None else None

    @property
    def wants_pictures(self) -> bool:
        """Whether it takes pictures at all."""
        return self._video_file is not None

    @property
    def size(self) -> tuple[int, int] | None:
        """Of the video, once there is one; all pictures must have it."""
        return None if self._video is None else self._video.size

    def add(self, time: float, people: Sequence[Person], image: ImageArray | None) -> None:
        """Keep a frame.

        Raises:
            GridposeError: the disk is full, or the encoder failed.
        """
        if self._spool is not None:
            self._spool.add(time, people)
        if self._video_file is not None and image is not None:
            if self._video is None:
                size = (image.shape[1], image.shape[0])
                self._video = VideoRecording(self._video_file, size, self._fps)
            self._video.add(image, time)

    def finish(self, meta: dict[str, Any]) -> list[str]:
        """Write the files.

        Returns:
            What became of each, a sentence for the user.

        Raises:
            GridposeError: one could not be written; the other is.
        """
        told: list[str] = []
        try:
            if self._video is not None:
                self._video.finish()
                skipped = self._video.skipped
                less = f" ({skipped} pictures skipped: the encoder was too slow)" if skipped else ""
                told.append(f"{self._video_file}{less}")
        finally:
            if self._spool is not None and self._poses_file is not None:
                if self._spool.frame_count:
                    self._spool.fps = _mean_rate(self._spool.times, self._spool.fps)
                    self._spool.write_npz(self._poses_file, meta)
                    told.append(str(self._poses_file))
                self._spool.close()
        return told


def _mean_rate(times: Sequence[float], otherwise: float) -> float:
    """Frames a second: how many were answered is known only afterwards."""
    elapsed = times[-1] - times[0]
    return (len(times) - 1) / elapsed if elapsed > 0 else otherwise
