"""The live session: newest picture in, people out, everything shown and kept as it happens."""

from __future__ import annotations

import statistics
import time as clock
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

import cv2
import numpy as np

from gridpose.core import ImageArray, InputError, MissingError, Person
from gridpose.pipeline.live.capture import Capture, Shot
from gridpose.pipeline.live.controls import Controls, State
from gridpose.pipeline.live.feed import camera_number, open_feed, without_password
from gridpose.pipeline.live.messages import (
    Datagrams,
    JsonLines,
    Listener,
    json_packets,
    osc_packets,
)
from gridpose.pipeline.live.options import LiveOptions, has_display, parse_target
from gridpose.pipeline.live.recording import Recording
from gridpose.pipeline.video.interrupts import interrupts_held

if TYPE_CHECKING:
    from gridpose.detectors import Detector
    from gridpose.detectors.blazepose.weights import Size
    from gridpose.pipeline.estimator import PoseEstimator
    from gridpose.visualize import Layout
    from gridpose.visualize.look import LayoutName

_TICK_SECONDS: Final = 0.05
"""How long keys wait for a picture."""
_TOLD_SECONDS: Final = 2.0
"""Over which rate and latency are told."""
_MOST_RECORDED_FPS: Final = 30.0


_SIZES: Final[dict[str, Size | None]] = {
    "auto": "full",
    "blazepose": None,
    "blazepose-full": "full",
    "blazepose-lite": "lite",
}
_SEARCH_SECONDS: Final = 1.5
"""How often to look for newcomers: a picture in which that is done comes later."""


class Display(Protocol):
    """Where the session is seen.

    ``layout`` is the one that it wants; None for that of the controls. ``is_watched`` says whether
    pictures are worth drawing.
    """

    @property
    def layout(self) -> LayoutName | None: ...
    @property
    def is_watched(self) -> bool: ...
    def show(
        self, image: ImageArray, people: Sequence[Person], time: float, state: State
    ) -> None: ...
    def attend(self, state: State) -> None: ...
    def close(self) -> None: ...


@dataclass
class LiveResult:
    """What a session did: frames answered and dropped, seconds, files, latencies in ms."""

    frames: int
    dropped: int
    seconds: float
    latency_median: float
    latency_p95: float
    detector: str
    files: list[str]


@dataclass
class _Rate:
    """Rate and latency of the last seconds, and all latencies in steps of a millisecond."""

    def __post_init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque()
        self._counts = np.zeros(60_000, np.int64)

    def add(self, now: float, latency: float) -> None:
        self._recent.append((now, latency))
        while now - self._recent[0][0] > _TOLD_SECONDS:
            self._recent.popleft()
        self._counts[min(round(1000 * latency), len(self._counts) - 1)] += 1

    @property
    def fps(self) -> float:
        if len(self._recent) < 2:
            return 0.0
        return (len(self._recent) - 1) / max(self._recent[-1][0] - self._recent[0][0], 1e-6)

    @property
    def latency(self) -> float:
        """Median of the last seconds, ms."""
        return 1000 * statistics.median(late for _, late in self._recent) if self._recent else 0.0

    def percentile(self, share: float) -> float:
        """Of all latencies, ms."""
        up_to = np.cumsum(self._counts)
        return float(np.searchsorted(up_to, share * up_to[-1])) if up_to[-1] else 0.0


class Session:
    """Puts pictures through; each frame whole, whatever interrupts.

    Args:
        estimator: finds people.
        options: of the session.
        controls: what the user asks for.
        size: width, height px of the first picture; others are fitted into it.
        fps: rate of the source.
        display: where it is seen, if anywhere.
        listeners: other programs.
    """

    def __init__(
        self,
        estimator: PoseEstimator,
        options: LiveOptions,
        controls: Controls,
        size: tuple[int, int],
        fps: float,
        display: Display | None,
        listeners: Sequence[Listener],
    ) -> None:
        self._estimator, self._options, self._controls = estimator, options, controls
        self._size, self._display, self._listeners = size, display, listeners
        rate = min(fps, _MOST_RECORDED_FPS)
        self.recording = Recording(options.record, options.save_poses, rate, size)
        self.frames = 0
        self.rate = _Rate()
        self._layouts: dict[LayoutName, Layout] = {}
        self._last: float | None = None

    def state(self, capture: Capture) -> State:
        """How it goes."""
        return State(
            fps=self.rate.fps,
            latency=self.rate.latency,
            dropped=capture.dropped,
            paused=self._controls.paused,
            recording=self._options.record is not None,
            trouble=capture.trouble,
        )

    def take(self, shot: Shot, time: float, state: State) -> None:
        """Answer a picture of second ``time`` of the session, and hand everything on.

        Raises:
            GridposeError: it cannot be recorded.
        """
        if self._last is not None and time <= self._last:
            return
        self._last = time
        image = fitted(shot.image, self._size)
        people = self._estimator(image, time)
        shown = self._display.layout if self._display is not None else None
        pictures = cache(lambda name: self._draw(name, image, people, time))
        if self._display is not None and self._display.is_watched:
            drawn = pictures(shown or self._controls.layout)
            self._display.show(drawn, people, time, state)
        now = clock.monotonic()
        self.rate.add(now, now - shot.time)
        for listener in self._listeners:
            listener.send(time, people)
        kept = None
        if self.recording.wants_pictures:
            kept = pictures(self._controls.layout)
            kept = fitted(kept, self.recording.size or (kept.shape[1], kept.shape[0]))
        self.recording.add(time, people, kept)
        self.frames += 1

    def _draw(
        self, name: LayoutName, image: ImageArray, people: Sequence[Person], time: float
    ) -> ImageArray:
        """A picture in a layout."""
        if name not in self._layouts:
            from gridpose.visualize.layout import Layout

            look = replace(self._options.look, layout=name)
            self._layouts[name] = Layout(self._size, look)
        layout = self._layouts[name]
        return layout.compose(layout.panel(image), people, time)


def fitted(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    """A picture of width and height ``size``: as it is, or scaled into the middle of black."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    scale = min(size[0] / width, size[1] / height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas: ImageArray = np.zeros((size[1], size[0], 3), np.uint8)
    resized = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    canvas[top : top + inner[1], left : left + inner[0]] = resized
    return canvas


def run_live(
    source: str = "0",
    options: LiveOptions | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
    lines: TextIO | None = None,
    controls: Controls | None = None,
) -> LiveResult:
    """Show, tell and keep the poses of whoever is in front of a camera, until somebody ends it.

    Args:
        source: number of a camera, ``/dev/video0``, an address of a stream, or a file, which is
            played in real time.
        options: of the session.
        say: is told what happens, a sentence each time; from other threads too.
        lines: where to write poses as lines of JSON.
        controls: what steers the session, besides window and page.

    Raises:
        UsageError: options that do not fit, or a port that is taken.
        MissingError: no such camera, or it is in use; weights or a package are missing.
        InputError: the stream cannot be had; no pictures came for ``give_up`` seconds.
    """
    options = options or LiveOptions()
    options.check()
    controls = controls or Controls()
    controls.layout = options.look.layout
    number = camera_number(source)
    name = without_password(source) if number is None else f"camera {number}"
    with ExitStack() as stack:
        # What can fail at once comes before the networks, which take seconds.
        capture = stack.enter_context(Capture(name, lambda: open_feed(source), say))
        if not capture.ends:
            capture.start()
        listeners: list[Listener] = [] if lines is None else [JsonLines(lines)]
        for target, packets in ((options.udp, json_packets), (options.osc, osc_packets)):
            if target is not None:
                listeners.append(
                    stack.enter_context(closing(Datagrams(parse_target(target), packets)))
                )
        display = _display(options, controls, say)
        if display is not None:
            stack.enter_context(closing(display))
        estimator = stack.enter_context(_estimator(options, capture.fps))
        say(f"detector: {estimator.detector.name} ({estimator.detector.reason})")
        capture.start()  # of a file nothing is to be missed
        return _follow(name, capture, estimator, options, controls, display, listeners, say)


def _follow(
    source: str,
    capture: Capture,
    estimator: PoseEstimator,
    options: LiveOptions,
    controls: Controls,
    display: Display | None,
    listeners: Sequence[Listener],
    say: Callable[[str], None],
) -> LiveResult:
    session: Session | None = None
    files: list[str] = []
    begun, paused = clock.monotonic(), 0.0
    capture.dropped = 0
    try:
        before = begun
        while not controls.quit:
            shot = capture.newest(_TICK_SECONDS)
            now = clock.monotonic()
            if controls.paused:
                paused += now - before
            before = now
            if options.duration is not None and now - begun >= options.duration:
                break
            if shot is None and capture.ended:
                break
            _give_up(capture, options.give_up, now)
            with interrupts_held():
                if shot is not None and session is None:
                    size = shot.image.shape[1], shot.image.shape[0]
                    session = Session(
                        estimator, options, controls, size, capture.fps, display, listeners
                    )
                state = State() if session is None else session.state(capture)
                if shot is not None and session is not None and not controls.paused:
                    session.take(shot, shot.time - begun - paused, state)
                if display is not None:
                    display.attend(state)
    finally:
        with interrupts_held():
            if session is not None:
                files = session.recording.finish(_meta(source, estimator, options))
                for file in files:
                    say(f"written: {file}")
    rate = _Rate() if session is None else session.rate
    return LiveResult(
        frames=0 if session is None else session.frames,
        dropped=capture.dropped,
        seconds=clock.monotonic() - begun,
        latency_median=rate.percentile(0.5),
        latency_p95=rate.percentile(0.95),
        detector=estimator.detector.name,
        files=files,
    )


def _meta(source: str, estimator: PoseEstimator, options: LiveOptions) -> dict[str, Any]:
    """What a pose file says of where it comes from, as those of :func:`run_video` do."""
    detector, lifter = estimator.detector, estimator.lifter
    return {
        "source": source,
        "gridpose": version("gridpose"),
        "detector": {"name": detector.name, "sha256": detector.weights_sha256},
        "lifter": {"name": lifter.name, "sha256": lifter.weights_sha256},
        "options": {"smoothing": "one-euro" if options.smoothing else "none", "fov": options.fov},
        "left_out": [],
    }


def _give_up(capture: Capture, seconds: float | None, now: float) -> None:
    if seconds is not None and now - capture.last_came > seconds:
        raise InputError(f"no picture came for {seconds:g} s (`give_up={seconds:g}`)")


def _estimator(options: LiveOptions, fps: float) -> PoseEstimator:
    from gridpose.pipeline.estimator import PoseEstimator

    return PoseEstimator(
        _detector(options),
        options.lifter,
        options.device,
        fps=fps,
        fov=options.fov,
        smooth=options.smoothing,
    )


def _detector(options: LiveOptions) -> Detector:
    """As asked for; BlazePose in a form that keeps up with a camera."""
    if not isinstance(options.detector, str):
        return options.detector
    if options.detector not in _SIZES:
        from gridpose.detectors import load_detector

        return load_detector(
            options.detector, device=options.device, max_persons=options.max_persons
        )
    from gridpose.detectors.blazepose.detector import load_blazepose

    return load_blazepose(
        _SIZES[options.detector],
        options.max_persons,
        reason="it keeps up with a camera" if options.detector == "auto" else "asked for",
        levels=2,
        search_seconds=_SEARCH_SECONDS,
    )


def _display(
    options: LiveOptions, controls: Controls, say: Callable[[str], None]
) -> Display | None:
    """A window where there is a display, else a page."""
    serve = options.serve
    if not serve:
        if has_display():
            from gridpose.pipeline.live.window import Window

            try:
                return Window(controls)
            except MissingError as error:
                if serve is False:
                    raise
                say(str(error))
        elif serve is False:
            return None
        else:
            say(
                "there is no display for a window (DISPLAY names none that answers): it is shown "
                "as a page"
            )
    from gridpose.pipeline.live.page import Page

    page = Page(options.port, controls)
    say(f"open {page.address} in a browser")
    return page
