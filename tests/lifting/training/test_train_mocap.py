"""``gridpose train --mocap``: lifters trained on poses drawn from motion capture."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gridpose.lifting import load_lifter
from gridpose.lifting.weights.temporal_checkpoint import read_temporal

torch.set_num_threads(1)

MOCAP = Path(__file__).parents[2] / "data" / "mocap_small.npz"
RECIPE = (
    *("--lifting-model", "dgridconv", "--padding-mode", "c", "z", "--dropout", 0, "--loss"),
    *("sqrtl2", "--optimizer", "muon", "--lr", 5e-3, "--lr-schedule", "trapezoid"),
    *("--temperature-schedule", "linear", "--temp-epoch", 1, "--ema", 0.9, "--frozen-epochs", 1),
    *("--hidsize", 16, "--num-block", 1, "--batch", 32, "--steps", 6, "--device", "cpu"),
)


@pytest.fixture
def run(invoke, tmp_path):
    def run(*options):
        return invoke("train", "--mocap", MOCAP, "--ckpt", tmp_path, "--json", *options)

    return run


def figures(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_it_learns_and_makes_a_usable_lifter(run, tmp_path):
    result = run(*RECIPE, "--epoch", 5)
    assert figures(result)["epochs"] == 5
    assert "drawn from the same motion capture" in result.stderr
    lines = (tmp_path / "temporary" / "curves.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines[1:]]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["mpjpe"] < 0.7 * rows[0]["mpjpe"]
    assert rows[-1]["temperature"] == 1
    assert 1e-4 < rows[-1]["lr"] < 5e-4  # the end of the frozen epoch's slope
    lifter = load_lifter(tmp_path / "temporary" / "last.safetensors")
    assert lifter.checkpoint.normalisation == "person"
    assert set(lifter.checkpoint.training["data_sha256"]) == {MOCAP.name}
    poses = lifter.lift(np.random.default_rng(1).uniform(0, 500, (3, 17, 2)), (640, 480))
    assert np.isfinite(poses).all()


def test_it_goes_on_where_it_stopped(run, tmp_path):
    recipe = [*RECIPE, "--lr-schedule", "stepped", "--frozen-epochs", 0]
    recipe += ["--steps", 2, "--batch", 8]
    figures(run(*recipe, "--epoch", 2, "--exp", "whole"))
    figures(run(*recipe, "--epoch", 1, "--exp", "parts"))
    figures(run(*recipe, "--epoch", 2, "--exp", "parts", "--resume"))
    whole, parts = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


def test_time_ends_it(run):
    found = figures(run(*RECIPE, "--steps", 10**9, "--epoch", 2, "--seconds", 0.5))
    assert found["epochs"] == 2


def test_several_files_need_the_option_but_once(run):
    assert figures(run(MOCAP, *RECIPE, "--steps", 1, "--epoch", 2))["epochs"] == 2


def test_a_network_that_sees_time(run, tmp_path):
    sizes = ("--hidsize", 16, "--batch", 2, "--steps", 2, "--epoch", 2, "--device", "cpu")
    found = figures(
        run("--temporal", "default-frame", "--still", MOCAP, *sizes, "--optimizer", "muon")
    )
    assert found["best"]["mpjpe"] > 0
    file = tmp_path / "temporary" / "last.safetensors"
    assert read_temporal(file).frames is not None
    keypoints = np.random.default_rng(1).uniform(0, 500, (20, 17, 2))
    assert np.isfinite(load_lifter(file).lift_sequence(keypoints, (640, 480))).all()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--mocap", "/nowhere.npz"), 3, "/nowhere.npz: no such file"),
        (("--mocap", __file__), 3, "not an npz file"),
        (("--still", MOCAP), 2, "--still goes with --mocap and --temporal only"),
        (("--frozen-epochs", 9, "--epoch", 9), 2, "--frozen-epochs 9: must be fewer"),
        (("--optimizer", "muon", "--grid-lr", 2), 2, "--grid-lr goes with"),
        (("--warm-up", 2), 2, "--warm-up 2.0"),
        (("--seconds", 0), 2, "--seconds 0.0"),
    ],
)
def test_errors_are_one_sentence(run, options, code, words):
    result = run(*options, "--device", "cpu")
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_files_without_the_option(invoke):
    result = invoke("train", MOCAP)
    assert result.exit_code == 2
    assert f"{MOCAP}: nothing is expected here but options" in result.stderr
