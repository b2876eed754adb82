"""Which lifter videos are lifted with: torch's, or on a CPU one that needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gridpose.core import SHIPPED_LIFTERS, may_have_gpu

if TYPE_CHECKING:
    from gridpose.devices import PrecisionChoice
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter


def load_video_lifter(
    name: str | Path, device: str, precision: PrecisionChoice
) -> Lifter | ConvertedLifter:
    """The lifter for videos.

    On a CPU with OpenVINO the default lifter is converted the first time, and needs no torch
    after that.

    Raises:
        MissingError: no such file or device.
        InputError: not a lifter.
        UsageError: a precision that the device has not.
    """
    on_cpu = _is_cpu(device)
    # bf16 on a CPU speeds up the detector; the lifter would lose by it.
    if precision == "auto" or (on_cpu and precision == "bf16"):
        precision = "fp32"
    convertible = on_cpu and precision == "fp32" and str(name) == SHIPPED_LIFTERS[0]
    if convertible:
        from gridpose.lifting.converted import load_converted

        if (converted := load_converted()) is not None:
            return converted
    from gridpose.lifting import load_lifter

    lifter = load_lifter(name, device=device, precision=precision)
    if convertible:
        from gridpose.lifting.conversion import keep_converted

        return keep_converted(lifter) or lifter
    return lifter


def _is_cpu(device: str) -> bool:
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return True
    from gridpose.devices import resolve_device

    return resolve_device(device).type == "cpu"
