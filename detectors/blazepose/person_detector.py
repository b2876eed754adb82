"""BlazePose's person detector: a picture in, rotated regions with people in them out.

A single-shot detector of faces and the bodies below them. What surrounds it is MediaPipe's
(``pose_detection_cpu.pbtxt`` of release 0.10.21): the picture in a square of 224 px with bars,
values from -1 to 1; 2,254 anchors; weighted non-maximum suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from gridpose.core import AnyArray, BoolArray, DoubleArray, FloatArray, ImageArray
from gridpose.detectors.blazepose.regions import Regions
from gridpose.detectors.blazepose.weights import PERSON_DETECTOR, network_file
from gridpose.detectors.boxes import overlaps
from gridpose.openvino_engine import Engine, EnginePrecision, Pixels, processor_has_bf16

SIDE: Final = 224
_OUTPUTS: Final = ("Identity", "Identity_1")  # boxes with key points, scores
# SsdAnchorsCalculator: strides 8, 16, 32, 32, 32 and two anchors a place and layer, in its centre
# and of size 1 (fixed_anchor_size); layers of one stride lie side by side.
_ANCHORS_OF_STRIDE: Final = ((8, 2), (16, 2), (32, 6))
_SCORE_CLIP: Final = 100.0
_SUPPRESSED_IOU: Final = 0.3
"""``min_suppression_threshold``."""
_PIXELS: Final = Pixels((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), channels_first=False)

Tile = tuple[int, int, int, int]
"""x0, y0, x1, y1 in px of the frame, the last two exclusive; what is outside of it is black."""


@dataclass(frozen=True)
class FoundPeople:
    """``regions`` of N people and their ``scores`` (N,) in [0, 1]."""

    regions: Regions
    scores: FloatArray

    def __getitem__(self, index: BoolArray) -> FoundPeople:
        return FoundPeople(self.regions[index], self.scores[index])


def square_tile(center: AnyArray, half: float, frame: ImageArray) -> Tile | None:
    """A square of twice ``half`` px around (x, y), if some of it lies in the frame."""
    height, width = frame.shape[:2]
    x, y = center.tolist()
    x0, y0, x1, y1 = int(x - half), int(y - half), int(x + half) + 1, int(y + half) + 1
    return (
        (x0, y0, x1, y1) if min(x1, width) > max(x0, 0) and min(y1, height) > max(y0, 0) else None
    )


def anchors() -> DoubleArray:
    """(2254, 2) centres x, y as shares of the square."""
    layers = []
    for stride, count in _ANCHORS_OF_STRIDE:
        cells = SIDE // stride
        centers = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(centers, centers, indexing="ij")
        layers.append(np.repeat(np.stack((x, y), -1).reshape(-1, 2), count, axis=0))
    return np.concatenate(layers)


class PersonDetector:
    """Finds people in parts of frames.

    Args:
        file: the network.
        min_score: who scores less is nobody.
        precision: of the arithmetic.

    Raises:
        MissingError: OpenVINO is not installed.
    """

    def __init__(
        self, file: Path, min_score: float = 0.3, precision: EnginePrecision = "fp32"
    ) -> None:
        self._engine = Engine(
            file, precision=precision, outputs=_OUTPUTS, pixels=_PIXELS, keep=True
        )
        self._anchors = anchors()
        self._min_score = min_score

    def find(self, frame: ImageArray, tiles: Sequence[Tile]) -> list[FoundPeople]:
        """The people in each tile of an (H, W, 3) RGB frame, the most certain first."""
        if not tiles:
            return []
        squares = np.zeros((len(tiles), SIDE, SIDE, 3), np.uint8)
        for square, tile in zip(squares, tiles, strict=True):
            _letterbox(frame, tile, square)
        raw, scores = self._engine(squares)
        certain = 1 / (
            1 + np.exp(-scores[..., 0].astype(np.float64).clip(-_SCORE_CLIP, _SCORE_CLIP))
        )
        return [self._people(raw[index], certain[index], tile) for index, tile in enumerate(tiles)]

    def _people(self, raw: FloatArray, scores: DoubleArray, tile: Tile) -> FoundPeople:
        likely = np.flatnonzero(scores >= self._min_score)
        values = raw[likely].astype(np.float64).reshape(-1, 6, 2) / SIDE
        # A box's centre and size, of which anchors are 1, and the points that tell the region.
        anchors, size = self._anchors[likely], values[:, 1]
        center, points = values[:, 0] + anchors, values[:, 2:4] + anchors[:, None]
        boxes = np.concatenate((center - size / 2, center + size / 2), -1)
        merged, best = _merged(boxes, scores[likely], points)
        x0, y0, x1, y1 = tile
        side = max(x1 - x0, y1 - y0)
        middle = np.array(((x0 + x1) / 2, (y0 + y1) / 2))
        placed = (merged - 0.5) * side + middle
        regions = Regions.from_points(placed[:, 0], placed[:, 1])
        return FoundPeople(regions, best.astype(np.float32))


def load_person_detector() -> PersonDetector:
    """The one of this installation, in bfloat16 where the processor has it.

    It only says where to look first.

    Raises:
        MissingError: OpenVINO or the network is missing.
    """
    precision: EnginePrecision = "bf16" if processor_has_bf16() else "fp32"
    return PersonDetector(network_file(PERSON_DETECTOR), precision=precision)


def _letterbox(frame: ImageArray, tile: Tile, out: ImageArray) -> None:
    """Fit a tile into the middle of the (S, S, 3) square ``out``, as large as it goes."""
    x0, y0, x1, y1 = tile
    left, top = max(x0, 0), max(y0, 0)
    scale = out.shape[0] / max(x1 - x0, y1 - y0)
    bars = (out.shape[0] - scale * np.array((x1 - x0, y1 - y0))) / 2
    bars += scale * np.array((left - x0, top - y0))
    matrix = np.array(((scale, 0, bars[0]), (0, scale, bars[1])))
    cv2.warpAffine(
        frame[top : max(y1, 0), left : max(x1, 0)],
        matrix,
        out.shape[1::-1],
        dst=out,
        flags=cv2.INTER_LINEAR,
    )


def _merged(
    boxes: DoubleArray, scores: DoubleArray, places: DoubleArray
) -> tuple[DoubleArray, DoubleArray]:
    """Weighted non-maximum suppression, as ``NonMaxSuppressionCalculator`` does with ``WEIGHTED``.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        places: (N, K, 2), of which means are taken, weighted by the scores.

    Returns:
        (M, K, 2) of M people, and the best score of each.
    """
    order = np.argsort(-scores, kind="stable")
    merged, best = [], []
    iou, _ = overlaps(boxes, boxes)
    while len(order):
        alike = iou[order[0], order] > _SUPPRESSED_IOU
        alike[0] = True  # a box without an area overlaps nothing, itself included
        members = order[alike]
        merged.append(np.average(places[members], axis=0, weights=scores[members]))
        best.append(scores[order[0]])
        order = order[~alike]
    return np.array(merged).reshape(-1, *places.shape[1:]), np.array(best)
