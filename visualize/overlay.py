"""2D keypoints over the picture they were found in."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from gridpose.core import AnyArray, FloatArray, ImageArray, Person
from gridpose.visualize.bones import LINES, line_colour, opacity
from gridpose.visualize.palette import DARK, Colour, Theme

_SHIFT = 4  # OpenCV takes coordinates in 1/16 px
_SOLID = 0.9
_FARTHEST = 1e5


def text_scale(height: int) -> float:
    """How much larger text and marks are in a picture of some height than in one of 720 px."""
    return float(np.clip(height / 720, 0.7, 6.0))


def draw_people(
    image: ImageArray, people: Sequence[Person], scale: float = 1.0, theme: Theme = DARK
) -> None:
    """Draw 2D skeletons and track numbers into an (H, W, 3) RGB image, in place.

    Args:
        people: their ``keypoints_2d`` are multiplied by ``scale`` first.
        theme: whose colours for people are taken.
    """
    larger = text_scale(image.shape[0])
    for person in people:
        points = person.keypoints_2d * scale
        # OpenCV draws nonsense where coordinates overflow.
        if not np.abs(points).max() < _FARTHEST:
            continue
        colours = theme.family(person.track_id)
        extent = float(np.ptp(points, axis=0).max())
        width = int(np.clip(round(extent / 110), 2, round(8 * larger)))
        for parent, child in LINES:
            visible = opacity(person.confidence, parent, child)
            _line(image, points[parent], points[child], line_colour(child, colours), width, visible)
        above = float(points[10, 1]) - 14 * larger - 0.05 * extent
        centre = (float(points[10, 0]), above)
        label(image, f"{person.track_id}", centre, colours.trunk, 0.6 * larger, theme.rim)


def _line(
    image: ImageArray,
    start: FloatArray,
    end: FloatArray,
    colour: Colour,
    width: int,
    visible: float,
) -> None:
    ends = np.stack((start, end))
    if visible >= _SOLID:
        _stroke(image, ends, colour, width)
        return
    low = np.floor(ends.min(0)).astype(int) - width - 1
    high = np.ceil(ends.max(0)).astype(int) + width + 2
    left, top = (max(0, int(value)) for value in low)
    right, bottom = (
        min(int(value), side) for value, side in zip(high, image.shape[1::-1], strict=True)
    )
    if left >= right or top >= bottom:
        return
    region = image[top:bottom, left:right]
    drawn = region.copy()
    _stroke(drawn, ends - (left, top), colour, width)
    cv2.addWeighted(drawn, visible, region, 1 - visible, 0, dst=region)


def _stroke(image: ImageArray, ends: AnyArray, colour: Colour, width: int) -> None:
    (x0, y0), (x1, y1) = np.round(ends * (1 << _SHIFT)).astype(int).tolist()
    cv2.line(image, (x0, y0), (x1, y1), colour, width, cv2.LINE_AA, _SHIFT)


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
