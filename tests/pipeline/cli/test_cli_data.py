"""``gridpose data`` from the command line."""

import json

import numpy as np
import pytest
from datasets import (
    CAMERAS,
    METADATA,
    in_coco_order,
    mocap,
    save,
    save_npz,
    seen_by_opencv,
    tables,
    true_2d,
    walk,
)

from gridpose.core import MIRRORED

NAMES = [
    f"{split}_custom_{kind}_unnorm.pth.tar" for split in ("test", "train") for kind in ("2d", "3d")
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path / "home"))


@pytest.fixture
def videopose3d(tmp_path):
    positions = {
        subject: {"Walking 1": walk(9, 1), "Directions": walk(8, 2)} for subject in ("S1", "S9")
    }
    keypoints = true_2d(positions)
    keypoints["S9"]["Directions"][0] = keypoints["S9"]["Directions"][0][:-1]
    del keypoints["S1"]["Directions"]
    return (
        save_npz(tmp_path / "data_3d_h36m.npz", positions_3d=positions),
        save_npz(tmp_path / "data_2d_h36m_cpn.npz", positions_2d=keypoints, metadata=METADATA),
    )


def test_convert_with_true_2d(tmp_path, invoke, videopose3d):
    result = invoke("data", "convert", videopose3d[0], "-o", tmp_path / "root", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["input"] == "gt"
    assert answer["splits"]["train"] == {
        "sequences": 8, "frames": 4 * 17, "cut": [], "without_2d": [], "pixel_error": None,
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "root" / "gt").iterdir()) == NAMES

    info = json.loads(invoke("data", "info", tmp_path / "root" / "gt", "--json").stdout)
    assert info["splits"]["test"]["frames"] == 4 * 17
    assert set(info["splits"]["test"]["cameras"]) == set(CAMERAS)
    for split in info["splits"].values():
        assert split["warnings"] == []
        assert split["bone_lengths_mm"]["left_knee"] == pytest.approx(443, abs=0.2)


def test_convert_with_given_2d_reports_what_was_done(tmp_path, invoke, videopose3d):
    file3d, file2d = videopose3d
    result = invoke("data", "convert", file3d, "-k", file2d, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert "1 sequences cut" in result.stderr
    assert "left out S1 Directions" in result.stderr
    assert "px from the 3D" in result.stdout
    assert (tmp_path / "cpn" / NAMES[0]).is_file()


def test_convert_only_a_training_subject(tmp_path, invoke):
    file = save_npz(tmp_path / "3d.npz", positions_3d={"S5": {"Walking": walk(5)}})
    result = invoke("data", "convert", file, "-o", tmp_path, "--input", "mine")
    assert result.exit_code == 0, result.output
    assert "test: there is no recording" in result.stderr
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == NAMES[2:]


def test_existing_files_are_kept_unless_told_otherwise(tmp_path, invoke, videopose3d):
    arguments = ("data", "convert", videopose3d[0], "-o", tmp_path)
    assert invoke(*arguments, "--quiet").exit_code == 0
    file = tmp_path / "gt" / NAMES[0]
    before = file.stat().st_mtime_ns
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert file.stat().st_mtime_ns == before
    assert invoke(*arguments, "--overwrite").exit_code == 0
    assert file.stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("convert", "none.npz", "-o", "root"), 4, "none.npz: no such file"),
        (("convert", "bad.npz", "-o", "root"), 3, "bad.npz: not an npz file"),
        (("convert", "bad.npz", "-o", "root", "--input", "a/b"), 2, "without slashes"),
        (("convert", "bad.npz", "-o", "root", "--input", ".."), 2, "--input"),
        (("convert", "bad.npz", "-o", "bad.npz"), 4, "cannot be made"),
        (("build", "none.npz", "-o", "root"), 4, "none.npz: no such file"),
        (("build", "bad.npz", "-o", "root"), 3, "bad.npz: not a motion capture"),
        (("build", "bad.npz", "-o", "root", "--noise", "-1"), 2, "--noise"),
        (("info", "root"), 4, "train_custom_2d"),
    ],
)
def test_errors(tmp_path, invoke, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.npz").write_text("nothing")
    result = invoke("data", *arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_build_both_halves(tmp_path, invoke):
    file = mocap(tmp_path / "mocap.npz")
    for split in ("train", "test"):
        result = invoke(
            "data", "build", file, "-o", tmp_path / "root", "--split", split, "--views", 2,
            "--noise", 2, "--max-frames", 60, "--json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        answer = json.loads(result.stdout)
        assert (answer["input"], answer["split"], answer["frames"]) == ("mocap", split, 60)
    assert sorted(path.name for path in (tmp_path / "root" / "mocap").iterdir()) == NAMES
    again = invoke("data", "build", file, "-o", tmp_path / "root")
    assert again.exit_code == 2
    info = json.loads(invoke("data", "info", tmp_path / "root" / "mocap", "--json").stdout)
    assert [entry["warnings"] for entry in info["splits"].values()] == [[], []]


def people():
    """A data set of real bodies, 2D and 3D fitting each other."""
    data2d, data3d = tables([("S9", "Walking", f"Walking.{camera}") for camera in CAMERAS], 40)
    for index, key in enumerate(data2d):
        seen, pixels = seen_by_opencv(walk(40, 3), "S9", index)
        data2d[key] = pixels.reshape(-1, 34)
        data3d[key]["joint_3d"] = (seen - seen[:, :1]).reshape(-1, 51)
    return data2d, data3d


def test_info_shows_tables_and_what_is_left_out(tmp_path, invoke):
    keys = [("S9", name, f"{name}.{view}") for name in ("Greeting", "Walking") for view in CAMERAS]
    save(tmp_path / "hrnet", "test", *tables(keys, 2))
    result = invoke("data", "info", tmp_path / "hrnet")
    assert result.exit_code == 0, result.output
    assert "left out: S9 Greeting (4 sequences, 8 frames)" in " ".join(result.stdout.split())
    for words in ("8 frames", "Walking", "S9", "2D in px", "mean bone lengths", NAMES[0]):
        assert words in result.stdout

    save(tmp_path / "gt", "test", *tables(keys, 2))
    assert "left out" not in invoke("data", "info", tmp_path / "gt").stdout
    quiet = invoke("data", "info", tmp_path / "gt", "--quiet")
    assert (quiet.exit_code, quiet.stdout) == (0, "")


def test_info_finds_nothing_wrong_with_people(tmp_path, invoke):
    save(tmp_path / "gt", "test", *people())
    result = invoke("data", "info", tmp_path / "gt")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""


def mirror_2d(pixels, joints):
    return pixels[:, MIRRORED], joints


def mirror_3d_and_2d(pixels, joints):
    return pixels[:, MIRRORED], joints[:, MIRRORED]


def upside_down(pixels, joints):
    return pixels, joints * (1, -1, 1)


def outside(pixels, joints):
    return pixels + 500, joints


def long_arm(pixels, joints):
    joints = joints.copy()
    joints[:, 13] += 1.5 * (joints[:, 13] - joints[:, 12])
    return pixels, joints


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (mirror_2d, "left and right joints of the 2D are the other way round"),
        (mirror_3d_and_2d, "knees bend backwards"),
        (upside_down, "what is up"),
        (outside, "outside a 1000 px frame"),
        (long_arm, "right_wrist and left_wrist differ"),
    ],
)
def test_info_says_what_looks_wrong(tmp_path, invoke, change, words):
    data2d, data3d = people()
    for key, entry in data3d.items():
        pixels, joints = change(
            data2d[key].reshape(-1, 17, 2), entry["joint_3d"].reshape(-1, 17, 3)
        )
        data2d[key] = pixels.reshape(-1, 34)
        entry["joint_3d"] = np.asarray(joints).reshape(-1, 51)
    save(tmp_path / "gt", "test", data2d, data3d)
    result = invoke("data", "info", tmp_path / "gt", "--json")
    assert result.exit_code == 0, result.output
    assert words in result.stderr
    warnings = json.loads(result.stdout)["splits"]["test"]["warnings"]
    assert any(words in warning for warning in warnings)


def test_info_names_the_order_of_2d_that_is_cocos(tmp_path, invoke):
    data2d, data3d = people()
    for key, pixels in data2d.items():
        data2d[key] = in_coco_order(pixels.reshape(-1, 17, 2)).reshape(-1, 34)
    save(tmp_path / "gt", "test", data2d, data3d)
    result = invoke("data", "info", tmp_path / "gt", "--json")
    assert result.exit_code == 0, result.output
    words = "the 2D's keypoints look like coco-17, not human3.6m-17"
    assert words in result.stderr
    warnings = json.loads(result.stdout)["splits"]["test"]["warnings"]
    assert any(words in warning for warning in warnings)


@pytest.mark.parametrize("command", ["convert", "build", "info"])
def test_help_has_examples(invoke, command):
    result = invoke("data", command, "--help")
    assert result.exit_code == 0
    assert f"gridpose data {command} " in result.stdout
    assert "convert" in invoke("data", "--help").stdout


def test_the_published_example(shared, invoke):
    result = invoke("data", "info", shared / "golden" / "e2e_data", "--json")
    splits = json.loads(result.stdout)["splits"]
    assert splits["test"]["frames"] == 448
    assert splits["test"]["left_out"]["frames"] == 32
    assert splits["train"]["frames"] == 6000
