"""A batch on Ray: a real local cluster, and one of two nodes of which one is killed."""

import json
import os
import signal
import sys
import time

import pytest

from gridpose.core import MissingError
from gridpose.pipeline import BatchOptions, VideoOptions, read_pose_file, run_batch
from gridpose.pipeline.batch.journal import Journal
from gridpose.pipeline.batch.run import JOURNAL, STATE_FOLDER

HERE = BatchOptions(engine="ray", video=VideoOptions(detector="blazepose-full", device="cpu"))


@pytest.fixture
def ray():
    return pytest.importorskip("ray", reason="needs Ray: pip install 'gridpose[ray]'")


@pytest.fixture
def clips(tmp_path, make_video):
    def make(count, frames=8, size=(160, 120)):
        folder = tmp_path / "in"
        folder.mkdir()
        for number in range(count):
            # Noise is longer on its way through everything than a smooth picture.
            make_video(folder / f"c{number}.mp4", frames=frames, fps="25", size=size)
        return folder

    return make


def whole(output, count, frames):
    return all(
        len(read_pose_file(output / f"c{number}.npz").frame_time) == frames
        for number in range(count)
    )


def test_without_ray(tmp_path, clips, invoke, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = invoke("batch", clips(1), "-o", tmp_path / "out", "--engine", "ray")
    assert result.exit_code == 4
    assert "pip install 'gridpose[ray]'" in result.stderr


def test_on_this_machine(ray, tmp_path, clips, invoke):
    folder, output = clips(2), tmp_path / "out"
    (folder / "broken.mp4").write_bytes(b"none")
    options = ("--engine", "ray", "--detector", "blazepose-full", "--no-render", "--json")
    result = invoke("batch", folder, "-o", output, *options)
    assert result.exit_code == 5, result.output
    assert json.loads(result.stdout)["states"] == {"done": 2, "failed": 1}
    assert whole(output, 2, 8)
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there(ray, tmp_path, clips, invoke):
    started = time.monotonic()
    options = ("--engine", "ray", "--address", "127.0.0.1:9")
    result = invoke("batch", clips(1), "-o", tmp_path / "out", *options)
    assert result.exit_code == 4, result.output
    assert "127.0.0.1:9" in result.stderr
    assert time.monotonic() - started < 90


@pytest.mark.slow
def test_a_machine_is_lost_in_the_middle(ray, tmp_path, clips):
    """Of two nodes one is killed while both are at work; its videos are done by the other."""
    from ray.cluster_utils import Cluster

    folder, output, count, frames = clips(8, frames=200, size=(320, 240)), tmp_path / "out", 8, 200
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = cluster.add_node(num_cpus=1)
    killed = []

    def kill_one(news):
        # When the first are done, both nodes have their models and are in the middle of others.
        if news.finished == 2 and not killed:
            raylet = lost.all_processes["raylet"][0].process.pid
            killed.append(raylet)
            os.kill(raylet, signal.SIGKILL)

    try:
        options = BatchOptions(
            engine="ray", address=cluster.address, video=HERE.video, render=False
        )
        result = run_batch(folder, output, options, on_progress=kill_one)
    finally:
        cluster.shutdown()
    assert killed
    assert result.states == {"done": count}
    assert whole(output, count, frames)
    assert not list(output.rglob("*.part.*"))


def test_what_is_interrupted_is_pending(ray, tmp_path, clips):
    def stop(news):
        raise KeyboardInterrupt

    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_batch(clips(2), output, HERE, on_progress=stop)
    assert not ray.is_initialized()
    with Journal(output / STATE_FOLDER / JOURNAL) as journal:
        assert {entry.state for entry in journal.entries().values()} == {"pending"}


def test_models_that_cannot_be_loaded(ray, tmp_path, clips):
    options = BatchOptions(engine="ray", video=VideoOptions(lifter="default", device="cuda:7"))
    with pytest.raises(MissingError, match="cuda:7"):
        run_batch(clips(1), tmp_path / "out", options)
