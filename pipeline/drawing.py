"""Drawing finished frames into the result, once it is known what comes after them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gridpose.core import ImageArray, Person, PoseTracks
    from gridpose.pipeline.stopwatch import Stopwatch
    from gridpose.pipeline.video.endpoints import Sink, Source
    from gridpose.visualize import Layout

_MOST_UNDRAWN = 45
"""Frames, so that memory stays bounded at high rates."""


@dataclass(frozen=True)
class _Undrawn:
    panel: ImageArray
    people: Sequence[Person]
    time: float


class Drawing:
    """Sends pictures of frames to a sink, shot by shot.

    Args:
        layout: composes them.
        sink: takes them.
        stopwatch: to say what took how long.
        slowdown: seconds of the result for one of the frames' times.
    """

    def __init__(
        self, layout: Layout, sink: Sink, stopwatch: Stopwatch, slowdown: float = 1.0
    ) -> None:
        self._layout, self._sink, self._stopwatch = layout, sink, stopwatch
        self._slowdown = slowdown
        self._undrawn: deque[_Undrawn] = deque()
        self._shots = 0

    def begin_shot(self, shot: int, time: float, *, in_places: bool) -> None:
        """What comes next has nothing to do with what was before.

        Args:
            shot: its number, which is shown at a cut.
            time: of its first frame, s.
            in_places: whether people stand where their world poses say; else as the look has it.
        """
        self.draw_rest()
        if self._shots:
            self._layout.cut(shot, time)
        self._shots += 1
        self._layout.arrange("places" if in_places else self._layout.look.arrangement)

    def add(self, panel: ImageArray, people: Sequence[Person], time: float) -> None:
        """Take a frame, and draw those of which enough is known of what follows."""
        self._undrawn.append(_Undrawn(panel, people, time))
        ahead = self._layout.look_ahead_seconds
        while len(self._undrawn) > _MOST_UNDRAWN or (
            self._undrawn and time - self._undrawn[0].time >= ahead
        ):
            self._draw_first()

    def draw_rest(self) -> None:
        """Draw the frames that still wait: nothing follows them."""
        while self._undrawn:
            self._draw_first()

    def _draw_first(self) -> None:
        frame = self._undrawn.popleft()
        upcoming = [(later.time, later.people) for later in self._undrawn]
        with self._stopwatch("render"):
            image = self._layout.compose(frame.panel, frame.people, frame.time, upcoming)
        with self._stopwatch("encode"):
            self._sink.write(image, frame.time * self._slowdown)


def draw_again(
    tracks: PoseTracks, frames: Source, layout: Layout, drawing: Drawing
) -> Iterator[int]:
    """Draw poses on the frames that they come from; yields how many are done."""
    for number, frame in enumerate(frames):
        shot, time = int(tracks.shot[number]), float(tracks.frame_time[number])
        if not number or shot != tracks.shot[number - 1]:
            drawing.begin_shot(shot, time, in_places=tracks.has_places)
        drawing.add(layout.panel(frame.image), tracks.people(number), time)
        yield number + 1
    drawing.draw_rest()
