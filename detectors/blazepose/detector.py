"""BlazePose on each person's own region: the detector that works offline everywhere.

A region follows from where the person was in the frames before; MediaPipe's own following, which
knows one person and smooths as it goes, is not used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import BoolArray, FloatArray, ImageArray
from gridpose.detectors.blazepose.finder import BlazePosePersons
from gridpose.detectors.blazepose.landmarks import KEYPOINTS, LandmarkNetwork, Landmarks
from gridpose.detectors.blazepose.person_detector import PersonDetector, Tile
from gridpose.detectors.blazepose.regions import Regions, differ
from gridpose.detectors.blazepose.weights import (
    LANDMARKS,
    PERSON_DETECTOR,
    Size,
    best_size,
    network_file,
)
from gridpose.detectors.conventions import BLAZEPOSE_33
from gridpose.detectors.person_boxes import overlaps
from gridpose.detectors.topdown_detector import Seen, TopDownDetector
from gridpose.openvino_engine import EnginePrecision, processor_has_bf16
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
    """Sees the person in a region; a :class:`~gridpose.detectors.topdown_detector.KeypointNetwork`.

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
        """See the protocol. Scores are visibilities, and 0 where nobody was seen."""
        points = np.zeros((len(boxes), KEYPOINTS + 2, 2), np.float32)
        scores = np.zeros((len(boxes), KEYPOINTS), np.float32)
        known = np.flatnonzero(np.isfinite(hints).all((1, 2)))
        if len(known):
            regions = Regions.from_points(hints[known, 0], hints[known, 1])
            self._see(frames, frame_of_box, boxes, known, regions, points, scores)
        lost = np.flatnonzero(~scores.any(1))
        found, regions = self._search(frames, frame_of_box, boxes, lost)
        if len(found):
            self._see(frames, frame_of_box, boxes, found, regions, points, scores)
        return Seen(points[:, :KEYPOINTS], scores, points[:, KEYPOINTS:])

    def is_off(self, boxes: FloatArray, hints: FloatArray, seen: Seen) -> BoolArray:
        """See the protocol."""
        used = Regions.from_points(hints[:, 0], hints[:, 1])
        better = Regions.from_points(seen.hints[:, 0], seen.hints[:, 1])
        off = differ(used, better, _OFF_CENTRE, _OFF_SCALE, _OFF_ANGLE)
        return np.asarray(off & seen.scores.any(1))

    def _see(
        self,
        frames: Sequence[ImageArray],
        frame_of_box: Sequence[int],
        boxes: FloatArray,
        which: NDArray[np.int64],
        regions: Regions,
        points: FloatArray,
        scores: FloatArray,
    ) -> None:
        """Look into the regions of the boxes ``which`` and note who is there."""
        seen = self._network.see(frames, [frame_of_box[index] for index in which], regions)
        real = (seen.score >= _MIN_PRESENCE) & _contained(boxes[which], seen)
        points[which[real]] = seen.points[real]
        scores[which[real]] = seen.visibility[real, :KEYPOINTS]

    def _search(
        self,
        frames: Sequence[ImageArray],
        frame_of_box: Sequence[int],
        boxes: FloatArray,
        which: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], Regions]:
        """For those of ``which`` near whose box somebody is, the index and the region."""
        found, regions = [], []
        for index in which:
            frame = frames[frame_of_box[index]]
            tile = _square(boxes[index], frame)
            if tile is None:
                continue
            people = self._detector.find(frame, [tile])[0]
            if len(people.scores):
                found.append(index)
                regions.append(people.regions[np.array([0])])
        joined = Regions(
            np.concatenate([region.centers for region in regions] or [np.zeros((0, 2))]),
            np.concatenate([region.sides for region in regions] or [np.zeros(0)]),
            np.concatenate([region.angles for region in regions] or [np.zeros(0)]),
        )
        return np.array(found, np.int64), joined


def _contained(boxes: FloatArray, seen: Landmarks) -> BoolArray:
    """(N,): whether the person seen is the one whose box it is."""
    points = seen.points[:, :KEYPOINTS]
    extents = np.concatenate((points.min(1), points.max(1)), -1)
    return np.array(
        [
            overlaps(box[None], extent[None])[1][0, 0] >= _MIN_CONTAINED
            for box, extent in zip(boxes, extents, strict=True)
        ],
        np.bool_,
    )


def _square(box: FloatArray, frame: ImageArray) -> Tile | None:
    """A square around the (4,) box, as far as it lies in the frame; None where it does not."""
    height, width = frame.shape[:2]
    half = _SEARCHED / 2 * float((box[2:] - box[:2]).max())
    x, y = ((box[:2] + box[2:]) / 2).tolist()
    tile = (
        max(int(x - half), 0),
        max(int(y - half), 0),
        min(int(x + half) + 1, width),
        min(int(y + half) + 1, height),
    )
    return tile if min(tile[2] - tile[0], tile[3] - tile[1]) >= 1 else None


@dataclass(frozen=True)
class _Networks:
    """``digest`` is of both networks' SHA-256."""

    size: Size
    detector: PersonDetector
    landmarks: LandmarkNetwork
    digest: str


def _load(size: Size, precision: EnginePrecision = "fp32") -> _Networks:
    digest = sha256((PERSON_DETECTOR.sha256 + LANDMARKS[size].sha256).encode())
    return _Networks(
        size,
        # It only says where to look first.
        PersonDetector(
            network_file(PERSON_DETECTOR), precision="bf16" if processor_has_bf16() else "fp32"
        ),
        LandmarkNetwork(network_file(LANDMARKS[size]), precision),
        digest,
    )


def _finder(networks: _Networks, max_persons: int, levels: int, reason: str) -> BlazePosePersons:
    return BlazePosePersons(
        networks.detector,
        networks.landmarks,
        max_persons,
        levels,
        weights_sha256=networks.digest,
        reason=reason,
    )


def load_persons(
    max_persons: int = 6, levels: int = 3, *, reason: str = "asked for"
) -> BlazePosePersons:
    """BlazePose as a finder of persons for other networks.

    Raises:
        MissingError: OpenVINO or a network is missing.
    """
    return _finder(_load(best_size()), max_persons, levels, reason)


def load_blazepose(
    size: Size | None = None,
    max_persons: int = 6,
    *,
    precision: EnginePrecision = "fp32",
    reason: str = "asked for",
) -> TopDownDetector:
    """Load the embedded detector.

    Args:
        size: of the landmark network; None for the most accurate one at hand.
        max_persons: at most this many people are found in a frame.
        precision: of the landmark network. ``bf16`` takes 40 % less time where the processor has
            it; keypoints change by half a px of the crop, uncertain ones by 10 to 20.
        reason: why this detector, for the user.

    Raises:
        MissingError: OpenVINO or a network is missing.
    """
    networks = _load(size or best_size(), precision)
    notices = []
    if size is None and networks.size != "heavy":
        notices.append(
            f"BlazePose runs as {networks.size}: the more accurate network heavy did not come with "
            f"this installation; gridpose models download {LANDMARKS['heavy'].name}"
        )
    return TopDownDetector(
        "blazepose" if networks.size == "heavy" else f"blazepose-{networks.size}",
        BlazePoseNetwork(networks.detector, networks.landmarks),
        _finder(networks, max_persons, 3, reason),
        BLAZEPOSE_33,
        networks.digest,
        reason=reason,
        notices=notices,
        search_seconds=0.5,
        max_persons=max_persons,
        min_score=_MIN_SCORE,
        quick_finder=_finder(networks, max_persons, 2, reason),
    )
