"""3D skeletons on a floor: a small renderer with its own projection and OpenCV's lines.

World axes as in pose files: metres, z up, floor at z = 0, y away from the camera that filmed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from gridpose.core import BONES, JOINT_NAMES, BoolArray, DoubleArray, ImageArray, Person
from gridpose.visualize.bones import line_colour, opacity, unseen
from gridpose.visualize.camera import Framing
from gridpose.visualize.look import Arrangement
from gridpose.visualize.overlay import SHIFT, fixed_point, label, stroke, text_scale
from gridpose.visualize.palette import DARK, Theme, blend
from gridpose.visualize.stage import Moment, Stage
from gridpose.visualize.views import View

_BONE_METRES = 0.034
_JOINT_METRES = 0.026
_GRID_METRES = 0.5
_FLOOR_DEPTH = 1.5
_DISTANCE = 6.0
_NEAREST = 0.5
_TRAIL_SECONDS = 0.8
_HEAD = JOINT_NAMES.index("head")
_TRAIL_JOINTS = [
    JOINT_NAMES.index(name) for name in ("left_wrist", "left_ankle", "right_wrist", "right_ankle")
]


class SceneRenderer:
    """Draws the people of one moment on a floor.

    Args:
        size: width, height of the pictures in pixels.
        view: where from.
        theme: colours.
        arrangement: people side by side, or where their world poses say.
        trails: draw where hands and feet were in the last 0.8 s.
        legend: explain the colours of the sides.
        hide_unseen: leave out joints of confidence 0, which nobody saw; else they are faint.
    """

    def __init__(
        self,
        size: tuple[int, int],
        view: View | None = None,
        theme: Theme = DARK,
        arrangement: Arrangement = "row",
        trails: bool = False,
        legend: bool = True,
        hide_unseen: bool = False,
    ) -> None:
        self.size, self._hides_unseen = size, hide_unseen
        self.view = view or View()
        self._theme, self._wants_trails, self._wants_legend = theme, trails, legend
        self._stage = Stage(size[0] / size[1], self.view, arrangement)
        self._empty: tuple[Framing, View, ImageArray] | None = None
        self._trails: dict[int, deque[tuple[float, DoubleArray, BoolArray]]] = {}
        self._time = 0.0
        self._text = text_scale(size[1])
        self.framing: Framing
        """What the last picture shows."""
        self.framing, self._seen_from = self._stage.framing(self.view), self.view

    def cut(self) -> None:
        """What comes next has nothing to do with what was: frame it anew, forget everybody."""
        self._stage.cut()
        self._trails.clear()

    def arrange(self, arrangement: Arrangement) -> None:
        """Say who stands where from the next picture on, which is framed anew."""
        self._stage = Stage(self.size[0] / self.size[1], self.view, arrangement)
        self._trails.clear()

    def frame_all(self, moments: Iterable[Moment]) -> None:
        """Show everybody of all moments from now on, without moving the camera."""
        self._stage.frame_all(moments)

    def draw(
        self,
        people: Sequence[Person],
        elapsed: float = 0.0,
        out: ImageArray | None = None,
        upcoming: Sequence[Moment] = (),
    ) -> ImageArray:
        """The picture, (height, width, 3) RGB.

        Args:
            people: who is there.
            elapsed: seconds since the picture before, for the pace of the camera.
            out: to draw into.
            upcoming: who will be there in so many seconds, as far as is known, so that the camera
                makes room in time.
        """
        self._time += elapsed
        self._seen_from = self.view.at(self._time)
        places = self._stage.update(people, elapsed, upcoming)
        self.framing = self._stage.framing(self._seen_from)
        empty = self._background()
        image = np.empty_like(empty) if out is None else out
        np.copyto(image, empty)
        placed = [person.pose_world + places[person.track_id] for person in people]
        for person, world in zip(people, placed, strict=True):
            self._shadow(image, world, ~unseen(person.confidence))
        if self._wants_trails:
            self._draw_trails(image, people, placed)
        for index in np.argsort([-self._depth(world[0]) for world in placed], kind="stable"):
            self._person(image, people[index], placed[index])
        return image

    def _depth(self, points: DoubleArray) -> DoubleArray:
        return np.asarray(points @ self._seen_from.axes[2])

    def _centre(self) -> DoubleArray:
        """The world point in the middle of the picture."""
        framing, view = self.framing, self._seen_from
        return np.asarray(
            framing.across * view.axes[0]
            + framing.away * view.away
            + np.array((0, 0, framing.height))
        )

    def project(self, points: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        """Where world points ``(..., 3)`` are in the last picture: pixels ``(..., 2)``, and pixels
        per metre ``(...)``.
        """
        framing = self.framing
        seen = (points - self._centre()) @ self._seen_from.axes.T
        distance = _DISTANCE * max(1.0, framing.span / 3)
        near = np.maximum(distance + seen[..., 2], _NEAREST)
        scale = self.size[1] / framing.span * distance / near
        pixels = np.stack((seen[..., 0], -seen[..., 1]), -1) * scale[..., None]
        return pixels + np.array(self.size) / 2, scale

    def _background(self) -> ImageArray:
        if self._empty is not None and self._empty[:2] == (self.framing, self._seen_from):
            return self._empty[2]
        theme = self._theme
        image: ImageArray = np.empty((self.size[1], self.size[0], 3), np.uint8)
        cv2.rectangle(image, (0, 0), self.size, theme.background, cv2.FILLED)
        corners, lines = self._floor()
        outline = fixed_point(self.project(corners)[0])
        cv2.fillConvexPoly(image, outline, theme.floor, cv2.LINE_AA, SHIFT)
        width = max(1, round(0.8 * self._text))
        drawn = list(fixed_point(self.project(lines)[0]))
        cv2.polylines(image, drawn, False, theme.grid, width, cv2.LINE_AA, SHIFT)
        if self._wants_legend:
            self._legend(image)
        self._empty = (self.framing, self._seen_from, image)
        return image

    def _floor(self) -> tuple[DoubleArray, DoubleArray]:
        """Corners (4, 3) of the floor, and the lines (N, 2, 3) on it, m."""
        framing = self.framing
        across = 0.75 * framing.span * max(1.0, self.size[0] / self.size[1])
        away = _FLOOR_DEPTH + framing.depth / 2
        sideways = abs(self._seen_from.axes[0][0]) < math.cos(math.pi / 4)
        half = np.array((away, across) if sideways else (across, away))
        if self.view.turning or abs(self.view.elevation) > 45:
            half[:] = max(away, across if self.view.elevation > 45 else 0.5 * framing.span)
        middle = (self._centre() + framing.behind * self._seen_from.away)[:2]
        middle = np.round(middle / _GRID_METRES) * _GRID_METRES
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

    def _shadow(self, image: ImageArray, world: DoubleArray, seen: BoolArray) -> None:
        """The seen bones' shadow straight below: shows where the feet are, and any height."""
        pixels, scale = self.project(world * (1.0, 1.0, 0.0))
        width = max(1, round(1.4 * _BONE_METRES * float(scale[0])))
        bones = np.array(BONES)
        segments = list(fixed_point(pixels)[bones[seen[bones].all(-1)]])
        cv2.polylines(image, segments, False, self._theme.shadow, width, cv2.LINE_AA, SHIFT)

    def _draw_trails(
        self, image: ImageArray, people: Sequence[Person], placed: Sequence[DoubleArray]
    ) -> None:
        self._trails = {
            person.track_id: self._trails.get(person.track_id, deque()) for person in people
        }
        for person, world in zip(people, placed, strict=True):
            trail = self._trails[person.track_id]
            seen = ~unseen(person.confidence)[_TRAIL_JOINTS]
            trail.append((self._time, world[_TRAIL_JOINTS], seen))
            while trail[0][0] < self._time - _TRAIL_SECONDS:
                trail.popleft()
            pixels, scale = self.project(np.stack([points for _, points, _ in trail]))
            fixed = fixed_point(pixels)
            width = max(1, round(0.4 * _BONE_METRES * float(scale.mean())))
            for column, joint in enumerate(_TRAIL_JOINTS):
                colour = line_colour(joint, self._theme.family(person.track_id))
                for row in range(1, len(trail)):
                    if not (trail[row - 1][2][column] and trail[row][2][column]):
                        continue
                    age = (self._time - trail[row][0]) / _TRAIL_SECONDS
                    faded = blend(colour, self._theme.background, 0.6 * (1 - age))
                    stroke(image, fixed[row - 1 : row + 1, column], faded, width)

    def _person(self, image: ImageArray, person: Person, world: DoubleArray) -> None:
        colours = self._theme.family(person.track_id)
        pixels, scale = self.project(world)
        fixed = fixed_point(pixels)
        depth = self._depth(world)
        hidden = unseen(person.confidence)
        # Far bones first, so that near ones cross in front of them.
        for parent, child in sorted(
            BONES, key=lambda bone: -float(depth[bone[0]] + depth[bone[1]])
        ):
            faint = bool(hidden[parent] or hidden[child])
            if faint and self._hides_unseen:
                continue
            visible = opacity(person.confidence, parent, child)
            colour = blend(line_colour(child, colours), self._theme.background, visible)
            width = max(2, round(_BONE_METRES * float(scale[parent] + scale[child]) / 2))
            stroke(image, fixed[[parent, child]], colour, max(1, width // 3) if faint else width)
            if faint:
                continue
            radius = round(_JOINT_METRES * float(scale[child]) * (1 << SHIFT))
            end = fixed[child].tolist()
            cv2.circle(image, end, radius, colour, cv2.FILLED, cv2.LINE_AA, SHIFT)
        shown = pixels[~hidden]
        if not len(shown):
            if self._hides_unseen:
                return
            shown = pixels
        middle = shown[shown[:, 1].argmin(), 0] if hidden[_HEAD] else pixels[_HEAD, 0]
        above = (float(middle), float(shown[:, 1].min()) - 14 * self._text)
        scale_of_text = 0.6 * self._text
        label(image, f"{person.track_id}", above, colours.trunk, scale_of_text, self._theme.rim)
