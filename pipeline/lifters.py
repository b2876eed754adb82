"""Which lifter videos are lifted with: torch's, or on a CPU one that needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gridpose.core import SHIPPED_LIFTERS, may_have_gpu

if TYPE_CHECKING:
    from gridpose.devices import Precision, PrecisionChoice
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter


def load_video_lifter(
    name: str | Path, device: str, precision: PrecisionChoice
) -> Lifter | ConvertedLifter:
    """The lifter for videos: on a CPU the default one needs no torch if it was converted.

    Raises:
        MissingError: no such file or device.
        InputError: not a lifter.
        UsageError: a precision that the device has not.
    """
    if _convertible(name, device, precision):
        from gridpose.lifting.converted import load_converted

        if (converted := load_converted()) is not None:
            return converted
    from gridpose.lifting import load_lifter

    return load_lifter(name, device=device, precision=_precision(device, precision))


def needs_torch(name: str | Path, device: str, precision: PrecisionChoice) -> bool:
    """Whether :func:`load_video_lifter` will import torch."""
    if not _convertible(name, device, precision):
        return True
    from gridpose.lifting.converted import is_converted

    return not is_converted()


def is_to_convert(name: str | Path, device: str, precision: PrecisionChoice) -> bool:
    """Whether this lifter can be converted, and was not."""
    if not _convertible(name, device, precision):
        return False
    from gridpose.lifting.converted import is_converted
    from gridpose.openvino_engine import is_installed

    return is_installed() and not is_converted()


def convert_lifter() -> None:
    """Convert the default lifter, for the runs after this one; takes some seconds.

    Nothing happens where it cannot be converted or kept.
    """
    from gridpose.lifting import load_lifter
    from gridpose.lifting.conversion import keep_converted

    keep_converted(load_lifter())


def _convertible(name: str | Path, device: str, precision: PrecisionChoice) -> bool:
    if str(name) != SHIPPED_LIFTERS[0] or not _is_cpu(device):
        return False
    return _precision(device, precision) == "fp32"


def _precision(device: str, precision: PrecisionChoice) -> Precision:
    # bf16 on a CPU speeds up the detector; the lifter would lose by it.
    if precision == "auto" or (precision == "bf16" and _is_cpu(device)):
        return "fp32"
    return precision


def _is_cpu(device: str) -> bool:
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return True
    from gridpose.devices import resolve_device

    return resolve_device(device).type == "cpu"
