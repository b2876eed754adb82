"""2D keypoint detectors and their keypoint conventions."""

from __future__ import annotations

from gridpose.core import UsageError
from gridpose.detectors.base import Detection, Detector
from gridpose.detectors.conventions import (
    BLAZEPOSE_33,
    COCO_17,
    CONVENTIONS,
    HUMAN36M_17,
    Convention,
)

__all__ = [
    "BLAZEPOSE_33",
    "COCO_17",
    "CONVENTIONS",
    "HUMAN36M_17",
    "Convention",
    "Detection",
    "Detector",
    "load_detector",
]


def load_detector(name: str = "auto", *, max_persons: int = 6) -> Detector:
    """Load a detector by name: ``auto`` or ``blazepose``.

    Raises:
        UsageError: unknown name.
        MissingError: something it needs is not installed.
    """
    if name not in ("auto", "blazepose"):
        raise UsageError(f"unknown detector {name!r}; known are auto, blazepose")
    from gridpose.detectors.blazepose import BlazePose

    return BlazePose(max_persons=max_persons)
