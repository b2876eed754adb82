import zipfile

import pytest

from gridpose.core import MissingError
from gridpose.pipeline.sample import sample_video
from gridpose.pipeline.video.ffmpeg import probe


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache, and a pip that finds packages in the folder ``wheels`` only."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return tmp_path


def test_without_pip_it_is_something_missing(home, monkeypatch):
    monkeypatch.setattr("gridpose.pipeline.sample.sys.executable", str(home / "no-python"))
    with pytest.raises(MissingError, match="could not be fetched from PyPI"):
        sample_video()


def test_another_video_under_the_same_name_is_not_taken(home):
    wheel = home / "wheels" / "sports2d-0.8.34-py3-none-any.whl"
    info = "sports2d-0.8.34.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("Sports2D/Demo/demo.mp4", b"something else")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: sports2d\nVersion: 0.8.34\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    with pytest.raises(MissingError, match="not the expected one"):
        sample_video()
    assert list((home / "home").iterdir()) == []


def test_from_the_cache_it_needs_no_network(sample_video, home):
    from gridpose.pipeline import sample

    (home / "home").mkdir()
    copy = home / "home" / sample_video.name
    copy.write_bytes(sample_video.read_bytes())
    assert sample.sample_video() == copy


def test_a_damaged_copy_in_the_cache_is_not_taken(sample_video, home):
    """Nor, offline, anything in its place."""
    from gridpose.pipeline import sample

    (home / "home").mkdir()
    (home / "home" / sample_video.name).write_bytes(sample_video.read_bytes()[:-1])
    with pytest.raises(MissingError, match=r"could not be fetched from PyPI.*gridpose video"):
        sample.sample_video()


def test_it_is_the_video_that_the_demo_announces(sample_video):
    info = probe(sample_video)
    assert info.frames_announced == pytest.approx(230, abs=3)
    assert min(info.width, info.height) >= 480
