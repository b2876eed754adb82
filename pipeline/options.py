"""What a run is asked to do. The command line takes its options, with their help, from here."""

# Annotations are objects here, not strings: the command line reads them. Nothing heavy is imported
# at the top, so that ``gridpose --help`` comes at once.

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gridpose.core import SHIPPED_LIFTERS, PrecisionChoice, UsageError
from gridpose.detectors.options import DetectorName, HRNetOptions
from gridpose.option import DETECTOR, INPUT, LIFTER, MACHINE, MOTION, OUTPUT, Option
from gridpose.pipeline.motion.choices import GravityMode, Persons, Smoothing
from gridpose.visualize.look import Look

if TYPE_CHECKING:
    from gridpose.detectors import Detector
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter


def parse_persons(text: str) -> Persons:
    """``all``, ``everyone``, ``largest`` or a number of persons.

    Raises:
        UsageError: none of these.
    """
    if text == "all":
        return "all"
    if text == "everyone":
        return "everyone"
    if text == "largest":
        return "largest"
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"`persons` {text}: must be all, everyone, largest or a number of persons")


def check_times(start: float, end: float | None) -> None:
    """Raises UsageError unless there is time between two seconds of a video."""
    if start < 0 or (end is not None and end <= start):
        raise UsageError(f"`start` {start} `end` {end}: need 0 <= start < end")


def check_crf(crf: int) -> None:
    """Raises UsageError for a quality that x264 does not know."""
    if not 0 <= crf <= 51:
        raise UsageError(f"`crf` {crf}: must be between 0 and 51")


@dataclass(frozen=True)
class VideoOptions:
    """Options of :func:`run_video`; the command line's of the same name.

    Attributes:
        detector: by name, or loaded; then it stays open.
        hrnet: further options of the detector of that name.
        lifter: likewise; a shipped one by name, or a file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: arithmetic of the networks.
        persons: who is kept.
        smoothing: filter over time.
        repair: fill short gaps in the detections; for lifters of single frames also exchange left
            and right back and drop outliers.
        constant_bones: keep each person's bone lengths constant.
        gravity: "estimate" sets people upright as they stand, for cameras that are not level.
        trajectory: put people where they are rather than above the origin.
        fov: the lens's horizontal field of view in degrees, if known.
        start: second at which to start.
        end: second at which to stop; None for the end of the video.
        stride: take every n-th frame.
        batch_size: frames handled at once.
        save_poses: files to write in the formats that their suffixes name, as
            :mod:`gridpose.pipeline.exports` does.
        look: how the result is drawn.
        audio: keep the sound.
        crf: x264's quality, 0 to 51; lower is better.
        overwrite: replace results that exist.
    """

    detector: Annotated[
        "str | Detector",
        Option(
            "Finds people and their joints in the picture. auto takes hrnet if mmpose and weights "
            "for it are installed, else blazepose.",
            DETECTOR,
            type=DetectorName,
        ),
    ] = "auto"
    hrnet: Annotated[HRNetOptions | None, HRNetOptions] = None
    lifter: Annotated[
        "str | Path | Lifter | ConvertedLifter",
        Option(
            "The network that makes 3D of 2D: default, which sees the frames before and after, "
            "default-frame, which sees single frames, or a file, .safetensors or a published "
            ".pth.tar.",
            LIFTER,
            type=str,
        ),
    ] = "default"
    device: Annotated[
        str,
        Option(
            "Where networks run: auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.",
            MACHINE,
        ),
    ] = "auto"
    precision: Annotated[
        PrecisionChoice,
        Option(
            "Arithmetic of the networks. auto is fp32, but for hrnet on a CPU bf16 where that "
            "leaves keypoints where they are; fp16 needs a GPU.",
            MACHINE,
        ),
    ] = "auto"
    persons: Annotated[
        Persons,
        Option(
            "Whom to keep: all but those who are much smaller than the others, seen for less than "
            "half a second or no likely body; everyone who is detected; largest; or a number N "
            "for the N largest at every moment.",
            MOTION,
            type=str,
            parse=parse_persons,
        ),
    ] = "all"
    smoothing: Annotated[
        Smoothing, Option("Filter over time against trembling of keypoints and poses.", MOTION)
    ] = "savgol"
    repair: Annotated[
        bool,
        Option(
            "Fill short gaps of the detector; for lifters of single frames also exchange left and "
            "right back and drop outliers, which the default lifter does by itself.",
            MOTION,
        ),
    ] = True
    constant_bones: Annotated[
        bool, Option("Keep the lengths of each person's bones constant.", MOTION)
    ] = False
    gravity: Annotated[
        GravityMode,
        Option(
            "Which way is up: level takes the camera to be level, estimate sets people upright by "
            "how they stand, for cameras that are not.",
            MOTION,
        ),
    ] = "level"
    trajectory: Annotated[
        bool,
        Option(
            "Show where people walk, in metres, rather than keep each in one place; needs a camera "
            "that stands still.",
            MOTION,
        ),
    ] = False
    fov: Annotated[
        float | None,
        Option("Horizontal field of view of the lens in degrees, if known.", LIFTER),
    ] = None
    start: Annotated[float, Option("Second at which to start.", INPUT)] = 0.0
    end: Annotated[float | None, Option("Second at which to stop.", INPUT)] = None
    stride: Annotated[int, Option("Take every n-th frame.", INPUT, least=1)] = 1
    batch_size: Annotated[
        int, Option("Frames that the networks see at once.", MACHINE, least=1)
    ] = 8
    save_poses: Annotated[
        tuple[Path, ...],
        Option(
            "Also write the poses as numbers: .npz, or a format that `gridpose export` writes; may "
            "be given several times.",
            OUTPUT,
        ),
    ] = ()
    look: Annotated[Look, Look] = field(default_factory=Look)
    audio: Annotated[bool, Option("Keep the sound.", OUTPUT)] = True
    crf: Annotated[
        int,
        Option(
            "Quality of the video as x264 counts it; lower is better.", OUTPUT, least=0, most=51
        ),
    ] = 22
    overwrite: Annotated[bool, Option("Replace results that exist.", OUTPUT, only_on=True)] = False

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
        from gridpose.pipeline.exports import check_format
        from gridpose.pipeline.video.reader import check_readable

        check_times(self.start, self.end)
        if self.stride < 1 or self.batch_size < 1:
            raise UsageError("`stride` and `batch_size` must be at least 1")
        check_crf(self.crf)
        if isinstance(self.persons, int) and self.persons < 1:
            raise UsageError(
                f"`persons` {self.persons}: must be all, everyone, largest or at least 1"
            )
        if self.fov is not None and not 5 <= self.fov <= 150:
            raise UsageError(f"`fov` {self.fov}: must be between 5 and 150 degrees")
        if isinstance(self.lifter, Path) or (
            isinstance(self.lifter, str) and self.lifter not in SHIPPED_LIFTERS
        ):
            check_readable(Path(self.lifter))
        for file in self.save_poses:
            check_format(file)


def _plain(value: Any) -> Any:
    known = value is None or isinstance(value, (str, int, float, bool))
    return value if known else str(getattr(value, "name", value))
