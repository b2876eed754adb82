"""What a run is asked to do, how far it is, and what it made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridpose.core import SHIPPED_LIFTERS, PoseTracks, UsageError
from gridpose.pipeline.exports import check_format
from gridpose.pipeline.reader import check_readable
from gridpose.pipeline.spool import PoseSpool
from gridpose.visualize.look import Look

if TYPE_CHECKING:
    from gridpose.detectors import Detector
    from gridpose.detectors.options import HRNetOptions
    from gridpose.devices import PrecisionChoice
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter
    from gridpose.pipeline.gravity import GravityMode
    from gridpose.pipeline.smoothing import Smoothing
    from gridpose.pipeline.timeline import Persons


@dataclass(frozen=True)
class Progress:
    """How far a run is: frames finished, and an estimate of all (None where unknown)."""

    done: int
    total: int | None


@dataclass(frozen=True)
class VideoOptions:
    """Options of :func:`run_video`; the command line's of the same name.

    ``detector`` and ``lifter`` may be loaded objects; they then stay open. ``save_poses`` are
    files to write in the formats that their suffixes name, as :mod:`gridpose.pipeline.exports`
    does. ``fov`` is the lens's horizontal field of view in degrees, if known.
    ``gravity`` "estimate" sets people upright as they stand, for cameras that are not level;
    ``trajectory`` puts them where they are rather than above the origin.
    ``repair`` fills short gaps in the detections; for lifters of single frames it also exchanges
    left and right back and drops outliers.
    ``look`` says how the result is drawn.
    ``hrnet`` holds further options of the detector of that name.
    """

    detector: str | Detector = "auto"
    hrnet: HRNetOptions | None = None
    lifter: str | Path | Lifter | ConvertedLifter = "default"
    device: str = "auto"
    precision: PrecisionChoice = "auto"
    persons: Persons = "all"
    smoothing: Smoothing = "savgol"
    repair: bool = True
    constant_bones: bool = False
    gravity: GravityMode = "level"
    trajectory: bool = False
    fov: float | None = None
    start: float = 0.0
    end: float | None = None
    stride: int = 1
    batch_size: int = 8
    save_poses: tuple[Path, ...] = ()
    look: Look = field(default_factory=Look)
    audio: bool = True
    crf: int = 22
    overwrite: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What shaped the result, as JSON; loaded objects by name."""
        plain: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name in ("save_poses", "overwrite"):
                continue
            if name == "look":
                plain[name] = asdict(value)
            elif name == "hrnet" and value is not None:
                plain[name] = {key: _plain(part) for key, part in vars(value).items()}
            else:
                plain[name] = _plain(value)
        return plain

    def check(self) -> None:
        """Raises UsageError for a value out of range, InputError for an unreadable lifter."""
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise UsageError(f"--start {self.start} --end {self.end}: need 0 <= start < end")
        if self.stride < 1 or self.batch_size < 1:
            raise UsageError("--stride and --batch-size must be at least 1")
        if not 0 <= self.crf <= 51:
            raise UsageError(f"--crf {self.crf}: must be between 0 and 51")
        if isinstance(self.persons, int) and self.persons < 1:
            raise UsageError(f"--persons {self.persons}: must be all, largest or at least 1")
        if self.fov is not None and not 5 <= self.fov <= 150:
            raise UsageError(f"--fov {self.fov}: must be between 5 and 150 degrees")
        if isinstance(self.lifter, Path) or (
            isinstance(self.lifter, str) and self.lifter not in SHIPPED_LIFTERS
        ):
            check_readable(Path(self.lifter))
        for file in self.save_poses:
            check_format(file)


def _plain(value: Any) -> Any:
    known = value is None or isinstance(value, (str, int, float, bool))
    return value if known else str(getattr(value, "name", value))


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
