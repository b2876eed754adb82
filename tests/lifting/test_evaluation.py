"""The report of a whole evaluation, from poses or from a lifter and a data set."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gridpose.core import JOINT_NAMES, MIRRORED, InputError
from gridpose.lifting import load_lifter
from gridpose.lifting.data.dataset import PoseDataset, Sequence, load_dataset
from gridpose.lifting.evaluation import (
    LeftOut,
    describe_protocol,
    evaluate,
    left_out_of,
    predict,
    report,
)
from gridpose.lifting.lifter import Lifter
from gridpose.lifting.model.network import NetworkConfig
from gridpose.lifting.weights.checkpoint import Checkpoint

DATA = Path(__file__).parents[1] / "data"
METRICS = dict(np.load(DATA / "evaluation_metrics.npz"))
EXPECTED = json.loads(str(METRICS["expected"]))
NETWORK = dict(np.load(DATA / "golden_dgridconv_cz.npz"))
POINTS = NETWORK["poses_2d"] * 500 + 500


def sequences(*lengths, subject="S9", action="Walking"):
    ends = np.cumsum(lengths).tolist()
    return tuple(
        Sequence(subject, action, f"{action} {number}.cam", end - length, end)
        for number, (length, end) in enumerate(zip(lengths, ends, strict=True))
    )


def published_lifter(temperature=30.0, normalisation="published", **options):
    """The golden network: random weights, but the published code's answers to them are known."""
    state = {
        key.removeprefix("state/"): torch.from_numpy(value)
        for key, value in NETWORK.items()
        if key.startswith("state/")
    }
    config = NetworkConfig(hidden=16, temperature=temperature)
    return Lifter(Checkpoint(config, state, normalisation), **options)


def golden_dataset(targets):
    half = len(POINTS) // 2
    first, second = sequences(half, len(POINTS) - half)
    return PoseDataset(
        POINTS.astype(np.float32),
        targets.astype(np.float32),
        (
            Sequence("S9", "Eating", "Eating.54138969", first.start, first.stop),
            Sequence("S11", "Posing", "Posing 1.54138969", second.start, second.stop),
        ),
        (
            Sequence("S11", "Directions", "Directions.54138969", 0, 7),
            Sequence("S9", "Waiting", "Waiting 1.54138969", 0, 5),
        ),
        {},
        ("an oddity",),
    )


@pytest.fixture(scope="module")
def published():
    return report(METRICS["predicted"], METRICS["target"], METRICS["actions"])


def test_totals_are_those_of_the_published_code(published):
    plain, aligned = EXPECTED["plain_f64"], EXPECTED["procrustes_f64"]
    assert published.mpjpe == pytest.approx(plain["err_ttl"], abs=1e-3)
    assert published.pa_mpjpe == pytest.approx(aligned["err_ttl"], abs=1e-3)
    assert list(published.per_axis.values()) == pytest.approx(plain["err_dim"], abs=1e-3)
    assert published.samples == 200


def test_actions_are_those_of_the_published_code(published):
    assert list(published.per_action) == sorted(EXPECTED["plain_f64"]["err_act"])
    for name, errors in published.per_action.items():
        assert errors.mpjpe == pytest.approx(EXPECTED["plain_f64"]["err_act"][name], abs=1e-3)
        wanted = EXPECTED["procrustes_f64"]["err_act"][name]
        assert errors.pa_mpjpe == pytest.approx(wanted, abs=1e-3)
        assert errors.samples == (METRICS["actions"] == name).sum()


def test_frame_mean_and_joints_are_means_over_all_poses(published):
    assert published.frame_mean.pa_mpjpe == pytest.approx(METRICS["pa_mpjpe_mm"].mean(), abs=1e-3)
    distances = np.linalg.norm(METRICS["predicted"] - METRICS["target"], axis=-1) * 1000
    assert published.frame_mean.mpjpe == pytest.approx(distances.mean(), abs=1e-3)
    assert published.frame_mean.mpjpe != pytest.approx(published.mpjpe, abs=0.1)
    by_joint = published.per_joint["mpjpe"]
    assert tuple(by_joint) == JOINT_NAMES
    assert list(by_joint.values()) == pytest.approx(distances.mean(axis=0), abs=1e-3)
    aligned = published.per_joint["pa_mpjpe"].values()
    assert np.mean(list(aligned)) == pytest.approx(published.frame_mean.pa_mpjpe)


def test_shares_within_a_distance(published):
    distances = np.linalg.norm(METRICS["predicted"] - METRICS["target"], axis=-1) * 1000
    assert published.frame_mean.pck150 == pytest.approx((distances < 150).mean())
    curve = [(distances < limit).mean() for limit in range(0, 151, 5)]
    assert published.frame_mean.auc == pytest.approx(np.mean(curve))


def test_a_rare_action_counts_as_much_as_a_frequent_one():
    target = np.zeros((4, 17, 3))
    predicted = target + np.array([10, 10, 10, 50])[:, None, None] * [0.001, 0, 0]
    result = report(predicted, target, ["a", "a", "a", "b"])
    assert result.mpjpe == pytest.approx(30)
    assert result.per_axis == pytest.approx({"x": 30, "y": 0, "z": 0})
    assert result.frame_mean.mpjpe == pytest.approx(20)


def test_nothing_is_centred():
    generator = np.random.default_rng(0)
    target = generator.normal(size=(3, 17, 3))
    result = report(target + [0.003, 0, 0.004], target, ["a"] * 3)
    assert result.mpjpe == pytest.approx(5)
    assert result.pa_mpjpe == pytest.approx(0, abs=1e-9)


def test_velocity_is_never_taken_across_sequences():
    target = np.zeros((5, 17, 3))
    predicted = np.zeros((5, 17, 3))
    predicted[1:3, :, 0] = [[0.004], [0.010]]  # moves by 4 and 6 mm
    predicted[3:, :, 0] = 7.0  # another sequence
    result = report(predicted, target, ["a"] * 5, sequences(3, 2))
    assert result.mpjve == pytest.approx((4 + 6 + 0) / 3)
    assert report(predicted, target, ["a"] * 5, sequences(1, 1, 1, 1, 1)).mpjve is None
    assert report(predicted, target, ["a"] * 5).mpjve is None


@pytest.mark.parametrize("what", ["predicted", "true"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named(what, number):
    poses = {"predicted": np.zeros((5, 17, 3)), "true": np.zeros((5, 17, 3))}
    poses[what][3:, 4, 1] = number
    with pytest.raises(InputError) as caught:
        report(poses["predicted"], poses["true"], ["a"] * 5, sequences(2, 3))
    assert f"2 of 5 {what} poses" in str(caught.value)
    assert "frame 1 of S9 Walking 1.cam" in str(caught.value)


def test_huge_numbers_are_finite():
    """A sum may overflow though no number does."""
    poses = np.full((2, 17, 3), 1e37, np.float32)
    assert report(poses, poses, ["a", "a"]).mpjpe == 0


def test_collapsed_poses_have_an_error():
    target = np.random.default_rng(0).normal(size=(4, 17, 3))
    result = report(np.zeros((4, 17, 3)), target, ["a"] * 4)
    assert 0 < result.pa_mpjpe < result.mpjpe


def test_no_poses_are_refused():
    nothing = np.empty((0, 17, 3))
    with pytest.raises(InputError, match="no poses"):
        report(nothing, nothing, [])


def test_actions_must_fit():
    poses = np.zeros((2, 17, 3))
    with pytest.raises(ValueError, match="action names"):
        report(poses, poses, ["a"])


def test_the_report_is_json(published):
    left_out = (LeftOut("S9", "Greeting.54138969", 3, "why"), LeftOut("S11", "Directions.1", 4, ""))
    result = report(
        METRICS["predicted"],
        METRICS["target"],
        METRICS["actions"],
        left_out=left_out,
        protocol="words",
        temperature=30.0,
        padding=("c", "z"),
    )
    values = json.loads(json.dumps(result.to_dict()))
    assert values["mpjpe"] == published.mpjpe
    assert values["pa_mpjpe"] == published.pa_mpjpe
    assert values["samples"] == 200
    assert values["frames_left_out"] == 7
    assert values["left_out"][0] == {
        "subject": "S9",
        "file_name": "Greeting.54138969",
        "frames": 3,
        "reason": "why",
    }
    assert (values["protocol"], values["temperature"]) == ("words", 30.0)
    assert values["padding"] == ["c", "z"]
    assert values["per_action"]["Eating"]["mpjpe"] == published.per_action["Eating"].mpjpe
    assert len(values["per_joint"]["pa_mpjpe"]) == 17
    assert values["mpjve"] is None


def test_the_csv_has_a_row_for_each_action_and_the_total(published):
    rows = list(csv.DictReader(io.StringIO(published.to_csv())))
    assert [row["action"] for row in rows] == [*published.per_action, "total"]
    assert int(rows[-1]["samples"]) == 200
    assert sum(int(row["samples"]) for row in rows[:-1]) == 200
    assert float(rows[-1]["mpjpe_mm"]) == pytest.approx(published.mpjpe, abs=1e-4)
    assert float(rows[-1]["z_mm"]) == pytest.approx(published.per_axis["z"], abs=1e-4)
    first = published.per_action[rows[0]["action"]]
    assert float(rows[0]["pa_mpjpe_mm"]) == pytest.approx(first.pa_mpjpe, abs=1e-4)


@pytest.mark.parametrize(("temperature", "answer"), [(1.0, "poses_3d"), (30.0, "poses_3d_T30")])
@pytest.mark.parametrize("batch", [1, 5, 1000])
def test_a_published_lifter_is_measured_on_what_the_published_code_answers(
    temperature, answer, batch
):
    targets = np.random.default_rng(0).normal(0, 0.3, POINTS.shape[:2] + (3,))
    lifter = published_lifter(temperature, batch_size=batch)
    result = evaluate(lifter, golden_dataset(targets))
    distances = np.linalg.norm(NETWORK[answer] - targets.astype(np.float32), axis=-1) * 1000
    half = len(POINTS) // 2
    assert result.mpjpe == pytest.approx(
        (distances[:half].mean() + distances[half:].mean()) / 2, abs=2e-2
    )
    assert result.per_action["Eating"].mpjpe == pytest.approx(distances[:half].mean(), abs=2e-2)
    assert result.temperature == temperature
    assert result.padding == ("c", "z")
    assert result.notes == ("an oddity",)
    assert result.frames_left_out == 12
    steps = np.linalg.norm(np.diff(NETWORK[answer] - targets, axis=0), axis=-1).mean(-1) * 1000
    assert result.mpjve == pytest.approx(np.delete(steps, half - 1).mean(), abs=5e-2)


def test_the_answer_of_a_published_lifter_is_not_centred():
    poses = predict(published_lifter(), POINTS)
    np.testing.assert_allclose(poses, NETWORK["poses_3d_T30"], atol=1e-4)
    assert np.abs(poses[:, 0]).max() > 0.01


def test_another_lifter_is_told_the_frame_and_answers_with_the_hip_at_the_origin():
    lifter = published_lifter(normalisation="frame")
    poses = predict(lifter, POINTS)
    np.testing.assert_array_equal(poses[:, 0], 0)
    golden = NETWORK["poses_3d_T30"]  # in a 1000 px frame both normalisations are the same
    np.testing.assert_allclose(poses, golden - golden[:, :1], atol=2e-4)


def test_the_lens_matters_to_a_lifter_that_asks_for_it():
    lifter = load_lifter()
    narrow, wide = (predict(lifter, POINTS, fov_degrees=fov) for fov in (30, 90))
    assert np.abs(narrow - wide).max() > 0.01


@pytest.mark.parametrize("normalisation", ["published", "frame"])
def test_the_flip_test_makes_answers_to_mirrored_people_mirrored(normalisation):
    lifter = published_lifter(normalisation=normalisation)
    mirrored = POINTS[:, list(MIRRORED)] * [-1, 1] + [1000, 0]
    both = predict(lifter, POINTS, flip_test=True)
    other = predict(lifter, mirrored, flip_test=True)[:, list(MIRRORED)] * [-1, 1, 1]
    np.testing.assert_allclose(other, both, atol=1e-4)
    assert np.abs(predict(lifter, POINTS) - both).max() > 1e-3
    result = evaluate(lifter, golden_dataset(both), flip_test=True)
    assert result.flip_test
    assert result.mpjpe < 1e-3


def test_progress_reaches_the_end():
    seen = []
    targets = np.zeros(POINTS.shape[:2] + (3,))
    evaluate(
        published_lifter(batch_size=5),
        golden_dataset(targets),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (32, 32)


def test_what_was_left_out_and_why():
    dataset = golden_dataset(np.zeros(POINTS.shape[:2] + (3,)))
    directions, waiting = left_out_of(dataset)
    assert (directions.subject, directions.frames) == ("S11", 7)
    assert waiting.file_name == "Waiting 1.54138969"
    assert "detected" in waiting.reason
    assert directions.reason not in ("", waiting.reason)


def test_the_protocol_names_input_subjects_and_rule():
    dataset = golden_dataset(np.zeros(POINTS.shape[:2] + (3,)))
    detected = describe_protocol(dataset, "hrnet", "test", True)
    assert "2D input hrnet, test subjects S9, S11;" in detected
    assert "SittingDown 1" in detected
    true = describe_protocol(dataset, "gt", "test", False)
    assert "SittingDown 1" not in true
    assert "S11 Directions" in true
    own = PoseDataset(dataset.keypoints_px, dataset.poses, sequences(32, subject="anna"), (), {})
    assert "no exclusion rule" in describe_protocol(own, "mine", "test", True)


def test_the_whole_published_run(shared, tmp_path):
    """Data and checkpoint of the published program, run through to its own result."""
    golden = shared / "golden"
    dataset = load_dataset(golden / "e2e_data", "test", exclude_drift=True, cache=tmp_path)
    for temperature, wanted in ((None, 140.170), (1.0, 348.565)):
        lifter = load_lifter(
            golden / "e2e_official_py27_h16_dgridconv_cz.pth.tar",
            padding_mode=("c", "z"),
            temperature=temperature,
            batch_size=1000,
        )
        result = evaluate(lifter, dataset)
        assert result.mpjpe == pytest.approx(wanted, abs=1e-3)
        assert (result.samples, result.frames_left_out) == (448, 32)
        if temperature is None:
            assert result.temperature == 30
            axes = {"x": 49.883, "y": 52.071, "z": 100.273}
            assert result.per_axis == pytest.approx(axes, abs=1e-3)
