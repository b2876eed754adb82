"""BlazePose on each person's own crop: the detector that works offline everywhere.

MediaPipe's own following of people is not used: it exchanges their sides and loses them more often,
and it starts from a search that finds one person in a picture of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from gridpose.core import FloatArray, ImageArray
from gridpose.detectors.blazepose import BUNDLE_SHA256, Landmarkers, Tile
from gridpose.detectors.blazepose_boxes import BlazePosePersons
from gridpose.detectors.conventions import BLAZEPOSE_33
from gridpose.detectors.person_boxes import overlaps
from gridpose.detectors.topdown_detector import TopDownDetector

# Squares this much larger than the longer side of the box. MediaPipe sees nobody in one crop and
# somebody in a slightly different one, so there is a second try. On the sample video 1.6 gave the
# steadiest keypoints of 1.2 to 2.0.
_CROP_SIDES: Final = (1.6, 1.25)
_MIN_CONTAINED: Final = 0.6
_MIN_SCORE: Final = 0.5


class BlazePoseNetwork:
    """Sees the person in a box; of several in a crop, the one who fills the box best."""

    def __init__(self, landmarkers: Landmarkers) -> None:
        self._landmarkers = landmarkers

    def keypoints(
        self, frames: Sequence[ImageArray], frame_of_box: Sequence[int], boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """See :class:`gridpose.detectors.topdown_detector.KeypointNetwork`.

        Scores are visibilities, and 0 where nobody was seen.
        """
        answers = np.zeros((len(boxes), len(BLAZEPOSE_33.keypoints), 3), np.float32)
        for side in _CROP_SIDES:
            unseen = np.flatnonzero(~answers.any((1, 2)))
            tasks = [
                (
                    frames[frame_of_box[index]],
                    _crop(boxes[index], frames[frame_of_box[index]], side),
                )
                for index in unseen
            ]
            for index, poses in zip(unseen, self._landmarkers.search(tasks), strict=True):
                pose = _of_box(boxes[index], poses)
                if pose is not None:
                    answers[index] = pose
        return answers[..., :2], answers[..., 2]


def _crop(box: FloatArray, frame: ImageArray, side: float) -> Tile:
    """A square around the (4,) box, as far as it lies in the frame."""
    height, width = frame.shape[:2]
    half = side / 2 * float((box[2:] - box[:2]).max())
    x, y = ((box[:2] + box[2:]) / 2).tolist()
    return (
        max(int(x - half), 0),
        max(int(y - half), 0),
        min(int(x + half) + 1, width),
        min(int(y + half) + 1, height),
    )


def _of_box(box: FloatArray, poses: Sequence[FloatArray]) -> FloatArray | None:
    """Of several (33, 3) poses the one of whom the (4,) box is; None where it is nobody's."""
    if not poses:
        return None
    extents = [np.concatenate((pose[:, :2].min(0), pose[:, :2].max(0))) for pose in poses]
    iou, contained = overlaps(box[None], np.stack(extents))
    best = int(iou[0].argmax())
    return poses[best] if contained[0, best] >= _MIN_CONTAINED else None


def load_blazepose(max_persons: int = 6, *, reason: str = "asked for") -> TopDownDetector:
    """Load the embedded detector.

    Raises:
        MissingError: MediaPipe or its networks are missing.
    """
    finder = BlazePosePersons(max_persons)
    return TopDownDetector(
        "blazepose",
        BlazePoseNetwork(finder.landmarkers),
        finder,
        BLAZEPOSE_33,
        BUNDLE_SHA256,
        reason=reason,
        search_seconds=0.5,
        max_persons=max_persons,
        min_score=_MIN_SCORE,
    )
