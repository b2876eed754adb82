"""What the page's buttons do."""

from __future__ import annotations

import base64
import html
import re
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import gradio as gr

from gridpose.core import GridposeError, InputError
from gridpose.pipeline.app.job import MEGABYTE, Limits, Made, run_job
from gridpose.pipeline.app.sessions import CancelledError, Sessions
from gridpose.pipeline.options import VideoOptions, parse_persons
from gridpose.pipeline.result import Progress
from gridpose.pipeline.video.reader import is_image
from gridpose.visualize.look import Look

_TOLD_EVERY_SECONDS: Final = 0.2
_INLINE_BYTES: Final = 24 * MEGABYTE
"""A larger viewer is not shown in the page, for downloading only."""
WORKING: Final = "Working …"


class Actions:
    """What happens for whoever clicks.

    Args:
        sessions: where their files and turns come from.
        limits: of uploads.
    """

    def __init__(self, sessions: Sessions, limits: Limits) -> None:
        self._sessions, self._limits = sessions, limits

    def hold(self, upload: str | None, recording: str | None, request: gr.Request) -> None:
        """Uploads have changed."""
        files = [Path(file) for file in (upload, recording) if file]
        self._sessions.hold(str(request.session_hash), files)

    def cancel(self, request: gr.Request) -> str:
        """Stop the job; what the status says then."""
        was_there = self._sessions.cancel(str(request.session_hash))
        return status("Stopping …" if was_there else "Nothing is running.")

    def end(self, request: gr.Request) -> None:
        """The page was closed."""
        self._sessions.end(str(request.session_hash))

    def run(
        self,
        upload: str | None,
        recording: str | None,
        source: str,
        persons: str,
        layout: Any,
        detector: str,
        smoothing: Any,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008 - so it is asked for
    ) -> Iterator[list[Any]]:
        """The job: values of the status and of :func:`results`, first without results.

        Args:
            upload: file of the first tab.
            recording: file of the second.
            source: the tab that is open, "file" or "webcam".
            persons: and so on: as the command line has them.
            layout: what is shown.
            detector: by name.
            smoothing: filter.
            request: whose it is.
            progress: where it is told.
        """
        yield [status(WORKING), *results(None)]
        chosen = recording if source == "webcam" else upload
        telling = _Telling(progress)
        try:
            if chosen is None:
                what = "record something" if source == "webcam" else "choose a video or picture"
                raise InputError(f"please {what} first")
            options = VideoOptions(
                detector=detector,
                persons=parse_persons(persons),
                smoothing=smoothing,
                look=Look(layout=layout),
            )
            with self._sessions.job(str(request.session_hash), telling.wait) as job:

                def on_progress(how_far: Progress | None) -> None:
                    job.check()
                    telling.tell(how_far)

                made = run_job(Path(chosen), job.folder, options, self._limits, on_progress)
        except CancelledError:
            yield [status("Cancelled."), *results(None)]
        except GridposeError as error:
            yield [status(_without_folders(str(error)), is_error=True), *results(None)]
        except Exception as error:  # noqa: BLE001 - the server goes on
            traceback.print_exc()
            text = f"{type(error).__name__}: {error} (a defect in gridpose)"
            yield [status(text, is_error=True), *results(None)]
        else:
            people = "1 person" if made.people == 1 else f"{made.people} people"
            frames = "1 frame" if made.frames == 1 else f"{made.frames} frames"
            said = f"{frames}, {people}."
            notes = [_without_folders(note) for note in made.notes]
            yield [status(said, *notes), *results(made)]


class _Telling:
    """Tells a browser how far a job is, but not of every frame."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._last = 0.0

    def wait(self, before: int) -> None:
        """Others' jobs are to be done before."""
        self._tell(0.0, f"Waiting, {before} before you")

    def tell(self, how_far: Progress | None) -> None:
        """A frame is done, or all of them."""
        if how_far is None:
            self._last = 0.0
            self._tell(1.0, "Writing files")
        elif how_far.done:
            self._tell((how_far.done, how_far.total), "Frames")
        else:
            self._tell(0.0, "Looking for people")

    def _tell(self, how_far: tuple[int, int | None] | float, desc: str) -> None:
        now = time.monotonic()
        if now - self._last >= _TOLD_EVERY_SECONDS:
            self._last = now
            self._progress(how_far, desc=desc, unit="frames")


def results(made: Made | None) -> list[Any]:
    """Of the video, the picture, the viewer, the angles and the downloads."""
    if made is None:
        hidden = gr.update(value=None, visible=False)
        return [hidden, hidden, "", "", hidden]
    is_picture = is_image(made.drawn)
    drawn = str(made.drawn)
    return [
        gr.update(value=None if is_picture else drawn, visible=not is_picture),
        gr.update(value=drawn if is_picture else None, visible=is_picture),
        _frame(made.viewer),
        "".join(map(_figure, made.angles)),
        gr.update(value=[str(file) for file in made.files], visible=True),
    ]


def _frame(viewer: Path) -> str:
    """The viewer inside the page, where its scripts reach nothing of the page."""
    if viewer.stat().st_size > _INLINE_BYTES:
        return "<p>The 3D viewer is large; it is among the downloads.</p>"
    page = html.escape(viewer.read_text(encoding="utf-8"))
    return (
        '<iframe class="gridpose-viewer" title="3D viewer" sandbox="allow-scripts" '
        f'allow="fullscreen" srcdoc="{page}"></iframe>'
    )


def _figure(file: Path) -> str:
    data = base64.b64encode(file.read_bytes()).decode()
    alt = f"Joint angles over time: {html.escape(file.stem)}"
    return f'<img class="gridpose-angles" alt="{alt}" src="data:image/png;base64,{data}">'


def status(*sentences: str, is_error: bool = False) -> str:
    """What screen readers say as soon as it changes."""
    role = "alert" if is_error else "status"
    inner = "".join(f"<p>{html.escape(each)}</p>" for each in sentences if each)
    return f'<div role="{role}">{inner}</div>'


def _without_folders(text: str) -> str:
    """Without where the server has its files, which is nobody's business."""
    return re.sub(rf"{re.escape(tempfile.gettempdir())}[^\s:]*/", "", text)
