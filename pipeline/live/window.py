"""The window of a live session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2

from gridpose.core import ImageArray, MissingError, Person
from gridpose.pipeline.live.controls import Controls, State
from gridpose.visualize.overlay import label, text_scale
from gridpose.visualize.palette import THEMES, Theme

_TITLE: Final = "gridpose live"
_WIDEST: Final = 1280
"""Of the window before the user changes it, px."""


class Window:
    """Shows pictures and takes keys; of the thread that made it.

    Args:
        controls: are told of keys.
        theme: of the line about the session.

    Raises:
        MissingError: this OpenCV has no windows, or there is no display.
    """

    layout = None
    """Whatever the controls say."""
    is_watched = True

    def __init__(self, controls: Controls, theme: Theme = THEMES["dark"]) -> None:
        self._controls, self._theme = controls, theme
        self._is_sized = False
        self._image: ImageArray | None = None
        self._state = State()
        try:
            # Without Qt's tool bar.
            kind = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
            cv2.namedWindow(_TITLE, kind)
        except cv2.error as error:
            raise MissingError(
                "this OpenCV cannot open windows (opencv-python can, opencv-python-headless "
                "cannot); `serve=True` shows a page instead"
            ) from error

    def show(self, image: ImageArray, people: Sequence[Person], time: float, state: State) -> None:
        """A picture (H, W, 3) RGB, with a line about the session."""
        self._image, self._state = image, state
        shown = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        scale = text_scale(image.shape[0])
        place = (image.shape[1] / 2, image.shape[0] - 16 * scale)
        text = state.trouble or state.text()
        label(shown, text, place, self._theme.text, 0.5 * scale, self._theme.rim)
        cv2.imshow(_TITLE, shown)
        if not self._is_sized:
            scale = min(1.0, _WIDEST / image.shape[1])
            cv2.resizeWindow(_TITLE, round(image.shape[1] * scale), round(image.shape[0] * scale))
            self._is_sized = True

    def attend(self, state: State) -> None:
        """Let the window live, and take keys; closing it ends the session."""
        is_news = (state.paused, state.trouble) != (self._state.paused, self._state.trouble)
        if is_news and self._image is not None:
            self.show(self._image, (), 0.0, state)
        key = cv2.waitKey(1)
        if key >= 0:
            self._controls.press(chr(key & 0xFF))
        if cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
            self._controls.quit = True

    def close(self) -> None:
        """Close it."""
        cv2.destroyAllWindows()
