"""The first half of a run: frames are decoded, cut into shots, and people are found in them.

Decoding runs in a thread of its own (and a child process), so that the next frames are there when
the detector is done with one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridpose.core import AnyArray, ImageArray
from gridpose.pipeline.models import Models
from gridpose.pipeline.options import VideoOptions
from gridpose.pipeline.stopwatch import LOAD, Stopwatch
from gridpose.pipeline.video.background import Background
from gridpose.pipeline.video.cuts import FIRST_SHOT, numbered_shots
from gridpose.pipeline.video.endpoints import Source
from gridpose.pipeline.video.reader import Frame
from gridpose.pipeline.video.stillness import WIDTH, CameraStillness, small_grey

if TYPE_CHECKING:
    from gridpose.detectors import Detection, Detector


@dataclass(frozen=True)
class _Decoded:
    """A frame of a shot, and what will be shown of it, if anything."""

    shot: int
    frame: Frame
    panel: ImageArray | None
    grey: AnyArray


@dataclass(frozen=True)
class DetectedFrame:
    """A frame after detection: only the panel that will be shown, if any, is left of its pixels."""

    shot: int
    time: float
    panel: ImageArray | None
    people: list[Detection]
    camera_still: bool


class Detecting:
    """Finds the people of every frame of a source.

    Args:
        frames: the source.
        options: of the run.
        models: has the detector, which is loaded when it is first needed.
        stopwatch: to say what took how long.
        panel: makes what will be shown of a frame's pixels; None if nothing will.
        slowdown: seconds of the video for one that was filmed.
    """

    def __init__(
        self,
        frames: Source,
        options: VideoOptions,
        models: Models,
        stopwatch: Stopwatch,
        panel: Callable[[ImageArray], ImageArray] | None,
        slowdown: float = 1.0,
    ) -> None:
        self._frames, self._options, self._models = frames, options, models
        self._stopwatch, self._panel, self._slowdown = stopwatch, panel, slowdown

    def frames(self, on_detector: Callable[[Detector], None]) -> Iterator[DetectedFrame]:
        """All frames, in order; ``on_detector`` is called once the detector is loaded."""
        with ExitStack() as stack:
            # While one batch is in the detector the next one is decoded.
            ahead = self._options.batch_size
            decoded = stack.enter_context(Background(self._decode, ahead, "decode", gives_way=True))
            stack.callback(self._frames.close)
            with self._stopwatch(LOAD):
                detector = self._models.detector
            detector.forget()
            on_detector(detector)
            at_once = max(self._options.batch_size, getattr(detector, "frames_at_once", 1))
            decoded.allow(at_once)
            shot = FIRST_SHOT
            camera, scale = CameraStillness(), WIDTH / self._frames.size[0]
            for batch in _batches(decoded, at_once):
                if batch[0].shot != shot:
                    detector.forget()
                    camera, shot = CameraStillness(), batch[0].shot
                times = [item.frame.time / self._slowdown for item in batch]
                with self._stopwatch("detect"):
                    found = detector.detect([item.frame.image for item in batch], times)
                for item, time, people in zip(batch, times, found, strict=True):
                    still = camera.is_still(item.grey, [one.bbox for one in people], scale)
                    yield DetectedFrame(shot, time, item.panel, people, still)

    def _decode(self) -> Iterator[_Decoded]:
        """Frames in runs of one shot."""
        small = ((frame, small_grey(frame.image)) for frame in self._frames)
        shots: Iterator[tuple[int, tuple[Frame, AnyArray]]]
        if self._options.cuts:
            shots = numbered_shots(small, lambda each: each[1])
        else:
            shots = ((FIRST_SHOT, each) for each in small)
        while True:
            with self._stopwatch("decode"):
                following = next(shots, None)
                if following is None:
                    return
                shot, (frame, grey) = following
                panel = None if self._panel is None else self._panel(frame.image)
            yield _Decoded(shot, frame, panel, grey)


def _batches(items: Iterable[_Decoded], size: int) -> Iterator[list[_Decoded]]:
    """At most ``size`` frames of one shot each."""
    batch: list[_Decoded] = []
    for item in items:
        if batch and item.shot != batch[0].shot:
            yield batch
            batch = []
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
