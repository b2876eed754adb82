"""BlazePose on each person's own region: the detector that works offline everywhere.

A region follows from where the person was in the frames before; MediaPipe's own following, which
knows one person and smooths as it goes, is not used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import BoolArray, FloatArray, ImageArray
from gridpose.detectors.blazepose.finder import BlazePosePersons
from gridpose.detectors.blazepose.landmarks import KEYPOINTS, LandmarkNetwork, Landmarks
from gridpose.detectors.blazepose.person_detector import (
    PersonDetector,
    load_person_detector,
    square_tile,
)
from gridpose.detectors.blazepose.regions import Regions, differ
from gridpose.detectors.blazepose.weights import (
    LANDMARKS,
    PERSON_DETECTOR,
    Size,
    best_size,
    network_file,
)
from gridpose.detectors.boxes import overlaps
from gridpose.detectors.conventions import BLAZEPOSE_33
from gridpose.detectors.topdown import Seen, TopDownDetector
from gridpose.openvino_engine import EnginePrecision
from gridpose.storage import sha256

_MIN_PRESENCE: Final = 0.3
_MIN_SCORE: Final = 0.4
_MIN_CONTAINED: Final = 0.6
# Whom the network does not see where they should be is searched for in a square around it, this
# much larger than the longer side of their box.
_SEARCHED: Final = 1.6
# A region this far from the one used, as shares of its side and in radians, is looked at again.
_OFF_CENTRE: Final = 0.16
_OFF_SCALE: Final = 1.35
_OFF_ANGLE: Final = math.radians(35)


class BlazePoseNetwork:
    """Sees the person in a region; a :class:`~gridpose.detectors.topdown.KeypointNetwork`.

    Its hints are BlazePose's auxiliary points.
    """

    hints = 2

    def __init__(self, detector: PersonDetector, network: LandmarkNetwork) -> None:
        self._detector, self._network = detector, network

    def look(
        self,
        frames: Sequence[ImageArray],
        frame_of_box: Sequence[int],
        boxes: FloatArray,
        hints: FloatArray,
    ) -> Seen:
        """See the protocol. Scores are visibilities, 0 outside the picture or where nobody was."""
        points = np.zeros((len(boxes), KEYPOINTS + 2, 2), np.float32)
        scores = np.zeros((len(boxes), KEYPOINTS), np.float32)

        def see(which: NDArray[np.int64], regions: Regions) -> None:
            """Look into regions of the boxes ``which`` and note who is there."""
            seen = self._network.see(frames, [frame_of_box[index] for index in which], regions)
            sizes = [frames[frame_of_box[index]].shape[1::-1] for index in which]
            contained = _contained(boxes[which], seen, np.array(sizes, np.float32).reshape(-1, 2))
            real = (seen.score >= _MIN_PRESENCE) & contained
            points[which[real]] = seen.points[real]
            scores[which[real]] = seen.visibility[real, :KEYPOINTS]

        known = np.flatnonzero(np.isfinite(hints).all((1, 2)))
        see(known, Regions.from_points(hints[known, 0], hints[known, 1]))
        found = {}
        for index in np.flatnonzero(~scores.any(1)).tolist():
            region = self._searched(frames[frame_of_box[index]], boxes[index])
            if region is not None:
                found[index] = region
        if found:
            see(np.array(list(found)), Regions.joined(list(found.values())))
        return Seen(points[:, :KEYPOINTS], scores, points[:, KEYPOINTS:])

    def is_off(self, boxes: FloatArray, hints: FloatArray, seen: Seen) -> BoolArray:
        """See the protocol."""
        used = Regions.from_points(hints[:, 0], hints[:, 1])
        better = Regions.from_points(seen.hints[:, 0], seen.hints[:, 1])
        off = differ(used, better, _OFF_CENTRE, _OFF_SCALE, _OFF_ANGLE)
        return np.asarray(off & seen.scores.any(1))

    def _searched(self, frame: ImageArray, box: FloatArray) -> Regions | None:
        """The region of the most certain person around the box, if there is one."""
        half = _SEARCHED / 2 * float((box[2:] - box[:2]).max())
        tile = square_tile((box[:2] + box[2:]) / 2, half, frame)
        if tile is None:
            return None
        (people,) = self._detector.find(frame, [tile])
        return people.regions[np.array([0])] if len(people.scores) else None


def _contained(boxes: FloatArray, seen: Landmarks, image_sizes: FloatArray) -> BoolArray:
    """(N,): whether the person seen is the one whose box it is, in pictures of (N, 2) px."""
    points = seen.points[:, :KEYPOINTS].clip(0, image_sizes[:, None])
    extents = np.concatenate((points.min(1), points.max(1)), -1)
    return np.asarray(overlaps(boxes, extents)[1].diagonal() >= _MIN_CONTAINED)


def load_blazepose(
    size: Size | None = None,
    max_persons: int = 6,
    *,
    precision: EnginePrecision = "fp32",
    reason: str = "asked for",
    levels: int = 3,
    search_seconds: float = 0.5,
) -> TopDownDetector:
    """Load the embedded detector.

    Args:
        size: of the landmark network; None for the most accurate one at hand.
        max_persons: at most this many people are found in a frame.
        precision: of the landmark network. ``bf16`` takes 40 % less time where the processor has
            it; keypoints change by half a px of the crop, uncertain ones by 10 to 20.
        reason: why this detector, for the user.
        levels: 2 or 3, into how small tiles a frame is divided to search for people: with 2 only
            those near the camera are found, in half the time.
        search_seconds: how often to search although nobody was lost.

    Raises:
        MissingError: OpenVINO or a network is missing.
    """
    chosen = size or best_size()
    notices = []
    if size is None and chosen != "heavy":
        notices.append(
            f"BlazePose runs as {chosen}: the more accurate network heavy did not come with "
            f"this installation; gridpose models download {LANDMARKS['heavy'].name}"
        )
    detector = load_person_detector()
    network = LandmarkNetwork(network_file(LANDMARKS[chosen]), precision)
    return TopDownDetector(
        "blazepose" if chosen == "heavy" else f"blazepose-{chosen}",
        BlazePoseNetwork(detector, network),
        BlazePosePersons(detector, network, max_persons, levels=levels),
        BLAZEPOSE_33,
        sha256((PERSON_DETECTOR.sha256 + LANDMARKS[chosen].sha256).encode()),
        reason=reason,
        notices=notices,
        search_seconds=search_seconds,
        max_persons=max_persons,
        min_score=_MIN_SCORE,
        quick_finder=BlazePosePersons(detector, network, max_persons, levels=levels - 1),
    )
