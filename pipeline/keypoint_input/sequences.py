"""Which poses of a keypoint file follow each other in time, and how they are lifted together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from gridpose.core import NUM_JOINTS, AnyArray, FloatArray
from gridpose.pipeline.keypoint_input import Keypoints2D

if TYPE_CHECKING:
    from gridpose.lifting import Lifter

LONGEST_GAP_SECONDS: Final = 1.0
"""After a longer one a sequence begins anew."""
DEFAULT_FPS: Final = 30.0
"""Where frames have numbers and nothing tells how fast they follow each other."""

Sequence = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows of poses, and when each is seen, in frames."""


def sequences_of(data: Keypoints2D, fps: float | None) -> tuple[list[Sequence], float] | None:
    """Sequences of several recordings in a file and their frames per second; None: there are none.

    Args:
        data: what the file holds.
        fps: frames per second, if the user says so.
    """
    frames = np.asarray(data.columns.get("frame", ()))
    if data.track is None or not len(frames) or frames.dtype.kind not in "iu":
        return None
    rate = fps or data.fps or DEFAULT_FPS
    rows = [np.flatnonzero(data.track == track) for track in np.unique(data.track)]
    longest = LONGEST_GAP_SECONDS * rate
    return [part for each in rows for part in _parts(each, frames[each], longest)], rate


def _parts(rows: AnyArray, frames: AnyArray, longest: float) -> Iterator[Sequence]:
    """A person's poses in the order of time, without long gaps."""
    order = np.argsort(frames, kind="stable")
    rows, frames = rows[order], frames[order].astype(np.int64)
    steps = np.diff(frames)
    breaks = np.flatnonzero((steps > longest) | (steps == 0)) + 1
    for part, when in zip(np.split(rows, breaks), np.split(frames, breaks), strict=True):
        yield part, when - when[0]


def lift_sequences(
    lifter: Lifter,
    keypoints: FloatArray,
    confidence: FloatArray | None,
    size: FloatArray,
    sequences: list[Sequence],
    fps: float,
    fov_degrees: float | None,
) -> FloatArray:
    """Lift poses (N, 17, 2) px in their sequences, (N, 17, 3) m.

    Args:
        confidence: (N, 17), of use between 0 and 1 only.
        size: (2,) or (N, 2) width, height px; that of a sequence's first frame holds for it.
    """
    poses = np.full((len(keypoints), NUM_JOINTS, 3), np.nan, np.float32)
    rated = None
    if confidence is not None:
        known = confidence[np.isfinite(confidence)]
        if len(known) and known.min() >= 0 and known.max() <= 1:
            rated = confidence
    for rows, frames in sequences:
        shown = np.full((frames[-1] + 1 if len(frames) else 0, NUM_JOINTS, 2), np.nan, np.float32)
        shown[frames] = keypoints[rows]
        sure = None
        if rated is not None:
            sure = np.zeros(shown.shape[:2], np.float32)
            sure[frames] = rated[rows]
        if len(rows):
            picture = size if size.ndim == 1 else size[rows[0]]
            poses[rows] = lifter.lift_sequence(shown, picture, sure, fps, fov_degrees)[frames]
    return poses
