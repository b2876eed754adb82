"""3D skeletons on a floor: a small renderer with its own projection and OpenCV's lines.

World axes as in pose files: metres, z up, floor at z = 0, y away from the camera that filmed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np

from gridpose.core import JOINT_NAMES, AnyArray, DoubleArray, ImageArray, Person
from gridpose.visualize.bones import LINES, line_colour, opacity
from gridpose.visualize.look import Arrangement
from gridpose.visualize.overlay import label, text_scale
from gridpose.visualize.palette import DARK, Colour, Theme, blend
from gridpose.visualize.stage import Framing, Stage
from gridpose.visualize.views import View

_SHIFT = 4
_BONE_METRES = 0.034
_JOINT_METRES = 0.026
_GRID_METRES = 0.5
_FLOOR_DEPTH = 1.5
_DISTANCE = 6.0
_NEAREST = 0.5
_TRAIL_SECONDS = 0.8
_TRAIL_JOINTS = tuple(
    JOINT_NAMES.index(f"{side}_{joint}")
    for side in ("left", "right")
    for joint in ("wrist", "ankle")
)


class SceneRenderer:
    """Draws the people of one moment on a floor.

    Args:
        size: width, height of the pictures in pixels.
        view: where from.
        theme: colours.
        arrangement: people side by side, or where their world poses say.
        trails: draw where hands and feet were in the last 0.8 s.
        legend: explain the colours of the sides.
    """

    def __init__(
        self,
        size: tuple[int, int],
        view: View | None = None,
        theme: Theme = DARK,
        arrangement: Arrangement = "row",
        trails: bool = False,
        legend: bool = True,
    ) -> None:
        self.size = size
        self.view = view or View()
        self._theme, self._wants_trails, self._wants_legend = theme, trails, legend
        self._stage = Stage(size[0] / size[1], arrangement)
        self._empty: tuple[Framing, View, ImageArray] | None = None
        self._trails: dict[int, deque[tuple[float, DoubleArray]]] = {}
        self._time = 0.0
        self._text = text_scale(size[1])
        self._axes = self.view.axes

    def draw(
        self, people: Sequence[Person], elapsed: float = 0.0, out: ImageArray | None = None
    ) -> ImageArray:
        """The picture, (height, width, 3) RGB.

        Args:
            people: who is there.
            elapsed: seconds since the picture before, for the pace of the camera.
            out: to draw into.
        """
        self._time += elapsed
        view = self.view.at(self._time)
        self._axes = view.axes
        places = self._stage.update(people, elapsed, view)
        framing = self._stage.framing
        empty = self._background(framing, view)
        image = np.empty_like(empty) if out is None else out
        np.copyto(image, empty)
        placed = [person.pose_world + places[person.track_id] for person in people]
        for world in placed:
            self._shadow(image, world, framing)
        if self._wants_trails:
            self._draw_trails(image, people, placed, framing)
        order = sorted(range(len(people)), key=lambda i: -float(self._depth(placed[i][0])))
        for index in order:
            self._person(image, people[index], placed[index], framing)
        return image

    def _depth(self, points: DoubleArray) -> DoubleArray:
        return np.asarray(points @ self._axes[2])

    def _centre(self, framing: Framing) -> DoubleArray:
        """The world point in the middle of the picture."""
        right = self._axes[0]
        away = np.array((-right[1], right[0], 0.0))
        return np.asarray(
            framing.across * right + framing.away * away + np.array((0, 0, framing.height))
        )

    def _project(self, points: DoubleArray, framing: Framing) -> tuple[DoubleArray, DoubleArray]:
        """World points ``(..., 3)`` to pixels ``(..., 2)`` and pixels per metre ``(...)``."""
        seen = (points - self._centre(framing)) @ self._axes.T
        distance = _DISTANCE * max(1.0, framing.span / 3) + framing.depth / 2
        near = np.maximum(distance + seen[..., 2], _NEAREST)
        scale = self.size[1] / framing.span * distance / near
        pixels = np.stack((seen[..., 0], -seen[..., 1]), -1) * scale[..., None]
        return pixels + np.array(self.size) / 2, scale

    def _background(self, framing: Framing, view: View) -> ImageArray:
        if self._empty is not None and self._empty[:2] == (framing, view):
            return self._empty[2]
        theme = self._theme
        image: ImageArray = np.empty((self.size[1], self.size[0], 3), np.uint8)
        cv2.rectangle(image, (0, 0), self.size, theme.background, cv2.FILLED)
        corners, lines = self._floor(framing)
        outline = self._fixed(self._project(corners, framing)[0])
        cv2.fillConvexPoly(image, outline, theme.floor, cv2.LINE_AA, _SHIFT)
        width = max(1, round(0.8 * self._text))
        drawn = [self._fixed(line) for line in self._project(lines, framing)[0]]
        cv2.polylines(image, drawn, False, theme.grid, width, cv2.LINE_AA, _SHIFT)
        if self._wants_legend:
            self._legend(image)
        self._empty = (framing, view, image)
        return image

    def _floor(self, framing: Framing) -> tuple[DoubleArray, DoubleArray]:
        """Corners (4, 3) of the floor, and the lines (N, 2, 3) on it, m."""
        across = 0.75 * framing.span * max(1.0, self.size[0] / self.size[1])
        away = _FLOOR_DEPTH + framing.depth / 2
        sideways = abs(self._axes[0][0]) < math.cos(math.pi / 4)
        half = np.array((away, across) if sideways else (across, away))
        if self.view.turning or abs(self.view.elevation) > 45:
            half[:] = max(away, across if self.view.elevation > 45 else 0.5 * framing.span)
        middle = np.round(self._centre(framing)[:2] / _GRID_METRES) * _GRID_METRES
        low = middle - _GRID_METRES * np.ceil(half / _GRID_METRES)
        high = middle + _GRID_METRES * np.ceil(half / _GRID_METRES)
        corners = np.array(
            ((low[0], low[1], 0), (high[0], low[1], 0), (high[0], high[1], 0), (low[0], high[1], 0))
        )
        xs = np.arange(low[0], high[0] + 0.01, _GRID_METRES)
        ys = np.arange(low[1], high[1] + 0.01, _GRID_METRES)
        lines = [((x, low[1], 0.0), (x, high[1], 0.0)) for x in xs]
        lines += [((low[0], y, 0.0), (high[0], y, 0.0)) for y in ys]
        return corners, np.array(lines)

    def _legend(self, image: ImageArray) -> None:
        colours, scale = self._theme.family(1), self._text
        x, y = round(14 * scale), self.size[1] - round(16 * scale)
        for text, colour in (("left", colours.left), ("right", colours.right)):
            middle = y - round(5 * scale)
            line = round(22 * scale)
            cv2.line(image, (x, middle), (x + line, middle), colour, round(4 * scale), cv2.LINE_AA)
            place = (x + round(30 * scale), y)
            font, thickness = cv2.FONT_HERSHEY_DUPLEX, max(1, round(scale))
            cv2.putText(
                image, text, place, font, 0.5 * scale, self._theme.text, thickness, cv2.LINE_AA
            )
            x += round(92 * scale)

    @staticmethod
    def _fixed(points: DoubleArray) -> AnyArray:
        return np.asarray(np.round(points * (1 << _SHIFT)), np.int32)

    def _shadow(self, image: ImageArray, world: DoubleArray, framing: Framing) -> None:
        """The skeleton's shadow straight below: shows where the feet are, and any height."""
        pixels, scale = self._project(world * (1.0, 1.0, 0.0), framing)
        width = max(1, round(1.4 * _BONE_METRES * float(scale[0])))
        fixed = self._fixed(pixels)
        segments = [fixed[[parent, child]] for parent, child in LINES]
        cv2.polylines(image, segments, False, self._theme.shadow, width, cv2.LINE_AA, _SHIFT)

    def _draw_trails(
        self,
        image: ImageArray,
        people: Sequence[Person],
        placed: Sequence[DoubleArray],
        framing: Framing,
    ) -> None:
        present = {person.track_id for person in people}
        self._trails = {t: trail for t, trail in self._trails.items() if t in present}
        for person, world in zip(people, placed, strict=True):
            trail = self._trails.setdefault(person.track_id, deque())
            trail.append((self._time, world[list(_TRAIL_JOINTS)]))
            while trail[0][0] < self._time - _TRAIL_SECONDS:
                trail.popleft()
            if len(trail) < 2:
                continue
            colours = self._theme.family(person.track_id)
            pixels, scale = self._project(np.stack([points for _, points in trail]), framing)
            fixed = self._fixed(pixels)
            width = max(1, round(0.4 * _BONE_METRES * float(scale.mean())))
            for column, joint in enumerate(_TRAIL_JOINTS):
                colour = line_colour(joint, colours)
                for row in range(1, len(trail)):
                    age = (self._time - trail[row][0]) / _TRAIL_SECONDS
                    faded = blend(colour, self._theme.background, 0.6 * (1 - age))
                    start, end = fixed[row - 1, column].tolist(), fixed[row, column].tolist()
                    cv2.line(image, start, end, faded, width, cv2.LINE_AA, _SHIFT)

    def _person(
        self, image: ImageArray, person: Person, world: DoubleArray, framing: Framing
    ) -> None:
        colours = self._theme.family(person.track_id)
        pixels, scale = self._project(world, framing)
        fixed = self._fixed(pixels)
        depth = self._depth(world)
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
            (float(pixels[10, 0]), float(top[1]) - 14 * self._text),
            colours.trunk,
            0.6 * self._text,
            self._theme.rim,
        )

    def _faded(self, colour: Colour, visible: float) -> Colour:
        return blend(colour, self._theme.background, visible)
