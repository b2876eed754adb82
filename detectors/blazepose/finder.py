"""Finding people in a frame with BlazePose: needs nothing that is not installed with gridpose.

BlazePose is made for one person near the camera: in a whole frame it finds the most prominent
people only. So it also looks at overlapping square tiles. What several tiles show is the same
person once; each is then looked at by the landmark network, which keeps out branches and shadows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import BoolArray, DoubleArray, FloatArray, ImageArray, UsageError
from gridpose.detectors.blazepose.landmarks import KEYPOINTS, LandmarkNetwork, Landmarks
from gridpose.detectors.blazepose.person_detector import (
    FoundPeople,
    PersonDetector,
    Tile,
    load_person_detector,
    square_tile,
)
from gridpose.detectors.blazepose.regions import Regions, differ
from gridpose.detectors.blazepose.weights import LANDMARKS, best_size, network_file
from gridpose.detectors.boxes import (
    PersonBoxes,
    PersonFinder,
    overlaps,
    person_boxes,
)
from gridpose.detectors.conventions import BLAZEPOSE_33

LEVELS: Final = (1, 2, 3)

# Sides of the square tiles of levels 2 and 3 as shares of the frame's shorter side, and how much
# neighbouring tiles overlap at least.
_TILE_SHARES: Final = (1.0, 2 / 3)
_BELOW_SHARES: Final = (1.5, 2.0)
"""Sides of square tiles from the top to below the frame, as shares of its height."""
_TILE_OVERLAP: Final = 0.5
_SMALLEST_TILE: Final = 96

# Shift, scale and turn up to which two tiles are thought to show the same person.
_ALIKE: Final = (0.15, 1.4, math.radians(35))
_MOST_CANDIDATES: Final = 24
_MIN_PRESENCE: Final = 0.5
_MIN_SCORE: Final = 0.35
_MIN_DOUBTFUL: Final = 0.5
_CERTAIN, _CERTAIN_PRESENCE = 0.7, 0.95
"""Scores from which on one need not look from close by."""
_LYING, _MIN_SUPPORT = 0.3, 1.0
"""Cosine of an angle, and support that people need who are turned by more."""
_CONTAINED: Final = 0.75
_SURE_SUPPORT: Final = 1.5
_AT_EDGE: Final = 0.1
_LOOK_AGAIN: Final = (0.8, 1.3, 1.6)
_STAYS: Final = 0.03
"""How far, as a share of the region's side, head and shoulders of real people move in the median
when one looks into a region 1.3 times as large."""
_SAME_SHOULDERS: Final = 0.06
_SAME_BODY: Final = 0.06
"""Shares of the region's side."""
_ACROSS: Final = 0.5
"""Cosine of the angle from which on somebody lies across another."""
_WEAKER: Final = 1 / 8
_SECOND_LOOK_SIDE: Final = 1.12
"""Of the region's, which is larger than the body."""

# Measured against annotators' boxes (scripts/measure_detector.py): from the ears to the crown
# it is twice as far as from mouth to eyes; skin and clothes go beyond joints by a twentieth.
_CROWN: Final = 2.0
_MARGIN: Final = 0.05


def _indices(*names: str) -> list[int]:
    return [BLAZEPOSE_33.keypoints.index(name) for name in names]


_EARS: Final = _indices("left_ear", "right_ear")
_EYES: Final = _indices("left_eye", "right_eye")
_SHOULDERS: Final = _indices("left_shoulder", "right_shoulder")
_UPPER: Final = max(_SHOULDERS) + 1
"""Keypoints before this one are those of head and shoulders."""
_MOUTH: Final = _indices("mouth_left", "mouth_right")


def body_box(keypoints: FloatArray) -> FloatArray:
    """The (4,) xyxy box that an annotator would draw around BlazePose keypoints (33, 2)."""
    up = keypoints[_EYES].mean(0) - keypoints[_MOUTH].mean(0)
    body = np.vstack((keypoints, keypoints[_EARS].mean(0) + _CROWN * up))
    low, high = body.min(0), body.max(0)
    margin = _MARGIN * np.sqrt((high - low).prod())
    return np.concatenate((low - margin, high + margin), dtype=np.float32)


def _starts(length: int, side: int) -> list[int]:
    if side >= length:
        return [0]
    count = math.ceil((length - side) / (side * (1 - _TILE_OVERLAP)) - 1e-9) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def search_tiles(width: int, height: int, levels: int) -> list[Tile]:
    """Where to look in a frame: all of it, then the square tiles of the levels above 1.

    Tiles of a level cover the frame; levels whose tiles would be tiny are left out. Above level 1
    some reach below the frame, for people whom its lower edge cuts: what is not there is black.
    """
    tiles: list[Tile] = [(0, 0, width, height)]
    for share in _BELOW_SHARES if levels > 2 else ():
        side = max(round(share * height), 1)
        tiles += [(x, 0, min(x + side, width), side) for x in _starts(width, side)]
    for share in _TILE_SHARES[: levels - 1]:
        side = round(share * min(width, height))
        if side < min(_SMALLEST_TILE, width, height) or side < 1:
            continue
        below = height - (side + 1) // 2
        tiles += [
            (x, y, min(x + side, width), y + side)
            for y in (*_starts(height, side), below)
            for x in _starts(width, side)
        ]
    return list(dict.fromkeys(tiles))


class BlazePosePersons(PersonFinder):
    """People whom BlazePose finds in a frame and its tiles.

    Args:
        detector: finds regions that may hold people.
        network: looks at them.
        max_persons: of more people in a frame the largest are taken.
        levels: 1 searches the whole frame, 2 also tiles as high as the frame, 3 also tiles two
            thirds as high. Each finds smaller people, and takes longer.

    Raises:
        UsageError: there is no such level.
    """

    name = "blazepose"

    def __init__(
        self,
        detector: PersonDetector,
        network: LandmarkNetwork,
        max_persons: int = 6,
        levels: int = 3,
    ) -> None:
        if levels not in LEVELS:
            raise UsageError(f"search levels are {LEVELS}, not {levels}")
        self._max_persons, self._levels = max_persons, levels
        self._detector, self._network = detector, network

    def find(self, frames: Sequence[ImageArray]) -> list[PersonBoxes]:
        """See :class:`PersonFinder`.

        Scores are mean visibilities of BlazePose's keypoints, hints the network's auxiliary points.
        """
        return [self._find_one(frame) for frame in frames]

    def _find_one(self, frame: ImageArray) -> PersonBoxes:
        height, width = frame.shape[:2]
        tiles = search_tiles(width, height, self._levels)
        seen_in = self._detector.find(frame, tiles)
        found = candidates(
            [
                people if tile[3] <= height else people[people.regions.reach_below(height)]
                for tile, people in zip(tiles, seen_in, strict=True)
            ]
        )
        seen, steady = self._looked_at(frame, found)
        scores = seen.mean_visibility
        certain = (scores >= _CERTAIN) & (seen.score >= _CERTAIN_PRESENCE)
        real = steady & (seen.score >= _MIN_PRESENCE)
        real &= scores >= np.where(found.doubtful, _MIN_DOUBTFUL, _MIN_SCORE)
        # Gloves and boots look like somebody upside down; of a real one several tiles tell.
        real &= (np.cos(found.regions.angles) > _LYING) | (found.support >= _MIN_SUPPORT)
        if len(tiles) > 1:
            asked = real & found.doubtful & ~certain
            real[asked] = self._confirmed(frame, found.regions[asked])
        seen, scores, support = seen[real], scores[real], found.support[real]
        limits = np.array([width, height, width, height], np.float32)
        bodies = [body_box(points[:KEYPOINTS]).clip(0, limits) for points in seen.points]
        boxes = np.array(bodies, np.float32).reshape(-1, 4)
        # By support rather than score: of a person and a part of them most tiles show the person.
        regions = found.regions[real]
        best = _distinct(seen.points, support, regions.sides)
        best = best[~_parts(boxes[best], regions.angles[best], support[best])]
        return person_boxes(
            boxes[best],
            scores[best],
            (width, height),
            self._max_persons,
            seen.points[best][:, KEYPOINTS:],
        )

    def _looked_at(self, frame: ImageArray, found: Candidates) -> tuple[Landmarks, BoolArray]:
        """What the network sees of the candidates (C), and whether it stays when one looks again.

        Who is cut by the edge of the picture is easily taken for somebody smaller who stands in
        it, with legs where there is room; and what is seen where nobody is depends on the crop.
        """

        def look(regions: Regions) -> Landmarks:
            return self._network.see([frame], [0] * len(regions), regions)

        regions = found.regions
        seen = look(regions)
        steady = np.ones(len(regions), np.bool_)
        height, width = frame.shape[:2]
        low, high = (
            of(seen.points[:, :KEYPOINTS], axis=1) / regions.sides[:, None]
            for of in (np.min, np.max)
        )
        edge = np.array((width, height)) / regions.sides[:, None]
        at_edge = (np.abs(np.concatenate((low, high - edge), 1)) < _AT_EDGE).any(1)
        doubted = np.flatnonzero(found.doubtful | (found.support < _SURE_SUPPORT) | at_edge)
        if not len(doubted):
            return seen, steady
        closer, wider, widest = _LOOK_AGAIN
        sides, before = regions.sides[doubted], seen[doubted]
        once = look(regions[doubted].enlarged(wider))
        stays = _agree(before, once, sides)
        # Only what may still change the answer is looked at further.
        rest = np.flatnonzero(~stays & (once.score >= _MIN_PRESENCE))
        again = look(regions[doubted[rest]].enlarged(widest))
        rest = rest[_agree(once[rest], again, sides[rest])]
        stays[rest] = True
        for name in ("points", "visibility", "score"):
            getattr(seen, name)[doubted[rest]] = getattr(once, name)[rest]
        rest = np.flatnonzero(~stays & (before.score >= _MIN_PRESENCE))
        again = look(regions[doubted[rest]].enlarged(closer))
        stays[rest] = _agree(before[rest], again, sides[rest])
        steady[doubted] = stays
        return seen, steady

    def _confirmed(self, frame: ImageArray, regions: Regions) -> BoolArray:
        """(C,): in which regions one sees somebody from close by as well."""
        confirmed = np.zeros(len(regions), np.bool_)
        tiles: dict[int, Tile] = {}
        for index in range(len(regions)):
            half = _SECOND_LOOK_SIDE / 2 * regions.sides[index]
            tile = square_tile(regions.centers[index], half, frame)
            if tile is not None:
                tiles[index] = tile
        seen = self._detector.find(frame, list(tiles.values()))
        for index, people in zip(tiles, seen, strict=True):
            confirmed[index] = _alike(regions[np.array([index])], people.regions).any()
        return confirmed


@dataclass(frozen=True)
class Candidates:
    """Different ``regions`` (C).

    ``support`` (C,) is the sum of the scores of the tiles that show each; ``doubtful`` (C,) are
    those that one tile alone shows, or that may be a part of somebody with more support.
    """

    regions: Regions
    support: DoubleArray
    doubtful: BoolArray

    def __getitem__(self, index: BoolArray) -> Candidates:
        return Candidates(self.regions[index], self.support[index], self.doubtful[index])


def candidates(found: Sequence[FoundPeople]) -> Candidates:
    """What several tiles show, once each; what has most support comes first."""
    regions = Regions.joined([people.regions for people in found])
    scores = np.concatenate([people.scores for people in found]).astype(np.float64)
    tile = np.repeat(np.arange(len(found)), [len(people.scores) for people in found])
    alike = _alike(regions, regions)
    support = alike @ scores
    kept: list[int] = []
    for index in np.argsort(-support, kind="stable").tolist():
        if len(kept) < _MOST_CANDIDATES and not alike[index, kept].any():
            kept.append(index)
    order = np.array(kept, np.int64)
    alone = np.array([len(np.unique(tile[alike[index]])) == 1 for index in kept], np.bool_)
    half = regions.sides[order, None] / 2
    corners = (regions.centers[order] - half, regions.centers[order] + half)
    squares = np.concatenate(corners, -1, dtype=np.float32)
    # One may be a part of the other, or made of several people.
    nested = np.tril(overlaps(squares, squares)[1] >= _CONTAINED, k=-1).any(1)
    return Candidates(regions[order], support[order], alone | nested)


def _agree(one: Landmarks, other: Landmarks, sides: DoubleArray) -> BoolArray:
    """(N,): whether both saw somebody, at the same place for regions of ``sides`` (N,) px."""
    apart = np.linalg.norm(one.points[:, :_UPPER] - other.points[:, :_UPPER], axis=-1)
    same = np.median(apart, axis=1) < _STAYS * sides
    return np.asarray(same & (np.minimum(one.score, other.score) >= _MIN_PRESENCE))


def _distinct(points: FloatArray, support: DoubleArray, sides: DoubleArray) -> NDArray[np.int64]:
    """Indices of different people, who has most support first, of points (N, 35, 2).

    Two are one person if shoulders or most keypoints are at the same places.
    """
    kept: list[int] = []
    for index in np.argsort(-support, kind="stable").tolist():
        apart = np.linalg.norm(points[index] - points[kept], axis=-1)
        near = np.minimum(sides[index], sides[kept])
        same = apart[:, _SHOULDERS].max(-1) < _SAME_SHOULDERS * near
        same |= np.median(apart[:, :KEYPOINTS], axis=-1) < _SAME_BODY * near
        if not same.any():
            kept.append(index)
    return np.array(kept, np.int64)


def _parts(boxes: FloatArray, angles: DoubleArray, support: DoubleArray) -> BoolArray:
    """(N,): who is a part of somebody larger: arms that lie across a body look like one.

    They lie inside of them, across or with much less support.
    """
    inside = overlaps(boxes, boxes)[1] >= _CONTAINED
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    larger = areas >= 2 * areas[:, None]
    across = np.cos(angles[:, None] - angles) < _ACROSS
    weaker = support[:, None] < _WEAKER * support
    return np.asarray((inside & larger & (across | weaker)).any(1))


def _alike(one: Regions, other: Regions) -> BoolArray:
    """(N, M): which regions show the same person."""
    rows = np.repeat(np.arange(len(one)), len(other))
    columns = np.tile(np.arange(len(other)), len(one))
    apart = differ(one[rows], other[columns], *_ALIKE)
    return ~apart.reshape(len(one), len(other))


def load_persons(max_persons: int = 6, levels: int = 3) -> BlazePosePersons:
    """BlazePose as a finder of persons for other networks.

    Raises:
        MissingError: OpenVINO or a network is missing.
    """
    detector = load_person_detector()
    network = LandmarkNetwork(network_file(LANDMARKS[best_size()]))
    return BlazePosePersons(detector, network, max_persons, levels)
