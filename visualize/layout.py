"""Pictures of the result: the source with its 2D keypoints, and 3D scenes, in several layouts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from gridpose.core import ImageArray, Person
from gridpose.visualize.inset import CORNERS, EmptiestCorner
from gridpose.visualize.look import Arrangement, Look
from gridpose.visualize.overlay import draw_people, label, text_scale
from gridpose.visualize.palette import THEMES, Theme
from gridpose.visualize.scene import SceneRenderer
from gridpose.visualize.stage import LOOK_AHEAD_SECONDS, Moment
from gridpose.visualize.views import VIEWS, View

DEFAULT_BOX: Final = (1280, 720)
_KEPT_RAW_PIXELS = 1_000_000
_SHOT_SECONDS = 0.5
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class _Box:
    """A part of the picture, px."""

    left: int
    top: int
    width: int
    height: int

    def of(self, canvas: ImageArray) -> ImageArray:
        return canvas[self.top : self.top + self.height, self.left : self.left + self.width]


class Layout:
    """Composes the source, with keypoints, and 3D scenes into one picture.

    Args:
        source_size: width, height of the source frames in pixels.
        look: what to draw.
    """

    def __init__(self, source_size: tuple[int, int], look: Look | None = None) -> None:
        self.look = look or Look()
        self._theme: Theme = THEMES[self.look.theme]
        self._source_size = source_size
        self._source: _Box | None = None
        self._scenes: list[tuple[_Box, SceneRenderer, str]] = []
        self._corners: list[_Box] = []
        """Where the inset may be, if there is one."""
        self._corner: EmptiestCorner | None = None
        self.size = (2, 2)
        {
            "side-by-side": self._side_by_side,
            "overlay": self._overlay,
            "skeleton": self._skeleton,
            "inset": self._inset,
            "views": self._views,
        }[self.look.layout]()
        self._last_time: float | None = None
        self._shot, self._shot_until = "", 0.0

    def _side_by_side(self) -> None:
        if self.look.resolution is None:
            source = _fitted(self._source_size, DEFAULT_BOX)
            self.size = (_even(source[0]) + DEFAULT_BOX[1], DEFAULT_BOX[1])
        elif self.look.resolution[0] < self.look.resolution[1]:
            self._one_above_the_other(_both_even(self.look.resolution))
            return
        else:
            self.size = _both_even(self.look.resolution)
            # The source takes what its shape needs, but leaves the scene a square or one half.
            room = self.size[0] - min(self.size[1], self.size[0] // 2)
            source = _fitted(self._source_size, (room, self.size[1]))
        column = _even(source[0])
        self._source = _Box(0, (self.size[1] - source[1]) // 2, *source)
        self._add_scene(_Box(column, 0, self.size[0] - column, self.size[1]))

    def _one_above_the_other(self, size: tuple[int, int]) -> None:
        """Side by side for upright pictures."""
        self.size = size
        source = _fitted(self._source_size, (size[0], size[1] - min(size[0], size[1] // 2)))
        row = _even(source[1])
        self._source = _Box((size[0] - source[0]) // 2, 0, *source)
        self._add_scene(_Box(0, row, size[0], size[1] - row))

    def _overlay(self) -> None:
        source = _fitted(self._source_size, self.look.resolution or DEFAULT_BOX)
        self.size = _both_even(source)
        self._source = _Box(0, 0, *source)

    def _skeleton(self) -> None:
        self.size = _both_even(self.look.resolution or DEFAULT_BOX)
        self._add_scene(_Box(0, 0, *self.size))

    def _inset(self) -> None:
        self._overlay()
        width, height = self.size
        margin = round(0.02 * min(width, height))
        side = round(self.look.inset.size * max(width, height))
        side = _even(max(2, min(side, min(width, height) - 2 * margin - 1)))
        across = {"left": margin, "right": width - side - margin}
        down = {"top": margin, "bottom": height - side - margin}
        chosen = self.look.inset.corner
        for corner in CORNERS if chosen is None else (chosen,):
            vertical, horizontal = corner.split("-")
            self._corners.append(_Box(across[horizontal], down[vertical], side, side))
        scale = self._source_size[0] / width
        areas = [(b.left, b.top, b.left + side, b.top + side) for b in self._corners]
        self._corner = EmptiestCorner(scale * np.array(areas, np.float64))
        self._add_scene(self._corners[0], legend=False)

    def _views(self) -> None:
        self.size = _both_even(self.look.resolution or DEFAULT_BOX)
        width, height = self.size[0] // 2, self.size[1] // 2
        chosen = self.look.view
        views = [("front", VIEWS["front"]), ("side", VIEWS["side"]), ("top", VIEWS["top"])]
        for index, (name, view) in enumerate([*views, ("", chosen)]):
            box = _Box(width * (index % 2), height * (index // 2), width, height)
            self._add_scene(box, view, name, legend=index == 2)

    def _add_scene(
        self, box: _Box, view: View | None = None, name: str = "", legend: bool = True
    ) -> None:
        look = self.look
        renderer = SceneRenderer(
            (box.width, box.height),
            view or look.view,
            self._theme,
            look.arrangement,
            look.trails,
            legend,
            look.hide_unseen,
        )
        self._scenes.append((box, renderer, name))

    def arrange(self, arrangement: Arrangement) -> None:
        """Say who stands where from the next picture on, which is framed anew."""
        for _, renderer, _ in self._scenes:
            renderer.arrange(arrangement)

    @property
    def shows_source(self) -> bool:
        """Whether the source's pictures are part of it."""
        return self._source is not None

    def panel(self, frame: ImageArray) -> ImageArray:
        """All that needs to be kept of a source frame: at the size in which it is shown.

        Large ones as JPEG (a 1-D array), since some seconds of them wait to be drawn.
        """
        if self._source is None:
            return np.zeros((0, 0, 3), np.uint8)
        box = self._source
        shrinks_much = box.width < 0.5 * frame.shape[1]
        resized = np.asarray(
            cv2.resize(
                frame,
                (box.width, box.height),
                interpolation=cv2.INTER_AREA if shrinks_much else cv2.INTER_LINEAR,
            ),
            np.uint8,
        )
        if box.width * box.height <= _KEPT_RAW_PIXELS:
            return resized
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        return np.asarray(cv2.imencode(".jpg", resized, quality)[1], np.uint8)

    @property
    def look_ahead_seconds(self) -> float:
        """For how long it is good to know who will be there before a picture is composed."""
        return LOOK_AHEAD_SECONDS if self._scenes else 0.0

    def cut(self, shot: int, time: float) -> None:
        """A shot begins that has nothing to do with what was before; its number is shown."""
        self._last_time = None
        self._shot, self._shot_until = f"shot {shot}", time + _SHOT_SECONDS
        for _, renderer, _ in self._scenes:
            renderer.cut()
        if self._corner is not None:
            self._corner.cut()

    def frame_all(self, moments: Iterable[Moment]) -> None:
        """Show everybody of all moments (times in seconds), without moving the camera.

        They are gone through more than once.
        """
        for _, renderer, _ in self._scenes:
            renderer.frame_all(moments)
        if self._corner is not None:
            self._corner.fix(people for _, people in moments)

    def compose(
        self,
        panel: ImageArray,
        people: Sequence[Person],
        time: float,
        upcoming: Sequence[Moment] = (),
    ) -> ImageArray:
        """The picture of one moment, (height, width, 3) RGB.

        Args:
            panel: what :meth:`panel` gave for this frame.
            people: who is in it.
            time: presentation time in seconds.
            upcoming: the frames after it as far as they are known, times in seconds; with those of
                :attr:`look_ahead_seconds` the camera makes room before somebody needs it.
        """
        ahead = [(later - time, those) for later, those in upcoming]
        elapsed = 0.0 if self._last_time is None else max(0.0, time - self._last_time)
        self._last_time = time
        width, height = self.size
        canvas: ImageArray = np.empty((height, width, 3), np.uint8)
        if self._source is not None:
            surround = self._theme.background if self.look.theme == "light" else (0, 0, 0)
            cv2.rectangle(canvas, (0, 0), self.size, surround, cv2.FILLED)
            if panel.ndim == 1:
                panel = np.asarray(cv2.imdecode(panel, cv2.IMREAD_COLOR), np.uint8)
            shown = self._source.of(canvas)
            shown[:] = panel
            scale = self._source.width / self._source_size[0]
            draw_people(shown, people, scale, hide_unseen=self.look.hide_unseen)
        larger = text_scale(height)
        for box, renderer, name in self._scenes:
            if self._corner is not None:
                self._draw_inset(canvas, renderer, self._corner, people, elapsed, ahead)
                continue
            renderer.draw(people, elapsed, box.of(canvas), ahead)
            if name:
                place = (box.left + 36 * larger, box.top + 26 * larger)
                label(canvas, name, place, self._theme.text, 0.5 * larger, self._theme.rim)
        if self.look.layout == "views":
            cv2.line(canvas, (width // 2, 0), (width // 2, height), self._theme.grid, 1)
            cv2.line(canvas, (0, height // 2), (width, height // 2), self._theme.grid, 1)
        place = (width - 52.0 * larger, height - 16.0 * larger)
        if self._corner is not None and self._corners[self._corner.corner].left > width / 3:
            place = (52.0 * larger, height - 16.0 * larger)
        label(canvas, f"{time:.2f} s", place, self._theme.text, 0.5 * larger, self._theme.rim)
        if time < self._shot_until:
            beside = (place[0] + math.copysign(92.0 * larger, width / 2 - place[0]), place[1])
            label(canvas, self._shot, beside, self._theme.text, 0.5 * larger, self._theme.rim)
        return canvas

    def _draw_inset(
        self,
        canvas: ImageArray,
        renderer: SceneRenderer,
        corner: EmptiestCorner,
        people: Sequence[Person],
        elapsed: float,
        ahead: Sequence[Moment],
    ) -> None:
        """The scene in its corner; while that changes, fading in there and out elsewhere."""
        arrived = corner.follow(people, elapsed, [those for _, those in ahead])
        scene = renderer.draw(people, elapsed, None, ahead)
        line = max(1, round(text_scale(self.size[1])))
        cv2.rectangle(
            scene, (0, 0), (scene.shape[1] - 1, scene.shape[0] - 1), self._theme.grid, line
        )
        for index, visible in {corner.before: 1 - arrived, corner.corner: arrived}.items():
            under = self._corners[index].of(canvas)
            if visible > 0:
                cv2.addWeighted(scene, visible, under, 1 - visible, 0, dst=under)


def _fitted(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same shape that fits into a box."""
    scale = min(box[0] / size[0], box[1] / size[1])
    return max(2, round(size[0] * scale)), max(2, round(size[1] * scale))


def _even(value: int) -> int:
    """H.264 with 4:2:0 colour needs even sizes."""
    return value + value % 2


def _both_even(size: tuple[int, int]) -> tuple[int, int]:
    return _even(size[0]), _even(size[1])
