"""Following people through a video by a network that sees one of them at a time.

Persons are found by a :mod:`finder <gridpose.detectors.person_boxes>` now and then and followed by
their keypoints in between; the network is given all crops of a few frames at once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Final, Protocol

import numpy as np

from gridpose.core import BoolArray, FloatArray, ImageArray
from gridpose.detectors.base import Detection
from gridpose.detectors.conventions import Convention
from gridpose.detectors.following import Following, box_of, extent_of, needs_second_look
from gridpose.detectors.person_boxes import PersonFinder

# People are looked for this far ahead of the last keypoints; the time in which somebody who
# sprints stays inside the padding of the box.
_AHEAD_SECONDS: Final = 0.15
_FRAMES_AT_ONCE: Final = 16
"""Half a second, in which a search for persons ends the looking ahead anyway."""


class KeypointNetwork(Protocol):
    """Sees the person in a box."""

    def keypoints(
        self, frames: Sequence[ImageArray], frame_of_box: Sequence[int], boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Keypoints of one person in each box.

        Args:
            frames: (H, W, 3) RGB.
            frame_of_box: index of the frame that each box is in.
            boxes: (N, 4) xyxy px.

        Returns:
            (N, K, 2) px in the frame, and (N, K) scores, about 0 to 1.
        """
        ...


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
        crops_at_once: int = 0,
    ) -> None:
        self.name = name
        self._crops_at_once = self._reach = crops_at_once
        self.frames_at_once = _FRAMES_AT_ONCE if crops_at_once else 1
        self.convention, self.weights_sha256 = convention, weights_sha256
        self.reason, self.notices = reason, list(notices)
        self.network, self.finder = network, finder
        self._new_following = partial(Following, search_seconds, max_persons, min_score)
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
                found = self.finder.find(frames[start : start + 1])[0]
                self._following.found(found.boxes, times[start])
            settled = self._following.settled
            ahead = _AHEAD_SECONDS if settled else 0.0
            known = bisect_right(times, times[start] + ahead, lo=start + 1)
            end = max(known, self._guessed(times, start)) if settled else known
            people += self._detect_part(frames[start:end], times[start:end], known - start)
        return people

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
        following = self._following
        boxes = following.expected(times)
        keypoints, scores = self._look(frames, boxes)
        if known < len(frames):
            guessed = self._as_expected(boxes, keypoints, scores, known)
            self._reach = guessed if guessed < len(frames) else 2 * len(frames)
            boxes, keypoints, scores = (
                boxes[:, :guessed],
                keypoints[:, :guessed],
                scores[:, :guessed],
            )
            frames, times = frames[:guessed], times[:guessed]
        again = np.zeros(boxes.shape[:2], np.bool_)
        for place in np.ndindex(again.shape):
            seen = box_of(keypoints[place], scores[place])
            if seen is not None and needs_second_look(boxes[place], seen):
                boxes[place], again[place] = seen, True
        if again.any():
            keypoints[again], scores[again] = self._keypoints(frames, boxes, again)
        real = following.seen(times, keypoints, scores)
        return [
            [
                Detection(
                    _extent(boxes[person, index], keypoints[person, index], scores[person, index]),
                    keypoints[person, index],
                    scores[person, index].clip(0, 1),
                )
                for person in np.flatnonzero(real[:, index])
            ]
            for index in range(len(frames))
        ]

    def _as_expected(
        self, boxes: FloatArray, keypoints: FloatArray, scores: FloatArray, known: int
    ) -> int:
        """How many frames, at least ``known``, precede one with somebody away from their box."""
        for index in range(known, boxes.shape[1]):
            for used, places, marks in zip(
                boxes[:, index], keypoints[:, index], scores[:, index], strict=True
            ):
                seen = box_of(places, marks)
                if seen is None or needs_second_look(used, seen):
                    return index
        return boxes.shape[1]

    def _look(
        self, frames: Sequence[ImageArray], boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """(P, T, K, 2) and (P, T, K) in (P, T, 4) boxes."""
        everywhere = np.ones(boxes.shape[:2], np.bool_)
        keypoints, scores = self._keypoints(frames, boxes, everywhere)
        return (
            keypoints.reshape(*boxes.shape[:2], *keypoints.shape[1:]),
            scores.reshape(*boxes.shape[:2], *scores.shape[1:]),
        )

    def _keypoints(
        self, frames: Sequence[ImageArray], boxes: FloatArray, where: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        frame_of_box = np.nonzero(where)[1].tolist()
        return self.network.keypoints(frames, frame_of_box, boxes[where])

    def __enter__(self) -> TopDownDetector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finder.__exit__(kind, error, trace)


def _extent(used: FloatArray, keypoints: FloatArray, scores: FloatArray) -> FloatArray:
    """Of the keypoints; the box looked into where they are too uncertain to tell."""
    extent = extent_of(keypoints, scores)
    return used if extent is None else extent
