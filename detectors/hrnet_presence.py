"""Whether HRNet can be tried, told without torch."""

from __future__ import annotations

from importlib.util import find_spec

from gridpose.detectors.registry import MODELS, is_present


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
