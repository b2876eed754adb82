"""What the page's buttons answer, without a browser."""

from types import SimpleNamespace

import pytest
from fakes import FakeDetector, standing_at

from gridpose.pipeline.app.job import Limits
from gridpose.pipeline.app.sessions import Sessions
from gridpose.pipeline.app.workspace import server_folder

pytest.importorskip("gradio", reason="needs Gradio (pip install gradio)")

ANNA = SimpleNamespace(session_hash="anna")


@pytest.fixture
def folder():
    with server_folder() as folder:
        yield folder


@pytest.fixture
def actions(folder):
    from gridpose.pipeline.app.actions import Actions

    return Actions(Sessions(folder), Limits(megabytes=1, seconds=5))


def answers(actions, upload, progress=lambda *_, **__: None, source="file"):
    """What is said and shown first, and at the end."""
    given = (upload, None, source, "all", "overlay", "auto", "savgol", ANNA, progress)
    return list(actions.run(*given))


def test_a_video(actions, folder, fake_detector, make_video):
    fake_detector.script = lambda frame: [standing_at(150, 130, 80)]
    (folder / "hash").mkdir()  # each upload has a folder of its own
    upload = make_video(folder / "hash" / "dance.mp4", frames=20, size=(360, 240))
    told = []
    first, last = answers(
        actions, str(upload), lambda how_far, desc, unit: told.append((how_far, desc))
    )
    assert first[0] == '<div role="status"><p>Working …</p></div>'
    said, video, picture, viewer, angles, files = last
    assert said == '<div role="status"><p>20 frames, 1 person.</p></div>'
    assert video["value"].endswith("dance-3d.mp4")
    assert video["visible"]
    assert not picture["visible"]
    assert viewer.startswith("<iframe")
    assert 'sandbox="allow-scripts"' in viewer
    assert angles.count("<img") == 1
    assert len(files["value"]) == 11
    assert (1.0, "Writing files") in told
    actions.hold(str(upload), None, ANNA)
    actions.end(ANNA)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [("file", "choose a video or picture"), ("webcam", "record something")],
)
def test_nothing_to_do(source, message, actions):
    _, (said, *_) = answers(actions, None, source=source)
    assert f'<div role="alert"><p>please {message} first</p></div>' == said


def test_errors_tell_neither_folders_nor_markup(actions, folder):
    broken = folder / "<b>.mp4"
    broken.write_bytes(b"0" * 99)
    _, (said, *_) = answers(actions, str(broken))
    assert said.startswith('<div role="alert"><p>_b_.mp4: not a video')
    assert str(folder) not in said


def test_a_defect_is_said_and_the_next_job_runs(actions, folder, fake_detector, make_video):
    fake_detector.script = lambda frame: 1 / 0
    upload = make_video(folder / "dance.mp4", frames=9, size=(360, 240))
    _, (said, *_) = answers(actions, str(upload))
    assert "ZeroDivisionError: division by zero (a defect in gridpose)" in said
    fake_detector.script = FakeDetector().script
    _, (said, *_) = answers(actions, str(upload))
    assert "9 frames, 0 people." in said


def test_cancelling(actions, folder, fake_detector, make_video):
    upload = make_video(folder / "dance.mp4", frames=9, size=(360, 240))
    assert "Nothing is running" in actions.cancel(ANNA)

    def cancel(*_, **__):
        assert "Stopping" in actions.cancel(ANNA)

    _, (said, *results) = answers(actions, str(upload), cancel)
    assert said == '<div role="status"><p>Cancelled.</p></div>'
    assert not any(result and result["visible"] for result in results)
    assert [file.name for file in folder.iterdir()] == ["dance.mp4"]


def test_a_large_viewer_is_only_to_download(
    actions, folder, fake_detector, make_video, monkeypatch
):
    monkeypatch.setattr("gridpose.pipeline.app.actions._INLINE_BYTES", 1000)
    upload = make_video(folder / "dance.mp4", frames=9, size=(360, 240))
    _, (_, _, _, viewer, _, files) = answers(actions, str(upload))
    assert "it is among the downloads" in viewer
    assert any(file.endswith(".html") for file in files["value"])
