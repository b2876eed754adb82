"""BlazePose's landmark networks: one person's crop in, 33 keypoints and two auxiliary ones out.

Three sizes (lite, full, heavy) have the same form. What surrounds them is MediaPipe's
(``tensors_to_pose_landmarks_and_segmentation.pbtxt`` of release 0.10.21): a crop of 256 px with
values from 0 to 1; 39 x (x, y, z, visibility, presence), the last two before a sigmoid; places
refined by a heatmap. The network's segmentation is not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import AnyArray, FloatArray, ImageArray
from gridpose.detectors.blazepose.regions import Regions
from gridpose.detectors.boxes import inside
from gridpose.openvino_engine import Engine, EnginePrecision, Pixels

CROP: Final = 256
KEYPOINTS: Final = 33
_USED: Final = KEYPOINTS + 2
_POINTS, _VALUES = 39, 5
_OUTPUTS: Final = ("Identity", "Identity_1", "Identity_3")  # points, presence, heatmaps
_PIXELS: Final = Pixels((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), channels_first=False)
_MIN_PRESENCE: Final = 0.0
"""Before the sigmoid: what is less likely than not to be in the picture is not."""
_KERNEL: Final = 7
"""Of ``RefineLandmarksFromHeatmapCalculator``."""
_MIN_HEAT: Final = 0.5
"""Its ``min_confidence_to_refine``, of which the graph leaves the default."""


@dataclass(frozen=True)
class Landmarks:
    """N people.

    ``points`` (N, 35, 2) px in the frame, the last two auxiliary: they tell the person's region in
    the next frame; ``visibility`` (N, 35) in [0, 1]: whether a point is seen rather than guessed,
    0 where it is not in the picture; ``score`` (N,) in [0, 1]: whether there is a person.
    """

    points: FloatArray
    visibility: FloatArray
    score: FloatArray

    def __getitem__(self, index: AnyArray) -> Landmarks:
        return Landmarks(self.points[index], self.visibility[index], self.score[index])

    @property
    def mean_visibility(self) -> FloatArray:
        """(N,) of the keypoints that are in the picture; 0 where none is."""
        seen = self.visibility[:, :KEYPOINTS]
        return np.asarray(seen.sum(-1) / np.maximum((seen > 0).sum(-1), 1), np.float32)


class LandmarkNetwork:
    """Sees the person in a region.

    Args:
        file: one of the networks.
        precision: of the arithmetic.

    Raises:
        MissingError: OpenVINO is not installed.
    """

    def __init__(self, file: Path, precision: EnginePrecision = "fp32") -> None:
        self._engine = Engine(
            file, precision=precision, outputs=_OUTPUTS, pixels=_PIXELS, keep=True
        )

    def see(
        self, frames: Sequence[ImageArray], frame_of_region: Sequence[int], regions: Regions
    ) -> Landmarks:
        """The person in each region of (H, W, 3) RGB frames."""
        if not len(regions):
            none = np.zeros((0, _USED, 2), np.float32)
            return Landmarks(none, none[..., 0], none[:, 0, 0])
        crops = np.empty((len(regions), CROP, CROP, 3), np.uint8)
        regions.cut(frames, frame_of_region, crops)
        raw, score, heat = self._engine(crops)
        values = raw.reshape(-1, _POINTS, _VALUES)
        places = refined((values[..., :2] / CROP).astype(np.float32), heat)
        points = regions.to_frame(places[:, :_USED])
        sizes = [frames[index].shape[1::-1] for index in frame_of_region]
        there = (values[:, :_USED, 4] >= _MIN_PRESENCE) & inside(points, np.array(sizes)[:, None])
        visibility = np.where(there, _sigmoid(values[:, :_USED, 3]), np.float32(0))
        return Landmarks(points, visibility, score.reshape(-1))


def refined(places: FloatArray, heat: FloatArray) -> FloatArray:
    """Places (N, K, 2), shares of the crop, at the centres of what is warm around them.

    As ``RefineLandmarksFromHeatmapCalculator`` does: the mean of the 7 x 7 window around a place,
    weighted by the sigmoid of the heatmaps (N, H, W, K), where any of it reaches one half.
    """
    count, height, width, points = heat.shape
    size = np.array((width, height), np.float32)
    at = np.trunc(places * size).astype(np.int64)
    reach = np.arange(_KERNEL) - _KERNEL // 2
    column, row = at[..., 0, None] + reach, at[..., 1, None] + reach
    in_row, in_column = (row >= 0) & (row < height), (column >= 0) & (column < width)
    inside = in_row[..., :, None] & in_column[..., None, :]
    window = heat[
        np.arange(count)[:, None, None, None],
        row.clip(0, height - 1)[..., :, None],
        column.clip(0, width - 1)[..., None, :],
        np.arange(points)[:, None, None],
    ]
    weight = np.where(inside, _sigmoid(window), 0)
    total = weight.sum((-2, -1))
    across, down = (weight.sum(-2) * column).sum(-1), (weight.sum(-1) * row).sum(-1)
    mean = np.stack((across, down), -1) / np.maximum(total, 1e-12)[..., None]
    starts_inside = ((at >= 0) & (at < size)).all(-1)
    use = starts_inside & (weight.max((-2, -1)) >= _MIN_HEAT) & (total > 0)
    return np.where(use[..., None], mean / size, places).astype(np.float32)


def _sigmoid(values: FloatArray) -> FloatArray:
    # Beyond +-60 a float32 sigmoid is 0 or 1.
    return np.asarray(1 / (1 + np.exp(-values.clip(-60, 60))), np.float32)
