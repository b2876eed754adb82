"""What can be chosen about motion; light, because the command line offers it."""

from __future__ import annotations

from typing import Literal

Smoothing = Literal["none", "one-euro", "savgol", "butterworth"]
GravityMode = Literal["auto", "level", "estimate"]
"""Weigh how people stand against that most cameras are level, take the camera to be level, or go by
how people stand."""
Persons = Literal["all", "everyone", "largest"] | int
"""Who is kept: everybody but phantoms, whatever is detected, the largest person, or the N largest
at every moment."""
