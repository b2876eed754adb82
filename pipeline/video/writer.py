"""Streaming H.264 encoding through an ffmpeg child process."""

from __future__ import annotations

import contextlib
import os
import subprocess
from fractions import Fraction
from pathlib import Path

import cv2

from gridpose.core import GridposeError, ImageArray, MissingError
from gridpose.pipeline.stopwatch import reap
from gridpose.pipeline.video.ffmpeg import LogReader, encode_command, widen_pipe
from gridpose.pipeline.video.priority import spawn
from gridpose.storage import partial_name

# Audio that an mp4 may hold as it is; anything else becomes AAC. Of MP3 it may hold some sample
# rates only, and ffmpeg refuses the others after the first frame.
_MP4_AUDIO = frozenset({"aac", "ac3", "eac3", "alac", "opus"})
_LONGEST_HOLD_SECONDS = 10.0


class VideoWriter:
    """Encodes RGB frames to H.264 in mp4; a context manager.

    Frames are given with their presentation times and come out at a constant rate: a frame is
    shown from its own time until the next one's, so a variable-rate source keeps its pace. The
    file appears under its name only when complete; leaving the block through an exception removes
    what was written.

    Args:
        file: the result.
        size: width, height in pixels, both even.
        fps: frame rate of the result.
        audio_from: video whose sound is taken over.
        audio_codec: codec of that sound.
        audio_start: second at which that sound starts.
        audio_end: second at which that sound ends.
        crf: x264 quality, 0 (lossless) to 51.
        preset: x264 speed.

    Raises:
        ValueError: an odd size.
        GridposeError: ffmpeg failed; its own message is in the text.
    """

    def __init__(
        self,
        file: Path,
        size: tuple[int, int],
        fps: Fraction,
        *,
        audio_from: Path | None = None,
        audio_codec: str | None = None,
        audio_start: float = 0.0,
        audio_end: float | None = None,
        crf: int = 22,
        preset: str = "superfast",
    ) -> None:
        if size[0] % 2 or size[1] % 2:
            raise ValueError(f"width and height must be even, got {size[0]}x{size[1]}")
        self.file = file
        self.frames_written = 0
        self.cpu_seconds = 0.0
        """Of the encoder, once it has ended."""
        self._size, self._fps = size, fps
        self._with_audio = audio_from is not None and audio_codec is not None
        self._first_time: float | None = None
        self._audio_start = audio_start
        self._partial = partial_name(file)
        arguments = encode_command(
            self._partial,
            size,
            fps,
            crf=crf,
            preset=preset,
            audio_from=audio_from if self._with_audio else None,
            audio_codec="copy" if audio_codec in _MP4_AUDIO else "aac",
            audio_start=audio_start,
            audio_end=audio_end,
        )
        self._process = spawn(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._pipe = self._process.stdin
        widen_pipe(self._pipe)
        self._log = LogReader(self._process.stderr)
        self._held: memoryview | None = None
        self._held_slot = 0

    def write(self, image: ImageArray, time: float) -> None:
        """Add an (H, W, 3) uint8 RGB frame shown from ``time`` seconds on; times must not fall."""
        width, height = self._size
        if image.shape != (height, width, 3):
            raise ValueError(f"frame must be ({height}, {width}, 3), got {image.shape}")
        if self._first_time is None:
            late = self._with_audio and (time - self._audio_start) * self._fps > 1
            # Pictures that begin after their sound must not come forward: the first one is held.
            self._first_time = self._audio_start if late else time
        slot = round((time - self._first_time) * self._fps)
        if self._held is not None:
            # A broken timestamp must not turn into hours of one frame.
            longest = max(1, round(_LONGEST_HOLD_SECONDS * self._fps))
            self._emit(min(slot - self._held_slot, longest))
        # Half the bytes of RGB, and OpenCV converts faster than ffmpeg does.
        planes = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
        self._held_slot = 0 if self._held is None else slot
        self._held = planes.data.cast("B")

    def _emit(self, times: int) -> None:
        assert self._held is not None
        data = self._held
        for _ in range(times):
            try:
                self._pipe.write(data)
            except OSError as error:
                raise self._failure() from error
            self.frames_written += 1

    def _failure(self) -> GridposeError:
        self._process.wait()
        self._log.join()
        reason = "; ".join(self._log.problems()[:3]) or "no reason given"
        hint = " (`audio=False` leaves the sound out)" if self._with_audio else ""
        return GridposeError(f"{self.file}: ffmpeg could not write the video: {reason}{hint}")

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            GridposeError: ffmpeg failed.
            MissingError: the file could not get its name.
        """
        if self._held is not None:
            self._emit(1)
        with contextlib.suppress(OSError):
            self._pipe.close()
        self.cpu_seconds += reap(self._process)
        if self._process.returncode != 0:
            raise self._failure()
        self._log.join()
        try:
            os.replace(self._partial, self.file)
        except OSError as error:
            raise MissingError(f"{self.file}: cannot be written ({error.strerror})") from error

    def abort(self) -> None:
        """Stop and remove what was written; nothing after :meth:`close`."""
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.wait()
        self._log.join()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.abort()
