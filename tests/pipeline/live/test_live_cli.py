import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from media import streams
from mjpeg_server import camera

from gridpose.pipeline import read_pose_file

MAIN = [sys.executable, "-c", "from gridpose.pipeline.cli import main; main()", "live"]
JPEG = cv2.imencode(".jpg", np.full((120, 160, 3), 90, np.uint8))[1].tobytes()


@pytest.fixture
def stream():
    with camera([JPEG], 20.0) as server:
        yield server


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_interrupted_it_leaves_whole_files(stream, tmp_path, number, code):
    """Poses of a stream that breaks off once come as lines meanwhile."""
    stream.limit = 60
    video, poses = tmp_path / "out.mp4", tmp_path / "out.npz"
    kept = ["--record", str(video), "--save-poses", str(poses)]
    command = [*MAIN, stream.address, "--json", "--no-serve", *kept]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        watchdog = threading.Timer(100, child.kill)
        watchdog.start()
        lines = []
        for line in child.stdout:
            lines.append(json.loads(line))
            if stream.clients > 1:
                break
        child.send_signal(number)
        lines += [json.loads(line) for line in child.stdout]
        said = child.stderr.read()
        watchdog.cancel()
    assert child.returncode == code, said
    assert all(line["people"] == [] for line in lines)
    assert "gives no pictures any more" in said
    assert "h264" in streams(video)[0]
    times = read_pose_file(poses).frame_time
    np.testing.assert_allclose(times, [line["time"] for line in lines], atol=1e-3)
    assert sorted(tmp_path.iterdir()) == [video, poses]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["/dev/video97"], 4, "camera"),
        (["nosuch.mp4"], 3, "no such file"),
        (["rtsp://127.0.0.1:9/x"], 3, "no stream"),
        (["clip.mp4", "--udp", "host"], 2, "HOST:PORT"),
        (["clip.mp4", "--record", "out.avi"], 2, ".mp4"),
        (["clip.mp4", "--give-up", "0"], 2, "--give-up 0"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(invoke, arguments, code, words):
    result = invoke("live", *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_with_a_display_it_is_a_window(make_video, tmp_path):
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("needs Xvfb (Debian: xvfb)")
    file = make_video(tmp_path / "clip.mp4", frames=40, fps="20", size=(160, 120))
    read, write = os.pipe()
    with subprocess.Popen(
        [server, "-displayfd", str(write)], pass_fds=[write], stderr=subprocess.DEVNULL
    ) as screen:
        try:
            number = os.read(read, 20).decode().strip()
            done = subprocess.run(
                [*MAIN, str(file)],
                env={**os.environ, "DISPLAY": f":{number}"},
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
        finally:
            screen.terminate()
    assert done.returncode == 0, done.stderr
    assert "open http" not in done.stderr
    assert "frames" in done.stderr.splitlines()[-1]
