"""3D skeletons on a floor: a small renderer with its own projection and OpenCV's lines.

World axes as in pose files: metres, z up, floor at z = 0, y away from the camera that filmed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from gridpose.core import AnyArray, DoubleArray, ImageArray, Person
from gridpose.visualize.bones import LINES, line_colour, opacity
from gridpose.visualize.overlay import label
from gridpose.visualize.palette import (
    BACKGROUND,
    FLOOR,
    GRID,
    SHADOW,
    TEXT,
    Colour,
    blend,
    family,
)
from gridpose.visualize.stage import Framing, Stage

_SHIFT = 4
_BONE_METRES = 0.034
_JOINT_METRES = 0.026
_GRID_METRES = 0.5
_FLOOR_DEPTH = 1.5
_DISTANCE = 6.0


@dataclass(frozen=True)
class View:
    """Where the scene is seen from, in degrees: around the vertical, and above the horizon.

    Azimuth 0 looks as the filming camera did; positive goes round to the scene's right side.
    """

    azimuth: float = 20.0
    elevation: float = 14.0


class SceneRenderer:
    """Draws the people of one moment side by side on a floor.

    Args:
        size: width, height of the pictures in pixels.
        view: where from.
    """

    def __init__(self, size: tuple[int, int], view: View | None = None) -> None:
        self.size = size
        self.view = view or View()
        self._stage = Stage(aspect=size[0] / size[1])
        self._empty: tuple[Framing, ImageArray] | None = None
        azimuth, elevation = math.radians(self.view.azimuth), math.radians(self.view.elevation)
        cos_a, sin_a = math.cos(azimuth), math.sin(azimuth)
        cos_e, sin_e = math.cos(elevation), math.sin(elevation)
        # Rows: right, up and away of the viewer, in world axes.
        self._axes: DoubleArray = np.array(
            (
                (cos_a, sin_a, 0.0),
                (sin_a * sin_e, -cos_a * sin_e, cos_e),
                (-sin_a * cos_e, cos_a * cos_e, -sin_e),
            )
        )

    def draw(self, people: Sequence[Person], elapsed: float = 0.0) -> ImageArray:
        """The picture, (height, width, 3) RGB.

        Args:
            elapsed: seconds since the picture before, for the pace of the camera.
        """
        places = self._stage.update(people, elapsed)
        framing = self._stage.framing
        image = self._background(framing).copy()
        placed = [
            person.pose_world + np.array((places[person.track_id], 0.0, 0.0)) for person in people
        ]
        for world in placed:
            self._shadow(image, world, framing)
        order = sorted(range(len(people)), key=lambda i: -float(self._depth(placed[i][0], framing)))
        for index in order:
            self._person(image, people[index], placed[index], framing)
        return image

    def _depth(self, point: DoubleArray, framing: Framing) -> float:
        return float((point - (framing.centre, 0.0, framing.height)) @ self._axes[2])

    def _project(self, points: DoubleArray, framing: Framing) -> tuple[DoubleArray, DoubleArray]:
        """World points ``(..., 3)`` to pixels ``(..., 2)`` and pixels per metre ``(...)``."""
        seen = (points - (framing.centre, 0.0, framing.height)) @ self._axes.T
        distance = _DISTANCE * max(1.0, framing.span / 3)
        scale = self.size[1] / framing.span * distance / np.maximum(distance + seen[..., 2], 0.5)
        pixels = np.stack((seen[..., 0], -seen[..., 1]), -1) * scale[..., None]
        return pixels + np.array(self.size) / 2, scale

    def _background(self, framing: Framing) -> ImageArray:
        if self._empty is not None and self._empty[0] == framing:
            return self._empty[1]
        image: ImageArray = np.empty((self.size[1], self.size[0], 3), np.uint8)
        cv2.rectangle(image, (0, 0), self.size, BACKGROUND, cv2.FILLED)
        half = _GRID_METRES * math.ceil(0.75 * framing.span * self.size[0] / self.size[1] / 0.5)
        middle = round(framing.centre / _GRID_METRES) * _GRID_METRES
        left, right, near, far = middle - half, middle + half, -_FLOOR_DEPTH, _FLOOR_DEPTH
        corners = np.array(
            ((left, near, 0), (right, near, 0), (right, far, 0), (left, far, 0)), np.float64
        )
        outline = self._fixed(self._project(corners, framing)[0])
        cv2.fillConvexPoly(image, outline, FLOOR, cv2.LINE_AA, _SHIFT)
        across = [((x, near, 0.0), (x, far, 0.0)) for x in np.arange(left, right + 0.01, 0.5)]
        along = [((left, y, 0.0), (right, y, 0.0)) for y in np.arange(near, far + 0.01, 0.5)]
        for line in self._project(np.array(across + along), framing)[0]:
            cv2.polylines(image, [self._fixed(line)], False, GRID, 1, cv2.LINE_AA, _SHIFT)
        self._legend(image)
        self._empty = (framing, image)
        return image

    def _legend(self, image: ImageArray) -> None:
        colours = family(1)
        x, y, font = 14, self.size[1] - 16, cv2.FONT_HERSHEY_DUPLEX
        for text, colour in (("left", colours.left), ("right", colours.right)):
            cv2.line(image, (x, y - 5), (x + 22, y - 5), colour, 4, cv2.LINE_AA)
            cv2.putText(image, text, (x + 30, y), font, 0.5, TEXT, 1, cv2.LINE_AA)
            x += 92

    @staticmethod
    def _fixed(points: DoubleArray) -> AnyArray:
        return np.asarray(np.round(points * (1 << _SHIFT)), np.int32)

    def _shadow(self, image: ImageArray, world: DoubleArray, framing: Framing) -> None:
        """The skeleton's shadow straight below: shows where the feet are, and any height."""
        pixels, scale = self._project(world * (1.0, 1.0, 0.0), framing)
        width = max(1, round(1.4 * _BONE_METRES * float(scale[0])))
        fixed = self._fixed(pixels)
        segments = [fixed[[parent, child]] for parent, child in LINES]
        cv2.polylines(image, segments, False, SHADOW, width, cv2.LINE_AA, _SHIFT)

    def _person(
        self, image: ImageArray, person: Person, world: DoubleArray, framing: Framing
    ) -> None:
        colours = family(person.track_id)
        pixels, scale = self._project(world, framing)
        fixed = self._fixed(pixels)
        depth = world @ self._axes[2]
        # Far bones first, so that near ones cross in front of them.
        for parent, child in sorted(
            LINES, key=lambda bone: -float(depth[bone[0]] + depth[bone[1]])
        ):
            colour = self._faded(
                line_colour(child, colours), opacity(person.confidence, parent, child)
            )
            width = max(2, round(_BONE_METRES * float(scale[parent] + scale[child]) / 2))
            start, end = fixed[parent].tolist(), fixed[child].tolist()
            cv2.line(image, start, end, colour, width, cv2.LINE_AA, _SHIFT)
            radius = round(_JOINT_METRES * float(scale[child]) * (1 << _SHIFT))
            cv2.circle(image, end, radius, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)
        top = pixels[np.argmin(pixels[:, 1])]
        label(
            image,
            f"{person.track_id}",
            (float(pixels[10, 0]), float(top[1]) - 14),
            colours.trunk,
        )

    @staticmethod
    def _faded(colour: Colour, visible: float) -> Colour:
        return blend(colour, BACKGROUND, visible)
