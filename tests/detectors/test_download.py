import errno
import hashlib
import io
import os
import socket
import tarfile
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from fault_server import Served, serving

from gridpose.core import MissingError
from gridpose.detectors import download as module
from gridpose.detectors.download import Patience, download
from gridpose.detectors.fetch import fetch as fetch_model
from gridpose.detectors.registry import (
    MODELS,
    Archive,
    check,
    is_present,
    model,
    sources,
    weights_file,
)

CONTENT = np.random.default_rng(0).bytes(500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTE = Patience(connect_seconds=2, read_seconds=0.3, tries=3, pause_seconds=0.01)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    with serving() as running:
        yield running


def fetch(server, file, *paths, size=None, **options):
    urls = [path if "://" in path else server.address + path for path in paths]
    download(urls, file, SHA256, size, patience=HASTE, **options)


def offer(server, *faults, path="/f", content=CONTENT, always=""):
    served = Served(content, list(faults), always)
    server.files[path] = served
    return served


def leftovers(folder):
    return sorted(f.name for f in folder.iterdir() if not f.name.endswith(".lock"))


def test_a_file_arrives_whole_with_news_of_its_progress(server, tmp_path):
    offer(server)
    seen = []

    fetch(server, tmp_path / "deep/er/w.pth", "/f", on_progress=lambda *n: seen.append(n))

    assert (tmp_path / "deep/er/w.pth").read_bytes() == CONTENT
    assert leftovers(tmp_path / "deep/er") == ["w.pth"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    "faults",
    [
        ["half"],
        ["half", "half", "half"],
        ["stall"],
        ["stall first"],
        ["says more"],
        ["500", "503"],
        ["429"],
        ["half", "ignore range"],
        ["half", "500", "half"],
    ],
    ids="-".join,
)
def test_faults_that_pass_are_survived(server, tmp_path, faults):
    served = offer(server, *faults)

    fetch(server, tmp_path / "w.pth", "/f")

    assert (tmp_path / "w.pth").read_bytes() == CONTENT
    assert leftovers(tmp_path) == ["w.pth"]
    assert len(served.requests) >= 2


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("404", "answered 404"),
        ("403", "answered 403"),
        ("500", "answered 500"),
        ("wrong", "sent another file: its SHA-256 is"),
        ("says less", "sent another file|bytes where"),
        ("stall first", "did not answer in time"),
        ("endless", "sent more than 500000 bytes"),
    ],
)
def test_faults_that_stay_are_clear_errors(server, tmp_path, fault, why):
    offer(server, always=fault)

    with pytest.raises(MissingError, match=why) as caught:
        fetch(server, tmp_path / "w.pth", "/f", size=len(CONTENT))

    text = str(caught.value)
    assert server.address in text
    assert f"put the file by hand at {tmp_path / 'w.pth'}" in text
    assert "\n" not in text
    assert not (tmp_path / "w.pth").exists()
    offer(server)  # the same address, mended
    fetch(server, tmp_path / "w.pth", "/f", size=len(CONTENT))
    assert (tmp_path / "w.pth").read_bytes() == CONTENT


def test_a_connection_that_always_breaks_gives_up_when_nothing_new_comes(server, tmp_path):
    served = offer(server, always="says more")

    with pytest.raises(MissingError, match="could not be downloaded"):
        fetch(server, tmp_path / "w.pth", "/f")

    assert len(served.requests) < 20
    assert not (tmp_path / "w.pth").exists()


def test_the_size_is_checked_before_anything_is_fetched(server, tmp_path):
    offer(server)

    with pytest.raises(MissingError, match="has 500000 bytes where 499999 are expected"):
        fetch(server, tmp_path / "w.pth", "/f", size=499_999)
    assert leftovers(tmp_path) == []


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    served = offer(server, "slow")

    def interrupt(done, total):
        if done > 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path / "w.pth", "/f", on_progress=interrupt)
    assert not (tmp_path / "w.pth").exists()
    served.bytes_sent = 0

    fetch(server, tmp_path / "w.pth", "/f")

    assert (tmp_path / "w.pth").read_bytes() == CONTENT
    assert served.bytes_sent < 250_000


def test_a_part_that_is_complete_needs_no_request(server, tmp_path):
    (tmp_path / ".w.pth.part").write_bytes(CONTENT)

    fetch(server, tmp_path / "w.pth", "/nowhere")

    assert (tmp_path / "w.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * 500_000, b"x" * 700_000])
def test_a_part_of_another_file_is_not_glued_to_this_one(server, tmp_path, left):
    (tmp_path / ".w.pth.part").write_bytes(left)
    offer(server)

    fetch(server, tmp_path / "w.pth", "/f")

    assert (tmp_path / "w.pth").read_bytes() == CONTENT


def test_the_next_address_is_tried(server, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/f"
    offer(server, always="wrong", path="/bad")
    offer(server)

    fetch(server, tmp_path / "w.pth", dead, "/gone", "/bad", "ftp://x/y", "/f")

    assert (tmp_path / "w.pth").read_bytes() == CONTENT


def test_offline_every_address_and_its_reason_are_named(server, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/f"

    with pytest.raises(MissingError) as caught:
        fetch(server, tmp_path / "w.pth", dead, "/gone", "file:///etc/passwd")

    text = str(caught.value)
    assert f"{dead}: Connection refused" in text
    assert "/gone: the server answered 404" in text
    assert "file:///etc/passwd: only http and https are fetched" in text
    assert caught.value.exit_code == 4
    assert "0x" not in text


def test_another_part_than_was_asked_for_is_refused(server, tmp_path):
    (tmp_path / ".w.pth.part").write_bytes(CONTENT[:1000])
    offer(server, always="wrong part")

    with pytest.raises(MissingError, match="another part than was asked for"):
        fetch(server, tmp_path / "w.pth", "/f")


def test_redirects_are_followed(server, tmp_path):
    offer(server, always="redirect")
    offer(server, path="/target")

    fetch(server, tmp_path / "w.pth", "/f")

    assert (tmp_path / "w.pth").read_bytes() == CONTENT


def test_the_file_is_asked_for_as_it_is(server, tmp_path):
    served = offer(server)

    fetch(server, tmp_path / "w.pth", "/f")

    assert served.requests[0]["Accept-Encoding"] == "identity"


def test_a_checksum_known_in_part_is_enough(server, tmp_path):
    offer(server)
    download([server.address + "/f"], tmp_path / "w.pth", SHA256[:8], patience=HASTE)
    assert (tmp_path / "w.pth").read_bytes() == CONTENT


def test_two_at_once_fetch_it_once(server, tmp_path):
    served = offer(server, "slow")
    failures = []

    def one():
        try:
            fetch(server, tmp_path / "w.pth", "/f")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert (tmp_path / "w.pth").read_bytes() == CONTENT
    assert len(served.requests) == 1


def test_a_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    served = offer(server, path="http://weights.example/f")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("http_proxy", server.address)

    fetch(server, tmp_path / "w.pth", "http://weights.example/f")

    assert len(served.requests) == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(server, tmp_path):
    offer(server)
    tmp_path.chmod(0o500)
    with pytest.raises(MissingError, match="set GRIDPOSE_HOME"):
        fetch(server, tmp_path / "w.pth", "/f")
    tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_folder(server, tmp_path):
    (tmp_path / "models").touch()
    with pytest.raises(MissingError, match="set GRIDPOSE_HOME"):
        fetch(server, tmp_path / "models/w.pth", "/f")


def test_a_full_disk_is_a_clear_error(server, tmp_path, monkeypatch):
    offer(server)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MissingError, match=r"No space left on device.*make room"):
        fetch(server, tmp_path / "w.pth", "/f", on_progress=full)


class TestRegistry:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path))

    def test_every_model_is_described(self):
        for name, one in MODELS.items():
            assert one.name == name
            assert all(url.startswith("https://") and url.endswith(one.file) for url in one.urls)
            assert len(one.sha256) in (8, 64)
            if one.archive is None:  # OpenMMLab's
                assert one.sha256[:8] in one.file
            else:
                assert len(one.archive.sha256) == 64
            assert one.licence.startswith("Apache-2.0")
            assert one.yields in ("coco-17", "human3.6m-17", "blazepose-33", "boxes")

    def test_every_pose_networks_config_is_one_that_is_known(self):
        pytest.importorskip("mmpose", reason="needs mmpose")
        from gridpose.detectors.hrnet.config import read_config

        for one in MODELS.values():
            if one.is_top_down:
                assert read_config(one.config).input_size == one.input_size

    def test_a_mirror_of_the_users_comes_first(self, monkeypatch):
        one = model("hrnet-w32-coco")
        assert sources(one) == one.urls
        monkeypatch.setenv("GRIDPOSE_MIRROR", "https://copies.example/mm/")
        assert sources(one) == (f"https://copies.example/mm/{one.file}", *one.urls)

    def test_a_file_is_right_missing_or_damaged(self, monkeypatch):
        one = model("hrnet-w32-coco")
        assert not is_present(one)
        assert check(one) == "missing"
        weights_file(one).parent.mkdir()
        weights_file(one).write_bytes(b"half")
        assert is_present(one)
        assert check(one).startswith("damaged: SHA-256 ")
        monkeypatch.setattr("gridpose.detectors.registry.file_sha256", lambda _: "81c58e40ff")
        assert check(one) is None


@pytest.fixture
def packed(tmp_path, monkeypatch, server):
    """``packed(package)``: a model that only an archive on the server has."""
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path / "home"))

    def make(package):
        offer(server, path="/package", content=package)
        url, digest = server.address + "/package", hashlib.sha256(package).hexdigest()
        offer(server, always="404")
        return replace(
            model("blazepose-lite"),
            file="w.tflite",
            urls=(server.address + "/f",),
            sha256=SHA256,
            size=len(CONTENT),
            archive=Archive(url, digest, "deep/w.tflite"),
        )

    return make


def package_of(kind, content):
    stream = io.BytesIO()
    if kind == "wheel":
        with zipfile.ZipFile(stream, "w") as wheel:
            wheel.writestr("deep/w.tflite", content)
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as tarball:
            about = tarfile.TarInfo("deep/w.tflite")
            about.size = len(content)
            tarball.addfile(about, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["wheel", "tar"])
def test_what_no_address_has_is_taken_out_of_its_archive(packed, kind):
    file = fetch_model(packed(package_of(kind, CONTENT)), patience=HASTE)

    assert file.read_bytes() == CONTENT
    assert leftovers(file.parent) == ["w.tflite"]


def test_an_archive_that_holds_something_else_is_told(packed):
    wanted = packed(package_of("wheel", b"another"))

    with pytest.raises(MissingError, match=r"holds another deep/w\.tflite: its SHA-256 is"):
        fetch_model(wanted, patience=HASTE)
    assert leftovers(weights_file(wanted).parent) == []


def test_of_archives_too_every_reason_is_named(packed, server):
    wanted = packed(package_of("wheel", CONTENT))
    del server.files["/package"]

    with pytest.raises(MissingError, match=r"/f: the server answered 404.*/package: the server"):
        fetch_model(wanted, patience=HASTE)


def test_importing_it_loads_no_network_library():
    import subprocess
    import sys

    code = (
        "import sys, gridpose.detectors.download, gridpose.detectors.registry\n"
        "print([m for m in ('requests', 'torch', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert module.Patience().tries > 1
