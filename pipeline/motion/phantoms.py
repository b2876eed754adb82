"""Who of the detected people is a phantom: small in the background, there for a moment, no body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gridpose.core import JOINT_NAMES
from gridpose.pipeline.motion.left_out import LeftOut, Reason
from gridpose.pipeline.motion.lifting_stage import Lifted
from gridpose.pipeline.motion.window import stacked

LEAST_SECONDS: Final = 0.5
"""Who is seen for less is a phantom."""
SMALL: Final = 0.19
"""Of the largest person's size. Spectators around a skater had 0.10 to 0.17 of hers, the smallest
of COCO's annotated people, in pictures shared with tests, 0.21."""
_TORSO: Final = [JOINT_NAMES.index(name) for name in ("hip", "thorax", "head")]
_LEAST_TORSO: Final = 0.5
"""Median confidence of these in the median frame."""
_MOST_JERKY: Final = 0.07
"""Median second difference of keypoints between frames at 30 fps, in somebody's sizes: as much as
noise of 2.4 % gives. Real people had up to 0.04; what was seen in pictures people were painted out
of, 0.08 to 0.7 when the camera moved."""
_LEAST_JERKS: Final = 10
"""Of fewer one cannot tell: a football player who tackles was as jerky in a clip of 5 frames."""
_LARGE_HALVES_SECONDS: Final = 5.0
"""For how long after the largest person has left others are small beside half their size."""


@dataclass
class _Phantom:
    reason: Reason
    height: float
    first: int
    last: int
    frames: int = 0


class Phantoms:
    """Tells phantoms from people, a window of frames after the other.

    Who was shown once is, as long as their track is known; a phantom may turn out to be a person.

    Args:
        fps: rate of the frames.
        compare_sizes: whether those who are much smaller than the largest person are phantoms.
    """

    def __init__(self, fps: float, compare_sizes: bool = True) -> None:
        self._fps, self._compare_sizes = fps, compare_sizes
        self._largest = 0.0
        self._shown: set[int] = set()
        self._reasons: dict[int, tuple[Reason, float]] = {}
        self._phantoms: dict[int, _Phantom] = {}

    def judge(
        self,
        people: Mapping[int, Sequence[Lifted | None]],
        credible: Mapping[int, Sequence[Lifted | None]],
        possible: int,
        elapsed: float,
    ) -> list[int]:
        """Who is shown, by track id.

        Args:
            people: everybody's frames in the window; None where unseen.
            credible: those without moments too short to be believed.
            possible: in so many frames at most somebody must be seen.
            elapsed: seconds since the last time.
        """
        needed = min(round(LEAST_SECONDS * self._fps), possible)
        sizes = {track_id: _size(person) for track_id, person in people.items()}
        wild = {track_id for track_id in people if not plausible(people[track_id], self._fps)}
        brief = {track_id for track_id in people if _seen(credible[track_id]) < max(needed, 1)}
        steady = [size for track_id, size in sizes.items() if track_id not in wild | brief]
        faded = self._largest * 0.5 ** (elapsed / _LARGE_HALVES_SECONDS)
        self._largest = max([faded, *steady])
        self._shown &= people.keys() - wild
        self._reasons = {}
        for track_id in people.keys() - self._shown:
            size = sizes[track_id]
            reason: Reason | None = None
            if self._compare_sizes and size < SMALL * self._largest:
                reason = "small"
            elif track_id in wild:
                reason = "implausible"
            elif track_id in brief:
                reason = "brief"
            if reason is not None:
                self._reasons[track_id] = (reason, size)
        self._shown |= people.keys() - self._reasons.keys()
        for track_id in self._shown:
            self._phantoms.pop(track_id, None)
        return [
            track_id for track_id in people if track_id in self._shown and any(credible[track_id])
        ]

    def leave_out(self, track_id: int, frame: int) -> None:
        """Count a frame of somebody who is not shown in it."""
        if track_id not in self._reasons:  # somebody who is shown, but not for a moment like this
            return
        reason, height = self._reasons[track_id]
        phantom = self._phantoms.setdefault(track_id, _Phantom(reason, height, frame, frame))
        phantom.reason, phantom.height, phantom.last = reason, height, frame
        phantom.frames += 1

    @property
    def left_out(self) -> list[LeftOut]:
        """Phantoms so far of whom nothing was shown, in the order in which they appeared."""
        return [
            LeftOut(each.reason, each.frames, each.first, each.last, each.height)
            for each in self._phantoms.values()
        ]


def plausible(person: Sequence[Lifted | None], fps: float) -> bool:
    """Whether somebody's frames in the window can be those of a person.

    Of a body something of head and trunk is in the picture, and it does not jump about: what
    networks see in foliage is another body in every frame.
    """
    frames = [one.observation if one and one.observation.seen else None for one in person]
    seen = [one for one in frames if one is not None]
    if not seen:
        return True
    torso = np.median([one.confidence[_TORSO] for one in seen], axis=1)
    if np.median(torso) < _LEAST_TORSO:
        return False
    keypoints = stacked([None if one is None else one.keypoints for one in frames])
    jerks = np.linalg.norm(np.diff(keypoints, 2, axis=0), axis=-1)
    jerks = jerks[np.isfinite(jerks).all(-1)]
    most = _MOST_JERKY * max(1.0, 30 / fps) ** 2 * _size(person)
    return len(jerks) < _LEAST_JERKS or bool(np.median(jerks) <= most)


def _seen(person: Sequence[Lifted | None]) -> int:
    """In how many frames the detector saw somebody."""
    return sum(lifted is not None and lifted.observation.seen for lifted in person)


def _size(person: Sequence[Lifted | None]) -> float:
    """Median of the longer sides of somebody's boxes in px."""
    boxes = np.array([lifted.observation.bbox for lifted in person if lifted is not None])
    return float(np.median((boxes[:, 2:] - boxes[:, :2]).max(-1)))
