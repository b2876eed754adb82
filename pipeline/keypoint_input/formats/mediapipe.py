"""MediaPipe's pose landmarks as JSON.

MediaPipe has no file format of its own; people save what its Python, JavaScript and Dart
interfaces answer, by the names these have: ``landmarks``, ``pose_landmarks`` or ``poseLandmarks``,
33 objects with ``x``, ``y`` (shares of the picture, 0 to 1) and ``visibility``, of one person or of
several, in a list of frames, alone or under ``frames``. World landmarks (3D) are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from gridpose.core import DoubleArray, FloatArray, InputError
from gridpose.detectors.conventions import BLAZEPOSE_33, Convention
from gridpose.pipeline.keypoint_input.json_values import Entry, entries, shown
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D, frame_rate, picture_size
from gridpose.pipeline.keypoint_input.naming import MAX_KEYPOINTS
from gridpose.pipeline.keypoint_input.sightings import Sighting, name_of, seen_in_frames

_LANDMARKS: Final = ("pose_landmarks", "poseLandmarks", "landmarks", "landmark")
_FRAME: Final = ("frame", "frame_id", "frame_index", "frameIndex", "frame_number")
_SIZES: Final = (("width", "height"), ("image_width", "image_height"), ("w", "h"))
_RATES: Final = ("fps", "frame_rate", "frameRate")


def is_mediapipe(content: Any) -> bool:
    """Whether the first frame with anybody has landmarks."""
    frames = content.get("frames", [content]) if isinstance(content, dict) else content
    if not isinstance(frames, list):
        return False
    return any(_has_landmarks(frame) for frame in frames[:1000])


def _has_landmarks(frame: Any) -> bool:
    """Whether somewhere below the first values there is a point."""
    for _ in range(4):
        if isinstance(frame, dict):
            if {"x", "y"} <= frame.keys():
                return "keypoints" not in frame
            frame = next((frame[key] for key in _LANDMARKS if key in frame), None)
        elif isinstance(frame, list):
            frame = next((each for each in frame if each), None)
    return isinstance(frame, dict) and {"x", "y"} <= frame.keys()


def read_mediapipe(file: Path, content: Any, asked: Convention | None) -> Keypoints2D:
    """Landmarks of all frames.

    Raises:
        InputError: damaged.
    """
    about = Entry(str(file), content) if isinstance(content, dict) else Entry(str(file), {})
    frames = content.get("frames", [content]) if isinstance(content, dict) else content
    if not isinstance(frames, list):
        raise InputError(f"{file}: frames must be a list, not {shown(frames)}")
    if not isinstance(content, dict) and _is_pose(frames):
        frames = [frames]  # of one picture
    sightings: list[Sighting] = []
    numbers = []
    for place, frame in enumerate(frames):
        number, where = place, f"{file}: frames[{place}]"
        if isinstance(frame, dict):
            entry = Entry(where, frame)
            key = next((key for key in _FRAME if key in entry), None)
            number = place if key is None else entry.whole(key)
        if number < 0:
            raise InputError(f"{where} has the number {number}")
        numbers.append(number)
        sightings += _people(frame, number, where)
    key = next((key for key in _RATES if key in about), None)
    fps = None if key is None else frame_rate(about.number(key), str(file))
    poses = [each.pose[:, :2] for each in sightings]
    return seen_in_frames(
        file,
        sightings,
        asked,
        BLAZEPOSE_33 if asked is None else None,
        BLAZEPOSE_33,
        frames=(min(numbers), max(numbers)) if numbers else None,
        image_size=_size(about),
        fps=fps,
        # Some multiply before they save.
        normalized=bool(poses) and float(np.nanmedian(np.abs(poses))) <= 1.5,
    )


def _size(about: Entry) -> FloatArray | None:
    for width, height in _SIZES:
        if width in about and height in about:
            size = picture_size(about.number(width), about.number(height), about.where)
            return np.array(size, np.float32)
    return None


def _is_pose(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(point, dict) and "x" in point for point in value)
    )


def _people(frame: Any, number: int, where: str) -> Iterator[Sighting]:
    person = Entry(where, {})
    if isinstance(frame, dict):
        person = Entry(where, frame)
        if isinstance(frame.get("people"), list):
            for index, each in enumerate(frame["people"]):
                yield from _people(each, number, f"{where}.people[{index}]")
            return
        frame = next((frame[key] for key in _LANDMARKS if key in frame), None)
        if isinstance(frame, dict):  # as protocol buffers are written
            frame = next((frame[key] for key in _LANDMARKS if key in frame), None)
    if not frame:  # nobody: null, or an empty list
        return
    if _is_pose(frame):
        yield Sighting(number, _pose(frame, where), where, name_of(person, ("track_id", "id")))
        return
    if not isinstance(frame, list):
        raise InputError(f"{where}: landmarks must be a list, not {shown(frame)}")
    for index, each in enumerate(frame):
        if isinstance(each, dict):
            each = next((each[key] for key in _LANDMARKS if key in each), each)
        if not _is_pose(each):
            raise InputError(f"{where}: landmarks[{index}] must be a list, not {shown(each)}")
        yield Sighting(number, _pose(each, f"{where}[{index}]"), f"{where}[{index}]")


def _pose(points: list[dict[str, Any]], where: str) -> DoubleArray:
    """(K, 3) x, y and visibility."""
    if len(points) > MAX_KEYPOINTS:
        raise InputError(f"{where} has {len(points)} landmarks")
    listed = entries(points, where)
    pose = np.array([[point.number("x"), point.number("y"), 1.0] for point in listed])
    for row, point in enumerate(listed):
        if point.members.get("visibility") is not None:
            # Of some models it is the argument of a sigmoid.
            pose[row, 2] = min(1.0, max(0.0, point.number("visibility")))
    return pose
