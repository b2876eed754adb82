"""Whether a camera stands still, measured from the background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from gridpose.core import AnyArray, FloatArray, ImageArray

WIDTH: Final = 320
"""Of the grey pictures that are compared, px."""
_POINTS = 150
_LEAST_POINTS = 8
_NEAR_PIXELS = 1.0
_STILL_SHARE = 0.35
"""Whatever else moves, so much of the background stays where it is."""
_GROWN = 0.15


class CameraStillness:
    """Compares each frame with the first one, by corners outside of people.

    They are followed by optical flow (Lucas & Kanade, 1981, in pyramids). Corners that are lost or
    hidden do not count; when few are left, others are found in the present frame, which is then
    what the next ones are compared with.
    """

    def __init__(self) -> None:
        self._reference: AnyArray | None = None
        self._points: FloatArray = np.empty((0, 1, 2), np.float32)

    def is_still(self, grey: AnyArray, boxes: Sequence[AnyArray], scale: float) -> bool:
        """Whether the camera is where it was; False where there is nothing to tell by.

        Args:
            grey: the frame, as :func:`small_grey` gives it.
            boxes: (4,) xyxy px around everybody in it, in the source.
            scale: width of ``grey`` by that of the source.
        """
        background = _background(grey.shape, boxes, scale)
        if self._reference is None:
            self._begin(grey, background)
            return len(self._points) >= _LEAST_POINTS
        moved, still = 0, 0
        if len(self._points):
            now, found, _ = cv2.calcOpticalFlowPyrLK(
                self._reference, grey, self._points, self._points.copy(),
                flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
            )  # fmt: skip
            at = np.clip(self._points[:, 0].astype(int), 0, np.array(grey.shape[::-1]) - 1)
            seen = (found[:, 0] > 0) & (background[at[:, 1], at[:, 0]] > 0)
            far = np.linalg.norm(now[:, 0] - self._points[:, 0], axis=-1) > _NEAR_PIXELS
            moved, still = int((seen & far).sum()), int((seen & ~far).sum())
        if moved + still < _LEAST_POINTS:
            self._begin(grey, background)
            return False
        return still >= _STILL_SHARE * (moved + still)

    def _begin(self, grey: AnyArray, background: AnyArray) -> None:
        self._reference = grey
        points = cv2.goodFeaturesToTrack(grey, _POINTS, 0.02, 6, mask=background)
        self._points = np.empty((0, 1, 2), np.float32) if points is None else points


def small_grey(image: ImageArray) -> AnyArray:
    """A frame (H, W, 3) as a grey picture of :data:`WIDTH`."""
    height = max(1, round(image.shape[0] * WIDTH / image.shape[1]))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (WIDTH, height), interpolation=cv2.INTER_AREA))


def _background(shape: Sequence[int], boxes: Sequence[AnyArray], scale: float) -> AnyArray:
    """255 where nobody is."""
    mask = np.full(shape, 255, np.uint8)
    for box in boxes:
        grown = _GROWN * (box[2:] - box[:2])
        left, top = np.maximum(scale * (box[:2] - grown), 0).astype(int)
        right, bottom = np.maximum(scale * (box[2:] + grown), 0).astype(int)
        mask[top:bottom, left:right] = 0
    return mask
