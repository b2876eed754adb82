"""How HRNet is run and whether it can be, apart from the network, which is slow to import."""

# Annotations are objects here, not strings: the command line reads them.

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from gridpose.detectors.registry import MODELS, is_present
from gridpose.option import DETECTOR, Option

DetectorName = Literal["auto", "blazepose", "blazepose-full", "blazepose-lite", "hrnet"]
PersonBoxesName = Literal["auto", "blazepose", "mmdet", "full-frame"]

EngineName = Literal["openvino", "torch"]


@dataclass(frozen=True)
class HRNetOptions:
    """How the detector is run.

    Attributes:
        weights: a name in the registry, a file, or None for the best in the cache.
        config: mmpose config by name or file; None to know it by the weights.
        person_boxes: what finds people in a frame.
        search_seconds: how often to search for people although nobody was lost.
        flip_test: average with mirrored crops: a little better, twice the time.
        compiled: let torch, where it runs the network, compile it: slow to start.
        engine_cpu: what runs the network on a CPU; None takes OpenVINO where it is installed and
            can, else torch.
    """

    weights: Annotated[
        str | Path | None,
        Option(
            "Weights for hrnet: a name that `gridpose models list` shows, or an mmpose .pth file; "
            "by default the best that were downloaded.",
            DETECTOR,
            name="detector-weights",
            type=str | None,
        ),
    ] = None
    config: Annotated[
        str | Path | None,
        Option(
            "mmpose config that goes with the weights for hrnet, by name or file; the file is a "
            "Python program, which is run.",
            DETECTOR,
            name="detector-config",
            type=str | None,
        ),
    ] = None
    person_boxes: Annotated[
        PersonBoxesName, Option("What finds people in a frame for hrnet.", DETECTOR)
    ] = "auto"
    search_seconds: float = 0.5
    flip_test: Annotated[
        bool,
        Option(
            "Let hrnet also see people mirrored, and take the mean: a little better, twice the "
            "time.",
            DETECTOR,
        ),
    ] = False
    compiled: Annotated[
        bool,
        Option(
            "Compile the network of hrnet where torch runs it: a slow start, which pays off in "
            "long videos.",
            DETECTOR,
            name="compile",
            only_on=True,
        ),
    ] = False
    engine_cpu: Annotated[
        EngineName | None,
        Option(
            "What runs hrnet on a CPU; by default OpenVINO, where it is installed.",
            DETECTOR,
        ),
    ] = None


def weights_at_hand() -> str | None:
    """The best registered weights that are in the cache."""
    at_hand = (m.name for m in MODELS.values() if m.is_top_down and is_present(m))
    return next(at_hand, None)


def why_unusable() -> str:
    """Why HRNet cannot run without further ado; empty when it can be tried."""
    if find_spec("mmpose") is None:
        return "mmpose is not installed"
    if weights_at_hand() is None:
        return "no HRNet weights are there; gridpose models download hrnet-w48-coco fetches some"
    return ""
