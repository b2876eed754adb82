"""Following people through a video by a network that sees one of them at a time.

Persons are found by a :mod:`finder <gridpose.detectors.boxes>` now and then and followed by
their keypoints in between; the network is given all crops of a few frames at once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from gridpose.core import AnyArray, BoolArray, FloatArray, ImageArray
from gridpose.detectors.base import Detection
from gridpose.detectors.boxes import PersonFinder
from gridpose.detectors.conventions import Convention
from gridpose.detectors.following import Following, box_of, extent_of, needs_second_look

# People are looked for this far ahead of the last keypoints; the time in which somebody who
# sprints stays inside the padding of the box.
_AHEAD_SECONDS: Final = 0.15
_FRAMES_AT_ONCE: Final = 16
"""Half a second, in which a search for persons ends the looking ahead anyway."""


@dataclass(frozen=True)
class Seen:
    """What a network saw of N people.

    ``keypoints`` (N, K, 2) px in the frame; ``scores`` (N, K), about 0 to 1; ``hints`` (N, H, 2)
    px: points that tell the network where to look for them next.
    """

    keypoints: FloatArray
    scores: FloatArray
    hints: FloatArray

    def __getitem__(self, index: AnyArray) -> Seen:
        return Seen(self.keypoints[index], self.scores[index], self.hints[index])

    def grouped(self, people: int, times: int) -> Seen:
        """(people, times, ...) of those who were looked at in this order."""
        arrays = (self.keypoints, self.scores, self.hints)
        return Seen(*(array.reshape(people, times, *array.shape[1:]) for array in arrays))

    def boxes(self) -> list[FloatArray | None]:
        """Where the N people are, by their keypoints; None where these are too uncertain."""
        return [box_of(*mark) for mark in zip(self.keypoints, self.scores, strict=True)]


class KeypointNetwork(Protocol):
    """Sees the person in a box."""

    @property
    def hints(self) -> int:
        """How many points tell it more than a box where to look."""
        ...

    def look(
        self,
        frames: Sequence[ImageArray],
        frame_of_box: Sequence[int],
        boxes: FloatArray,
        hints: FloatArray,
    ) -> Seen:
        """Keypoints of one person in each box.

        Args:
            frames: (H, W, 3) RGB.
            frame_of_box: index of the frame that each box is in.
            boxes: (N, 4) xyxy px.
            hints: (N, H, 2) px, where they should be now; NaN where that is not known.
        """
        ...

    def is_off(self, boxes: FloatArray, hints: FloatArray, seen: Seen) -> BoolArray:
        """(N,): who stands so differently from where one looked that a second look is worth it."""
        ...


class BoxNetwork(Protocol):
    """Sees the person in a box and wants no hints; see :class:`KeypointNetwork`."""

    def keypoints(
        self, frames: Sequence[ImageArray], frame_of_box: Sequence[int], boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """(N, K, 2) px in the frame, and (N, K) scores, about 0 to 1."""
        ...


class WithoutHints:
    """Makes a :class:`KeypointNetwork` of one that sees by boxes alone."""

    hints = 0

    def __init__(self, network: BoxNetwork) -> None:
        self.network = network

    def look(
        self,
        frames: Sequence[ImageArray],
        frame_of_box: Sequence[int],
        boxes: FloatArray,
        hints: FloatArray,
    ) -> Seen:
        """See :class:`KeypointNetwork`."""
        return Seen(*self.network.keypoints(frames, frame_of_box, boxes), hints)

    def is_off(self, boxes: FloatArray, hints: FloatArray, seen: Seen) -> BoolArray:
        """See :class:`KeypointNetwork`."""
        pairs = zip(boxes, seen.boxes(), strict=True)
        off = [box is not None and needs_second_look(used, box) for used, box in pairs]
        return np.array(off, np.bool_)


class TopDownDetector:
    """Keypoints of everybody by a network that sees one person's crop at a time.

    Args:
        name: of the detector.
        network: the network.
        finder: finds persons; is closed with this detector.
        convention: of the network's keypoints.
        weights_sha256: of the network's weights.
        reason: why this detector, for the user.
        notices: what had to be assumed about the weights.
        search_seconds: how often to search for people although nobody was lost.
        max_persons: at most this many people are followed.
        min_score: who scores less on average is lost.
        quick_finder: takes every other search while nobody is lost; is closed with this detector.
        crops_at_once: look so far ahead of the last keypoints that this many crops come together,
            as a GPU wants; what is not as it was expected is looked at again. 0: never.

    Attributes:
        frames_at_once: :meth:`detect` does best with so many.
    """

    def __init__(
        self,
        name: str,
        network: KeypointNetwork,
        finder: PersonFinder,
        convention: Convention,
        weights_sha256: str,
        *,
        reason: str = "asked for",
        notices: Sequence[str] = (),
        search_seconds: float = 0.5,
        max_persons: int = 6,
        min_score: float = 0.15,
        quick_finder: PersonFinder | None = None,
        crops_at_once: int = 0,
    ) -> None:
        self.name = name
        self._crops_at_once = self._reach = crops_at_once
        self.frames_at_once = _FRAMES_AT_ONCE if crops_at_once else 1
        self.convention, self.weights_sha256 = convention, weights_sha256
        self.reason, self.notices = reason, list(notices)
        self.network, self.finder, self._quick_finder = network, finder, quick_finder
        self._may_be_quick = False
        self._new_following = partial(
            Following, search_seconds, max_persons, min_score, network.hints
        )
        self._following = self._new_following()

    def forget(self) -> None:
        """See :class:`gridpose.detectors.Detector`."""
        self._following = self._new_following()

    def detect(self, frames: Sequence[ImageArray], times: Sequence[float]) -> list[list[Detection]]:
        """See :class:`gridpose.detectors.Detector`.

        Raises:
            ValueError: not as many times as frames.
        """
        if len(frames) != len(times):
            raise ValueError(f"{len(frames)} frames and {len(times)} times")
        people: list[list[Detection]] = []
        while (start := len(people)) < len(frames):
            if self._following.search_due(times[start]):
                self._search(frames[start], times[start])
            settled = self._following.settled
            ahead = _AHEAD_SECONDS if settled else 0.0
            known = bisect_right(times, times[start] + ahead, lo=start + 1)
            end = max(known, self._guessed(times, start)) if settled else known
            people += self._detect_part(frames[start:end], times[start:end], known - start)
        return people

    def _search(self, frame: ImageArray, time: float) -> None:
        """Look for people in the whole frame."""
        self._may_be_quick = not self._may_be_quick and self._following.all_well(time)
        quick = self._quick_finder if self._may_be_quick else None
        found = (quick or self.finder).find([frame])[0]
        # Hints are the finder's own network's, which need not be this one.
        self._following.found(found.boxes, time, found.hints if self.network.hints else None)

    def _guessed(self, times: Sequence[float], start: int) -> int:
        """The frame before which to end looking where people will be if they go on as they do."""
        crowd = len(self._following)
        if not crowd or not self._crops_at_once:
            return start
        search = bisect_left(times, self._following.next_search, lo=start + 1)
        return min(start + min(self._crops_at_once // crowd, self._reach), search)

    def _detect_part(
        self, frames: Sequence[ImageArray], times: Sequence[float], known: int
    ) -> list[list[Detection]]:
        """People in a run of frames, or in its beginning.

        The first ``known`` ones are so near that it is known beforehand where people will be. Of
        the others those are answered before which everybody was where they had been expected.
        """
        following, network = self._following, self.network
        person_ids = following.person_ids
        frame_of_box = np.tile(np.arange(len(times)), len(person_ids))
        boxes: FloatArray = following.expected(times).reshape(-1, 4)
        hints: FloatArray = following.expected_hints(times).reshape(len(boxes), network.hints, 2)
        seen = network.look(frames, frame_of_box.tolist(), boxes, hints)
        off = network.is_off(boxes, hints, seen)
        if known < len(times):
            lost = np.array([box is None for box in seen.boxes()], np.bool_)
            ends = frame_of_box[(off | lost) & (frame_of_box >= known)]
            end = int(ends.min(initial=len(times)))
            self._reach = end if end < len(times) else 2 * len(times)
            times, kept = times[:end], frame_of_box < end
            frame_of_box, boxes, off, seen = frame_of_box[kept], boxes[kept], off[kept], seen[kept]
        if off.any():
            self._look_again(frames, frame_of_box, boxes, seen, np.flatnonzero(off))
        grouped = seen.grouped(len(person_ids), len(times))
        real = following.seen(times, grouped.keypoints, grouped.scores, grouped.hints)
        people: list[list[Detection]] = [[] for _ in times]
        for index in np.flatnonzero(real):
            keypoints, scores = seen.keypoints[index], seen.scores[index]
            extent = extent_of(keypoints, scores)
            people[frame_of_box[index]].append(
                Detection(
                    boxes[index] if extent is None else extent,
                    keypoints,
                    scores.clip(0, 1),
                    person_ids[index // len(times)],
                )
            )
        return people

    def _look_again(
        self,
        frames: Sequence[ImageArray],
        frame_of_box: NDArray[np.int64],
        boxes: FloatArray,
        seen: Seen,
        which: NDArray[np.int64],
    ) -> None:
        """Look at those of ``which`` where they have been seen; change boxes and what was seen."""
        for index, found in zip(which, seen[which].boxes(), strict=True):
            boxes[index] = boxes[index] if found is None else found
        better = self.network.look(
            frames, frame_of_box[which].tolist(), boxes[which], seen.hints[which]
        )
        real = better.scores.any(1)
        seen.keypoints[which[real]] = better.keypoints[real]
        seen.scores[which[real]] = better.scores[real]
        seen.hints[which[real]] = better.hints[real]

    def __enter__(self) -> TopDownDetector:
        return self

    def __exit__(self, *error: Any) -> None:
        self.finder.__exit__(*error)
        if self._quick_finder is not None:
            self._quick_finder.__exit__(*error)
