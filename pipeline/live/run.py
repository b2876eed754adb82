"""The live session: a source opened, networks loaded, and pictures put through until it ends."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TextIO

from gridpose.core import InputError, MissingError
from gridpose.pipeline.live.capture import Capture
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
from gridpose.pipeline.live.session import Display, Rate, Session
from gridpose.pipeline.video.interrupts import interrupts_held

if TYPE_CHECKING:
    from gridpose.detectors import Detector
    from gridpose.detectors.blazepose.weights import Size
    from gridpose.pipeline.estimator import PoseEstimator

_TICK_SECONDS: Final = 0.05
"""How long keys wait for a picture."""
_SIZES: Final[dict[str, Size | None]] = {
    "auto": "full",
    "blazepose": None,
    "blazepose-full": "full",
    "blazepose-lite": "lite",
}
_SEARCH_SECONDS: Final = 1.5
"""How often to look for newcomers: a picture in which that is done comes later."""


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
    begun, paused, first = clock.monotonic(), 0.0, 0.0
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
                    size, first = (shot.image.shape[1], shot.image.shape[0]), shot.time - paused
                    session = Session(
                        estimator, options, controls, size, capture.fps, display, listeners
                    )
                state = State() if session is None else session.state(capture)
                if shot is not None and session is not None and not controls.paused:
                    session.take(shot, shot.time - first - paused, state)
                if display is not None:
                    display.attend(state)
    finally:
        with interrupts_held():
            if session is not None:
                files = session.recording.finish(_meta(source, estimator, options))
                for file in files:
                    say(f"written: {file}")
    rate = Rate() if session is None else session.rate
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
