"""Which device models run on, and in which arithmetic."""

from __future__ import annotations

from typing import Final

import torch

from gridpose.core import MissingError, UsageError
from gridpose.core import Precision as Precision
from gridpose.core import PrecisionChoice as PrecisionChoice


def resolve_precision(choice: PrecisionChoice) -> Precision:
    """What ``auto`` means where nothing is measured."""
    return "fp32" if choice == "auto" else choice


AUTOCAST: Final = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Types of autocast; ``fp32`` needs none."""


def resolve_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as a device that is there.

    Raises:
        UsageError: not a device name.
        MissingError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"`device={name}`: use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"`device={name}`: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise MissingError(f"`device={name}`: this machine has {count} usable CUDA devices")
    return device
