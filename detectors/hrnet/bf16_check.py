"""Whether a network's keypoints survive bfloat16: tried on a picture with the very weights.

Heatmaps in bfloat16 are off by about a hundredth of their height; what that does to keypoints
depends on how a network was trained and how its maps are decoded.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from gridpose.core import AnyArray, FloatArray, ImageArray
from gridpose.detectors.hrnet.crops import regions_of
from gridpose.detectors.topdown import BoxNetwork
from gridpose.storage import write_atomically

_MEDIAN_PX: Final = 0.1
_P99_PX: Final = 0.5
_SURE: Final = 0.3
"""Height of a heatmap above which the network has seen something."""
_FEWEST: Final = 100
"""Keypoints that a 99th percentile needs."""
_PICTURE: Final = "mpl-data/sample_data/grace_hopper.jpg"
"""Of matplotlib: a photograph of a woman's head and shoulders, 512x600."""


@dataclass(frozen=True)
class Agreement:
    """How far keypoints in bfloat16 are from those in float32.

    ``median`` and ``p99`` are distances in px of the crops, of ``keypoints`` of which the network
    is sure.
    """

    keypoints: int
    median: float
    p99: float

    @property
    def close(self) -> bool:
        """Whether bfloat16 will do."""
        enough = self.keypoints >= _FEWEST
        return enough and self.median <= _MEDIAN_PX and self.p99 <= _P99_PX

    def __str__(self) -> str:
        if self.keypoints < _FEWEST:
            return f"only {self.keypoints} sure keypoints to measure it by"
        return f"keypoints {self.median:.2f} px from fp32's, 99th percentile {self.p99:.2f} px"


def portrait() -> ImageArray | None:
    """The picture on which it is tried, if it is installed."""
    spec = find_spec("matplotlib")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        picture = cv2.imread(str(Path(folder) / _PICTURE))
        if picture is not None:
            return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
    return None


def variants(picture: ImageArray) -> tuple[list[ImageArray], list[int], FloatArray]:
    """The person in different light, from both sides, and differently cut.

    Returns:
        Frames, and as for :meth:`BoxNetwork.keypoints` the frame of each box and (N, 4) boxes.
    """
    darker = (picture * 0.6).astype(np.uint8)
    flatter = (picture * 0.5 + 90).astype(np.uint8)
    frames = [picture, np.ascontiguousarray(darker[:, ::-1]), flatter]
    height, width = picture.shape[:2]
    middle = np.array([width, height]) / 2
    boxes = []
    for scale in (0.75, 0.9, 1.1):
        for shift in (-0.08, 0.0, 0.06):
            moved = middle + shift * width
            boxes.append(np.concatenate((moved - scale * middle, moved + scale * middle)))
    frame_of_box = [index for index in range(len(frames)) for _ in boxes]
    return frames, frame_of_box, np.tile(np.array(boxes, np.float32), (len(frames), 1))


def compare(
    exact: BoxNetwork, rough: BoxNetwork, crop_size: tuple[int, int], padding: float
) -> Agreement | None:
    """Compare two of a network's precisions; None without a picture.

    Args:
        exact: in float32.
        rough: in bfloat16.
        crop_size: width, height of the network's crops.
        padding: how much larger than boxes they are.
    """
    picture = portrait()
    if picture is None:
        return None
    frames, frame_of_box, boxes = variants(picture)
    wanted, scores = exact.keypoints(frames, frame_of_box, boxes)
    found, _ = rough.keypoints(frames, frame_of_box, boxes)
    scale = crop_size[1] / regions_of(boxes, crop_size, padding).sizes[:, 1]
    apart: AnyArray = np.linalg.norm(found - wanted, axis=-1) * scale[:, None]
    sure = apart[scores > _SURE]
    if not len(sure):
        return Agreement(0, 0.0, 0.0)
    return Agreement(len(sure), float(np.median(sure)), float(np.percentile(sure, 99)))


def remembered(file: Path) -> Agreement | None:
    """What :func:`remember` put there, if it can be read."""
    try:
        about = json.loads(file.read_text())
        return Agreement(int(about["keypoints"]), float(about["median"]), float(about["p99"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(file: Path, agreement: Agreement) -> None:
    """Keep it for the next time.

    Raises:
        MissingError: the folder cannot be written to.
    """
    write_atomically(file, json.dumps(asdict(agreement)).encode())
