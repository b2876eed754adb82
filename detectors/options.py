"""Options of detectors, apart from the detectors, which are slow to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HRNetOptions:
    """How the detector is run.

    Attributes:
        weights: a name in the registry, a file, or None for the best in the cache.
        config: mmpose config by name or file; None to know it by the weights.
        person_boxes: ``auto``, ``blazepose``, ``mmdet`` or ``full-frame``.
        search_seconds: how often to search for people although nobody was lost.
        flip_test: average with mirrored crops: a little better, twice the time.
        compiled: use ``torch.compile``: slow to start, worth it for long videos.
    """

    weights: str | Path | None = None
    config: str | Path | None = None
    person_boxes: str = "auto"
    search_seconds: float = 0.5
    flip_test: bool = False
    compiled: bool = False
