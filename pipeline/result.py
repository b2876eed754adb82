"""How far a run is, and what it made."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gridpose.core import PoseTracks
from gridpose.pipeline.poses.spool import PoseSpool


@dataclass(frozen=True)
class Progress:
    """How far a run is: frames finished, and an estimate of all (None where unknown)."""

    done: int
    total: int | None


@dataclass
class VideoResult:
    """What a run made.

    ``seconds_by_stage`` are the busy times of the stages; they overlap. ``cpu_seconds_by_stage``
    are processor times, which add up (:class:`gridpose.pipeline.stopwatch.Stopwatch`).
    ``warnings`` are sentences for the user.
    """

    output: Path | None
    frames: int
    fps: float
    track_ids: list[int]
    seconds: float
    seconds_by_stage: dict[str, float]
    cpu_seconds_by_stage: dict[str, float]
    detector: str
    lifter: str
    files: list[Path]
    warnings: list[str]
    meta: dict[str, Any]
    spool: PoseSpool = field(repr=False)

    @cached_property
    def poses(self) -> PoseTracks:
        """All people of the video, in memory: P x T frames for P tracks."""
        return self.spool.tracks(self.meta)

    def summary(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "output": None if self.output is None else str(self.output),
            "frames": self.frames,
            "fps": self.fps,
            "tracks": len(self.track_ids),
            "left_out": len(self.meta["left_out"]),
            "seconds": round(self.seconds, 3),
            "seconds_by_stage": _rounded(self.seconds_by_stage),
            "cpu_seconds_by_stage": _rounded(self.cpu_seconds_by_stage),
            "detector": self.detector,
            "lifter": self.lifter,
            "files": [str(file) for file in self.files],
            "warnings": self.warnings,
        }


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {stage: round(value, 3) for stage, value in seconds.items()}
