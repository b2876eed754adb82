"""Pictures of the result: the source with its 2D keypoints beside the 3D skeletons."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from gridpose.core import ImageArray, Person
from gridpose.visualize.overlay import draw_people, label
from gridpose.visualize.palette import TEXT
from gridpose.visualize.scene import SceneRenderer

HEIGHT = 720
_MAX_PANEL_WIDTH = 1280


class SideBySide:
    """Composes the source, with keypoints, and the 3D scene into one picture 720 px high.

    Args:
        source_size: width, height of the source frames in pixels.
    """

    def __init__(self, source_size: tuple[int, int]) -> None:
        width, height = source_size
        self._scale = min(HEIGHT / height, _MAX_PANEL_WIDTH / width)
        self._panel_size = (max(2, round(width * self._scale)), max(2, round(height * self._scale)))
        # H.264 with 4:2:0 colour needs even sizes.
        self._panel_width = self._panel_size[0] + self._panel_size[0] % 2
        self._scene = SceneRenderer((HEIGHT, HEIGHT))
        self._last_time: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width, height of the composed pictures; both even."""
        return self._panel_width + HEIGHT, HEIGHT

    def panel(self, frame: ImageArray) -> ImageArray:
        """The source frame at the size in which it is shown: all that needs to be kept of it."""
        shrinks_much = self._scale < 0.5
        resized = cv2.resize(
            frame,
            self._panel_size,
            interpolation=cv2.INTER_AREA if shrinks_much else cv2.INTER_LINEAR,
        )
        return np.asarray(resized, np.uint8)

    def compose(self, panel: ImageArray, people: Sequence[Person], time: float) -> ImageArray:
        """The picture of one moment, (height, width, 3) RGB.

        Args:
            panel: what :meth:`panel` gave for this frame.
            people: who is in it.
            time: presentation time in seconds.
        """
        elapsed = 0.0 if self._last_time is None else max(0.0, time - self._last_time)
        self._last_time = time
        width, height = self.size
        canvas: ImageArray = np.zeros((height, width, 3), np.uint8)
        top = (HEIGHT - panel.shape[0]) // 2
        shown = canvas[top : top + panel.shape[0], : panel.shape[1]]
        shown[:] = panel
        draw_people(shown, people, self._scale)
        canvas[:, self._panel_width :] = self._scene.draw(people, elapsed)
        label(canvas, f"{time:.2f} s", (width - 52.0, height - 16.0), TEXT, 0.5)
        return canvas
