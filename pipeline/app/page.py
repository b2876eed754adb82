"""What the page looks like."""

from __future__ import annotations

from typing import Any, Final, get_args

import gradio as gr

from gridpose.detectors.options import DetectorName
from gridpose.pipeline.app.actions import Actions, status
from gridpose.pipeline.app.job import Limits
from gridpose.pipeline.app.sessions import Sessions
from gridpose.pipeline.motion.choices import Smoothing
from gridpose.visualize.look import LAYOUTS

PERSONS: Final = (
    ("Everybody, without phantoms", "all"),
    ("The largest person", "largest"),
    ("The two largest", "2"),
    ("The three largest", "3"),
    ("Whatever is detected", "everyone"),
)
"""Label and value as the command line has it."""
STYLE: Final = """
.gridpose-viewer { width: 100%; height: min(70vh, 640px); border: 0; border-radius: 8px; }
.gridpose-viewer { color-scheme: light; }
.dark .gridpose-viewer { color-scheme: dark; }
#downloads .label-clear-button { display: none; }
.gridpose-angles { width: 100%; border-radius: 8px; }
#status { min-height: 7em; }
#status p { margin: .3em 0; overflow-wrap: anywhere; }
"""
_CLEANED_SECONDS: Final = 3600
_KEPT_SECONDS: Final = 24 * 3600
"""Uploads that no session has told of, and whatever of a page that is open for days."""


def _path(payload: Any) -> str | None:
    """The file of an upload as it came."""
    return None if payload is None else str(payload.path)


def theme() -> Any:
    """Of fonts that systems have, so that none is fetched."""
    return gr.themes.Default(
        font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")
    )


def build_page(sessions: Sessions, limits: Limits) -> Any:
    """The page, as ``gradio.Blocks``.

    Args:
        sessions: where files of whoever opens it and their turns come from.
        limits: of uploads.
    """
    actions = Actions(sessions, limits)
    quietly = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    page = gr.Blocks(
        title="gridpose", analytics_enabled=False, delete_cache=(_CLEANED_SECONDS, _KEPT_SECONDS)
    )
    with page:
        gr.Markdown(
            "# gridpose\n3D skeletons of the people in a video or picture of at most "
            f"{limits.megabytes:g} MB and {limits.seconds:g} s."
        )
        with gr.Row():
            with gr.Column(min_width=300):
                source = gr.State("file")
                with gr.Tab("File") as file_tab:
                    upload = gr.File(label="Video or picture", elem_id="upload", height=160)
                with gr.Tab("Webcam") as webcam_tab:
                    recording = gr.Video(
                        label="Recording",
                        sources=["webcam"],
                        include_audio=False,
                        # Left and right are the person's.
                        webcam_options=gr.WebcamOptions(mirror=False),
                        elem_id="webcam",
                    )
                persons = gr.Radio(list(PERSONS), value="all", label="Persons")
                layout = gr.Radio(list(LAYOUTS), value="side-by-side", label="Layout")
                with gr.Accordion("More", open=False):
                    detector = gr.Radio(
                        list(get_args(DetectorName)), value="auto", label="Detector"
                    )
                    smoothing = gr.Radio(
                        list(get_args(Smoothing)), value="savgol", label="Smoothing"
                    )
                with gr.Row():
                    run = gr.Button("Run", variant="primary", elem_id="run", min_width=80)
                    cancel = gr.Button("Cancel", elem_id="cancel", min_width=80)
                said = gr.HTML(status(""), elem_id="status")
            with gr.Column(scale=2, min_width=300):
                results = [
                    gr.Video(label="Video", interactive=False, visible=False, elem_id="video"),
                    gr.Image(label="Picture", interactive=False, visible=False, elem_id="picture"),
                    gr.HTML(elem_id="viewer"),
                    gr.HTML(elem_id="angles"),
                    gr.Files(
                        label="Downloads", interactive=False, visible=False, elem_id="downloads"
                    ),
                ]
        # Gradio's own would leave an empty file beside each upload, and have ffmpeg take the sound
        # out of recordings. A subclass would make it write a file beside this one.
        upload.preprocess = recording.preprocess = _path
        file_tab.select(lambda: "file", None, source, **quietly)
        webcam_tab.select(lambda: "webcam", None, source, **quietly)
        for component in (upload, recording):
            component.change(actions.hold, [upload, recording], None, **quietly)
        run.click(
            actions.run,
            [upload, recording, source, persons, layout, detector, smoothing],
            [said, *results],
            show_progress_on=said,
            concurrency_limit=None,  # sessions have turns
            api_visibility="private",
        )
        cancel.click(actions.cancel, None, said, **quietly)
        page.unload(actions.end)
    return page
