"""What a live session is asked to do. The command line takes its options from here."""

# Annotations are objects here, not strings: the command line reads them.

import math
import os
import re
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from gridpose.core import UsageError
from gridpose.detectors.options import DetectorName
from gridpose.option import DETECTOR, INPUT, LIFTER, MACHINE, MOTION, OUTPUT, Option
from gridpose.visualize.look import Look

if TYPE_CHECKING:
    from gridpose.detectors import Detector
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter

LOOPBACK: Final = "127.0.0.1"
Target = tuple[str, int]
"""Host and port."""


def parse_target(text: str) -> Target:
    """``PORT`` of this machine, or ``HOST:PORT``; IPv6 addresses in brackets.

    Raises:
        UsageError: neither.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536 or text.startswith(":"):
        raise UsageError(f"{text}: must be PORT or HOST:PORT, with a port of 1 to 65535")
    return host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port)


def has_display() -> bool:
    """Whether there is a screen for a window."""
    if sys.platform in ("win32", "darwin"):
        return True
    # Qt ends the whole program where a display is named that does not answer.
    found = re.fullmatch(r"(?:unix)?([^:/]*):(\d+)(?:\.\d+)?", os.environ.get("DISPLAY", ""))
    if found is None:
        return False
    host, number = found[1], int(found[2])
    try:
        if host:
            socket.create_connection((host, 6000 + number), 2.0).close()
        else:
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(f"/tmp/.X11-unix/X{number}")
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class LiveOptions:
    """Options of :func:`gridpose.pipeline.live.run.run_live`.

    Attributes:
        detector: by name, or loaded; then it stays open.
        max_persons: at most this many are followed.
        lifter: by name or file, or loaded.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        fov: the lens's horizontal field of view in degrees, if known.
        smoothing: let poses tremble less.
        look: how the window and the recording are drawn.
        serve: show a page instead of a window; None does so without a display.
        port: of the page; 0 takes any that is free.
        record: a video of what is drawn.
        save_poses: a pose file.
        udp: where to send poses as JSON.
        osc: where to send poses as OSC messages.
        duration: seconds after which to end.
        give_up: seconds without a picture after which to end.
        overwrite: replace results that exist.
    """

    detector: Annotated[
        "str | Detector",
        Option(
            "Finds people and their joints. auto is blazepose-full, which two cores can keep up "
            "with.",
            DETECTOR,
            type=DetectorName,
        ),
    ] = "auto"
    max_persons: Annotated[
        int, Option("Follow at most so many people.", DETECTOR, least=1, most=6)
    ] = 2
    lifter: Annotated[
        "str | Path | Lifter | ConvertedLifter",
        Option(
            "The network that makes 3D of 2D: default, default-frame or a file.", LIFTER, type=str
        ),
    ] = "default"
    device: Annotated[str, Option("Where networks run: auto, cpu, cuda or cuda:N.", MACHINE)] = (
        "auto"
    )
    fov: Annotated[
        float | None,
        Option("Horizontal field of view of the lens in degrees, if known.", LIFTER),
    ] = None
    smoothing: Annotated[
        bool, Option("One-Euro filter against trembling; it lags by some milliseconds.", MOTION)
    ] = True
    look: Annotated[Look, Look] = field(default_factory=Look)
    serve: Annotated[
        bool | None,
        Option(
            "Show a page in the browser, on this machine only, instead of a window; by default "
            "where there is no display.",
            OUTPUT,
        ),
    ] = None
    port: Annotated[
        int, Option("Of the page; 0 takes any that is free.", OUTPUT, least=0, most=65535)
    ] = 8765
    record: Annotated[
        Path | None, Option("Also write what is drawn as a video (.mp4).", OUTPUT)
    ] = None
    save_poses: Annotated[
        Path | None, Option("Also write the poses as a pose file (.npz).", OUTPUT)
    ] = None
    udp: Annotated[
        str | None,
        Option(
            "Send poses as JSON in datagrams; a PORT alone is on this machine.",
            OUTPUT,
            metavar="[HOST:]PORT",
        ),
    ] = None
    osc: Annotated[
        str | None,
        Option("Send poses as OSC messages, likewise.", OUTPUT, metavar="[HOST:]PORT"),
    ] = None
    duration: Annotated[float | None, Option("End after so many seconds.", INPUT)] = None
    give_up: Annotated[
        float | None,
        Option("End after so many seconds without a picture; by default try on.", INPUT),
    ] = None
    overwrite: Annotated[bool, Option("Replace results that exist.", OUTPUT, only_on=True)] = False

    def check(self) -> None:
        """Find out before any work what cannot be.

        Raises:
            UsageError: a value out of range, or a file that exists.
            MissingError: a folder is missing or cannot be written to.
        """
        from gridpose.pipeline.outputs import check_output, check_suffix

        for name, seconds in (("duration", self.duration), ("give_up", self.give_up)):
            if seconds is not None and not 0 < seconds < math.inf:
                raise UsageError(f"`{name}` {seconds:g}: must be a number of seconds above 0")
        if self.fov is not None and not 5 <= self.fov <= 150:
            raise UsageError(f"`fov` {self.fov}: must be between 5 and 150 degrees")
        if not 1 <= self.max_persons <= 6:
            raise UsageError(f"`max_persons` {self.max_persons}: must be between 1 and 6")
        if not 0 <= self.port < 65536:
            raise UsageError(f"`port` {self.port}: must be between 0 and 65535")
        for target in (self.udp, self.osc):
            if target is not None:
                parse_target(target)
        for file, suffix in ((self.record, ".mp4"), (self.save_poses, ".npz")):
            if file is not None:
                check_suffix(file, [suffix])
                check_output(file, self.overwrite)
