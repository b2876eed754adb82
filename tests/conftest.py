import os
import signal
from pathlib import Path

# Before NumPy and torch are imported: workers side by side each have one core, and error messages
# are not wrapped in the middle of a worker's longer paths.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
os.environ.setdefault("TERMINAL_WIDTH", "300")

import hypothesis
import media
import pytest
from browser import browsing
from fakes import FakeDetector

from gridpose.core import MissingError

# On a busy machine any example may take long.
hypothesis.settings.register_profile("gridpose", deadline=None)
hypothesis.settings.load_profile("gridpose")


@pytest.fixture(scope="session", autouse=True)
def interrupts_count():
    """Shells start what runs in the background with interrupts ignored, and so would the tests."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def make_video():
    """``make_video(path, frames=, fps=, size=, audio=, ...)``: see media.make_video."""
    return media.make_video


@pytest.fixture(scope="session")
def sample_video():
    """The video of ``gridpose demo``: two real people."""
    from gridpose.pipeline import sample

    try:
        return sample.sample_video()
    except MissingError as error:
        pytest.skip(f"needs the sample video: {error}")


@pytest.fixture(scope="session")
def shared():
    """Data beside the repository, not part of it."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs data that is not in the repository: {folder}")
    return folder


@pytest.fixture(scope="session")
def lifter():
    """The shipped lifter."""
    from gridpose.lifting import load_lifter

    return load_lifter()


@pytest.fixture(scope="session")
def frame_lifter():
    """The shipped lifter of single frames."""
    from gridpose.lifting import load_lifter

    return load_lifter("default-frame")


@pytest.fixture(scope="module")
def chromium():
    """A browser, as a Selenium driver."""
    with browsing() as driver:
        yield driver


@pytest.fixture
def fake_detector(monkeypatch):
    """A detector that finds nobody, in place of every detector that is loaded by name."""
    detector = FakeDetector()
    monkeypatch.setattr("gridpose.detectors.load_detector", lambda name="auto", **_: detector)
    return detector


@pytest.fixture
def invoke():
    """``invoke("video", ...)``: the command line in this process."""
    from typer.testing import CliRunner

    from gridpose.pipeline.cli import app

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run
