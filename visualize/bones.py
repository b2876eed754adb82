"""Colour and opacity of the bones of a skeleton."""

from __future__ import annotations

from typing import Final

import numpy as np

from gridpose.core import JOINT_NAMES, BoolArray, FloatArray
from gridpose.visualize.palette import Colour, Family

FAINTEST: Final = 0.15


def line_colour(child: int, colours: Family) -> Colour:
    """Colour of the bone that ends in joint ``child``."""
    name = JOINT_NAMES[child]
    if name.startswith("left_"):
        return colours.left
    return colours.right if name.startswith("right_") else colours.trunk


def unseen(confidence: FloatArray) -> BoolArray:
    """Which joints nobody saw: outside the picture, or hidden."""
    return np.asarray(~(confidence > 0))


def opacity(confidence: FloatArray, *joints: int) -> float:
    """Opacity of what connects ``joints``: as sure as the least certain one, never invisible."""
    surest = min(float(confidence[joint]) for joint in joints)
    return FAINTEST + (1 - FAINTEST) * min(max(surest, 0.0), 1.0)
