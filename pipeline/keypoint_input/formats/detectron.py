"""What VideoPose3D's ``infer_video`` makes of Detectron's answers: an ``.npz`` for each video.

``keypoints`` and ``boxes`` have an entry for each frame, ``[[], people]``: people are (N, 4, 17),
x, y, a logit and a score of COCO's keypoints, and boxes (N, 5) with a score. ``metadata`` has ``w``
and ``h``. All are pickled, and read without running anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from gridpose.core import AnyArray, FloatArray, InputError
from gridpose.detectors.conventions import COCO_17, Convention
from gridpose.lifting.data.convert import by_name, read_objects
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D, picture_size
from gridpose.pipeline.keypoint_input.naming import MAX_KEYPOINTS
from gridpose.pipeline.keypoint_input.sightings import Sighting, seen_in_frames

_ROWS: Final = 4
_LEAST_SCORE: Final = 0.5
"""Detectron answers with a box for every suspicion."""


def read_detectron(file: Path, asked: Convention | None) -> Keypoints2D:
    """People of all frames whose boxes are surer than not.

    Raises:
        InputError: not such a file.
    """
    try:
        objects = read_objects(file, "keypoints", "boxes", "metadata")
    except (NotImplementedError, RuntimeError, MemoryError) as error:  # of zipfile: encrypted...
        raise InputError(f"{file}: not an npz file of Detectron ({error})") from error
    frames = _frames(objects["keypoints"], f"{file}: keypoints")
    boxes = _frames(objects["boxes"], f"{file}: boxes") if "boxes" in objects else None
    if boxes is not None and len(boxes) != len(frames):
        raise InputError(f"{file}: has keypoints of {len(frames)} frames, boxes of {len(boxes)}")
    sightings: list[Sighting] = []
    for number, frame in enumerate(frames):
        where = f"{file}: keypoints[{number}]"
        people = _numbers(frame, where)
        if not people.size:
            continue
        if people.ndim != 3 or people.shape[1] not in (3, _ROWS) or people.shape[2] > MAX_KEYPOINTS:
            raise InputError(f"{where} is {people.shape}; it must be (people, {_ROWS}, keypoints)")
        scores = None if boxes is None else _numbers(boxes[number], f"{file}: boxes[{number}]")
        for index, person in enumerate(people):
            rated = scores is not None and scores.shape == (len(people), 5)
            if rated and scores is not None and scores[index, 4] < _LEAST_SCORE:
                continue
            pose = np.stack((person[0], person[1], person[-1]), axis=1).astype(np.float64)
            sightings.append(Sighting(number, pose, f"{where}[{index}]"))
    return seen_in_frames(
        file,
        sightings,
        asked,
        COCO_17 if asked is None else None,
        frames=(0, len(frames) - 1) if len(frames) else None,
        image_size=_size(objects.get("metadata", {}), file),
    )


def _frames(value: Any, where: str) -> list[Any]:
    if isinstance(value, np.ndarray) and value.ndim:
        return list(value)
    if isinstance(value, (list, tuple)):
        return list(value)
    raise InputError(f"{where} must have an entry for each frame")


def _numbers(frame: Any, where: str) -> AnyArray:
    """Of the second class, which are people."""
    if isinstance(frame, np.ndarray) and frame.ndim:
        frame = list(frame)
    if not isinstance(frame, (list, tuple)) or len(frame) != 2:
        raise InputError(f"{where} must be a list of two classes, the second of which is people")
    people = frame[1]
    if isinstance(people, (list, tuple)) and not people:
        return np.empty(0)
    if not isinstance(people, np.ndarray) or people.dtype.kind not in "fiu":
        raise InputError(f"{where} must be an array of numbers")
    return people


def _size(metadata: Any, file: Path) -> FloatArray | None:
    about = by_name(metadata, f"{file}: metadata")
    if not {"w", "h"} <= about.keys():
        return None
    try:
        width, height = float(about["w"]), float(about["h"])
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{file}: metadata: w and h must be numbers") from error
    return np.array(picture_size(width, height, f"{file}: metadata"), np.float32)
