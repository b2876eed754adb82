"""What a batch is asked to do."""

# Annotations are objects here, not strings: the command line reads them.

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal

from gridpose.core import UsageError
from gridpose.detectors.options import HRNetOptions
from gridpose.option import INPUT, MACHINE, OUTPUT, Option
from gridpose.pipeline.options import VideoOptions

EngineName = Literal["local", "ray"]
_NOT_SHAPING: Final = ("batch_size", "device")
"""Options that change how the result is made, not what it is."""


def parse_workers(text: str) -> int | None:
    """A number of processes, or None for ``auto``.

    Raises:
        UsageError: neither.
    """
    if text == "auto":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"`workers` {text}: must be auto or a number of processes")


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

    video: Annotated[VideoOptions, VideoOptions] = field(default_factory=VideoOptions)
    render: Annotated[bool, Option("Write videos, or pose files only.", OUTPUT)] = True
    workers: Annotated[
        int | None,
        Option(
            "Processes that work at the same time; auto takes as many as this machine carries.",
            MACHINE,
            type=str,
            default="auto",
            parse=parse_workers,
            metavar="N|auto",
        ),
    ] = None
    include: Annotated[
        tuple[str, ...],
        Option("Only videos whose path or name matches this pattern.", INPUT, metavar="GLOB"),
    ] = ()
    exclude: Annotated[
        tuple[str, ...],
        Option("No videos whose path or name matches this pattern.", INPUT, metavar="GLOB"),
    ] = ()
    max_duration: Annotated[
        float | None, Option("Leave out longer videos.", INPUT, metavar="SECONDS")
    ] = None
    retry_failed: Annotated[bool, Option("Try again what failed before.", INPUT, only_on=True)] = (
        False
    )
    timeout: Annotated[
        float,
        Option(
            "Seconds of work allowed for each second of a video, on top of two minutes.", MACHINE
        ),
    ] = 60.0
    engine: Annotated[
        EngineName, Option("Where videos are worked on: this machine, or a Ray cluster.", MACHINE)
    ] = "local"
    address: Annotated[
        str | None, Option("Of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT.", MACHINE)
    ] = None

    def check(self) -> None:
        """Raises UsageError for a value out of range."""
        self.video.check()
        if not isinstance(self.video.detector, str):
            raise UsageError("a batch loads its own detectors; give one by name")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"`workers` {self.workers}: must be auto or at least 1")
        if self.max_duration is not None and self.max_duration <= 0:
            raise UsageError(f"`max_duration` {self.max_duration}: must be above 0")
        if self.timeout <= 0:
            raise UsageError(f"`timeout` {self.timeout}: must be above 0")
        if self.address is not None and self.engine != "ray":
            raise UsageError("`address` goes with `engine=ray`")

    @property
    def digest(self) -> str:
        """Equal for options that give the same results."""
        video = replace(self.video, hrnet=self.video.hrnet or HRNetOptions())
        shaping = {
            name: value for name, value in video.to_dict().items() if name not in _NOT_SHAPING
        }
        content = json.dumps([shaping, self.render], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]
