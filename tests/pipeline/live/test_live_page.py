import json
import threading
import time
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest
from mjpeg_server import parts
from poses import MOCAP, tracks_of

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


class Shown:
    """A page that is shown in the browser, while a thread shows pictures in it."""

    def __init__(self, driver, page):
        self.driver, self.page, self.people = driver, page, []
        self.state = State(fps=12.0)
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.play)
        self.thread.start()
        driver.get_log("browser")  # of pages before
        driver.get(page.address)
        self.until("return window.gridpose?.frames > 2")

    def play(self):
        number = 0
        while not self.done.wait(0.05):
            number += 1
            if self.page.is_watched:
                self.page.show(PICTURE, self.people, number / 20, self.state)

    def until(self, code, *arguments):
        end = time.monotonic() + PATIENCE
        while not (value := self.driver.execute_script(code, *arguments)):
            assert time.monotonic() < end, code
            time.sleep(0.02)
        return value

    def key(self, key):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def close(self):
        self.done.set()
        self.thread.join()


@pytest.fixture
def shown(chromium, page):
    one = Shown(chromium, page)
    yield one
    one.close()


JOINT = """
const [wanted, joint] = arguments;
const { skeletons } = gridpose.stage;
const skeleton = skeletons.find(({ id, group }) => group.visible && id === wanted);
return skeleton?.jointPosition(joint);
"""


@pytest.mark.slow
def test_the_browser_shows_who_is_there(shown):
    tracks = tracks_of(MOCAP - (1, 1, 0) * MOCAP[:, :1], (MOCAP - (1, 1, 0) * MOCAP[:, :1])[::-1])
    shown.people = tracks.people(5)
    shown.until("return gridpose.people.length === 2")
    for person in shown.people:
        for joint in (0, 10, 13):
            place = shown.until(JOINT, person.track_id, joint)
            np.testing.assert_allclose(place, person.pose_world[joint], atol=1e-3)
    left, right = shown.driver.execute_script(
        "return gridpose.stage.skeletons.slice(0, 2).map(({ group }) => group.position.x)"
    )
    assert abs(left - right) > 0.5
    assert shown.until("return document.getElementById('picture-now').naturalWidth") == 64
    shown.people = shown.people[1:]
    number = shown.people[0].track_id
    shown.until("return gridpose.stage.skeletons.filter(({group}) => group.visible).length === 1")
    shown.until(JOINT, number, 0)
    assert not [line for line in shown.driver.get_log("browser") if line["level"] == "SEVERE"]


@pytest.mark.slow
def test_the_browser_has_keys_and_tells_of_trouble(shown, controls):
    shown.key("l")
    assert shown.driver.execute_script("return document.body.dataset.layout") == "picture"
    shown.key("t")
    assert shown.driver.execute_script("return gridpose.stage.controls.autoRotate")
    shown.key(" ")
    shown.state = State(paused=True, trouble="camera 0: gone")
    shown.until("return document.getElementById('pause').textContent === 'Go on'")
    shown.until("return document.getElementById('trouble').textContent === 'camera 0: gone'")
    assert controls.paused
    shown.key("q")
    end = time.monotonic() + PATIENCE
    while not controls.quit:
        assert time.monotonic() < end
        time.sleep(0.02)
    shown.page.close()
    shown.until("return document.getElementById('trouble').textContent.includes('has ended')")
