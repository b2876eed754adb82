"""The frames around the present: what a stage keeps that looks back and ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np

from gridpose.core import FloatArray

Entry = TypeVar("Entry")


class Window(Generic[Entry]):
    """People of consecutive frames, by track id, that moves along with a video.

    Frames are counted from the beginning of the video. Those before :attr:`done` have been handed
    on, those from there to :attr:`known` wait for what follows them.

    Args:
        look_ahead: a frame may be handed on when so many after it are known.
        look_back: so many frames that were handed on are kept.
        chunk: so many frames at least are handed on at once, as each time the whole window is
            worked on.
        longest: so many at most, if that is not ``chunk``.
    """

    def __init__(
        self, look_ahead: int = 0, look_back: int = 0, chunk: int = 1, longest: int = 0
    ) -> None:
        self.look_ahead = look_ahead
        self._look_back = look_back
        self._chunk, self._longest = chunk, max(chunk, longest)
        self._frames: deque[Mapping[int, Entry]] = deque()
        self.first = self.done = 0
        """The first frame kept, and the first one not handed on."""

    @property
    def known(self) -> int:
        """How many frames have come in."""
        return self.first + len(self._frames)

    def add(self, people: Mapping[int, Entry]) -> None:
        """Take in the next frame."""
        self._frames.append(people)

    def __getitem__(self, frame: int) -> Mapping[int, Entry]:
        return self._frames[frame - self.first]

    def people(self) -> dict[int, list[Entry | None]]:
        """Everybody in the frames that are kept, with an entry for each; None where unseen."""
        track_ids = sorted(set().union(*self._frames))
        return {track_id: [frame.get(track_id) for frame in self._frames] for track_id in track_ids}

    def due(self, at_end: bool = False) -> Iterator[range]:
        """Chunks of frames to hand on now; all that are left ``at_end``.

        They count as handed on when the next ones are asked for.
        """
        ready = self.known if at_end else self.known - self.look_ahead
        while ready - self.done >= (1 if at_end else self._chunk):
            frames = range(self.done, min(self.done + self._longest, ready))
            yield frames
            self.hand_on(frames.stop)

    def hand_on(self, stop: int) -> None:
        """Count the frames before ``stop`` as handed on, and drop those that are old."""
        self.done = stop
        while self.first < stop - self._look_back:
            self._frames.popleft()
            self.first += 1


def stacked(arrays: Sequence[FloatArray | None]) -> FloatArray:
    """Arrays of one shape as one, (T, ...); NaN for None. At least one must be there."""
    shape = next(array.shape for array in arrays if array is not None)
    missing = np.full(shape, np.nan, np.float32)
    return np.stack([missing if array is None else array for array in arrays])
