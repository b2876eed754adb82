import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from fakes import STANDING
from typer.testing import CliRunner

from gridpose.core import JOINT_NAMES, MIRRORED

SCRIPT = Path(__file__).parents[1] / "scripts" / "measure_detector.py"
JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
PERSONS, VIEWS = 6, 12


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("measure_detector", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def facing() -> np.ndarray:
    """Someone upright who faces the camera, 500 px tall, joints (17, 2)."""
    joints = np.asarray(STANDING, float)[:, :2]
    return joints * 500 / (joints.max(0) - joints.min(0)).max()


def samples(script, error, hidden=None, outside=None):
    """One sample for each person and view; ``error(person, view)`` (17, 2) px."""
    nothing = np.zeros(17, bool)
    return [
        script.Sample(
            str(person),
            f"view {view}",
            facing(),
            nothing if hidden is None else hidden,
            nothing if outside is None else outside,
            facing() + error(person, view),
            np.full(17, 0.95),
        )
        for person in range(PERSONS)
        for view in range(VIEWS)
    ]


def test_bias_is_measured_outwards_and_along_the_trunk(script):
    def error(person, view):
        shift = np.zeros((17, 2))
        shift[JOINT["left_ankle"]] = (10, -5)  # the person's left is at the right of the picture
        shift[JOINT["right_ankle"]] = (-10, -5)
        return shift

    visible = script.measure_pictures(samples(script, error))["visible"]
    assert visible["ankle"]["bias"] == pytest.approx({"across": 0.02, "along": 0.01}, abs=1e-4)
    assert visible["wrist"]["bias"] == pytest.approx({"across": 0, "along": 0}, abs=1e-6)
    assert visible["ankle"]["joints"] == 2 * PERSONS
    assert visible["ankle"]["detections"] == 2 * PERSONS * VIEWS


def test_errors_of_a_person_and_of_a_view_are_told_apart(script):
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, 10, (PERSONS, 17, 2))

    def error(person, view):
        return offsets[person] + rng.normal(0, 2, (17, 2))

    table = script.measure_pictures(samples(script, error))["visible"]
    between = [kind["offset_sigma"][axis] for kind in table.values() for axis in kind["sigma"]]
    within = [kind["sigma"][axis] for kind in table.values() for axis in kind["sigma"]]
    assert np.mean(between) == pytest.approx(10 / 500, rel=0.2)
    assert np.mean(within) == pytest.approx(2 / 500, rel=0.2)
    assert all(kind["tail_share"] < 0.05 for kind in table.values())


def test_exchanged_legs_are_a_swap_and_not_an_error_of_position(script):
    legs = [JOINT[f"{side}_{part}"] for side in ("left", "right") for part in ("knee", "ankle")]
    other = [MIRRORED[joint] for joint in legs]

    def error(person, view):
        shift = np.zeros((17, 2))
        if view < VIEWS // 4:
            shift[legs] = facing()[other] - facing()[legs]
        return shift

    numbers = script.measure_pictures(samples(script, error))
    assert numbers["swaps"]["share_by_part"]["knee"] == pytest.approx(0.25)
    assert numbers["swaps"]["share_by_part"]["wrist"] == 0
    assert numbers["swaps"]["patterns"] == {"knee+ankle": PERSONS * VIEWS // 4}
    assert numbers["visible"]["knee"]["detections"] == 2 * PERSONS * VIEWS * 3 // 4
    assert numbers["visible"]["knee"]["bias"]["across"] == pytest.approx(0, abs=1e-6)


def test_a_leg_put_onto_the_other_is_a_collapse(script):
    def error(person, view):
        shift = np.zeros((17, 2))
        if view < VIEWS // 3:
            shift[JOINT["left_ankle"]] = (
                facing()[JOINT["right_ankle"]] - facing()[JOINT["left_ankle"]]
            )
        return shift

    collapses = script.measure_pictures(samples(script, error))["collapses"]
    assert collapses["ankle"]["share"] == pytest.approx(1 / 3)
    assert collapses["knee"]["share"] == 0


def test_hidden_joints_and_joints_out_of_the_picture_are_counted_apart(script):
    ankles = np.isin(np.arange(17), (JOINT["left_ankle"], JOINT["right_ankle"]))

    def error(person, view):
        return np.where(ankles[:, None], (0.0, -25.0), 0.0)

    hidden = script.measure_pictures(samples(script, error, hidden=ankles))
    assert set(hidden["hidden"]) == {"ankle"}
    assert "ankle" not in hidden["visible"]
    assert hidden["hidden"]["ankle"]["bias"]["along"] == pytest.approx(0.05)

    cut = samples(script, lambda person, view: np.zeros((17, 2)))
    cut += samples(script, error, outside=ankles)
    lost = script.measure_pictures(cut)["lost"]["view 0"]
    assert lost["lost_joints"]["median_length"] == pytest.approx(0.05)
    assert lost["other_joints"]["rms"] == pytest.approx(0)


def test_what_remains_beside_a_smooth_path_is_the_jitter(script):
    rng = np.random.default_rng(0)
    time = np.arange(300.0)
    path = np.stack((0.02 * time**2, 3 * time), -1)[:, None] + np.zeros((300, 17, 2))
    calm = script.smooth_rest(path, 30)
    np.testing.assert_allclose(calm[np.isfinite(calm)], 0, atol=1e-6)
    noisy = script.smooth_rest(path + rng.normal(0, 2, path.shape), 30)
    assert np.nanstd(noisy) == pytest.approx(2, rel=0.05)


def test_a_video_tells_the_size_and_duration_of_random_errors(script):
    rng = np.random.default_rng(0)
    frames, keep = 400, 0.8
    noise = rng.normal(0, 5, (2, frames, 17, 2))
    for frame in range(1, frames):
        noise[:, frame] = keep * noise[:, frame - 1] + (1 - keep**2) ** 0.5 * noise[:, frame]
    plain, mirrored = facing() + noise
    track = script.Track(plain, mirrored, np.full((frames, 17), 0.9), 30.0)
    joints = script.measure_tracks([track])["joints"]
    sigma = np.mean([kind["sigma"][axis] for kind in joints.values() for axis in kind["sigma"]])
    assert sigma == pytest.approx(5 / 500, rel=0.15)
    lasting = [list(kind["autocorrelation"].values())[:2] for kind in joints.values()]
    np.testing.assert_allclose(np.mean(lasting, 0), (keep, keep**2), atol=0.08)


def test_keypoints_of_a_mirrored_picture_are_turned_back(script):
    keypoints = np.random.default_rng(0).uniform(0, 100, (33, 2)).astype(np.float32)
    names = script.BLAZEPOSE_33.keypoints
    turned = script.unmirrored(keypoints, 100)
    left, right = names.index("left_knee"), names.index("right_knee")
    np.testing.assert_allclose(turned[left], (100 - keypoints[right, 0], keypoints[right, 1]))
    np.testing.assert_allclose(script.unmirrored(turned, 100), keypoints, atol=1e-4)


def test_pictures_need_truth(script, tmp_path):
    picture, truth = tmp_path / "one.png", tmp_path / "truth.json"
    cv2.imwrite(str(picture), np.zeros((40, 40, 3), np.uint8))
    app = typer.Typer()
    app.command()(script.main)

    def run(*options):
        arguments = [str(picture), "-o", str(tmp_path / "out.json"), *options]
        return CliRunner().invoke(app, arguments)

    assert run().exit_code == 2
    truth.write_text(json.dumps({"images": [], "annotations": []}))
    assert run("--truth", str(truth)).exit_code == 3
    truth.write_text("[]")
    assert run("--truth", str(truth)).exit_code == 3
