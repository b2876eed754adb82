"""Person boxes from BlazePose: needs nothing that is not installed with gridpose.

BlazePose is made for one person near the camera. In a whole frame it finds the most prominent
person, seldom two, and nobody who is small. So it also looks at overlapping square tiles. What
several searches agree upon is a person; what only one saw is looked at again from close by, which
keeps out branches and shadows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import FloatArray, ImageArray, UsageError
from gridpose.detectors.blazepose import BUNDLE_SHA256, Landmarkers, Tile
from gridpose.detectors.conventions import BLAZEPOSE_33
from gridpose.detectors.person_boxes import (
    PersonBoxes,
    non_maximum_suppression,
    overlaps,
    person_boxes,
)

LEVELS: Final = (1, 2, 3)

# Sides of the square tiles of levels 2 and 3 as shares of the frame's shorter side, and how much
# neighbouring tiles overlap at least.
_TILE_LEVELS: Final = ((1.0, 0.5), (2 / 3, 0.5))
_SMALLEST_TILE: Final = 96

# Scores are mean visibilities of the keypoints. Keypoints beyond a tile's edge that is not the
# frame's mean a person cut off, or no person.
_CUT_FACTOR: Final = 0.6
_CUT_MARGIN: Final = 0.01
_MIN_CANDIDATE_SCORE: Final = 0.5
_MIN_SCORE: Final = 0.65
_SAME_IOU: Final = 0.5
_SAME_CONTAINED: Final = 0.75
_MOST_SECOND_LOOKS: Final = 12
_SECOND_LOOK_SIDE: Final = 1.4
_SECOND_LOOK_IOU: Final = 0.3

# Measured against annotators' boxes (scripts/measure_person_boxes.py): from the ears to the crown
# it is twice as far as from mouth to eyes; skin and clothes go beyond joints by a twentieth.
_CROWN: Final = 2.0
_MARGIN: Final = 0.05


def _indices(*names: str) -> list[int]:
    return [BLAZEPOSE_33.keypoints.index(name) for name in names]


_EARS: Final = _indices("left_ear", "right_ear")
_EYES: Final = _indices("left_eye", "right_eye")
_MOUTH: Final = _indices("mouth_left", "mouth_right")


def body_box(keypoints: FloatArray) -> FloatArray:
    """The (4,) xyxy box that an annotator would draw around BlazePose keypoints (33, 2)."""
    up = keypoints[_EYES].mean(0) - keypoints[_MOUTH].mean(0)
    body = np.vstack((keypoints, keypoints[_EARS].mean(0) + _CROWN * up))
    low, high = body.min(0), body.max(0)
    margin = _MARGIN * np.sqrt((high - low).prod())
    return np.concatenate((low - margin, high + margin), dtype=np.float32)


def _starts(length: int, side: int, overlap: float) -> list[int]:
    if side >= length:
        return [0]
    count = math.ceil((length - side) / (side * (1 - overlap)) - 1e-9) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def search_tiles(width: int, height: int, levels: int) -> list[Tile]:
    """Where to look in a frame: all of it, then the square tiles of the levels above 1.

    Tiles of a level cover the frame; levels whose tiles would be tiny are left out.
    """
    tiles: list[Tile] = [(0, 0, width, height)]
    for share, overlap in _TILE_LEVELS[: levels - 1]:
        side = round(share * min(width, height))
        if side < min(_SMALLEST_TILE, width, height) or side < 1:
            continue
        tiles += [
            (x, y, min(x + side, width), min(y + side, height))
            for y in _starts(height, side, overlap)
            for x in _starts(width, side, overlap)
        ]
    return list(dict.fromkeys(tiles))


def is_cut(keypoints: FloatArray, tile: Tile, width: int, height: int) -> bool:
    """Whether keypoints (33, 2) reach an edge of the tile behind which the frame goes on."""
    margin = _CUT_MARGIN * max(tile[2] - tile[0], tile[3] - tile[1])
    low, high = keypoints.min(0), keypoints.max(0)
    return bool(
        (tile[0] > 0 and low[0] < tile[0] + margin)
        or (tile[1] > 0 and low[1] < tile[1] + margin)
        or (tile[2] < width and high[0] > tile[2] - margin)
        or (tile[3] < height and high[1] > tile[3] - margin)
    )


@dataclass(frozen=True)
class _Candidates:
    """``boxes`` (C, 4) xyxy px inside the frame, ``scores`` (C,), ``searches`` (C,) which tile."""

    boxes: FloatArray
    scores: FloatArray
    searches: NDArray[np.int64]


class BlazePosePersons:
    """People whom BlazePose finds in a frame and its tiles.

    Args:
        max_persons: of more people in a frame the largest are taken.
        levels: 1 searches the whole frame, 2 also tiles as high as the frame, 3 also tiles two
            thirds as high. Each finds smaller people, and takes longer.
        reason: see :class:`PersonFinder`.

    Raises:
        UsageError: there is no such level.
        MissingError: MediaPipe or its networks are missing.
    """

    name = "blazepose"
    weights_sha256 = BUNDLE_SHA256

    def __init__(self, max_persons: int = 6, levels: int = 3, *, reason: str = "asked for") -> None:
        if levels not in LEVELS:
            raise UsageError(f"search levels are {LEVELS}, not {levels}")
        self.reason = reason
        self._max_persons, self._levels = max_persons, levels
        self.landmarkers = Landmarkers()

    def find(self, frames: Sequence[ImageArray]) -> list[PersonBoxes]:
        """See :class:`PersonFinder`. Scores are mean visibilities of BlazePose's keypoints."""
        return [self._find_one(frame) for frame in frames]

    def _find_one(self, frame: ImageArray) -> PersonBoxes:
        height, width = frame.shape[:2]
        candidates = self._candidates(frame)
        iou, _ = overlaps(candidates.boxes, candidates.boxes)
        same = iou >= _SAME_IOU
        # By support rather than score: of a person and a part of them most searches see the person.
        best = non_maximum_suppression(
            candidates.boxes, same @ candidates.scores, _SAME_IOU, _SAME_CONTAINED
        )
        searches = [len(set(candidates.searches[same[index]].tolist())) for index in best]
        agreed = [index for index, count in zip(best, searches, strict=True) if count > 1]
        doubtful = [index for index, count in zip(best, searches, strict=True) if count == 1]
        found = [(candidates.boxes[index], float(candidates.scores[index])) for index in agreed]
        found += self._second_looks(frame, candidates.boxes[doubtful[:_MOST_SECOND_LOOKS]])
        found = [(box, score) for box, score in found if score >= _MIN_SCORE]
        boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
        scores = np.array([score for _, score in found], np.float32)
        kept = non_maximum_suppression(boxes, scores, _SAME_IOU, _SAME_CONTAINED)
        return person_boxes(boxes[kept], scores[kept], (width, height), self._max_persons)

    def _candidates(self, frame: ImageArray) -> _Candidates:
        height, width = frame.shape[:2]
        tiles = search_tiles(width, height, self._levels)
        boxes, scores, searches = [], [], []
        for search, (tile, poses) in enumerate(zip(tiles, self._search(frame, tiles), strict=True)):
            for pose in poses:
                cut = is_cut(pose[:, :2], tile, width, height)
                score = float(pose[:, 2].mean()) * (_CUT_FACTOR if cut else 1)
                if score >= _MIN_CANDIDATE_SCORE:
                    boxes.append(_inside(body_box(pose[:, :2]), width, height))
                    scores.append(score)
                    searches.append(search)
        return _Candidates(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(searches, np.int64),
        )

    def _second_looks(self, frame: ImageArray, boxes: FloatArray) -> list[tuple[FloatArray, float]]:
        """Boxes and scores of the people, of those in (N, 4), whom one sees from close by."""
        height, width = frame.shape[:2]
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        half = _SECOND_LOOK_SIDE / 2 * (boxes[:, 2:] - boxes[:, :2]).max(-1, keepdims=True)
        low = np.floor(np.maximum(centers - half, 0)).astype(int)
        high = np.ceil(np.minimum(centers + half, (width, height))).astype(int)
        tiles: list[Tile] = [
            (*x0y0, *x1y1) for x0y0, x1y1 in zip(low.tolist(), high.tolist(), strict=True)
        ]
        seen = []
        for box, poses in zip(boxes, self._search(frame, tiles), strict=True):
            if not poses:
                continue
            found = np.array([_inside(body_box(pose[:, :2]), width, height) for pose in poses])
            iou = overlaps(box[None], found)[0][0]
            nearest = int(iou.argmax())
            if iou[nearest] >= _SECOND_LOOK_IOU:
                seen.append((found[nearest], float(poses[nearest][:, 2].mean())))
        return seen

    def _search(self, frame: ImageArray, tiles: Sequence[Tile]) -> list[list[FloatArray]]:
        return self.landmarkers.search([(frame, tile) for tile in tiles])

    def __enter__(self) -> BlazePosePersons:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.landmarkers.close()


def _inside(box: FloatArray, width: int, height: int) -> FloatArray:
    limits = np.array([width, height, width, height], np.float32)
    return np.asarray(box.clip(0, limits), np.float32)
