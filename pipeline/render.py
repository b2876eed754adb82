"""Drawing stored poses again, without detecting: a video, a contact sheet, or a page."""

from __future__ import annotations

import math
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from gridpose.core import ImageArray, InputError, Person, PoseTracks, UsageError
from gridpose.pipeline.outputs import check_output, check_suffix
from gridpose.pipeline.result import Progress
from gridpose.pipeline.video.endpoints import ImageSink
from gridpose.pipeline.video.ffmpeg import StreamInfo, probe
from gridpose.pipeline.video.interrupts import interrupts_held
from gridpose.pipeline.video.opening import open_source
from gridpose.pipeline.video.reader import Frame
from gridpose.pipeline.video.sequence import is_sequence
from gridpose.pipeline.video.writer import VideoWriter
from gridpose.storage import replacing
from gridpose.visualize.look import Look

if TYPE_CHECKING:
    from gridpose.visualize.layout import Layout
    from gridpose.visualize.stage import Moment

KINDS: Final = (".mp4", ".html", ".png", ".jpg")
_GROUND: Final = (74, 82, 94)
"""What keypoints are drawn on where there is no video."""
_CELL: Final = (480, 360)
_PAGE_VIDEO_HEIGHT = 540


@dataclass(frozen=True)
class RenderOptions:
    """Options of :func:`render_poses`; the command line's of the same name.

    ``video`` is the source that the poses come from, to be shown beside them. ``start`` and ``end``
    are seconds of that source. ``pictures`` is how many a contact sheet has.
    """

    look: Look = field(default_factory=lambda: Look(layout="skeleton"))
    video: Path | None = None
    start: float = 0.0
    end: float | None = None
    pictures: int = 12
    audio: bool = True
    crf: int = 22
    overwrite: bool = False

    def check(self) -> None:
        """Raises UsageError for a value out of range."""
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise UsageError(f"`start={self.start}` `end={self.end}`: need 0 <= start < end")
        if not 1 <= self.pictures <= 400:
            raise UsageError(f"`pictures={self.pictures}`: must be between 1 and 400")
        if not 0 <= self.crf <= 51:
            raise UsageError(f"`crf={self.crf}`: must be between 0 and 51")


def render_poses(
    tracks: PoseTracks,
    output: Path,
    options: RenderOptions | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[str]:
    """Draw poses; the suffix of ``output`` says what.

    ``.mp4`` is a video, ``.png`` and ``.jpg`` a contact sheet, ``.html`` a page in which
    they can be turned round.

    Args:
        tracks: as :func:`gridpose.pipeline.poses.file.read_pose_file` gives them.
        output: the result.
        options: see :class:`RenderOptions`.
        on_progress: called after every finished frame.

    Returns:
        Warnings for the user.

    Raises:
        UsageError: options that do not fit.
        InputError: there is no frame to draw, or the video cannot be used.
        MissingError: the folder of the output is missing.
    """
    options = options or RenderOptions()
    options.check()
    check_suffix(output, KINDS)
    check_output(output, options.overwrite)
    tracks = between(tracks.as_played(), options.start, options.end)
    if not len(tracks.frame_time):
        raise InputError(f"there are no frames from `start={options.start}` to `end={options.end}`")
    if tracks.has_places and options.look.arrangement == "row":
        options = replace(options, look=replace(options.look, arrangement="places"))
    kind = output.suffix.lower()
    if kind == ".html":
        _page(tracks, output, options)
    else:
        draw = _video if kind == ".mp4" else _sheet
        draw(tracks, output, options, on_progress or (lambda _: None))
    return []


def between(tracks: PoseTracks, start: float, end: float | None) -> PoseTracks:
    """Only the frames whose times are in [start, end)."""
    times = tracks.frame_time
    return tracks.select(frames=(times >= start) & (times < (math.inf if end is None else end)))


def _pictures(
    tracks: PoseTracks, video: Path | None, info: StreamInfo | None = None
) -> Iterator[ImageArray]:
    """The source's picture for each frame of the poses; plain ground without a video."""
    width, height = tracks.image_size
    if video is None:
        yield from repeat(np.full((height, width, 3), _GROUND, np.uint8), len(tracks.frame_time))
        return
    half = 0.5 / tracks.fps
    start = max(0.0, float(tracks.frame_time[0]) - half)
    fps = tracks.fps if is_sequence(video) else None
    with closing(open_source(video, start, fps=fps, info=info)) as reader:
        if reader.size != tracks.image_size:
            raise InputError(
                f"{video}: is {reader.size[0]}x{reader.size[1]}, "
                f"but the poses come from a video of {width}x{height}"
            )
        frames = iter(reader)
        current: Frame | None = next(frames, None)
        following: Frame | None = next(frames, None)
        for moment in tracks.frame_time:
            while following is not None and following.time <= moment + 1e-3:
                current, following = following, next(frames, None)
            if current is None:
                raise InputError(f"{video}: ends before the poses do")
            yield current.image


def _video(
    tracks: PoseTracks,
    output: Path,
    options: RenderOptions,
    on_progress: Callable[[Progress], None],
) -> None:
    from gridpose.visualize.layout import Layout

    layout = Layout(tracks.image_size, options.look)
    source = options.video if options.audio or layout.shows_source else None
    info = None if source is None or is_sequence(source) else probe(source)
    with ExitStack() as stack:
        with interrupts_held():
            sink = stack.enter_context(
                VideoWriter(
                    output,
                    layout.size,
                    Fraction(tracks.fps).limit_denominator(1001),
                    audio_from=source if options.audio and info is not None else None,
                    audio_codec=None if info is None else info.audio_codec,
                    audio_start=float(tracks.frame_time[0]),
                    audio_end=float(tracks.frame_time[-1]) + 1 / tracks.fps,
                    crf=options.crf,
                )
            )
        shown = source if layout.shows_source else None
        known = _with_upcoming(tracks, layout.look_ahead_seconds)
        for frame, (picture, (moment, people, upcoming)) in enumerate(
            zip(_pictures(tracks, shown, info), known, strict=True)
        ):
            _begin_shot(layout, tracks, frame)
            sink.write(layout.compose(layout.panel(picture), people, moment, upcoming), moment)
            on_progress(Progress(frame + 1, len(tracks.frame_time)))


@dataclass(frozen=True)
class _Moments:
    """Time and people of some frames, which may be gone through again and again."""

    tracks: PoseTracks
    frames: Iterable[int]

    def __iter__(self) -> Iterator[Moment]:
        return ((float(self.tracks.frame_time[f]), self.tracks.people(f)) for f in self.frames)


def _begin_shot(layout: Layout, tracks: PoseTracks, frame: int) -> None:
    """Where a shot begins, choose one framing that suits all of it."""
    shot = int(tracks.shot[frame])
    if frame and shot == tracks.shot[frame - 1]:
        return
    if frame:
        layout.cut(shot, float(tracks.frame_time[frame]))
    layout.frame_all(_Moments(tracks, np.flatnonzero(tracks.shot == shot).tolist()))


def _with_upcoming(
    tracks: PoseTracks, seconds: float
) -> Iterator[tuple[float, Sequence[Person], list[Moment]]]:
    """Time and people of every frame, and the frames of its shot in the seconds after it."""
    later: deque[Moment] = deque()
    following = iter(_Moments(tracks, range(len(tracks.frame_time))))
    read = 0
    for frame, shot in enumerate(tracks.shot):
        end = tracks.frame_time[frame] + seconds
        while read <= frame or (read < len(tracks.shot) and tracks.frame_time[read] <= end):
            later.append(next(following))
            read += 1
        moment, people = later.popleft()
        same = int((tracks.shot[frame + 1 : read] == shot).sum())
        yield moment, people, list(islice(later, same))


def _sheet(
    tracks: PoseTracks,
    output: Path,
    options: RenderOptions,
    on_progress: Callable[[Progress], None],
) -> None:
    """Pictures at even distances, in time, among those that show somebody."""
    from gridpose.visualize.layout import Layout

    shown = np.flatnonzero(tracks.present.any(0))
    frames = shown if len(shown) else np.arange(len(tracks.frame_time))
    count = min(options.pictures, len(frames))
    wanted = set(frames[np.linspace(0, len(frames) - 1, count).round().astype(int)].tolist())
    columns = math.ceil(math.sqrt(count))
    cell = _cell_size(columns, math.ceil(count / columns), options.look)
    look = replace(options.look, resolution=cell)
    cells: list[ImageArray] = []
    # One layout for all, so that all have one scale.
    layout = Layout(tracks.image_size, look)
    video = options.video if layout.shows_source else None
    for frame, picture in enumerate(_pictures(tracks, video)):
        moment = float(tracks.frame_time[frame])
        _begin_shot(layout, tracks, frame)
        if frame in wanted or look.trails:
            image = layout.compose(layout.panel(picture), tracks.people(frame), moment)
            if frame in wanted:
                cells.append(image)
        on_progress(Progress(frame + 1, len(tracks.frame_time)))
        if len(cells) == count:
            break
    ImageSink(output).write(_tiled(cells, columns), 0.0)


def _cell_size(columns: int, rows: int, look: Look) -> tuple[int, int]:
    if look.resolution is None:
        return (_CELL[0] * (2 if look.layout == "side-by-side" else 1), _CELL[1])
    return max(64, look.resolution[0] // columns), max(64, look.resolution[1] // rows)


def _tiled(cells: Sequence[ImageArray], columns: int) -> ImageArray:
    height, width = cells[0].shape[:2]
    rows = math.ceil(len(cells) / columns)
    sheet: ImageArray = np.zeros((rows * height, columns * width, 3), np.uint8)
    sheet[:] = cells[0][0, 0]
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = cell
    return sheet


def _page(tracks: PoseTracks, output: Path, options: RenderOptions) -> None:
    from gridpose.visualize.viewer import viewer_page

    video = None if options.video is None else _small_video(tracks, options.video)
    title = str(tracks.meta.get("source") or output.stem)
    page = viewer_page(tracks, title=title, video=video, hide_unseen=options.look.hide_unseen)
    with replacing(output) as partial:
        partial.write_text(page, encoding="utf-8")


def _small_video(tracks: PoseTracks, video: Path) -> bytes:
    """The source for a page: only the poses' frames, in their own time, at most 540 px high."""
    width, height = tracks.image_size
    scale = min(1.0, _PAGE_VIDEO_HEIGHT / min(width, height))
    size = (2 * max(1, round(width * scale / 2)), 2 * max(1, round(height * scale / 2)))
    with tempfile.TemporaryDirectory(prefix="gridpose-") as folder:
        file = Path(folder) / "source.mp4"
        fps = Fraction(tracks.fps).limit_denominator(1001)
        with VideoWriter(file, size, fps, crf=28, preset="veryfast") as sink:
            for frame, picture in enumerate(_pictures(tracks, video)):
                small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                sink.write(np.asarray(small, np.uint8), float(tracks.frame_time[frame]))
        return file.read_bytes()
