import pytest

from gridpose.core import MissingError, UsageError
from gridpose.pipeline.outputs import check_output
from gridpose.storage import partial_name, replacing


def write_and_fail(file, error):
    with replacing(file) as partial:
        partial.write_text("half")
        raise error


def test_a_good_name_leaves_nothing(tmp_path):
    check_output(tmp_path / "a.mp4", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_not_touched_by_the_check(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_text("mine")
    with pytest.raises(UsageError, match="`overwrite=True` to replace"):
        check_output(file, overwrite=False)
    check_output(file, overwrite=True)
    assert file.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_relative_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = type(tmp_path)("a.mp4")
    check_output(file, overwrite=False)
    with replacing(file) as partial:
        partial.write_text("new")
    assert (tmp_path / "a.mp4").read_text() == "new"


@pytest.mark.parametrize(
    "stem",
    [
        pytest.param("a", id="short"),
        pytest.param("x" * 251, id="as long as may be"),
        pytest.param("日" * 83, id="long, of 3 bytes a character"),
        pytest.param("🙂" * 62, id="long, of 4 bytes a character"),
        ".hidden",
        "a.b.c",
        "with space",
    ],
)
def test_every_name_that_a_file_may_have(tmp_path, stem):
    file = tmp_path / f"{stem}.mp4"
    file.touch()  # the file system takes it
    file.unlink()
    check_output(file, overwrite=False)
    partial = partial_name(file)
    assert partial.parent == file.parent
    assert partial.suffix == ".mp4"
    assert partial != partial_name(file)
    with replacing(file) as partial:
        partial.write_text("new")
    assert file.read_text() == "new"


def test_the_name_appears_at_the_end(tmp_path):
    file = tmp_path / "a.npz"
    file.write_text("old")
    with replacing(file) as partial:
        partial.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_keeps_what_was_there(tmp_path, error):
    file = tmp_path / "a.npz"
    file.write_text("old")
    with pytest.raises(error):
        write_and_fail(file, error)
    assert file.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError("No space left on device")]
)
def test_what_the_disk_says_is_in_the_error(tmp_path, error):
    with pytest.raises(MissingError, match=r"a\.npz: cannot be written \(No space left on device"):
        write_and_fail(tmp_path / "a.npz", error)
    assert list(tmp_path.iterdir()) == []
