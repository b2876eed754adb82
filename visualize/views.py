"""Where a scene is seen from."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from gridpose.core import DoubleArray, UsageError

_ORBIT_DEGREES_PER_SECOND = 24.0


@dataclass(frozen=True)
class View:
    """Where the scene is seen from, in degrees: around the vertical, and above the horizon.

    Azimuth 0 looks as the filming camera did; positive goes round to the scene's right side.
    ``turning`` is in degrees per second.
    """

    azimuth: float = 20.0
    elevation: float = 14.0
    turning: float = 0.0

    def at(self, seconds: float) -> View:
        """The view after some time of turning."""
        return View((self.azimuth + self.turning * seconds) % 360, self.elevation, self.turning)

    @property
    def axes(self) -> DoubleArray:
        """(3, 3) unit rows: right, up and away of the viewer, in world axes."""
        azimuth, elevation = math.radians(self.azimuth), math.radians(self.elevation)
        cos_a, sin_a = math.cos(azimuth), math.sin(azimuth)
        cos_e, sin_e = math.cos(elevation), math.sin(elevation)
        return np.array(
            (
                (cos_a, sin_a, 0.0),
                (-sin_a * sin_e, cos_a * sin_e, cos_e),
                (-sin_a * cos_e, cos_a * cos_e, -sin_e),
            )
        )

    @property
    def away(self) -> DoubleArray:
        """(3,) unit vector along the floor, away from the viewer."""
        azimuth = math.radians(self.azimuth)
        return np.array((-math.sin(azimuth), math.cos(azimuth), 0.0))


VIEWS: Final = {
    "default": View(),
    "front": View(0.0, 6.0),
    "side": View(90.0, 6.0),
    "top": View(0.0, 89.0),
    "orbit": View(20.0, 14.0, _ORBIT_DEGREES_PER_SECOND),
}


def parse_view(text: str) -> View:
    """The view that a text names: one of :data:`VIEWS`, or ``AZIMUTH,ELEVATION`` in degrees.

    Raises:
        UsageError: it is neither.
    """
    if text in VIEWS:
        return VIEWS[text]
    number = r"[-+]?\d+(?:\.\d+)?"
    found = re.fullmatch(rf"({number}),({number})", text.replace(" ", ""))
    if not found or not -90 <= float(found[2]) <= 90:
        raise UsageError(
            f"`view={text}`: must be {', '.join(VIEWS)} or AZIMUTH,ELEVATION in degrees, "
            "the elevation between -90 and 90"
        )
    return View(float(found[1]), float(found[2]))
