"""What can be chosen about drawings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from gridpose.core import UsageError
from gridpose.visualize.palette import ThemeName
from gridpose.visualize.views import VIEWS, View

Arrangement = Literal["row", "places"]
"""Everybody side by side, or each at the place that their world pose says."""
LayoutName = Literal["side-by-side", "overlay", "skeleton", "inset", "views"]
LAYOUTS: Final[tuple[LayoutName, ...]] = ("side-by-side", "overlay", "skeleton", "inset", "views")
_SMALLEST, _LARGEST = 64, 7680
_NAMED: Final = {
    "480p": (854, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "2160p": (3840, 2160),
    "4k": (3840, 2160),
}


@dataclass(frozen=True)
class Look:
    """How results are drawn.

    ``resolution`` is the width and height of the picture; None goes by the source. ``view`` is
    where the 3D scene is seen from. ``arrangement`` "places" puts people where their world poses
    say, "row" side by side.
    """

    layout: LayoutName = "side-by-side"
    resolution: tuple[int, int] | None = None
    view: View = VIEWS["default"]
    theme: ThemeName = "dark"
    trails: bool = False
    arrangement: Arrangement = "row"


def parse_resolution(text: str) -> tuple[int, int]:
    """Width and height that a text names: ``1920x1080``, or ``720p``, ``4k`` and the like.

    Raises:
        UsageError: it is neither, or too small or large.
    """
    if text.lower() in _NAMED:
        return _NAMED[text.lower()]
    found = re.fullmatch(r"(\d+)[xX](\d+)", text)
    sides = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(_SMALLEST <= side <= _LARGEST for side in sides):
        raise UsageError(
            f"`resolution={text}`: must be WIDTHxHEIGHT between {_SMALLEST} and {_LARGEST}, "
            f"or one of {', '.join(_NAMED)}"
        )
    return sides
