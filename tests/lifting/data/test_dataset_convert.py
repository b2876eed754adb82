"""VideoPose3D's Human3.6M files to the published format, and Human3.6M's cameras."""

import os
import pickle
import zipfile

import numpy as np
import pytest
from datasets import CAMERAS, METADATA, save_npz, seen_by_opencv, true_2d, walk

from gridpose.core import MIRRORED, InputError, MissingError
from gridpose.lifting.data.convert import STATIC_JOINTS, VideoPose3D, convert_split
from gridpose.lifting.data.dataset import load_dataset, write_dataset
from gridpose.lifting.data.h36m_cameras import LENSES, MOUNTS, Lens

MOVING = [joint for joint in range(32) if joint not in STATIC_JOINTS]


def with_all_joints(joints):
    """As Human3.6M has them, 32; what is not one of the 17 is nonsense."""
    full = np.full((len(joints), 32, 3), 99, np.float32)
    full[:, MOVING] = joints
    return full


ACTIONS = {"Walking 1": 0, "Directions": 1}


@pytest.fixture
def positions():
    return {
        subject: {action: walk(12 + seed, seed) for action, seed in ACTIONS.items()}
        for subject in ("S1", "S9", "S11")
    }


@pytest.fixture
def file3d(tmp_path, positions):
    return save_npz(tmp_path / "data_3d_h36m.npz", positions_3d=positions)


# Cameras


@pytest.mark.parametrize("subject", MOUNTS)
@pytest.mark.parametrize("index", range(4))
def test_cameras_agree_with_opencv(subject, index):
    world = walk(20, seed=index)
    camera, pixels = seen_by_opencv(world, subject, index)
    ours = MOUNTS[subject][index].to_camera(world.astype(np.float64) * 1000)
    np.testing.assert_allclose(ours, camera, atol=1e-2)
    np.testing.assert_allclose(LENSES[index].project(ours), pixels, atol=1e-3)


def test_all_cameras_look_at_the_room_with_the_right_side_up():
    for mounts in MOUNTS.values():
        for mount, lens in zip(mounts, LENSES, strict=True):
            seen = mount.to_camera(walk(5) * 1000.0)
            assert seen[..., 2].min() > 2000
            head, feet = seen[:, 10], seen[:, [3, 6]].mean(axis=1)
            assert (head[:, 1] < feet[:, 1]).all()  # y is down
            pixels = lens.project(seen)
            assert pixels.min() > 0
            assert pixels.max() < 1002


def test_a_lens_without_distortion_is_a_pinhole():
    lens = Lens("x", (500, 510), (1000, 1100))
    np.testing.assert_allclose(lens.project(np.array([[0.1, -0.2, 2.0]])), [[550, 400]])
    assert lens.pinhole == [1000, 1100, 500, 510]


def test_lenses_are_in_the_order_of_the_data_set():
    assert tuple(lens.camera for lens in LENSES) == CAMERAS


# Conversion


def test_the_seventeen_joints():
    assert len(MOVING) == 17
    # Human3.6M's own numbering: hip, legs, trunk and head, left arm, right arm.
    assert MOVING == [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]


@pytest.mark.parametrize("all_joints", [False, True])
def test_3d_and_2d_are_what_the_cameras_see(tmp_path, positions, all_joints):
    stored = {
        s: {a: with_all_joints(p) if all_joints else p for a, p in actions.items()}
        for s, actions in positions.items()
    }
    result = convert_split(
        VideoPose3D.open(save_npz(tmp_path / "3d.npz", positions_3d=stored)), "test"
    )
    assert set(result.data2d) == set(result.data3d) == {
        (subject, action.split()[0], f"{action}.{camera}")
        for subject in ("S9", "S11")
        for action in ACTIONS
        for camera in CAMERAS
    }  # fmt: skip
    for index, camera in enumerate(CAMERAS):
        seen, pixels = seen_by_opencv(positions["S9"]["Walking 1"], "S9", index)
        key = ("S9", "Walking", f"Walking 1.{camera}")
        np.testing.assert_allclose(result.data2d[key], pixels.reshape(-1, 34), atol=1e-3)
        entry = result.data3d[key]
        np.testing.assert_allclose(entry["pelvis"], seen[:, 0], atol=1e-3)
        joints = (seen - seen[:, :1]).reshape(-1, 51)
        np.testing.assert_allclose(entry["joint_3d"], joints, atol=1e-3)
        assert entry["camera"] == [*LENSES[index].focal, *LENSES[index].centre]
    assert result.pixel_error is None
    assert result.frames == 2 * 4 * (12 + 13)


def test_the_result_is_read_by_the_protocols_rules(tmp_path, file3d, positions):
    source = VideoPose3D.open(file3d)
    for split in ("train", "test"):
        result = convert_split(source, split)
        write_dataset(tmp_path / "gt", split, result.data2d, result.data3d)
    test = load_dataset(tmp_path / "gt", "test", exclude_drift=False, cache=tmp_path / "cache")
    assert {(s.subject, s.performance) for s in test.left_out} == {("S11", "Directions")}
    assert len(test) == 4 * (12 + 13) + 4 * 12
    assert test.notes == ()
    train = load_dataset(tmp_path / "gt", "train", exclude_drift=False, cache=tmp_path / "cache")
    assert train.subjects == ("S1",)
    seen, _ = seen_by_opencv(positions["S1"]["Directions"], "S1", 0)
    np.testing.assert_allclose(train.poses[:13], (seen - seen[:, :1]) / 1000, atol=1e-5)


def test_given_2d_is_taken(tmp_path, file3d, positions):
    keypoints = true_2d(positions)
    keypoints["S9"]["Walking 1"][2] += 3
    file2d = save_npz(tmp_path / "2d.npz", positions_2d=keypoints, metadata=METADATA)
    result = convert_split(VideoPose3D.open(file3d, file2d), "test")
    np.testing.assert_array_equal(
        result.data2d["S9", "Walking", "Walking 1.58860488"],
        keypoints["S9"]["Walking 1"][2].reshape(-1, 34),
    )
    assert result.pixel_error < 0.01
    assert not result.cut


def test_frames_are_cut_to_the_shorter(tmp_path, file3d, positions):
    keypoints = true_2d(positions)
    views = keypoints["S9"]["Walking 1"]
    views[0] = views[0][:-2]
    views[1] = np.concatenate((views[1], views[1][-1:]))
    file2d = save_npz(tmp_path / "2d.npz", positions_2d=keypoints)
    result = convert_split(VideoPose3D.open(file3d, file2d), "test")
    short, long = (("S9", "Walking", f"Walking 1.{camera}") for camera in CAMERAS[:2])
    assert result.cut == {short: (12, 10), long: (12, 13)}
    for key, frames in ((short, 10), (long, 12)):
        assert len(result.data2d[key]) == frames
        assert len(result.data3d[key]["joint_3d"]) == len(result.data3d[key]["pelvis"]) == frames
    assert result.pixel_error < 0.01


def test_recordings_without_2d_are_named(tmp_path, file3d, positions):
    keypoints = true_2d(positions)
    del keypoints["S11"], keypoints["S9"]["Directions"]
    file2d = save_npz(tmp_path / "2d.npz", positions_2d=keypoints)
    result = convert_split(VideoPose3D.open(file3d, file2d), "test")
    assert result.without_2d == ["S9 Directions", "S11 Walking 1", "S11 Directions"]
    assert {key[0] for key in result.data2d} == {"S9"}


# Reading what was pickled


def npz_by_hand(file, name, payload, version=b"\x01\x00"):
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }\n"
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY" + version + size + text + payload)
    return file


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00", b"\x03\x00"])
def test_every_way_of_pickling(tmp_path, positions, protocol, version):
    payload = pickle.dumps(np.array(positions, dtype=object), protocol=protocol)
    file = npz_by_hand(tmp_path / "3d.npz", "positions_3d", payload, version)
    source = VideoPose3D.open(file)
    np.testing.assert_array_equal(source.positions["S9"]["Walking 1"], positions["S9"]["Walking 1"])


class Exploit:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("place", ["whole", "in the array", "deep"])
def test_nothing_in_the_files_is_run(tmp_path, positions, place):
    marker = tmp_path / "ran"
    evil = Exploit(marker)
    if place == "deep":
        positions["S9"]["Walking 1"] = evil
    content = evil if place == "whole" else np.array(positions if place == "deep" else evil, object)
    file = npz_by_hand(tmp_path / "3d.npz", "positions_3d", pickle.dumps(content))
    with pytest.raises(InputError, match=r"3d\.npz"):
        convert_split(VideoPose3D.open(file), "test")
    assert not marker.exists()


# Errors


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"positions_2d": {"S1": {"a": 1}}}, "no positions_3d, but positions_2d"),
        ({"positions_3d": np.ones(3)}, "float64.*dictionary"),
        ({"positions_3d": {}}, "dictionary with entries"),
        ({"positions_3d": {"S1": {}}}, "subject S1.*dictionary with entries"),
        ({"positions_3d": {"S1": {1: np.ones((3, 17, 3))}}}, "key 1 must be a string"),
        ({"positions_3d": {"S2": {"Walking": walk(3)}}}, "no calibration of subject S2"),
        ({"positions_3d": {"S1": {"Walking": walk(3)[:, :16]}}}, r"S1 Walking is \(3, 16, 3\)"),
        ({"positions_3d": {"S1": {"Walking": "x"}}}, "S1 Walking must be an array"),
        ({"positions_3d": {"S1": {"Walking": walk(3) * 1000}}}, "S1 Walking is in millimetres"),
        ({"positions_3d": {"S1": {"Walking": walk(3) * 0}}}, "bones add up to 0 m"),
        ({"positions_3d": {"S1": {"Walking": walk(3) * np.nan}}}, "not finite"),
        ({"positions_3d": {"S1": {"Walking": walk(3)[:, ::-1]}}}, "joint order"),
        ({"positions_3d": {"S1": {"Walking": walk(3) + (0, 0, 50)}}}, "behind camera"),
    ],
)
def test_3d_files_of_something_else(tmp_path, content, words):
    file = save_npz(tmp_path / "3d.npz", **content)
    with pytest.raises(InputError, match=words) as caught:
        convert_split(VideoPose3D.open(file), "train")
    assert "3d.npz" in str(caught.value)


def test_no_file(tmp_path, file3d):
    with pytest.raises(MissingError, match="no such file"):
        VideoPose3D.open(tmp_path / "none.npz")
    with pytest.raises(MissingError, match="no such file"):
        VideoPose3D.open(file3d, tmp_path / "none.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nothing"])
def test_no_zip(tmp_path, content):
    file = tmp_path / "3d.npz"
    file.write_bytes(content)
    with pytest.raises(InputError, match="not an npz file"):
        VideoPose3D.open(file)


def swap_sides(views):
    views[:] = [view[:, MIRRORED] for view in views]


def halve(views):
    views[:] = [view[: len(view) // 3] for view in views]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swap_sides, "left and right joints are the other way round"),
        (lambda views: views.reverse(), "px from where the 3D is seen"),
        (lambda views: views.pop(), "arrays of 4 cameras"),
        (halve, "do not belong together"),
        (lambda views: views.__setitem__(0, views[0][:, :16]), r"\(12, 16, 2\)"),
        (lambda views: views.__setitem__(0, views[0] * np.nan), "camera 54138969.*not finite"),
    ],
)
def test_2d_that_does_not_belong_to_the_3d(tmp_path, change, words):
    positions = {"S9": {"Walking": walk(12)}}
    keypoints = true_2d(positions)
    change(keypoints["S9"]["Walking"])
    source = VideoPose3D.open(
        save_npz(tmp_path / "3d.npz", positions_3d=positions),
        save_npz(tmp_path / "2d.npz", positions_2d=keypoints, metadata=METADATA),
    )
    with pytest.raises(InputError, match=words) as caught:
        convert_split(source, "test")
    assert "2d.npz" in str(caught.value)


def test_joints_of_coco_are_refused(tmp_path, file3d, positions):
    sides = [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
    metadata = {"layout_name": "coco", "num_joints": 17, "keypoints_symmetry": sides}
    file2d = save_npz(tmp_path / "2d.npz", positions_2d=true_2d(positions), metadata=metadata)
    with pytest.raises(InputError, match=r"not Human3\.6M-17 \(coco"):
        VideoPose3D.open(file3d, file2d)
