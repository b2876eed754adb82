"""The HTML viewer, in a real browser where there is one."""

import base64
import gzip
import html
import json
import re
import runpy
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from fault_server import Served, serving
from poses import MOCAP, tracks_of

from gridpose.core import JOINT_NAMES, InputError, MissingError
from gridpose.pipeline import RenderOptions, render_poses
from gridpose.visualize.palette import DARK, LIGHT
from gridpose.visualize.viewer import page as page_module
from gridpose.visualize.viewer import viewer_page

ROOT = Path(__file__).parents[2]
MILLIMETRE = 1e-3


@pytest.fixture(scope="module")
def tracks():
    """Two people of 60 frames, the second away now and then, neither leaving their place."""
    hips = (1, 1, 0) * MOCAP[:, :1]
    tracks = tracks_of(MOCAP - hips, (MOCAP - hips)[::-1], gaps=(0, 1, 20, 21, 22, 59))
    # Certain, so that nobody is pale.
    return replace(tracks, confidence=np.where(np.isnan(tracks.confidence), np.nan, 1))


@pytest.fixture(scope="module")
def written(tracks, make_video, tmp_path_factory):
    """The page of ``tracks`` without and with a video."""
    folder = tmp_path_factory.mktemp("viewer")
    source = make_video(
        folder / "s.mp4",
        frames=60,
        fps="30000/1001",
        size=(1280, 720),
        audio=True,
        args=["-preset", "ultrafast"],
    )
    render_poses(tracks, folder / "plain.html")
    render_poses(tracks, folder / "video.html", RenderOptions(video=source))
    return folder


# What is in the page -----------------------------------------------------------------------------


def script(text, identity):
    return re.search(rf'<script [^>]*id="{re.escape(identity)}"[^>]*>(.*?)</script>', text, re.S)[1]


def test_the_page_is_small_and_asks_for_nothing(tracks, written):
    text = (written / "plain.html").read_text()
    assert json.loads(script(text, "header"))["frames"] == 60
    assert len(text) < 400_000
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']*""", text)
    assert outside == []
    assert "default-src 'none'" in text
    assert viewer_page(tracks, title="t") == viewer_page(tracks, title="t")
    # Everything the program needs, as it is in the package.
    code = gzip.decompress(base64.b64decode(script(text, "module:gridpose/viewer.js"))).decode()
    assert code == (page_module.ASSETS / "viewer.js").read_text()
    assert "three.js authors" in html.unescape(text)


def test_the_film_is_inside(written):
    content = base64.b64decode(script((written / "video.html").read_text(), "video-file"))
    (written / "taken-out.mp4").write_bytes(content)
    film = cv2.VideoCapture(str(written / "taken-out.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_HEIGHT) == 540
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 60


def test_titles_cannot_break_out(tracks):
    text = viewer_page(tracks, title="</title><script>alert(1)</script>{{poses}}")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{poses}}" in text


def test_refusals(tracks, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="not finite or decrease"):
        viewer_page(replace(tracks, frame_time=tracks.frame_time[::-1]), title="t")
    monkeypatch.setattr(page_module, "VENDOR", tmp_path)
    with pytest.raises(MissingError, match=r"three\.module\.min\.js is missing"):
        viewer_page(tracks, title="t")


# In the browser ----------------------------------------------------------------------------------


class Page:
    """A viewer that is open in the browser."""

    def __init__(self, driver, file, size, scheme):
        self.driver = driver
        width, height = size
        phone = width < 700
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone},
        )
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        driver.get_log("browser")  # of pages before
        driver.get(file.as_uri())
        self.until("return window.gridpose?.ready")

    def run(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def until(self, code, seconds=30):
        end = time.monotonic() + seconds
        while not (value := self.run(code)):
            assert time.monotonic() < end, f"{code} stays {value!r}"
            time.sleep(0.02)
        return value

    def key(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, selector):
        self.run("document.querySelector(arguments[0]).click()", selector)

    def problems(self):
        return [line for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]

    def picture(self):
        """What the screen shows of the scene, RGB, after whatever is due has been drawn.

        Not what lies over it: swatches have the colours of skeletons.
        """
        self.run(
            "window.bare ??= document.head.appendChild(document.createElement('style'));"
            "bare.textContent = '#stage > :not(canvas) { visibility: hidden }'"
        )
        self.driver.execute_async_script(
            "const done = arguments[0];"
            "requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        screen = self.driver.get_screenshot_as_png()
        self.run("bare.textContent = ''")
        png = np.frombuffer(screen, np.uint8)
        image = cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        box = self.run("return document.getElementById('scene').getBoundingClientRect()")
        x, y, width, height = (int(box[name]) for name in ("x", "y", "width", "height"))
        return image[y : y + height, x : x + width].astype(int)


@pytest.fixture
def opened(chromium, written):
    def at(name="plain", size=(760, 480), scheme="dark"):
        return Page(chromium, written / f"{name}.html", size, scheme)

    return at


def coloured(image, colour, tolerance=40):
    """How many pixels have nearly the hue of ``colour``, in light or shade."""
    bright = image.max(-1, keepdims=True)
    wanted = np.array(colour) / max(colour)
    near = np.abs(image / np.maximum(bright, 1) - wanted).max(-1) < tolerance / 255
    return int((near & (bright[..., 0] > 90)).sum())


def test_joints_are_where_the_poses_say(opened, tracks):
    page = opened()
    assert page.run("return [gridpose.frameCount, gridpose.people]") == [60, [3, 4]]
    for frame in (0, 1, 19, 30, 59):
        page.run("gridpose.seek(arguments[0])", frame)
        here = [int(t) for t, p in zip(tracks.track_id, tracks.present[:, frame], strict=True) if p]
        assert page.run("return gridpose.visible()") == here
        for person, track_id in enumerate((3, 4)):
            drawn = page.run(
                "return arguments[1].map((name) => gridpose.jointPosition(arguments[0], name))",
                *(track_id, JOINT_NAMES),
            )
            if track_id in here:
                expected = tracks.poses_world[person, frame]
                np.testing.assert_allclose(drawn, expected, atol=MILLIMETRE)
            else:
                assert drawn == [None] * 17
    assert page.problems() == []


@pytest.mark.parametrize(("scheme", "theme"), [("dark", DARK), ("light", LIGHT)])
def test_skeletons_are_seen(opened, scheme, theme):
    page = opened(scheme=scheme)
    page.run("gridpose.seek(30)")
    both = page.picture()
    first, second = theme.family(3), theme.family(4)
    for colour in (first.left, first.right, second.left, second.right):
        assert coloured(both, colour) > 60
    page.click("[data-person='4']")
    one = page.picture()
    assert (np.abs(both - one).max(-1) > 20).sum() > 500
    assert coloured(one, second.left) < coloured(both, second.left) / 4
    assert page.run("return gridpose.visible()") == [3]
    assert page.problems() == []


def test_turning_and_views(opened):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    page = opened()
    page.run("gridpose.seek(30)")
    seen = [page.picture()]
    for view in ("1", "2", "3"):
        page.key(view)
        seen.append(page.picture())
    scene = page.driver.find_element(By.ID, "scene")
    ActionChains(page.driver).drag_and_drop_by_offset(scene, 150, -40).perform()
    seen.append(page.picture())
    for before, after in pairwise(seen):
        assert (np.abs(before - after).max(-1) > 20).sum() > 500
    # Turned by hand, it is none of the views that have a name.
    assert (
        page.run("return document.querySelectorAll('[data-view][aria-pressed=true]').length") == 0
    )
    ActionChains(page.driver).scroll_from_origin(
        _middle(scene), 0, -600
    ).perform()  # towards the viewer
    assert (np.abs(page.picture() - seen[-1]).max(-1) > 20).sum() > 500


def _middle(element):
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    return ScrollOrigin.from_element(element)


@pytest.mark.parametrize("name", ["plain", "video"])
def test_playing_takes_as_long_as_it_should(opened, name):
    page = opened(name)
    page.key(" ")
    assert page.run("return gridpose.playing")
    # Watched from within: a busy machine answers questions late, or when it has begun anew.
    (start, begun, before), (end, ended, after), pictures = page.driver.execute_async_script("""
        const done = arguments[0];
        let [first, pictures] = [null, 0];
        (function look() {
            const now = [gridpose.time, performance.now() / 1000, gridpose.framesDrawn];
            if (gridpose.frame > 2) first ??= now;
            if (first) pictures += 1;
            if (first && gridpose.frame > 40) done([first, now, pictures]);
            else requestAnimationFrame(look);
        })()""")
    assert end - start == pytest.approx(ended - begun, abs=0.35)
    assert after - before >= pictures - 2  # each picture of the screen is drawn
    page.key(" ")
    assert not page.run("return gridpose.playing")
    assert page.problems() == []


def test_keys_step_and_the_slider_follows(opened):
    from selenium.webdriver.common.keys import Keys

    page = opened()
    page.key(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert page.run("return gridpose.frame") == 2
    page.key(Keys.END)
    assert page.run("return [gridpose.frame, document.getElementById('scrub').value]") == [59, "59"]
    page.run(
        "const s = document.getElementById('scrub'); s.value = 17;"
        "s.dispatchEvent(new Event('input'))"
    )
    assert page.run("return gridpose.frame") == 17
    assert page.run("return document.getElementById('time').textContent") == "0.57"
    page.key("h")
    assert page.run("return document.getElementById('help').open")


def test_the_video_follows(opened):
    page = opened("video")
    for frame in (45, 3, 30):
        page.run("gridpose.seek(arguments[0])", frame)
        page.until("return !document.getElementById('video').seeking")
        moment = page.run("return document.getElementById('video').currentTime")
        assert moment * 30000 / 1001 == pytest.approx(frame, abs=0.1)
    # Keypoints lie over it.
    filled = page.run(
        "const c = document.getElementById('keypoints');"
        "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v > 0)"
    )
    assert filled
    page.key("v")
    assert page.run("return document.getElementById('source').hidden")
    assert page.problems() == []


@pytest.mark.parametrize("size", [(375, 667), (667, 375)])
@pytest.mark.parametrize("name", ["plain", "video"])
def test_phones(opened, size, name):
    page = opened(name, size, "light")
    overflow = page.run(
        "const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]"
    )
    assert overflow == list(size)
    # Everything can be reached: inside the window, not under something else.
    hidden = page.run("""
        return [...document.querySelectorAll("button, input, select, summary")]
            .filter((e) => e.checkVisibility() && !e.closest("dialog"))
            .filter((e) => {
                const box = e.getBoundingClientRect();
                const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                const top = document.elementFromPoint(x, y);
                return !(top && (e.contains(top) || top.contains(e)));
            })
            .map((e) => e.id || e.textContent)""")
    assert hidden == []
    page.run("gridpose.seek(30)")
    assert coloured(page.picture(), LIGHT.family(3).left) > 30


# Building ----------------------------------------------------------------------------------------


@pytest.fixture
def build(monkeypatch):
    """setup.py, which does not wait between attempts."""
    module = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
    module["download"].__globals__["SECONDS_BETWEEN"] = 0
    return module


@pytest.mark.parametrize("always", ["", "503", "404"])
def test_the_library_is_verified(build, tmp_path, monkeypatch, always):
    three = build["THREE"]
    path = f"/three/-/three-{three.version}.tgz"
    served = Served(b"something else", always=always)
    with serving() as server:
        server.files[path] = served
        monkeypatch.setenv("npm_config_registry", server.address)
        with pytest.raises(build["FetchError"], match=r"http.*/three/.* cannot be fetched"):
            build["fetch"](three, build["from_npm"], tmp_path / "vendor")
    assert len(served.requests) == (1 if always == "404" else build["ATTEMPTS"])
    assert not (tmp_path / "vendor").exists()


def test_what_is_there_is_not_fetched_again(build, tmp_path, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    three = build["THREE"]
    for name in (*three.members, three.stamp):
        (tmp_path / name).write_text(three.version)
    build["fetch"](three, build["from_npm"], tmp_path)
    (tmp_path / three.stamp).write_text("0.1.0")
    with pytest.raises(build["FetchError"], match="cannot be fetched"):
        build["fetch"](three, build["from_npm"], tmp_path)


def building(build, monkeypatch, without):
    """Build with one source that cannot be had; returns what was fetched."""
    fetched = []

    def fetch(package, source):
        if source is build[without]:
            raise build["FetchError"]("no connection")
        fetched.append(package.name)

    command = build["BuildWithVendored"]
    monkeypatch.setitem(command.run.__globals__, "fetch", fetch)
    monkeypatch.setattr(command.__base__, "run", lambda self: None)
    command.run(object.__new__(command))
    return fetched


def test_without_npm_the_build_goes_on_and_says_what_it_lacks(build, monkeypatch, capsys):
    assert building(build, monkeypatch, "from_npm") == ["mediapipe"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "gridpose models download blazepose-heavy" in said[0]
    assert "HTML" in said[1]


def test_without_the_detectors_networks_there_is_no_build(build, monkeypatch):
    with pytest.raises(SystemExit, match=r"error: .*MediaPipe's networks: no connection"):
        building(build, monkeypatch, "from_pypi")
