"""``gridpose app`` as people use it, in headless Chromium."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests
from browser import browsing
from media import ffmpeg

from gridpose.pipeline import read_pose_file

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason="needs Gradio (pip install gradio)")

PHONE, DESKTOP = (390, 844), (1280, 900)
SECONDS = 120
FORMATS = {"mp4", "npz", "json", "csv", "trc", "c3d", "bvh", "glb", "html", "png"}


class Server:
    """A server whose temporary files are all in ``temporary``."""

    def __init__(self, temporary, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.temporary = temporary
        temporary.mkdir(exist_ok=True)
        self.address = f"http://127.0.0.1:{port}/"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gridpose", "app", "--port", str(port), *arguments],
            env=os.environ | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.address in self.process.stdout.readline()

    def files(self):
        """Of sessions, without what Gradio has for itself."""
        return [file for file in self.temporary.glob("gridpose-app-*/*/*") if file.stat().st_size]

    def end(self, number):
        self.process.send_signal(number)
        self.process.wait(SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()  # where a test has failed
        self.process.wait(SECONDS)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with Server(folder, "--max-size", "2", "--max-duration", "20") as server:
        yield server
        server.end(signal.SIGTERM)
    assert list(server.temporary.iterdir()) == []


@pytest.fixture(scope="module")
def clips(sample_video, tmp_path_factory):
    """The first 1.5 s of the sample, and all of it, small."""
    folder = tmp_path_factory.mktemp("clips")
    for name, arguments in (("short", ("-t", 1.5)), ("long", ())):
        ffmpeg("-i", sample_video, *arguments, "-vf", "scale=640:-2", folder / f"{name}.mp4")
    return folder


class User:
    """Somebody who has the page open."""

    def __init__(self, driver, server, size=DESKTOP, scheme="light"):
        self.driver, self.address = driver, server.address
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
        )
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        driver.get(server.address)
        self.until(lambda: self.all("#run"))
        self.until(lambda: self.all("#upload input[type=file]"))

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def run(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def until(self, true, seconds=SECONDS):
        end = time.monotonic() + seconds
        while not (value := true()):
            assert time.monotonic() < end, self.said
            time.sleep(0.1)
        return value

    @property
    def said(self):
        return self.run("return document.querySelector('#status')?.innerText ?? ''")

    def until_said(self, pattern):
        self.until(lambda: re.search(pattern, self.said))
        return self.said

    def upload(self, file):
        self.choose(file)
        self.until(lambda: file.name.rpartition(".")[0] in self.all("#upload")[0].text)

    def choose(self, file):
        """As :meth:`upload`, but it may be refused."""
        self.run("document.querySelector('#upload button[aria-label=Clear]')?.click()")
        self.until(lambda: self.all("#upload input[type=file]"))[0].send_keys(str(file))

    def click(self, selector):
        # Not with the mouse: what is above it may still be moving.
        self.run("arguments[0].click()", self.all(selector)[0])

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, selector):
        from selenium.webdriver.common.keys import Keys

        for _ in range(80):
            self.press(Keys.TAB)
            if self.run("return document.activeElement.matches(arguments[0])", selector):
                return
        raise AssertionError(f"{selector} is not reached by the keyboard")

    def errors(self):
        return [each for each in self.driver.get_log("browser") if each["level"] == "SEVERE"]

    def foreign(self):
        """Addresses that were asked for and are not the server's."""
        events = [
            json.loads(each["message"])["message"] for each in self.driver.get_log("performance")
        ]
        asked = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        assert asked
        return [url for url in asked if not url.startswith((self.address, "data:", "blob:"))]


@pytest.fixture
def open_page(server):
    """``open_page(size, scheme)``: another user."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def opened(*arguments):
            driver = stack.enter_context(
                browsing(
                    "--use-fake-device-for-media-stream",
                    "--use-fake-ui-for-media-stream",
                    logs=("browser", "performance"),
                )
            )
            return User(driver, server, *arguments)

        yield opened


@pytest.fixture(autouse=True)
def nothing_is_left(server):
    """Files go when pages are closed, which servers notice after a moment."""
    yield
    end = time.monotonic() + SECONDS
    while left := server.files():
        assert time.monotonic() < end, left
        time.sleep(0.2)


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_from_upload_to_download_by_keyboard(size, scheme, open_page, clips, tmp_path):
    from selenium.webdriver.common.keys import Keys

    user = open_page(size, scheme)
    user.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    is_dark = user.run("return document.body.classList.contains('dark')")
    assert is_dark == (scheme == "dark")
    user.upload(clips / "short.mp4")
    user.tab_to("input[type=radio][value=overlay]")
    user.press(Keys.SPACE)
    user.tab_to("#run")
    user.press(Keys.ENTER)
    assert "45 frames, 1 person." in user.until_said(r"person|people\.")
    user.until(lambda: user.all("#downloads a"))
    assert user.run("return document.documentElement.scrollWidth <= innerWidth")
    names = [link.get_attribute("download") for link in user.all("#downloads a")]
    assert {name.rpartition(".")[2] for name in names} == FORMATS
    video = user.until(lambda: user.all("#video video"))[0]
    user.until(lambda: user.run("return arguments[0].readyState >= 2", video))
    assert user.run("return arguments[0].duration", video) == pytest.approx(1.5, abs=0.1)
    (figure,) = user.all("#angles img")
    assert user.run("return arguments[0].naturalWidth", figure) > 1000
    (viewer,) = user.all("#viewer iframe")
    user.driver.switch_to.frame(viewer)
    user.until(lambda: user.run("return window.gridpose?.ready"))
    user.until(lambda: user.run("return document.documentElement.dataset.theme") == scheme)
    user.driver.switch_to.default_content()
    user.run("document.querySelector('#downloads').scrollIntoView()")
    user.run("document.querySelector('#run').focus()")
    user.tab_to("#downloads a[download$='.npz']")
    user.press(Keys.ENTER)
    user.until(lambda: (tmp_path / "short.npz").is_file())
    poses = read_pose_file(tmp_path / "short.npz")
    assert poses.present.shape == (1, 45)
    assert poses.meta["options"]["look"]["layout"] == "overlay"
    assert user.errors() == []
    assert user.foreign() == []


def test_a_second_user_waits_and_the_first_may_cancel(open_page, clips):
    first, second = open_page(), open_page()
    first.upload(clips / "long.mp4")
    second.upload(clips / "short.mp4")
    first.click("#run")
    first.until_said(r"[1-9]\d*/\d+ frames")
    second.click("#run")
    second.until_said("Waiting, 1 before you")
    first.click("#cancel")
    first.until_said("Cancelled")
    assert "45 frames, 1 person." in second.until_said(r"person|people\.")
    assert not first.all("#downloads a")
    assert first.errors() + second.errors() == []


def test_who_leaves_amid_a_job_leaves_nothing(open_page, clips):
    user = open_page()
    user.upload(clips / "long.mp4")
    user.click("#run")
    user.until_said(r"[1-9]\d*/\d+ frames")


def test_uploads_that_are_no_good(open_page, clips, tmp_path):
    user = open_page(PHONE)
    user.click("#run")
    user.until_said("please choose a video or picture first")
    (tmp_path / "broken.mp4").write_bytes(os.urandom(20_000))
    user.upload(tmp_path / "broken.mp4")
    user.click("#run")
    said = user.until_said("broken.mp4: not a video")
    assert "/" not in said
    assert user.errors() == []
    (tmp_path / "large.mp4").write_bytes(os.urandom(3_000_000))
    user.choose(tmp_path / "large.mp4")
    user.until(lambda: "exceed the maximum allowed size" in user.all("body")[0].text)
    user.upload(clips / "short.mp4")  # the page still works
    user.click("#run")
    user.until_said("45 frames, 1 person")


def test_recording_from_the_webcam(open_page):
    user = open_page()
    user.run(
        "[...document.querySelectorAll('button[role=tab]')]"
        ".find((tab) => tab.innerText === 'Webcam' && tab.offsetParent).click()"
    )
    user.until(lambda: user.all("#webcam button"))[0].click()  # permits it
    record = "#webcam button[aria-label='start recording']"
    user.until(lambda: user.all(record))[0].click()
    time.sleep(2)
    user.click(record)  # now it stops
    user.until(lambda: user.all("#webcam button[aria-label=Clear]"))
    user.click("#run")
    said = user.until_said(r"\d+ frames, ")  # of what Chromium shows, which is nobody
    assert "nobody was found" in said
    assert user.errors() == []


def test_a_password_keeps_others_out(tmp_path):
    with Server(tmp_path, "--auth", "anna:secret") as server:
        assert requests.get(f"{server.address}config", timeout=SECONDS).status_code == 401
        upload = {"files": ("a.mp4", b"0")}
        refused = requests.post(f"{server.address}gradio_api/upload", files=upload, timeout=SECONDS)
        assert refused.status_code == 401
        session = requests.Session()
        login = {"username": "anna", "password": "secret"}
        assert session.post(f"{server.address}login", data=login, timeout=SECONDS).ok
        assert session.get(f"{server.address}config", timeout=SECONDS).ok


def test_files_that_nobody_uploaded_are_refused(server, clips):
    api, session = f"{server.address}gradio_api/", {"session_hash": "stranger"}
    config = requests.get(f"{server.address}config", timeout=SECONDS).json()
    (run,) = [each["id"] for each in config["dependencies"] if each["api_name"] == "run"]
    stolen = {"path": str(clips / "short.mp4"), "meta": {"_type": "gradio.FileData"}}
    job = {"data": [stolen, None, None, "all", "overlay", "auto", "savgol"], "fn_index": run}
    assert requests.post(f"{api}queue/join", json=job | session, timeout=SECONDS).ok
    events = requests.get(f"{api}queue/data", params=session, stream=True, timeout=SECONDS)
    lines = (line for line in events.iter_lines() if b"process_completed" in line)
    assert b'"success":false' in next(lines)
    refused = requests.get(f"{api}file={clips / 'short.mp4'}", timeout=SECONDS)
    assert refused.status_code == 403


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_server_that_is_ended_amid_a_job_leaves_no_litter(number, clips, tmp_path):
    with Server(tmp_path) as server, browsing() as driver:
        user = User(driver, server)
        user.upload(clips / "long.mp4")
        user.click("#run")
        user.until_said(r"[1-9]\d*/\d+ frames")
        server.end(number)
    if number == signal.SIGKILL:  # then it is the next one that cleans up
        assert list(tmp_path.iterdir())
        with Server(tmp_path) as server:
            server.end(signal.SIGTERM)
    assert list(tmp_path.iterdir()) == []
