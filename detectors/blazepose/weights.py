"""The networks of BlazePose: which files they are, and where they lie.

A wheel carries them (``setup.py`` puts them there); what it lacks is looked for among the
downloaded models.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final, Literal

from gridpose.core import MissingError
from gridpose.detectors.registry import MODELS, Model, weights_file
from gridpose.storage import file_sha256

Size = Literal["heavy", "full", "lite"]
SIZES: Final[tuple[Size, ...]] = ("heavy", "full", "lite")
"""Of the landmark network, the most accurate first."""
PERSON_DETECTOR: Final = MODELS["blazepose-detector"]
LANDMARKS: Final[dict[Size, Model]] = {size: MODELS[f"blazepose-{size}"] for size in SIZES}


def find(model: Model) -> Path | None:
    """The network's file in the package or the cache, None where it is in neither."""
    shipped = files("gridpose.detectors.blazepose") / "vendor" / model.file
    for file in (Path(str(shipped)), weights_file(model)):
        if file.is_file():
            return file
    return None


def network_file(model: Model) -> Path:
    """The network's verified file.

    Raises:
        MissingError: it is nowhere, or damaged.
    """
    file = find(model)
    if file is None:
        raise MissingError(
            f"{model.file} did not come with this installation; "
            f"gridpose models download {model.name}"
        )
    if file_sha256(file) != model.sha256:
        remedy = (
            f"gridpose models download {model.name}"
            if file == weights_file(model)
            else "pip install --force-reinstall gridpose"
        )
        raise MissingError(f"{file}: damaged, its SHA-256 is not the network's; {remedy}")
    return file


def best_size() -> Size:
    """The most accurate landmark network at hand, else ``full``, which every wheel carries."""
    return next((size for size in SIZES if find(LANDMARKS[size]) is not None), "full")
