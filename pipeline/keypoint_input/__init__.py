"""Files of 2D keypoints, of this program and of others, and their conversion to Human3.6M-17.

Each kind has a module in :mod:`.formats`; :mod:`.reader` tells them apart by their content. Nothing
in a file is executed.
"""

from __future__ import annotations

from gridpose.pipeline.keypoint_input.conversion import to_human36m
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D, Stated
from gridpose.pipeline.keypoint_input.naming import convention_named
from gridpose.pipeline.keypoint_input.plausibility import doubts
from gridpose.pipeline.keypoint_input.reader import read_keypoints

__all__ = [
    "Keypoints2D",
    "Stated",
    "convention_named",
    "doubts",
    "read_keypoints",
    "to_human36m",
]
