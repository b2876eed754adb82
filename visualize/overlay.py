"""2D keypoints over the picture they were found in."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from gridpose.core import BONES, JOINT_NAMES, AnyArray, FloatArray, ImageArray, Person
from gridpose.visualize.bones import line_colour, opacity, unseen
from gridpose.visualize.palette import DARK, Colour, Theme

SHIFT = 4
"""OpenCV takes coordinates in 1/16 px: :func:`fixed_point`."""
_SOLID = 0.9
_DOTTED = 0.4
_HEAD = JOINT_NAMES.index("head")
_FARTHEST = 1e5


def text_scale(height: int) -> float:
    """How much larger text and marks are in a picture of some height than in one of 720 px."""
    return float(np.clip(height / 720, 0.7, 6.0))


def draw_people(
    image: ImageArray,
    people: Sequence[Person],
    scale: float = 1.0,
    theme: Theme = DARK,
    hide_unseen: bool = False,
) -> None:
    """Draw 2D skeletons and track numbers into an (H, W, 3) RGB image, in place.

    Bones with a joint of confidence 0, which nobody saw, are dotted, and left out where that joint
    is outside the image.

    Args:
        people: their ``keypoints_2d`` are multiplied by ``scale`` first.
        theme: whose colours for people are taken.
        hide_unseen: leave them out everywhere.
    """
    larger = text_scale(image.shape[0])
    for person in people:
        points = person.keypoints_2d * scale
        hidden = unseen(person.confidence)
        seen = points[~hidden]
        # OpenCV draws nonsense where coordinates overflow.
        if not len(seen) or not np.abs(points).max() < _FARTHEST:
            continue
        outside = ((points < 0) | (points >= image.shape[1::-1])).any(-1)
        left_out = hidden & (outside | hide_unseen)
        colours = theme.family(person.track_id)
        extent = float(np.ptp(seen, axis=0).max())
        width = int(np.clip(round(extent / 110), 2, round(8 * larger)))
        for parent, child in BONES:
            if left_out[parent] or left_out[child]:
                continue
            visible = opacity(person.confidence, parent, child)
            colour, ends = line_colour(child, colours), points[[parent, child]]
            if hidden[parent] or hidden[child]:
                _dots(image, ends, colour, width)
            else:
                _line(image, ends, colour, width, visible)
        top = seen[seen[:, 1].argmin()] if hidden[_HEAD] else points[_HEAD]
        above = float(top[1]) - 14 * larger - 0.05 * extent
        label(
            image,
            f"{person.track_id}",
            (float(top[0]), above),
            colours.trunk,
            0.6 * larger,
            theme.rim,
        )


def fixed_point(points: AnyArray) -> AnyArray:
    """Pixels as OpenCV's drawing takes them with :data:`SHIFT`."""
    return np.asarray(np.round(points * (1 << SHIFT)), np.int32)


def stroke(image: ImageArray, ends: AnyArray, colour: Colour, width: int) -> None:
    """An opaque line between two points (2, 2) of :func:`fixed_point`."""
    start, end = ends.tolist()
    cv2.line(image, start, end, colour, width, cv2.LINE_AA, SHIFT)


def _dots(image: ImageArray, ends: FloatArray, colour: Colour, width: int) -> None:
    """Small dots between two points (2, 2) px."""
    count = int(np.clip(np.linalg.norm(ends[1] - ends[0]) / (3.0 * width), 2, 40))
    for part in np.linspace(0, 1, count):
        dot = ends[0] + part * (ends[1] - ends[0])
        _line(image, np.stack((dot, dot)), colour, max(1, width // 2), _DOTTED)


def _line(image: ImageArray, ends: FloatArray, colour: Colour, width: int, visible: float) -> None:
    """A line between two points (2, 2) px, seen through where it is not ``visible``."""
    if visible >= _SOLID:
        stroke(image, fixed_point(ends), colour, width)
        return
    low = np.floor(ends.min(0)).astype(int) - width - 1
    high = np.ceil(ends.max(0)).astype(int) + width + 2
    left, top = np.maximum(low, 0).tolist()
    right, bottom = np.minimum(high, image.shape[1::-1]).tolist()
    if left >= right or top >= bottom:
        return
    region = image[top:bottom, left:right]
    drawn = region.copy()
    stroke(drawn, fixed_point(ends - (left, top)), colour, width)
    cv2.addWeighted(drawn, visible, region, 1 - visible, 0, dst=region)


def label(
    image: ImageArray,
    text: str,
    centre: tuple[float, float],
    colour: Colour,
    scale: float = 0.6,
    rim: Colour = DARK.rim,
) -> None:
    """Write ``text`` centred above a point, with a rim that keeps it readable anywhere."""
    font, thickness = cv2.FONT_HERSHEY_DUPLEX, max(1, round(1.6 * scale))
    (width, _), _ = cv2.getTextSize(text, font, scale, thickness)
    place = (round(centre[0] - width / 2), round(centre[1]))
    cv2.putText(image, text, place, font, scale, rim, 4 * thickness, cv2.LINE_AA)
    cv2.putText(image, text, place, font, scale, colour, thickness, cv2.LINE_AA)
