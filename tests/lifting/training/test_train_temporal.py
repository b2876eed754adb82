"""``gridpose train --temporal``: a network that sees time around a lifter of single frames."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gridpose.core import InputError
from gridpose.lifting import Lifter, load_lifter
from gridpose.lifting.data.dataset import load_dataset, write_dataset
from gridpose.lifting.model.network import NetworkConfig, build_network
from gridpose.lifting.model.temporal import TemporalConfig, TemporalNetwork
from gridpose.lifting.training.windows import SequenceWindows
from gridpose.lifting.weights.checkpoint import Checkpoint, save_checkpoint
from gridpose.lifting.weights.temporal_checkpoint import (
    TemporalCheckpoint,
    read_temporal,
    save_temporal,
)

ROOT = Path(__file__).parents[3]
MOCAP = ROOT / "tests" / "data" / "mocap_small.npz"
FRAMES, NOISE_PX = 90, 8.0
SMALL = ("--hidsize", 16, "--batch", 4, "--fps", 30, "--device", "cpu", "--lr", 0.003)


def performance(seed):
    """A person who waves slowly before a camera: noisy pixels, and poses in mm."""
    random = np.random.default_rng(seed)
    with np.load(MOCAP) as data:
        positions = data["positions"].astype(np.float64)
    first, last = positions[random.integers(len(positions), size=2)]
    share = (1 - np.cos(np.linspace(0, 2 * np.pi, FRAMES)))[:, None, None] / 2
    poses = (1 - share) * (first - first[0]) + share * (last - last[0])
    angle = random.uniform(0, 2 * np.pi)
    x, y = poses[..., 0], poses[..., 1]
    across, away = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    poses = 1000 * np.stack((across, -poses[..., 2], away), -1)
    pelvis = np.array([random.normal(0, 300), 0, 4500.0])
    seen = poses + pelvis
    pixels = seen[..., :2] / seen[..., 2:] * 1145 + 500
    pixels += random.normal(0, NOISE_PX, pixels.shape)
    return pixels.reshape(FRAMES, 34), {
        "pelvis": np.tile(pelvis, (FRAMES, 1)),
        "joint_3d": poses.reshape(FRAMES, 51),
        "camera": [1145.0, 1145.0, 500.0, 500.0],
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDPOSE_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("data")
        (folder / "hrnet").mkdir()
        for split, subjects, count in (("train", ("S1", "S5"), 6), ("test", ("S9",), 2)):
            data2d, data3d = {}, {}
            for subject in subjects:
                for number in range(count):
                    key = (subject, "Waving", f"Waving {number}.54138969")
                    seed = number + 100 * len(subject) + ord(subject[-1])
                    data2d[key], data3d[key] = performance(seed)
            write_dataset(folder / "hrnet", split, data2d, data3d)
        yield folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A lifter of single frames in the published normalisation."""
    torch.manual_seed(3)
    config = NetworkConfig(kind="dgridconv", hidden=16, blocks=1)
    network = build_network(config).eval()
    checkpoint = Checkpoint(config, network.state_dict(), "published")
    file = tmp_path_factory.mktemp("frames") / "frames.safetensors"
    save_checkpoint(checkpoint, file)
    return file


@pytest.fixture
def run(invoke, root, tmp_path):
    def run(*options):
        base = ("--data_rootdir", root, "--input", "hrnet", "--ckpt", tmp_path / "runs")
        return invoke("train", *base, *SMALL, *options)

    return run


def figures(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def untrained(frames, **sizes):
    config = TemporalConfig(**{"hidden": 16, **sizes})
    torch.manual_seed(0)
    state = TemporalNetwork(config).state_dict()
    return TemporalCheckpoint(config, state, frames=load_lifter(frames).checkpoint)


@pytest.mark.parametrize("size", [(1000, 1000), (640, 480), (480, 640)])
def test_untrained_it_lifts_as_the_lifter_of_single_frames(published, tmp_path, root, size):
    file = tmp_path / "over_time.safetensors"
    save_temporal(untrained(published), file, torch.float32)
    lifter, frames = load_lifter(file), load_lifter(published)
    assert lifter.sees_time
    assert not frames.sees_time
    keypoints = load_dataset(root / "hrnet", "test", exclude_drift=False).keypoints_px[:FRAMES]
    shown = keypoints / 1000 * min(size)
    expected = frames.lift(shown, size)
    for fov in (None, 80.0):  # which such lifters do not ask for
        found = lifter.lift_sequence(shown, size, fps=30, fov_degrees=fov)
        np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.slow
def test_training_makes_the_shipped_lifter_steadier(run, invoke, root, tmp_path):
    values = figures(run("--temporal", "default-frame", "--epoch", 8, "--json"))
    best = tmp_path / "runs" / "temporary" / "best.safetensors"
    assert str(best) in values["files"]
    assert {"mpjve", "acceleration"} <= values["best"].keys()

    common = ("--data_rootdir", root, "--input", "hrnet", "--json", "--device", "cpu")
    alone = figures(invoke("eval", "--load", "default-frame", *common))
    both = figures(invoke("eval", "--load", best, "--fps", 30, *common))
    assert both["acceleration"] < 0.6 * alone["acceleration"]
    assert both["mpjve"] < 0.8 * alone["mpjve"]
    assert both["mpjpe"] < alone["mpjpe"]
    flipped = figures(invoke("eval", "--load", best, "--fps", 30, "--flip-test", *common))
    assert flipped["flip_test"]
    assert flipped["mpjpe"] != both["mpjpe"]

    words = invoke("eval", "--load", best, "--fps", 30, *common[:-3], "--device", "cpu").stdout
    assert f"acceleration error {both['acceleration']:.3f} mm per frame squared" in words


def test_it_learns_and_validation_measures_as_eval_does(run, invoke, root, published, tmp_path):
    options = ("--temporal", published, "--epoch", 2, "--select-on", "test", "--json")
    best = figures(run(*options))["best"]
    file = tmp_path / "runs" / "temporary" / "best.safetensors"
    command = ("--data_rootdir", root, "--input", "hrnet", "--device", "cpu", "--json")
    found = figures(invoke("eval", "--load", file, *command, "--fps", 30))
    alone = figures(invoke("eval", "--load", published, *command))
    assert found["mpjpe"] < 0.8 * alone["mpjpe"]
    for name in ("mpjpe", "pa_mpjpe", "mpjve", "acceleration"):
        assert found[name] == pytest.approx(best[name], abs=1e-2), name


def test_it_goes_on_where_it_stopped(run, published, tmp_path):
    whole = figures(run("--temporal", published, "--epoch", 2, "--exp", "whole", "--json"))
    figures(run("--temporal", published, "--epoch", 1, "--exp", "parts", "--json"))
    parts = figures(
        run("--temporal", published, "--epoch", 2, "--exp", "parts", "--resume", "--json")
    )
    assert parts["best"] == whole["best"]
    first, second = (
        read_temporal(tmp_path / "runs" / name / "last.safetensors") for name in ("whole", "parts")
    )
    for name, value in first.state.items():
        assert torch.equal(value, second.state[name]), name
    assert first.frames is not None
    assert first.frames.normalisation == "published"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--temporal", "nowhere.safetensors"), 4, "nowhere.safetensors: no such checkpoint"),
        (("--temporal", "default-frame", "--fps", 0), 2, "--fps 0.0"),
        (("--temporal", "default-frame", "--compile"), 2, "neither --load nor --compile"),
    ],
)
def test_errors_are_one_sentence(run, options, code, words):
    result = run(*options, "--epoch", 1)
    assert result.exit_code == code
    assert words in result.stderr


def test_windows_show_what_the_data_hold(root):
    dataset = load_dataset(root / "hrnet", "train", exclude_drift=False)
    windows = SequenceWindows(dataset, 30.0, 55.0, torch.device("cpu"))
    torch.manual_seed(5)
    batch = windows.batch(windows.order(None))
    assert len(windows) == len(dataset.sequences) * 3  # parts of 40 frames
    seen, poses = batch["within"], batch["poses"] @ batch["to_camera"].transpose(-1, -2)
    assert seen.any(1).all()
    assert not seen.all()
    assert not batch["valid"][~seen].any()
    hidden = ~batch["valid"][seen]
    assert 0.02 < hidden.float().mean() < 0.4
    known = torch.from_numpy(np.asarray(dataset.poses)).flatten(1)
    mirrored = torch.from_numpy(
        np.asarray(dataset.poses)[:, _mirrored()] * np.float32((-1, 1, 1))
    ).flatten(1)
    for pose in poses[seen][::50].flatten(1):
        nearest = min((known - pose).abs().amax(1).min(), (mirrored - pose).abs().amax(1).min())
        assert nearest < 1e-4
    torch.manual_seed(5)
    again = windows.batch(windows.order(None))
    assert all(torch.equal(value, again[name]) for name, value in batch.items())


def _mirrored():
    from gridpose.core import MIRRORED

    return list(MIRRORED)


def test_files_that_claim_anything_are_refused(published, tmp_path):
    file = tmp_path / "claims.safetensors"
    honest = untrained(published)
    for wrong in (
        replace(honest, network=TemporalConfig(hidden=4_000_000)),
        replace(honest, network=TemporalConfig(hidden=16, after=(1,) * 1000)),
        replace(honest, state={**honest.state, "more": torch.zeros(1)}),
    ):
        save_temporal(wrong, file)
        with pytest.raises(InputError, match=r"claims\.safetensors"):
            load_lifter(file)
    save_temporal(replace(honest, frames=None), file)
    with pytest.raises(InputError, match="no lifter of single frames"):
        load_lifter(file)
    save_temporal(honest, file)
    assert isinstance(load_lifter(file), Lifter)
