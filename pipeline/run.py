"""The main job: a video or picture goes in, its 3D skeletons come out.

Decoding, detection, and everything after it run in three threads (decoding and encoding in child
processes besides), joined by bounded queues: memory does not depend on the length of the video.
The calling thread only waits, so that it can be interrupted at any time.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridpose.core import InputError, UsageError
from gridpose.pipeline.detecting import DetectedFrame, Detecting
from gridpose.pipeline.drawing import Drawing, draw_again
from gridpose.pipeline.exports import check_export, export_poses
from gridpose.pipeline.models import Models
from gridpose.pipeline.motion.left_out import LeftOut, left_out_note
from gridpose.pipeline.options import VideoOptions
from gridpose.pipeline.outputs import check_output
from gridpose.pipeline.poses.spool import PoseSpool
from gridpose.pipeline.result import Progress, VideoResult
from gridpose.pipeline.selecting import parse_selection, selected
from gridpose.pipeline.stopwatch import LOAD, Stopwatch
from gridpose.pipeline.video.address import fetch, is_address
from gridpose.pipeline.video.background import Background
from gridpose.pipeline.video.cuts import FIRST_SHOT
from gridpose.pipeline.video.endpoints import ImageSink, ImageSource, Sink, Source
from gridpose.pipeline.video.interrupts import interrupts_held
from gridpose.pipeline.video.opening import open_source
from gridpose.pipeline.video.priority import give_way
from gridpose.pipeline.video.reader import (
    VideoReader,
    check_readable,
    is_image,
)
from gridpose.pipeline.video.sequence import is_sequence
from gridpose.pipeline.video.writer import VideoWriter

if TYPE_CHECKING:
    from gridpose.detectors import Convention, Detector
    from gridpose.pipeline.motion.post_detection import PostDetection
    from gridpose.pipeline.video.ffmpeg import StreamInfo
    from gridpose.visualize import Layout

_LIFT_BATCH = 8
_DRAWN_AHEAD = 4
_STRANGE_TILT_DEGREES = 15.0
_DETECTED_AHEAD = 48
"""Frames (as panels) that detection may run ahead, say while the lifter's libraries load."""


def run_video(
    source: str | Path,
    output: str | Path | None,
    options: VideoOptions | None = None,
    *,
    models: Models | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_detector: Callable[[Detector], None] | None = None,
    while_waiting: Callable[[], None] | None = None,
    info: StreamInfo | None = None,
) -> VideoResult:
    """Detect, follow, lift and draw the people of a video or picture.

    Args:
        source: a video, or a picture (then ``output`` must be one too); numbered pictures, as a
            folder or a name with ``%04d`` in it; with yt-dlp an address of the web, as text.
        output: the drawn result, ``.mp4``; None draws nothing, for who wants the numbers only.
        options: see :class:`VideoOptions`.
        models: loaded for these options, and not closed; by default for this run only.
        on_progress: called after every finished frame.
        on_detector: called with the detector once it is loaded.
        while_waiting: called ten times a second until a frame is finished. What this or
            ``on_progress`` raises ends the run, and nothing of it is left.
        info: what :func:`~gridpose.pipeline.video.ffmpeg.probe` said of the video, if it was asked.

    Raises:
        InputError: the source cannot be used.
        UsageError: options that do not fit.
        MissingError: weights, a device or the output folder are missing.
    """
    options = options or VideoOptions()
    output = None if output is None else Path(output)
    started = time.perf_counter()
    options.check()
    if options.select and options.persons == "all":
        options = replace(options, persons="everyone")
    address = source if isinstance(source, str) and is_address(source) else None
    source = Path(source)
    if address is None and not is_sequence(source):
        check_readable(source)
    if output is not None:
        _check_drawing(source, output, options)
    for file in options.save_poses:
        check_export(file, options.overwrite)

    stopwatch = Stopwatch()
    with ExitStack() as stack:
        if address is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gridpose-"))
            source = fetch(address, Path(folder))
        frames = open_source(source, options.start, options.end, options.stride, options.fps, info)
        stack.callback(frames.close)
        layout = None if output is None else _layout_of(frames.size, options)
        sink: Sink | None = None
        with interrupts_held():
            if output is not None and layout is not None:
                sink = (
                    ImageSink(output)
                    if isinstance(frames, ImageSource)
                    else stack.enter_context(_video_writer(output, frames, layout.size, options))
                )
        if models is None:
            models = stack.enter_context(Models(options))
        drawn = None if options.select else layout
        run = _Run(frames, drawn, options, models, stopwatch, on_progress, on_detector)
        run.process(sink, while_waiting)
        if options.select:
            run.keep_selected()
            if layout is not None and sink is not None:
                run.draw_again(layout, sink)
        sha256 = frames.sha256()
    stopwatch.child("decode", frames.cpu_seconds)
    if sink is not None:
        stopwatch.child("encode", sink.cpu_seconds)
    warnings = list(dict.fromkeys([*frames.warnings, *run.notes]))
    if not run.spool.track_ids:
        warnings.append(f"{source}: nobody was found in it; the result shows no skeletons")
    meta = {
        "source": source.name,
        "source_sha256": sha256,
        "gridpose": version("gridpose"),
        "detector": {"name": run.detector_name, "sha256": run.detector_sha256},
        "lifter": {"name": run.lifter_name, "sha256": run.lifter_sha256},
        "device": run.device_name,
        "cameras": run.cameras,
        "options": options.to_dict(),
        "left_out": [person.to_dict(run.spool.times) for person in run.left_out],
        "slowdown": run.slowdown,
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
    output: Path, frames: Source, size: tuple[int, int], options: VideoOptions
) -> VideoWriter:
    return VideoWriter(
        output,
        size,
        frames.fps,
        audio_from=frames.file if isinstance(frames, VideoReader) and options.audio else None,
        audio_codec=frames.info.audio_codec if isinstance(frames, VideoReader) else None,
        audio_start=options.start,
        audio_end=options.end,
        crf=options.crf,
    )


def _layout_of(size: tuple[int, int], options: VideoOptions) -> Layout:
    """How frames of this width and height will be drawn."""
    from gridpose.visualize import Layout

    return Layout(size, options.look)


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
        filmed = options.true_fps
        self.slowdown = 1.0 if filmed is None else filmed / float(frames.fps * options.stride)
        """Seconds of the video for one that was filmed."""
        self._fps = float(frames.fps) * self.slowdown
        self.spool = PoseSpool(self._fps, frames.size)
        self.notes: list[str] = []
        """Sentences for the user."""
        self.cameras: list[dict[str, Any]] = []
        """What was found out about the camera of each shot: whether it stands ``still``, and (3,)
        ``up`` in its axes."""
        self.left_out: list[LeftOut] = []
        self._drawn_shot = self._shot_begun = 0
        self.detector_name = self.detector_sha256 = ""
        self.lifter_name = self.lifter_sha256 = self.device_name = ""

    def process(self, sink: Sink | None, while_waiting: Callable[[], None] | None = None) -> None:
        """Send every drawn frame to ``sink``, if there is one, and its people to the spool."""
        # Threads inherit priorities, so the detector's must not be started by one that gives way.
        with (
            Background(self._detected, _DETECTED_AHEAD, "detect") as detected,
            Background(
                lambda: self._finish(detected, sink),
                _DRAWN_AHEAD,
                "finish",
                while_waiting=while_waiting,
            ) as finished,
        ):
            for progress in finished:
                if self._on_progress is not None:
                    self._on_progress(progress)

    def _detected(self) -> Iterator[DetectedFrame]:
        panel = None if self._layout is None else self._layout.panel
        detecting = Detecting(
            self._frames, self._options, self._models, self._stopwatch, panel, self.slowdown
        )
        return detecting.frames(self._know_detector)

    def _know_detector(self, detector: Detector) -> None:
        self._convention = detector.convention
        self.detector_name, self.detector_sha256 = detector.name, detector.weights_sha256
        if self._on_detector is not None:
            self._on_detector(detector)

    def keep_selected(self) -> None:
        """Leave out all but those whom the options select."""
        wanted = [parse_selection(text) for text in self._options.select]
        self.spool.keep(selected(self.spool.tracks({"slowdown": self.slowdown}), wanted))

    def draw_again(self, layout: Layout, sink: Sink) -> None:
        """Send every frame of the source to ``sink`` with the people who were kept."""
        drawing = Drawing(layout, sink, self._stopwatch, self.slowdown)
        total = self._frames.frames_expected
        for done in draw_again(self.spool.tracks({}), self._frames, layout, drawing):
            if self._on_progress is not None:
                self._on_progress(Progress(done, total))

    def _finish(self, detected: Iterable[DetectedFrame], sink: Sink | None) -> Iterator[Progress]:
        """Everything after detection."""
        drawing = None
        if self._layout is not None and sink is not None:
            drawing = Drawing(self._layout, sink, self._stopwatch, self.slowdown)
        waiting: deque[DetectedFrame] = deque()
        """Frames that are not drawn yet."""
        batch: list[DetectedFrame] = []
        # torch may not load beside the detector: its import and mmengine's reading of configs both
        # make syntax trees, which two threads at once cannot do in Python 3.11 ("AST constructor
        # recursion depth mismatch"). It then loads once the detector is at work.
        stages = None if self._models.lifter_needs_torch else self._load_post_detection()
        shot = FIRST_SHOT
        for item in detected:
            stages = stages or self._load_post_detection()
            if item.shot != shot:
                yield from self._end_shot(stages, batch, waiting, drawing)
                stages, shot = stages.anew(), item.shot
            waiting.append(item)
            batch.append(item)
            if len(batch) >= max(self._options.batch_size, _LIFT_BATCH):
                self._lift(stages, batch)
                batch.clear()
            yield from self._draw(stages, waiting, drawing)
        if stages is not None:
            yield from self._end_shot(stages, batch, waiting, drawing)
            if self.left_out:
                self._note(left_out_note(self.left_out))

    def _end_shot(
        self,
        stages: PostDetection,
        batch: list[DetectedFrame],
        waiting: deque[DetectedFrame],
        drawing: Drawing | None,
    ) -> Iterator[Progress]:
        """Finish all frames of a shot."""
        self._lift(stages, batch, at_end=True)
        batch.clear()
        yield from self._draw(stages, waiting, drawing, at_end=True)
        if drawing is not None:
            drawing.draw_rest()
        self._remark(stages)

    def _remark(self, stages: PostDetection) -> None:
        """Keep what the stages found out about a shot: its camera, and who is no person."""
        for person in stages.left_out:
            first, last = person.first + self._shot_begun, person.last + self._shot_begun
            self.left_out.append(replace(person, first=first, last=last))
        self._shot_begun = self.spool.frame_count
        places, tilt = stages.places, stages.tilt_degrees
        camera = {"still": places.camera_still, "up": stages.up.round(4).tolist()}
        self.cameras.append(camera)
        if self._options.gravity == "level" and tilt > _STRANGE_TILT_DEGREES:
            self._note(
                f"people lean by about {tilt:.0f} degrees, as if the camera were not level; "
                "`gravity=auto` sets them upright"
            )
        if places.are_shown and not places.camera_still:
            self._note(
                "the camera does not stand still, so people are not where they seem to be; "
                "`trajectory=False` keeps them side by side"
            )

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _load_post_detection(self) -> PostDetection:
        """What the stages after detection need; from then on their thread gives way."""
        with self._stopwatch(LOAD):
            from gridpose.pipeline.motion.post_detection import PostDetection

            lifter = self._models.lifter
            self.lifter_name, self.lifter_sha256 = lifter.name, lifter.weights_sha256
            self.device_name = str(lifter.device)
            needs_judge = self._options.repair and not lifter.sees_time
            judge = self._models.judge if needs_judge else None
            stages = PostDetection(lifter, self._frames.size, self._fps, self._options, judge)
        give_way()
        return stages

    def _lift(
        self, stages: PostDetection, batch: Sequence[DetectedFrame], at_end: bool = False
    ) -> None:
        """Follow everybody in a few frames, and lift the frames that are due."""
        with self._stopwatch("lift"):
            for item in batch:
                assert self._convention is not None
                stages.places.saw_camera(item.camera_still)
                stages.add(item.people, self._convention, item.time)
            stages.advance(at_end)

    def _draw(
        self,
        stages: PostDetection,
        waiting: deque[DetectedFrame],
        drawing: Drawing | None,
        at_end: bool = False,
    ) -> Iterator[Progress]:
        for people in stages.finished(at_end):
            item = waiting.popleft()
            self.spool.add(item.time, people, item.shot)
            if drawing is not None and item.panel is not None:
                if item.shot != self._drawn_shot:
                    in_places = stages.places.are_shown
                    drawing.begin_shot(item.shot, item.time, in_places=in_places)
                    self._drawn_shot = item.shot
                drawing.add(item.panel, people, item.time)
            yield Progress(self.spool.frame_count, self._frames.frames_expected)
