"""The folder of a server."""

import signal
import subprocess
import sys
import tempfile

import pytest

from gridpose.pipeline.app.workspace import server_folder

SERVER = """
import tempfile, time
from gridpose.pipeline.app.workspace import server_folder
with server_folder() as folder:
    tempfile.NamedTemporaryFile(delete=False).close()
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_all_temporary_files_are_in_it_and_go_with_it(place):
    def interrupted():
        with server_folder() as folder:
            assert folder.parent == place
            with tempfile.NamedTemporaryFile(delete=False) as stream:
                assert stream.name.startswith(str(folder))
            assert folder.stat().st_mode & 0o077 == 0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(place.iterdir()) == []
    assert tempfile.gettempdir() == str(place)


def test_what_a_killed_server_left_goes_and_what_lives_stays(place):
    servers = [
        subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        folders = [
            place / server.stdout.readline().strip().rpartition("/")[2] for server in servers
        ]
        servers[0].send_signal(signal.SIGKILL)
        servers[0].wait()
        assert all(len(list(folder.iterdir())) == 1 for folder in folders)
        with server_folder():
            assert [folder.is_dir() for folder in folders] == [False, True]
        assert sorted(file.name for file in place.iterdir()) == [
            folders[1].name,
            f"{folders[1].name}.lock",
        ]
    finally:
        for server in servers:
            server.kill()
            server.wait()
