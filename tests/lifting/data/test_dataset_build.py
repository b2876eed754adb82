"""Data sets from motion capture and virtual cameras."""

import numpy as np
import pytest
from datasets import CLIPS, mocap, walk

from gridpose.core import NUM_JOINTS, PARENTS, InputError, MissingError, UsageError
from gridpose.lifting.body import BONE_LENGTHS
from gridpose.lifting.data.build import BuildOptions, build_split, performer_of, read_clips
from gridpose.lifting.data.dataset import load_dataset, write_dataset


@pytest.fixture
def file(tmp_path):
    return mocap(tmp_path / "mocap.npz")


def joints(entry):
    return entry["joint_3d"].reshape(-1, NUM_JOINTS, 3)


def seen(entry):
    return joints(entry) + entry["pelvis"][:, None]


def pinhole(entry):
    fx, fy, cx, cy = entry["camera"]
    points = seen(entry)
    return points[..., :2] / points[..., 2:] * (fx, fy) + (cx, cy)


def bones(poses):
    return poses - poses[:, np.maximum(PARENTS, 0)]


def check(data2d, data3d):
    """What holds of every exact data set."""
    assert list(data2d) == list(data3d)
    for key, entry in data3d.items():
        pixels = data2d[key].reshape(-1, NUM_JOINTS, 2)
        np.testing.assert_allclose(pixels, pinhole(entry), atol=1e-6)
        assert pixels.min() >= 0
        assert pixels.max() <= 1000
        assert seen(entry)[..., 2].min() > 1000
        assert abs(entry["camera"][0] - 1146) < 10
        lengths = np.linalg.norm(bones(joints(entry)), axis=-1)
        np.testing.assert_allclose(lengths, np.tile(BONE_LENGTHS, (len(lengths), 1)) * 1000)
        assert np.abs(joints(entry)[:, 0]).max() == 0


def test_every_pose_is_seen_whole_by_every_camera(file):
    data2d, data3d = build_split([file], "train", BuildOptions(views=3))
    check(data2d, data3d)
    assert sum(len(pixels) for pixels in data2d.values()) == 3 * sum(n for _, n in CLIPS.values())


def test_real_motion(shared):
    file = shared / "mocap" / "mocap_test.npz"
    data2d, data3d = build_split([file], "test", BuildOptions(views=2, max_frames=3000))
    check(data2d, data3d)
    assert sum(len(pixels) for pixels in data2d.values()) == 3000


def test_bodies_are_turned_not_mirrored_and_stand_upright(file):
    _, data3d = build_split([file], "train", BuildOptions(views=4))
    (clip,) = [clip for clip in read_clips(file) if clip.name == "cmu/train/walking_1"]
    ways = bones(clip.positions)[:, 1:]
    ways /= np.linalg.norm(ways, axis=-1, keepdims=True)
    views = [entry for key, entry in data3d.items() if "walking_1" in key[2]]
    assert len(views) == 4
    forward = []
    for entry in views:
        ours = bones(joints(entry))[:, 1:]
        ours /= np.linalg.norm(ours, axis=-1, keepdims=True)
        # One rotation takes all bones of all frames from the world to the camera.
        turn, *_ = np.linalg.lstsq(ways.reshape(-1, 3), ours.reshape(-1, 3), rcond=None)
        np.testing.assert_allclose(ways @ turn, ours, atol=1e-5)
        assert np.linalg.det(turn) == pytest.approx(1, abs=1e-5)
        up = np.array((0, 0, 1)) @ turn
        assert up[1] < -0.8  # y is down
        forward.append(np.linalg.inv(turn)[2, :2])
    angles = np.sort(np.degrees([np.arctan2(y, x) for x, y in forward]) % 360)
    gaps = np.diff([*angles, angles[0] + 360])
    assert gaps.min() > 45  # all round
    assert gaps.max() < 135


def test_the_same_seed_gives_the_same_data(file):
    options = BuildOptions(seed=5, noise_px=3)
    first, again = (build_split([file], "train", options) for _ in range(2))
    other = build_split([file], "train", BuildOptions(seed=6, noise_px=3))
    for key, pixels in first[0].items():
        np.testing.assert_array_equal(pixels, again[0][key])
        np.testing.assert_array_equal(first[1][key]["joint_3d"], again[1][key]["joint_3d"])
        assert not np.allclose(first[1][key]["joint_3d"], other[1][key]["joint_3d"])


def test_noise_is_in_the_2d_alone(file):
    exact = build_split([file], "train", BuildOptions())
    noisy = build_split([file], "train", BuildOptions(noise_px=4))
    errors = []
    for key, pixels in exact[0].items():
        np.testing.assert_array_equal(exact[1][key]["joint_3d"], noisy[1][key]["joint_3d"])
        errors.append((noisy[0][key] - pixels).ravel())
    assert np.std(np.concatenate(errors)) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_result_is_read_back(tmp_path, file, split):
    data2d, data3d = build_split([file], split, BuildOptions(views=2))
    write_dataset(tmp_path / "mocap", split, data2d, data3d)
    data = load_dataset(tmp_path / "mocap", split, exclude_drift=True, cache=tmp_path / "cache")
    assert len(data) == 2 * sum(n for _, n in CLIPS.values())
    assert data.left_out == data.notes == ()
    actions = {"Walking", "ExercisesJumpingJacksSquats", "SitToStand"}
    assert {sequence.action_name for sequence in data.sequences} == actions
    assert all(sequence.action_name == sequence.action for sequence in data.sequences)
    assert {sequence.camera for sequence in data.sequences} == {"view1", "view2"}


def test_clips_of_one_performer_stay_together(file):
    data2d, _ = build_split([file], "train", BuildOptions(views=1))
    subject_of = {key[2].split(".")[0]: key[0] for key in data2d}
    groups = [{s for name, s in subject_of.items() if part in name} for part in ("13_", "_s01_")]
    assert all(len(group) == 1 for group in groups)
    assert len(set(subject_of.values())) == 3  # as many as there are performers


@pytest.mark.parametrize(
    ("name", "performer"),
    [
        ("uiprmd/m01_s03_e02_inc", "uiprmd/s03"),
        ("cmu/13_29", "cmu/13"),
        ("cmu/train/walking_extra_13", "cmu/train/walking_extra"),
        ("deepmimic/dance_b", "deepmimic/dance_b"),
    ],
)
def test_performers_by_name(name, performer):
    assert performer_of(name) == performer


def test_subjects_named_in_the_file_count(tmp_path):
    file = mocap(tmp_path / "m.npz", subject=np.array(list("ababab")))
    data2d, _ = build_split([file], "test", BuildOptions(views=1))
    by_name = {key[2]: key[0] for key in data2d}
    first = {subject for name, subject in by_name.items() if "walking_1" in name or "13_29" in name}
    second = {subject for name, subject in by_name.items() if "walking_2" in name}
    assert len(first) == len(second) == 1
    assert first != second


def test_names_stay_unique_when_files_repeat_clips(tmp_path, file):
    twin = mocap(tmp_path / "twin.npz")
    data2d, _ = build_split([file, twin], "train", BuildOptions(views=1))
    assert len(data2d) == 2 * len(CLIPS)
    assert any("copy2" in key[2] for key in data2d)


def test_a_long_way_is_cut_into_pieces(tmp_path):
    positions = walk(60)
    positions[:, :, 0] += np.linspace(0, 9, 60)[:, None]
    file = mocap(tmp_path / "m.npz", {"run_1": ("run", 60)}, positions=positions)
    data2d, data3d = build_split([file], "train", BuildOptions(views=2))
    check(data2d, data3d)
    assert sum(len(pixels) for pixels in data2d.values()) == 120
    assert len(data2d) >= 8
    assert all(entry["pelvis"][:, 2].max() < 12_000 for entry in data3d.values())


def test_fewer_frames_are_taken_evenly(file):
    data2d, _ = build_split([file], "train", BuildOptions(views=2, max_frames=20))
    assert sum(len(pixels) for pixels in data2d.values()) == 20
    assert len(data2d) == 2 * len(CLIPS)


@pytest.mark.parametrize(
    "options", [{"views": 0}, {"noise_px": -1}, {"noise_px": float("nan")}, {"max_frames": 3}]
)
def test_impossible_options(options):
    with pytest.raises(UsageError):
        BuildOptions(**options)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"positions": None}, "positions"),
        ({"action": None}, "action"),
        ({"positions": np.zeros((57, 16, 3))}, r"\(57, 16, 3\)"),
        ({"positions": np.zeros((57, 17, 3))}, "people in metres"),
        ({"positions": walk(57) * 1000}, "people in metres"),
        ({"positions": walk(57) * np.nan}, "not finite"),
        ({"clip": np.zeros(5, int)}, r"clip must be \(57,\)"),
        ({"clip": np.zeros(57)}, "whole numbers"),
        ({"clip": np.full(57, 6)}, "name every clip"),
        ({"action": np.array(["a"])}, "name every clip"),
        ({"clip_names": np.array([{}] * 6, object)}, "not a motion capture"),
    ],
)
def test_files_of_something_else(tmp_path, changes, words):
    file = mocap(tmp_path / "bad.npz", **changes)
    with pytest.raises(InputError, match=words) as caught:
        build_split([file], "train", BuildOptions())
    assert str(file) in str(caught.value)


def test_no_npz(tmp_path):
    with pytest.raises(MissingError):
        read_clips(tmp_path / "none.npz")
    (tmp_path / "x.npz").write_text("nothing")
    with pytest.raises(InputError, match=r"x\.npz"):
        read_clips(tmp_path / "x.npz")
