"""The main job: a video or picture goes in, its 3D skeletons come out.

Decoding, detection, and everything after it run in three threads (decoding and encoding in child
processes besides), joined by bounded queues: memory does not depend on the length of the video.
The calling thread only waits, so that it can be interrupted at any time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridpose.core import ImageArray, InputError, Person, UsageError
from gridpose.pipeline.exports import check_export, export_poses
from gridpose.pipeline.models import Models
from gridpose.pipeline.motion.left_out import LeftOut, left_out_note
from gridpose.pipeline.options import VideoOptions
from gridpose.pipeline.outputs import check_output
from gridpose.pipeline.poses.spool import PoseSpool
from gridpose.pipeline.result import Progress, VideoResult
from gridpose.pipeline.stopwatch import LOAD, Stopwatch
from gridpose.pipeline.video.background import Background
from gridpose.pipeline.video.endpoints import ImageSink, ImageSource, Sink, Source
from gridpose.pipeline.video.interrupts import interrupts_held
from gridpose.pipeline.video.priority import give_way
from gridpose.pipeline.video.reader import (
    Frame,
    VideoReader,
    check_readable,
    is_image,
)
from gridpose.pipeline.video.writer import VideoWriter
from gridpose.storage import file_sha256

if TYPE_CHECKING:
    from gridpose.detectors import Convention, Detection, Detector
    from gridpose.pipeline.motion.post_detection import PostDetection
    from gridpose.pipeline.video.ffmpeg import StreamInfo
    from gridpose.visualize import Layout
    from gridpose.visualize.look import Arrangement

_LIFT_BATCH = 8
_DRAWN_AHEAD = 4
_STRANGE_TILT_DEGREES = 15.0
_DETECTED_AHEAD = 48
"""Frames (as panels) that detection may run ahead, say while the lifter's libraries load."""


@dataclass(frozen=True)
class _Detected:
    """A frame after detection: only the panel that will be shown, if any, is left of its pixels."""

    time: float
    panel: ImageArray | None
    people: list[Detection]


def run_video(
    source: str | Path,
    output: str | Path | None,
    options: VideoOptions | None = None,
    *,
    models: Models | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_detector: Callable[[Detector], None] | None = None,
    info: StreamInfo | None = None,
) -> VideoResult:
    """Detect, follow, lift and draw the people of a video or picture.

    Args:
        source: a video, or a picture (then ``output`` must be one too).
        output: the drawn result, ``.mp4``; None draws nothing, for who wants the numbers only.
        options: see :class:`VideoOptions`.
        models: loaded for these options, and not closed; by default for this run only.
        on_progress: called after every finished frame.
        on_detector: called with the detector once it is loaded.
        info: what :func:`~gridpose.pipeline.video.ffmpeg.probe` said of the video, if it was asked.

    Raises:
        InputError: the source cannot be used.
        UsageError: options that do not fit.
        MissingError: weights, a device or the output folder are missing.
    """
    source, options = Path(source), options or VideoOptions()
    output = None if output is None else Path(output)
    started = time.perf_counter()
    options.check()
    check_readable(source)
    still = is_image(source)
    if output is not None:
        _check_drawing(source, output, options)
    for file in options.save_poses:
        check_export(file, options.overwrite)

    stopwatch = Stopwatch()
    frames: Source = (
        ImageSource(source)
        if still
        else VideoReader(source, options.start, options.end, options.stride, info)
    )
    layout = None if output is None else _layout_of(frames.size, options)
    with ExitStack() as stack:
        stack.callback(frames.close)
        sink: Sink | None = None
        with interrupts_held():
            if output is not None and layout is not None:
                sink = (
                    stack.enter_context(_video_writer(source, output, frames, layout.size, options))
                    if isinstance(frames, VideoReader)
                    else ImageSink(output)
                )
        if models is None:
            models = stack.enter_context(Models(options))
        run = _Run(frames, layout, options, models, stopwatch, on_progress, on_detector)
        run.process(sink)
    stopwatch.child("decode", frames.cpu_seconds)
    if sink is not None:
        stopwatch.child("encode", sink.cpu_seconds)
    warnings = [*frames.warnings, *run.notes]
    if not run.spool.track_ids:
        warnings.append(f"{source}: nobody was found in it; the result shows no skeletons")
    meta = {
        "source": source.name,
        "source_sha256": file_sha256(source),
        "gridpose": version("gridpose"),
        "detector": {"name": run.detector_name, "sha256": run.detector_sha256},
        "lifter": {"name": run.lifter_name, "sha256": run.lifter_sha256},
        "device": run.device_name,
        "options": options.to_dict(),
        "left_out": [person.to_dict(run.spool.times) for person in run.left_out],
    }
    files = [] if output is None else [output]
    for file in options.save_poses:
        written, notes = _save_poses(run.spool, file, meta)
        files += written
        warnings += notes
    return VideoResult(
        output=output,
        frames=run.spool.frame_count,
        fps=float(frames.fps),
        track_ids=run.spool.track_ids,
        seconds=time.perf_counter() - started,
        seconds_by_stage=stopwatch.seconds,
        cpu_seconds_by_stage=stopwatch.cpu_seconds(),
        detector=run.detector_name,
        lifter=run.lifter_name,
        files=files,
        warnings=warnings,
        meta=meta,
        spool=run.spool,
    )


def _check_drawing(source: Path, output: Path, options: VideoOptions) -> None:
    """Raises UsageError or MissingError where the drawn result cannot be written."""
    fits = is_image(output) if is_image(source) else output.suffix.lower() == ".mp4"
    if not fits:
        expected = ".png or .jpg" if is_image(source) else ".mp4"
        raise UsageError(f"{output}: the result of {source.name} must end in {expected}")
    if output.resolve() == source.resolve():
        raise UsageError(f"{output}: is the input itself")
    check_output(output, options.overwrite)


def _save_poses(spool: PoseSpool, file: Path, meta: dict[str, Any]) -> tuple[list[Path], list[str]]:
    """Write the numbers; returns the files and notes for the user."""
    if file.suffix.lower() == ".npz":
        spool.write_npz(file, meta)
        return [file], []
    try:
        exported = export_poses(spool.tracks(meta), file, overwrite=True)
    except InputError as error:  # nobody was found, which is no error of a video
        return [], [str(error)]
    return exported.files, [f"{file}: {note}" for note in exported.notes]


def _video_writer(
    source: Path,
    output: Path,
    frames: VideoReader,
    size: tuple[int, int],
    options: VideoOptions,
) -> VideoWriter:
    return VideoWriter(
        output,
        size,
        frames.fps,
        audio_from=source if options.audio else None,
        audio_codec=frames.info.audio_codec,
        audio_start=options.start,
        audio_end=options.end,
        crf=options.crf,
    )


def _layout_of(size: tuple[int, int], options: VideoOptions) -> Layout:
    """How frames of this width and height will be drawn."""
    from gridpose.visualize import Layout

    arrangement: Arrangement = "places" if options.trajectory else options.look.arrangement
    return Layout(size, replace(options.look, arrangement=arrangement))


class _Run:
    """One pass over a source."""

    def __init__(
        self,
        frames: Source,
        layout: Layout | None,
        options: VideoOptions,
        models: Models,
        stopwatch: Stopwatch,
        on_progress: Callable[[Progress], None] | None,
        on_detector: Callable[[Detector], None] | None,
    ) -> None:
        self._frames, self._options, self._stopwatch = frames, options, stopwatch
        self._models = models
        self._on_progress, self._on_detector = on_progress, on_detector
        self._layout = layout
        self._convention: Convention | None = None
        self.spool = PoseSpool(float(frames.fps), frames.size)
        self.notes: list[str] = []
        """Sentences for the user."""
        self.left_out: list[LeftOut] = []
        self.detector_name = self.detector_sha256 = ""
        self.lifter_name = self.lifter_sha256 = self.device_name = ""

    def process(self, sink: Sink | None) -> None:
        """Send every drawn frame to ``sink``, if there is one, and its people to the spool."""
        # Threads inherit priorities, so the detector's must not be started by one that gives way.
        with (
            Background(self._detect, _DETECTED_AHEAD, "detect") as detected,
            Background(lambda: self._finish(detected, sink), _DRAWN_AHEAD, "finish") as finished,
        ):
            for progress in finished:
                if self._on_progress is not None:
                    self._on_progress(progress)

    def _finish(self, detected: Iterable[_Detected], sink: Sink | None) -> Iterator[Progress]:
        """Everything after detection."""
        panels: deque[tuple[float, ImageArray | None]] = deque()
        batch: list[_Detected] = []
        # torch may not load beside the detector: its import and mmengine's reading of configs both
        # make syntax trees, which two threads at once cannot do in Python 3.11 ("AST constructor
        # recursion depth mismatch"). It then loads once the detector is at work.
        stages = None if self._models.lifter_needs_torch else self._load_post_detection()
        for item in detected:
            stages = stages or self._load_post_detection()
            panels.append((item.time, item.panel))
            batch.append(item)
            if len(batch) >= max(self._options.batch_size, _LIFT_BATCH):
                self._lift(stages, batch)
                batch.clear()
            yield from self._draw(stages.finished(), panels, sink)
        if stages is not None:
            self._lift(stages, batch, at_end=True)
            yield from self._draw(stages.finished(at_end=True), panels, sink)
            self.left_out = stages.left_out
            if self.left_out:
                self.notes.append(left_out_note(self.left_out))
            tilt = stages.tilt_degrees
            if self._options.gravity == "level" and tilt > _STRANGE_TILT_DEGREES:
                self.notes.append(
                    f"people lean by about {tilt:.0f} degrees, as if the camera were not level; "
                    "`gravity=estimate` sets them upright"
                )

    def _decode(self) -> Iterator[tuple[Frame, ImageArray | None]]:
        frames = iter(self._frames)
        while True:
            with self._stopwatch("decode"):
                frame = next(frames, None)
                if frame is None:
                    return
                panel = None if self._layout is None else self._layout.panel(frame.image)
            yield frame, panel

    def _detect(self) -> Iterator[_Detected]:
        with ExitStack() as stack:
            # While one batch is in the detector the next one is decoded.
            ahead = self._options.batch_size
            decoded = stack.enter_context(Background(self._decode, ahead, "decode", gives_way=True))
            stack.callback(self._frames.close)
            with self._stopwatch(LOAD):
                detector = self._models.detector
            detector.forget()
            self._convention = detector.convention
            self.detector_name, self.detector_sha256 = detector.name, detector.weights_sha256
            if self._on_detector is not None:
                self._on_detector(detector)
            at_once = max(self._options.batch_size, getattr(detector, "frames_at_once", 1))
            decoded.allow(at_once)
            for batch in _batches(decoded, at_once):
                with self._stopwatch("detect"):
                    found = detector.detect(
                        [frame.image for frame, _ in batch], [frame.time for frame, _ in batch]
                    )
                for (frame, panel), people in zip(batch, found, strict=True):
                    yield _Detected(frame.time, panel, people)

    def _load_post_detection(self) -> PostDetection:
        """What the stages after detection need; from then on their thread gives way."""
        with self._stopwatch(LOAD):
            from gridpose.pipeline.motion.post_detection import PostDetection

            lifter = self._models.lifter
            self.lifter_name, self.lifter_sha256 = lifter.name, lifter.weights_sha256
            self.device_name = str(lifter.device)
            fps = float(self._frames.fps)
            stages = PostDetection(lifter, self._frames.size, fps, self._options)
        give_way()
        return stages

    def _lift(
        self, stages: PostDetection, batch: Sequence[_Detected], at_end: bool = False
    ) -> None:
        """Follow everybody in a few frames, and lift the frames that are due."""
        with self._stopwatch("lift"):
            for item in batch:
                assert self._convention is not None
                stages.add(item.people, self._convention, item.time)
            stages.advance(at_end)

    def _draw(
        self,
        finished: Iterator[list[Person]],
        panels: deque[tuple[float, ImageArray | None]],
        sink: Sink | None,
    ) -> Iterator[Progress]:
        for people in finished:
            moment, panel = panels.popleft()
            self.spool.add(moment, people)
            if self._layout is not None and sink is not None and panel is not None:
                with self._stopwatch("render"):
                    image = self._layout.compose(panel, people, moment)
                with self._stopwatch("encode"):
                    sink.write(image, moment)
            yield Progress(self.spool.frame_count, self._frames.frames_expected)


def _batches(
    items: Background[tuple[Frame, ImageArray | None]], size: int
) -> Iterator[list[tuple[Frame, ImageArray | None]]]:
    batch: list[tuple[Frame, ImageArray | None]] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
