import json
import threading
import time
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest
from mjpeg_server import parts

from gridpose.core import UsageError
from gridpose.pipeline.live.controls import Controls, State
from gridpose.pipeline.live.page import Page

PATIENCE = 20.0
PICTURE = np.full((48, 64, 3), (200, 100, 50), np.uint8)


@pytest.fixture
def controls():
    return Controls()


@pytest.fixture
def page(controls):
    one = Page(0, controls)
    yield one
    one.close()


def get(page, path, **headers):
    request = urllib.request.Request(page.address.rstrip("/") + path, headers=headers)
    return urllib.request.urlopen(request, timeout=PATIENCE)


def press(page, name, **headers):
    address = f"{page.address}keys/{name}"
    request = urllib.request.Request(address, method="POST", headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.status


def watched(page):
    end = time.monotonic() + PATIENCE
    while not page.is_watched:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_everything_that_the_page_asks_for_is_there(page):
    with get(page, "/") as answer:
        text = answer.read().decode()
        assert answer.headers["Content-Type"].startswith("text/html")
    for path in ("/viewer.css", "/live.css", "/live.js"):
        assert f'"{path}"' in text
    with get(page, "/live.js") as answer:
        assert answer.headers["Content-Type"].startswith("text/javascript")
    imports = json.loads(text.partition('type="importmap">')[2].partition("</script>")[0])[
        "imports"
    ]
    for name in ("three", "gridpose/stage.js", "three/addons/controls/OrbitControls.js"):
        path = next(
            address + name.removeprefix(start)
            for start, address in reversed(imports.items())
            if name == start or (start.endswith("/") and name.startswith(start))
        )
        with get(page, path) as answer:
            assert answer.headers["Content-Type"].startswith("text/javascript")
            assert answer.read()
    with get(page, "/setup") as answer:
        setup = json.load(answer)
    assert len(setup["jointNames"]) == 17
    assert setup["families"]


def test_pictures_come_as_mjpeg(page):
    with get(page, "/picture") as stream:
        watched(page)
        page.show(PICTURE, [], 0.5, State())
        image = cv2.imdecode(np.frombuffer(next(parts(stream)), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(image.astype(int) - PICTURE[..., ::-1]).max() < 6


def test_poses_and_state_come_as_events(page):
    with get(page, "/poses") as stream:
        watched(page)
        page.show(PICTURE, [], 0.5, State(fps=12.0, dropped=3))
        assert stream.headers["Content-Type"] == "text/event-stream"
        told = next(json.loads(line[6:]) for line in stream if line.startswith(b"data: "))
        assert told["time"] == 0.5
        assert told["people"] == []
        assert told["state"]["fps"] == 12
        assert told["state"]["dropped"] == 3
        page.attend(State(trouble="camera 0: gone"))
        told = next(json.loads(line[6:]) for line in stream if line.startswith(b"data: "))
        assert told["state"]["trouble"] == "camera 0: gone"
        assert "people" not in told
        threading.Thread(target=page.close).start()
        assert b"event: end\n" in list(stream)


def test_nobody_is_drawn_for_whom_nobody_watches(page):
    assert not page.is_watched
    with get(page, "/picture"):
        watched(page)


def test_keys_steer_the_session(page, controls):
    assert press(page, "pause") == 204
    assert controls.paused
    assert press(page, "pause", Origin=page.address.rstrip("/")) == 204
    assert not controls.paused
    assert press(page, "quit") == 204
    assert controls.quit


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda page: get(page, "/", Host="evil.example"), 403),
        (lambda page: get(page, "/picture", Host="evil.example:80"), 403),
        (lambda page: press(page, "quit", Host="evil.example"), 403),
        (lambda page: press(page, "quit", Origin="http://evil.example"), 403),
        (lambda page: press(page, "launch"), 404),
        (lambda page: get(page, "/../pyproject.toml"), 404),
        (lambda page: get(page, "/modules/../../core.py"), 404),
    ],
)
def test_others_get_nothing(page, controls, call, status):
    with pytest.raises(urllib.error.HTTPError) as answer:
        call(page)
    assert answer.value.code == status
    assert not controls.quit


def test_a_port_that_is_taken(page, controls):
    port = int(page.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(UsageError, match=rf"`port={port}`: cannot be had"):
        Page(port, controls)
