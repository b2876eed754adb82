"""What can be chosen about drawings."""

# Annotations are objects here, not strings: the command line reads them.

import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from gridpose.core import UsageError
from gridpose.option import PICTURE, Option
from gridpose.visualize.inset import AUTO_INSET, Inset, parse_inset
from gridpose.visualize.palette import ThemeName
from gridpose.visualize.views import VIEWS, View, parse_view

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


@dataclass(frozen=True)
class Look:
    """How results are drawn.

    ``resolution`` is the width and height of the picture; None goes by the source. ``view`` is
    where the 3D scene is seen from. Joints with confidence 0 are unseen. ``arrangement`` "places"
    puts people where their world poses say, "row" side by side.
    """

    layout: Annotated[
        LayoutName,
        Option(
            "What is shown: the video beside the skeletons; joints drawn over the video (overlay); "
            "skeletons alone; an overlay with skeletons in its corner (inset); skeletons from the "
            "front, the side and above (views).",
            PICTURE,
        ),
    ] = "side-by-side"
    resolution: Annotated[
        tuple[int, int] | None,
        Option(
            "Size of the picture: WIDTHxHEIGHT, 720p, 1080p, 4k, …; by default it goes by the "
            "video's.",
            PICTURE,
            type=str | None,
            parse=parse_resolution,
        ),
    ] = None
    view: Annotated[
        View,
        Option(
            "Where skeletons are seen from: default, front, side, top, orbit, or "
            "AZIMUTH,ELEVATION in degrees.",
            PICTURE,
            type=str,
            default="default",
            parse=parse_view,
        ),
    ] = VIEWS["default"]
    theme: Annotated[ThemeName, Option("Dark or light ground.", PICTURE)] = "dark"
    trails: Annotated[bool, Option("Draw where hands and feet were a moment ago.", PICTURE)] = False
    hide_unseen: Annotated[
        bool,
        Option("Leave out joints that are outside the picture or hidden, else faint.", PICTURE),
    ] = False
    inset: Annotated[
        Inset,
        Option(
            "Where the inset of that layout is, and its side as part of the picture's longer one: "
            "top-left, top-right, bottom-left, bottom-right or auto (the emptiest corner), and "
            "0.1 to 0.5.",
            PICTURE,
            type=str,
            default="auto,0.3",
            metavar="CORNER,SIZE",
            parse=parse_inset,
        ),
    ] = AUTO_INSET
    arrangement: Arrangement = "row"
