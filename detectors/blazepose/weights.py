"""The networks of BlazePose: which files they are, and where they lie.

A wheel carries them (``setup.py`` puts them there); what it lacks is looked for among the
downloaded models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from gridpose.core import MissingError
from gridpose.detectors.registry import MODELS, Model, copies, is_present, right_copy

Size = Literal["heavy", "full", "lite"]
SIZES: Final[tuple[Size, ...]] = ("heavy", "full", "lite")
"""Of the landmark network, the most accurate first."""
PERSON_DETECTOR: Final = MODELS["blazepose-detector"]
LANDMARKS: Final[dict[Size, Model]] = {size: MODELS[f"blazepose-{size}"] for size in SIZES}


def network_file(model: Model) -> Path:
    """The network's verified file.

    Raises:
        MissingError: it is nowhere, or damaged.
    """
    file = right_copy(model)
    if file is not None:
        return file
    damaged = copies(model)
    if not damaged:
        raise MissingError(
            f"{model.file} did not come with this installation; gridpose models download "
            f"{model.name} fetches it"
        )
    raise MissingError(
        f"{damaged[0]}: damaged, its SHA-256 is not the network's; gridpose models download "
        f"{model.name} fetches another"
    )


def best_size() -> Size:
    """The most accurate landmark network at hand, else ``full``, which every wheel carries."""
    return next((size for size in SIZES if is_present(LANDMARKS[size])), "full")
