"""What can be chosen about motion; light, because the command line offers it."""

from __future__ import annotations

from typing import Literal

Smoothing = Literal["none", "one-euro", "savgol", "butterworth"]
GravityMode = Literal["level", "estimate"]
"""Take the camera to be level, or set people upright by how they stand."""
Persons = Literal["all", "everyone", "largest"] | int
"""Who is kept: everybody but phantoms, whatever is detected, the largest person, or the N largest
at every moment."""
