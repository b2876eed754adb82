"""What finds the people whose keypoints HRNet then looks for: mmdet, BlazePose, or nothing."""

from __future__ import annotations

from typing import get_args

from gridpose.core import UsageError
from gridpose.detectors.boxes import FullFrame, PersonFinder
from gridpose.detectors.options import PersonBoxesName


def load_person_finder(
    name: str = "auto", *, device: str = "cpu", max_persons: int = 6
) -> PersonFinder:
    """Load a finder by name.

    Args:
        name: ``auto`` takes mmdet where it is installed and has its weights, else BlazePose.
        device: of mmdet's network; BlazePose runs on the CPU.
        max_persons: of more people in a frame the largest are taken.

    Raises:
        UsageError: unknown name, or ``max_persons`` is less than 1.
        MissingError: a package or file that the finder needs is missing.
        InputError: mmdet cannot read the config or the weights.
    """
    names = get_args(PersonBoxesName)
    if name not in names:
        raise UsageError(f"unknown person finder {name!r}; known are {', '.join(names)}")
    if max_persons < 1:
        raise UsageError(f"max_persons is {max_persons}; at least one person is needed")
    if name == "full-frame":
        return FullFrame()
    from gridpose.detectors.hrnet.mmdet_boxes import MmdetPersons, why_unusable

    if name == "mmdet" or (name == "auto" and not why_unusable()):
        return MmdetPersons(device=device, max_persons=max_persons)
    from gridpose.detectors.blazepose.finder import load_persons

    return load_persons(max_persons)
