import math
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gridpose.core import MIRRORED, InputError, UsageError
from gridpose.lifting import Lifter, load_lifter
from gridpose.lifting.body import to_mean_size
from gridpose.lifting.model.temporal import WINDOW_FRAMES, TemporalConfig, TemporalNetwork
from gridpose.lifting.sequences import (
    AHEAD,
    BACK,
    CHUNK,
    FADE,
    SequenceStream,
    flat_image,
    seen_joints,
)
from gridpose.lifting.weights.temporal_checkpoint import TemporalCheckpoint

SIZE = (1280, 720)
FOCAL = 640 / math.tan(math.radians(55 / 2))
MOCAP = Path(__file__).parents[1] / "data" / "mocap_small.npz"
LEGS, TOP = [1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12, 13, 14, 15, 16]


def movement(fps, seconds=4.0):
    """(T, 17, 2) px: two captured poses and what lies between them, to and fro, in a slow pan."""
    with np.load(MOCAP) as data:
        positions, clip = data["positions"].astype(np.float64), data["clip"]
    first, second = positions[clip == clip[0]][[0, 1]]
    times = np.arange(round(seconds * fps)) / fps
    share = (0.5 - 0.5 * np.cos(2 * np.pi * times / 1.6))[:, None, None]
    world = first + share * (second - first)
    world = world - world[:, :1]
    yaw = 0.3 * times
    turned = np.stack(
        (
            np.cos(yaw)[:, None] * world[..., 0] - np.sin(yaw)[:, None] * world[..., 1],
            -world[..., 2],
            4 + np.sin(yaw)[:, None] * world[..., 0] + np.cos(yaw)[:, None] * world[..., 1],
        ),
        -1,
    )
    turned[..., 0] += 0.3 * times[:, None]
    return (turned[..., :2] / turned[..., 2:] * FOCAL + np.array(SIZE) / 2).astype(np.float32)


WALK = movement(30)


@pytest.fixture(scope="module")
def walk_lifted(lifter):
    return lifter.lift_sequence(WALK, SIZE)


def mean_mm(first, second):
    return 1000 * float(np.linalg.norm(first - second, axis=-1).mean())


def test_poses_come_as_from_single_frames(lifter):
    poses = lifter.lift_sequence(WALK, SIZE)
    assert poses.shape == (len(WALK), 17, 3)
    assert poses.dtype == np.float32
    assert np.isfinite(poses).all()
    assert np.abs(poses[:, 0]).max() < 1e-6
    assert mean_mm(poses, lifter.lift(WALK, SIZE)) < 40


def test_noise_is_told_from_movement(lifter, frame_lifter):
    clean = lifter.lift_sequence(WALK, SIZE)
    noise = np.random.default_rng(0).normal(0, 2.5, WALK.shape)
    steady = lifter.lift_sequence(WALK + noise, SIZE)
    nervous = frame_lifter.lift_sequence(WALK + noise, SIZE)
    assert mean_mm(steady, clean) < 0.8 * mean_mm(nervous, frame_lifter.lift(WALK, SIZE))
    jitter = [
        np.linalg.norm(np.diff(poses, 2, axis=0), axis=-1).mean() for poses in (steady, nervous)
    ]
    assert jitter[0] < 0.15 * jitter[1]


@pytest.mark.parametrize("mixing", ["dense", "depthwise", "attention"])
def test_an_untrained_network_answers_as_single_frames_do(frame_lifter, mixing):
    config = TemporalConfig(hidden=16, mixing=mixing)
    checkpoint = TemporalCheckpoint(config, TemporalNetwork(config).state_dict())
    lifter = Lifter(frame_lifter.checkpoint, temporal=checkpoint)
    for still in (WALK[:1], np.repeat(WALK[20:21], 30, 0)):
        poses = torch.from_numpy(lifter.lift_sequence(still, SIZE))
        # The steady camera looks at the middle of the trunk as seen in another image plane.
        np.testing.assert_allclose(
            to_mean_size(poses).numpy(), frame_lifter.lift(still, SIZE), atol=0.01
        )


@pytest.mark.parametrize("length", [1, 2, 3, 7, 40, 41, 55, 95])
def test_sequences_of_any_length(lifter, walk_lifted, length):
    poses = lifter.lift_sequence(WALK[:length], SIZE)
    assert poses.shape == (length, 17, 3)
    assert mean_mm(poses, walk_lifted[:length]) < 40


def test_no_frames(lifter):
    assert lifter.lift_sequence(np.empty((0, 17, 2)), SIZE).shape == (0, 17, 3)


def test_legs_that_are_not_seen(lifter, walk_lifted):
    whole = walk_lifted
    cut = WALK.copy()
    cut[:, LEGS[1:3] + LEGS[4:6]] = np.nan
    unseen = np.ones(WALK.shape[:2], np.float32)
    unseen[:, LEGS[1:3] + LEGS[4:6]] = 0
    poses = lifter.lift_sequence(cut, SIZE)
    assert np.isfinite(poses).all()
    assert mean_mm(poses[:, TOP], whole[:, TOP]) < 60
    anything = np.where(unseen[..., None] > 0, WALK, -777)
    np.testing.assert_array_equal(poses, lifter.lift_sequence(anything, SIZE, unseen))


def test_joints_missing_for_a_moment_are_where_they_must_be(lifter, walk_lifted):
    whole = walk_lifted
    holes = WALK.copy()
    holes[30:34, [13, 16]] = np.nan
    poses = lifter.lift_sequence(holes, SIZE)
    assert mean_mm(poses[30:34], whole[30:34]) < 30


def test_frames_without_anybody_are_nan_and_do_not_matter(lifter, walk_lifted):
    whole = walk_lifted
    holes = WALK.copy()
    holes[50:56] = np.nan
    poses = lifter.lift_sequence(holes, SIZE)
    assert np.isnan(poses[50:56]).all()
    there = np.r_[:50, 56 : len(WALK)]
    assert np.isfinite(poses[there]).all()
    assert mean_mm(poses[there], whole[there]) < 10


def test_confidence_matters(lifter):
    wrong = WALK.copy()
    wrong[40:50, 16] += 120
    sure = np.full(WALK.shape[:2], 0.9, np.float32)
    unsure = sure.copy()
    unsure[40:50, 16] = 0.05
    truth = lifter.lift_sequence(WALK, SIZE, sure)
    errors = [
        mean_mm(lifter.lift_sequence(wrong, SIZE, rated)[40:50, 16], truth[40:50, 16])
        for rated in (sure, unsure)
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("fps", [12.5, 15, 24, 25, 29.97, 50, 59.94, 60, 100, 120])
def test_the_frame_rate_hardly_matters(lifter, walk_lifted, fps):
    reference = walk_lifted
    other = lifter.lift_sequence(movement(fps, 2.0), SIZE, fps=fps)
    times = np.arange(len(other)) / fps
    common = times <= (len(WALK) - 1) / 30
    nearest = np.rint(times[common] * 30).astype(int)
    exact = np.abs(times[common] * 30 - nearest) < 0.1
    assert exact.sum() >= 4
    assert mean_mm(other[common][exact], reference[nearest[exact]]) < 12


@settings(deadline=None, max_examples=5)
@example(50, [1, 1, 1, 35, 2])
@given(
    st.sampled_from([24, 30, 50, 60]),
    st.lists(st.integers(1, 50), min_size=1, max_size=8),
)
def test_frames_that_come_in_bit_by_bit_come_out_the_same(fps, parts):
    lifter = load_lifter()
    walk = movement(fps, sum(parts) / fps)
    flat, rated = flat_image(seen_joints(walk, None)[0], SIZE, 55.0), np.ones(walk.shape[:2])
    stream = SequenceStream(lifter.lift_windows, fps)
    answers, start = [], 0
    for part in parts:
        stream.add(flat[start : start + part], rated[start : start + part].astype(np.float32))
        start += part
        answers.append(stream.finished())
        out = sum(map(len, answers))
        longest = stream.look_ahead + math.ceil(CHUNK * fps / 30) + 1
        assert start - longest <= out <= max(0, start - stream.look_ahead)
    answers.append(stream.finished(at_end=True))
    expected = lifter.lift_sequence(walk, SIZE, fps=fps)
    np.testing.assert_allclose(np.concatenate(answers), expected, atol=1e-5)


def test_a_window_is_no_longer_than_in_training_and_looks_half_a_second_ahead(lifter):
    assert CHUNK + BACK + AHEAD + FADE <= WINDOW_FRAMES
    assert SequenceStream(lifter.lift_windows, 30).look_ahead == 15
    assert SequenceStream(lifter.lift_windows, 60).look_ahead == 32


def test_what_comes_much_later_does_not_matter(lifter):
    other = WALK.copy()
    other[80:] += np.random.default_rng(0).normal(0, 30, other[80:].shape)
    first, second = (lifter.lift_sequence(walk, SIZE) for walk in (WALK, other))
    np.testing.assert_allclose(first[:40], second[:40], atol=1e-6)


def test_a_mirrored_person_gives_nearly_the_mirrored_poses(lifter):
    mirrored = WALK[:, MIRRORED] * (-1, 1) + (SIZE[0], 0)
    back = lifter.lift_sequence(mirrored, SIZE)[:, MIRRORED] * (-1, 1, 1)
    assert mean_mm(back, lifter.lift_sequence(WALK, SIZE)) < 30


def test_a_lifter_of_single_frames_guesses_joints_that_are_not_seen(frame_lifter):
    assert not frame_lifter.sees_time
    holes, sure = WALK[:20].copy(), np.full((20, 17), 0.5, np.float32)
    holes[3, 5] = np.nan
    sure[7, 2] = 0
    poses = frame_lifter.lift_sequence(holes, SIZE, sure)
    there = np.setdiff1d(np.arange(20), [3, 7])
    expected = frame_lifter.lift(WALK[:20], SIZE)
    np.testing.assert_allclose(poses[there], expected[there], atol=1e-5)
    assert 0 < np.linalg.norm(poses - expected, axis=-1)[[3, 7]].max() < 0.5
    sure[9] = 0
    assert np.isnan(frame_lifter.lift_sequence(holes, SIZE, sure)[9]).all()
    with pytest.raises(UsageError, match="single frames"):
        frame_lifter.lift_windows(np.zeros((1, 2, 17, 2), np.float32), np.ones((1, 2, 17)))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"keypoints_px": WALK[0]}, InputError),
        ({"keypoints_px": WALK[..., :1]}, InputError),
        ({"confidence": np.ones(17)}, InputError),
        ({"confidence": np.ones((len(WALK), 16))}, InputError),
        ({"image_size": (1280, 0)}, InputError),
        ({"image_size": np.ones((len(WALK), 2))}, InputError),
        ({"fps": 0}, UsageError),
        ({"fps": math.nan}, UsageError),
        ({"fps": math.inf}, UsageError),
        ({"fov_degrees": 180}, UsageError),
    ],
)
def test_what_cannot_be_lifted(lifter, changed, error):
    with pytest.raises(error):
        lifter.lift_sequence(**{"keypoints_px": WALK, "image_size": SIZE, **changed})


class TestConverted:
    @pytest.fixture
    def home(self, tmp_path, monkeypatch):
        pytest.importorskip("openvino", reason="needs openvino")
        monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path))
        return tmp_path

    def test_it_is_converted_once_and_lifts_alike_without_torch(self, home, lifter, monkeypatch):
        from gridpose.lifting.conversion import keep_converted
        from gridpose.lifting.converted import load_converted

        assert load_converted() is None
        converted = keep_converted(lifter)
        assert converted is not None
        assert (converted.name, converted.sees_time) == ("default", True)
        assert converted.weights_sha256 == lifter.weights_sha256
        assert converted.fov_degrees == lifter.fov_degrees
        holes = WALK.copy()
        holes[20:30, LEGS] = np.nan
        for length, fps in ((1, 30), (20, 25), (120, 30), (90, 60)):
            expected = lifter.lift_sequence(holes[:length], SIZE, fps=fps)
            found = converted.lift_sequence(holes[:length], SIZE, fps=fps)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
        wide = lifter.lift_sequence(WALK, SIZE, fov_degrees=80)
        found = converted.lift_sequence(WALK, SIZE, fov_degrees=80)
        np.testing.assert_allclose(found, wide, rtol=0, atol=1e-4)

        program = (
            "import sys\n"
            "from gridpose.pipeline import Models, VideoOptions\n"
            "lifter = Models(VideoOptions(device='cpu')).lifter\n"
            "print(type(lifter).__name__, 'torch' in sys.modules)\n"
        )
        run = [sys.executable, "-c", program]
        done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.split() == ["ConvertedLifter", "False"]

        # A damaged network is not used, and made anew.
        (network,) = home.glob("openvino/lifter-*/windows.bin")
        whole, structure = network.read_bytes(), network.with_suffix(".xml").read_bytes()

        def convert_quickly(_, file):
            file.write_bytes(structure)
            file.with_suffix(".bin").write_bytes(whole)

        monkeypatch.setattr("gridpose.lifting.conversion.convert", convert_quickly)
        network.write_bytes(whole[:-1000])
        assert load_converted() is None
        assert keep_converted(lifter) is not None
        assert network.read_bytes() == whole

    def test_other_lifters_stay_as_they_are(self, home):
        from gridpose.pipeline import Models, VideoOptions

        lifter = Models(VideoOptions(lifter="default-frame", device="cpu")).lifter
        assert isinstance(lifter, Lifter)
        assert lifter.name == "default-frame"
        assert not list(home.iterdir())

    def test_the_first_run_converts_it_when_its_result_is_there(
        self, home, invoke, tmp_path, monkeypatch
    ):
        picture, result = tmp_path / "picture.png", tmp_path / "result.png"
        cv2.imwrite(str(picture), np.full((240, 320, 3), 90, np.uint8))
        there = []

        def interrupted(models):
            there.append(result.is_file())
            raise KeyboardInterrupt

        monkeypatch.setattr("gridpose.pipeline.models.Models.convert_lifter", interrupted)
        command = ("video", picture, "-o", result, "--overwrite", "--detector", "blazepose-full")
        done = invoke(*command)
        assert (done.exit_code, there) == (0, [True])
        assert "converting the lifter" in done.stderr
        assert "converting" not in invoke(*command, "--lifter", "default-frame").stderr
        monkeypatch.setattr("gridpose.lifting.converted.is_converted", lambda: True)
        assert "converting" not in invoke(*command).stderr
        assert len(there) == 1


def test_windows_have_few_different_lengths():
    """What OpenVINO keeps for each would otherwise grow with the number of tracks."""
    lengths = set()

    def lift(flat, confidence):
        lengths.add(flat.shape[1])
        return np.zeros((*flat.shape[:3], 3), np.float32)

    for frames in range(1, 200):
        stream = SequenceStream(lift, 30)
        stream.add(np.zeros((frames, 17, 2), np.float32), np.ones((frames, 17), np.float32))
        assert len(stream.finished(at_end=True)) == frames
    assert len(lengths) <= 8
    assert max(lengths) <= WINDOW_FRAMES
