import hashlib
import json
import types

import pytest
from fault_server import Served, serving

from gridpose.detectors import registry
from gridpose.detectors.registry import MODELS, Model, weights_file

CONTENT = b"weights" * 300_000


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


@pytest.fixture
def tiny(home, monkeypatch):
    """A registered model that a server on loopback has, and what that server answers."""
    with serving() as server:
        served = server.files["/tiny.pth"] = Served(CONTENT)
        tiny = Model(
            name="tiny",
            file="tiny.pth",
            urls=(f"{server.address}/tiny.pth",),
            sha256=hashlib.sha256(CONTENT).hexdigest(),
            size=len(CONTENT),
            licence="Apache-2.0; trained on nothing",
            input_size=(192, 256),
            yields="coco-17",
            config="none",
            quality="none",
        )
        models = types.MappingProxyType({**MODELS, "tiny": tiny})
        monkeypatch.setattr(registry, "MODELS", models)
        yield tiny, served


def test_the_list_says_what_is_here(invoke, tiny):
    before = invoke("models", "list")
    invoke("models", "download", "tiny")
    after = json.loads(invoke("models", "list", "--json").stdout)["models"]

    for name in (*MODELS, "tiny"):
        assert name in before.stdout
    assert "whose licence allows academic use only" in before.stdout
    present = [model["name"] for model in after if model["present"]]
    assert [name for name in present if not name.startswith("blazepose")] == ["tiny"]
    assert {"blazepose-full", "blazepose-detector"} <= set(present)  # as installed
    assert after[-1]["size"] == len(CONTENT)


def test_a_download_is_checked_and_done_once(invoke, tiny):
    model, served = tiny
    first = invoke("models", "download", "tiny", "--json")
    again = invoke("models", "download", "tiny")

    assert first.exit_code == again.exit_code == 0, first.stderr
    assert json.loads(first.stdout) == {"downloaded": {"tiny": str(weights_file(model))}}
    assert "Apache-2.0; trained on nothing" in first.stderr
    assert "tiny: is here already" in again.stderr
    assert weights_file(model).read_bytes() == CONTENT
    assert len(served.requests) == 1


def test_a_damaged_file_is_found_and_mended(invoke, tiny):
    model, _ = tiny
    weights_file(model).parent.mkdir()
    weights_file(model).write_bytes(b"half")

    found = invoke("models", "verify")
    mended = invoke("models", "download", "tiny")
    right = invoke("models", "verify", "tiny", "--json")

    assert found.exit_code == 3
    assert "tiny: damaged: SHA-256 " in found.stdout
    assert "gridpose models download tiny fetches it" in found.stderr
    assert mended.exit_code == 0, mended.stderr
    assert "fetching it again" in mended.stderr
    assert right.exit_code == 0
    assert json.loads(right.stdout) == {"verified": [{"name": "tiny", "fault": None}]}


def test_a_file_that_cannot_be_had_is_told_in_one_sentence(invoke, tiny):
    _, served = tiny
    served.always = "404"

    result = invoke("models", "download", "tiny")

    assert result.exit_code == 4
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: tiny.pth could not be downloaded (http://127.0.0.1")
    assert "put the file by hand at" in last


def test_names_are_checked_before_anything_is_fetched(invoke, tiny):
    _, served = tiny
    result = invoke("models", "download", "tiny", "nonsense")

    assert result.exit_code == 2
    assert "unknown model 'nonsense'; known are hrnet-w48-coco-384x288" in result.stderr
    assert served.requests == []


def test_verifying_what_is_not_there(invoke, home):
    lines = invoke("models", "verify").stdout.splitlines()
    assert {"blazepose-full: right", "blazepose-detector: right"} <= set(lines)
    assert all(line.startswith("blazepose") for line in lines)
    result = invoke("models", "verify", "hrnet-w32-coco")
    assert result.exit_code == 4
    assert "hrnet-w32-coco: not here; gridpose models download hrnet-w32-coco" in (result.stderr)
