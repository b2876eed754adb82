"""How HRNet is run and whether it can be, apart from the network, which is slow to import."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from gridpose.detectors.registry import MODELS, is_present

EngineName = Literal["openvino", "torch"]


@dataclass(frozen=True)
class HRNetOptions:
    """How the detector is run.

    Attributes:
        weights: a name in the registry, a file, or None for the best in the cache.
        config: mmpose config by name or file; None to know it by the weights.
        person_boxes: ``auto``, ``blazepose``, ``mmdet`` or ``full-frame``.
        search_seconds: how often to search for people although nobody was lost.
        flip_test: average with mirrored crops: a little better, twice the time.
        compiled: let torch, where it runs the network, compile it: slow to start.
        engine_cpu: what runs the network on a CPU; None takes OpenVINO where it is installed and
            can, else torch.
    """

    weights: str | Path | None = None
    config: str | Path | None = None
    person_boxes: str = "auto"
    search_seconds: float = 0.5
    flip_test: bool = False
    compiled: bool = False
    engine_cpu: EngineName | None = None


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
