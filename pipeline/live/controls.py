"""Keys that steer a session, from the window or the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gridpose.visualize.look import LAYOUTS, LayoutName

KEYS: Final = {"pause": (" ",), "layout": ("l", "L"), "quit": ("q", "Q", "\x1b")}
"""What keys do."""


@dataclass
class Controls:
    """What was asked for so far."""

    layout: LayoutName = "side-by-side"
    paused: bool = False
    quit: bool = False

    def press(self, key: str) -> None:
        """Do what a key does; nothing for others."""
        if key in KEYS["pause"]:
            self.paused = not self.paused
        elif key in KEYS["layout"]:
            self.layout = LAYOUTS[(LAYOUTS.index(self.layout) + 1) % len(LAYOUTS)]
        elif key in KEYS["quit"]:
            self.quit = True


@dataclass(frozen=True)
class State:
    """How the session goes, for the user.

    ``latency`` is the median of the last seconds, from a picture's coming to its being shown, ms.
    """

    fps: float = 0.0
    latency: float = 0.0
    dropped: int = 0
    paused: bool = False
    recording: bool = False
    trouble: str = ""
    """What is wrong with the source, a sentence; "" while pictures come."""

    def text(self) -> str:
        """One line."""
        parts = [f"{self.fps:.0f} fps", f"{self.latency:.0f} ms", f"{self.dropped} dropped"]
        if self.recording:
            parts.append("recording")
        if self.paused:
            parts.append("paused")
        return "  ".join(parts)
