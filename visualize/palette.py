"""Colours, RGB. Left limbs are warm and right limbs cool for everybody, so sides are told apart by
hue that colour-blind viewers keep too (after Okabe & Ito 2008 and IBM's palette); the family tells
people apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Colour = tuple[int, int, int]

BACKGROUND: Final[Colour] = (22, 26, 33)
FLOOR: Final[Colour] = (38, 44, 54)
GRID: Final[Colour] = (78, 88, 104)
SHADOW: Final[Colour] = (14, 17, 22)
TEXT: Final[Colour] = (214, 219, 227)


@dataclass(frozen=True)
class Family:
    """Colours of one person: limbs of either side, and trunk, head and label."""

    left: Colour
    right: Colour
    trunk: Colour


FAMILIES: Final = (
    Family(left=(255, 176, 0), right=(100, 143, 255), trunk=(232, 236, 241)),
    Family(left=(254, 97, 0), right=(0, 190, 165), trunk=(190, 205, 120)),
    Family(left=(240, 80, 150), right=(86, 200, 240), trunk=(214, 170, 240)),
    Family(left=(240, 228, 66), right=(140, 110, 250), trunk=(250, 190, 160)),
    Family(left=(255, 140, 110), right=(60, 160, 240), trunk=(200, 240, 235)),
    Family(left=(225, 200, 120), right=(90, 210, 130), trunk=(240, 215, 250)),
)


def family(track_id: int) -> Family:
    """The colours of a track; they repeat after :data:`FAMILIES`."""
    return FAMILIES[(track_id - 1) % len(FAMILIES)]


def blend(colour: Colour, under: Colour, opacity: float) -> Colour:
    """``colour`` seen at ``opacity`` in [0, 1] over ``under``."""
    red, green, blue = (
        round(opacity * above + (1 - opacity) * below)
        for above, below in zip(colour, under, strict=True)
    )
    return red, green, blue
