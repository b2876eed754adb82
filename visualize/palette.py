"""Colours, RGB. Left limbs are warm and right limbs cool for everybody, so sides are told apart by
hue that colour-blind viewers keep too (after Okabe & Ito 2008 and IBM's palette); the family tells
people apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Colour = tuple[int, int, int]
ThemeName = Literal["dark", "light"]


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

_ON_LIGHT: Final = (
    Family(left=(226, 138, 0), right=(52, 98, 226), trunk=(70, 76, 86)),
    Family(left=(216, 74, 0), right=(0, 138, 122), trunk=(104, 116, 40)),
    Family(left=(206, 44, 116), right=(20, 140, 190), trunk=(120, 70, 160)),
    Family(left=(176, 146, 0), right=(104, 72, 220), trunk=(166, 92, 56)),
    Family(left=(222, 92, 64), right=(26, 112, 200), trunk=(44, 124, 116)),
    Family(left=(160, 124, 20), right=(32, 148, 76), trunk=(136, 84, 150)),
)


@dataclass(frozen=True)
class Theme:
    """Colours of everything but the source."""

    background: Colour
    floor: Colour
    grid: Colour
    shadow: Colour
    text: Colour
    rim: Colour
    """Around text, so that it can be read on anything."""
    families: tuple[Family, ...]

    def family(self, track_id: int) -> Family:
        """The colours of a track; they repeat."""
        return self.families[(track_id - 1) % len(self.families)]


DARK: Final = Theme(
    background=(22, 26, 33),
    floor=(38, 44, 54),
    grid=(78, 88, 104),
    shadow=(14, 17, 22),
    text=(214, 219, 227),
    rim=(12, 14, 18),
    families=FAMILIES,
)
LIGHT: Final = Theme(
    background=(246, 247, 249),
    floor=(229, 232, 237),
    grid=(190, 196, 205),
    shadow=(203, 208, 216),
    text=(40, 45, 54),
    rim=(250, 251, 252),
    families=_ON_LIGHT,
)
THEMES: Final[dict[ThemeName, Theme]] = {"dark": DARK, "light": LIGHT}


def hex_of(colour: Colour) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def blend(colour: Colour, under: Colour, opacity: float) -> Colour:
    """``colour`` seen at ``opacity`` in [0, 1] over ``under``."""
    red, green, blue = (
        round(opacity * above + (1 - opacity) * below)
        for above, below in zip(colour, under, strict=True)
    )
    return red, green, blue
