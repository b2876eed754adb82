"""A picture in, people out, everything shown, told and kept as it happens."""

from __future__ import annotations

import statistics
import time as clock
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

import cv2
import numpy as np

from gridpose.core import ImageArray, Person
from gridpose.pipeline.live.capture import Capture, Shot
from gridpose.pipeline.live.controls import Controls, State
from gridpose.pipeline.live.messages import Listener
from gridpose.pipeline.live.options import LiveOptions
from gridpose.pipeline.live.recording import Recording

if TYPE_CHECKING:
    from gridpose.pipeline.estimator import PoseEstimator
    from gridpose.visualize import Layout
    from gridpose.visualize.look import LayoutName

_TOLD_SECONDS: Final = 2.0
"""Over which rate and latency are told."""
_MOST_RECORDED_FPS: Final = 30.0


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


class Rate:
    """Rate and latency of the last seconds, and all latencies in steps of a millisecond."""

    def __init__(self) -> None:
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
        self.rate = Rate()
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
