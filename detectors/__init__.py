"""2D keypoint detectors and their keypoint conventions."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from gridpose.core import InputError, MissingError, UsageError
from gridpose.detectors.base import Detection, Detector
from gridpose.detectors.conventions import (
    BLAZEPOSE_33,
    COCO_17,
    CONVENTIONS,
    HUMAN36M_17,
    Convention,
)

if TYPE_CHECKING:
    from gridpose.detectors.blazepose.weights import Size
    from gridpose.detectors.options import HRNetOptions
    from gridpose.devices import PrecisionChoice

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


def load_detector(
    name: str = "auto",
    *,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    max_persons: int = 6,
    hrnet: HRNetOptions | None = None,
) -> Detector:
    """Load a detector by name.

    Args:
        name: ``hrnet``; ``blazepose`` with the most accurate of its networks, ``blazepose-full`` or
            ``blazepose-lite``; or ``auto``: HRNet where mmpose and weights for it are there
            already, or ``hrnet`` names some, else BlazePose. Nothing is downloaded.
        device: of HRNet: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. BlazePose runs on the CPU.
        precision: of the networks. ``auto`` is fp32, for HRNet on a CPU bf16 if its keypoints are
            the same then. BlazePose takes bf16 only if asked for.
        max_persons: at most this many people are found in a frame.
        hrnet: further options of HRNet.

    Raises:
        UsageError: unknown name, or options that do not go together.
        MissingError: something it needs is not installed.
        InputError: weights or config of HRNet cannot be used.
    """
    from gridpose.detectors.options import DetectorName, why_unusable

    known = get_args(DetectorName)
    if name not in known:
        raise UsageError(f"unknown detector {name!r}; known are {', '.join(known)}")
    given = hrnet is not None and (hrnet.weights is not None or hrnet.config is not None)
    if name.startswith("blazepose") and given:
        raise UsageError(f"weights and configs are for the detector hrnet, not for {name}")
    reason = "asked for"
    lack = ""
    if name == "auto":
        lack = "" if given else why_unusable()
        reason = "weights are given" if given else "mmpose and its weights are there"
    if name == "hrnet" or (name == "auto" and not lack):
        from gridpose.detectors.hrnet.detector import load_hrnet

        try:
            return load_hrnet(
                hrnet, device=device, precision=precision, max_persons=max_persons, reason=reason
            )
        except (InputError, MissingError) as error:
            if name == "hrnet" or given:
                raise
            lack = f"HRNet cannot be used: {error}"
    from gridpose.detectors.blazepose.detector import load_blazepose

    sizes: dict[str, Size] = {"blazepose-full": "full", "blazepose-lite": "lite"}
    return load_blazepose(
        sizes.get(name),
        max_persons,
        precision="bf16" if precision == "bf16" else "fp32",
        reason=lack or reason,
    )
