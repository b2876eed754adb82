"""What a batch is asked to do."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from gridpose.core import UsageError
from gridpose.pipeline.job import VideoOptions

EngineName = Literal["local", "ray"]
_NOT_SHAPING: Final = ("batch_size", "device")
"""Options that change how the result is made, not what it is."""


@dataclass(frozen=True)
class BatchOptions:
    """Options of :func:`gridpose.pipeline.batch.run_batch`.

    Attributes:
        video: for every video; detector and lifter by name or file.
        render: write videos; else pose files only.
        workers: processes; None takes as many as this machine carries.
        include: only files whose path below the folder, or name, matches one of these globs.
        exclude: no file that matches one of these.
        max_duration: leave out longer videos, seconds.
        retry_failed: try again what failed before.
        timeout: seconds of work allowed for a second of video, on top of two minutes.
        engine: this machine, or a Ray cluster.
        address: of the cluster; None starts one here.
    """

    video: VideoOptions = field(default_factory=VideoOptions)
    render: bool = True
    workers: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_duration: float | None = None
    retry_failed: bool = False
    timeout: float = 60.0
    engine: EngineName = "local"
    address: str | None = None

    def check(self) -> None:
        """Raises UsageError for a value out of range."""
        self.video.check()
        if not isinstance(self.video.detector, str):
            raise UsageError("a batch loads its own detectors; give one by name")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers}: must be auto or at least 1")
        if self.max_duration is not None and self.max_duration <= 0:
            raise UsageError(f"--max-duration {self.max_duration}: must be above 0")
        if self.timeout <= 0:
            raise UsageError(f"--timeout {self.timeout}: must be above 0")
        if self.address is not None and self.engine != "ray":
            raise UsageError("--address goes with --engine ray")

    @property
    def digest(self) -> str:
        """Equal for options that give the same results."""
        from gridpose.detectors.options import HRNetOptions

        video = replace(self.video, hrnet=self.video.hrnet or HRNetOptions())
        shaping = {
            name: value for name, value in video.to_dict().items() if name not in _NOT_SHAPING
        }
        content = json.dumps([shaping, self.render], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]
