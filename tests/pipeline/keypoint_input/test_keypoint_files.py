import numpy as np
import pytest
from fakes import standing_at

from gridpose.core import JOINT_NAMES, InputError, MissingError, UsageError
from gridpose.pipeline import lift_file

SIZE = np.array([1920, 1080])


def poses(*lead):
    """Different people everywhere."""
    random = np.random.default_rng(0)
    flat = [
        standing_at(*random.uniform((300, 300), (1500, 700)), random.uniform(100, 300))
        + random.normal(0, 5, (17, 2))
        for _ in range(int(np.prod(lead)))
    ]
    return np.array(flat, np.float32).reshape(*lead, 17, 2)


@pytest.fixture
def source(tmp_path):
    return tmp_path / "in.npz"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.npz"


@pytest.mark.parametrize("key", ["keypoints_2d", "keypoints_px"])
@pytest.mark.parametrize("lead", [(5,), (4, 2), (2, 3, 2), ()])
def test_lifted_like_any_keypoints(source, target, lifter, lead, key):
    keypoints = poses(*lead)
    np.savez(source, **{key: keypoints, "image_size": SIZE})
    assert lift_file(source, target, lifter).shape == (*lead, 17, 3)
    expected = lifter.lift(keypoints.reshape(-1, 17, 2), SIZE).reshape(*lead, 17, 3)
    with np.load(target, allow_pickle=False) as result:
        assert result["poses_3d"].dtype == np.float32
        np.testing.assert_allclose(result["poses_3d"], expected, atol=1e-6)
        np.testing.assert_array_equal(result["keypoints_2d"], keypoints)
        assert result["image_size"].tolist() == SIZE.tolist()
        assert result["joint_names"].tolist() == list(JOINT_NAMES)
    assert [entry.name for entry in sorted(target.parent.iterdir())] == ["in.npz", "out.npz"]


@pytest.mark.parametrize("lead", [(5,), (4, 2)])
def test_an_image_size_for_each_pose(source, target, lifter, lead):
    keypoints = poses(*lead)
    sizes = np.tile(SIZE, (*lead, 1))
    sizes.reshape(-1, 2)[1] = (720, 1280)
    np.savez(source, keypoints_2d=keypoints, image_size=sizes)
    lift_file(source, target, lifter)
    flat = lifter.lift(keypoints.reshape(-1, 17, 2), sizes.reshape(-1, 2))
    with np.load(target) as result:
        np.testing.assert_allclose(result["poses_3d"], flat.reshape(*lead, 17, 3), atol=1e-6)
        np.testing.assert_array_equal(result["image_size"], sizes)
    other = lifter.lift(keypoints.reshape(-1, 17, 2), SIZE)
    assert not np.allclose(other[1], flat[1], atol=1e-3)


def test_numbers_of_other_types(source, target, lifter):
    keypoints = np.round(poses(3)).astype(np.int32)
    np.savez(source, keypoints_2d=keypoints, image_size=SIZE.astype(np.float64))
    assert lift_file(source, target, lifter).shape == (3, 17, 3)


def test_an_image_size_that_is_given_wins(source, target, lifter):
    np.savez(source, keypoints_2d=poses(2), image_size=(100, 100))
    lift_file(source, target, lifter, (1920, 1080))
    with np.load(target) as result:
        np.testing.assert_allclose(result["poses_3d"], lifter.lift(poses(2), SIZE), atol=1e-6)


def test_the_field_of_view_matters(source, target, lifter):
    np.savez(source, keypoints_2d=poses(2), image_size=SIZE)
    lift_file(source, target, lifter, None, 90.0)
    with np.load(target) as result:
        expected = lifter.lift(poses(2), SIZE, 90.0)
        np.testing.assert_allclose(result["poses_3d"], expected, atol=1e-6)


def test_people_who_are_absent_stay_absent(source, target, lifter):
    keypoints = poses(3, 2)
    keypoints[1, 0] = np.nan
    keypoints[2, 1, 5, 0] = np.nan
    np.savez(source, keypoints_2d=keypoints, image_size=SIZE)
    lift_file(source, target, lifter)
    with np.load(target) as result:
        absent = np.isnan(result["poses_3d"]).all((2, 3))
        assert absent.tolist() == [[False, False], [True, False], [False, True]]
        assert np.isfinite(result["poses_3d"][~absent]).all()


def test_no_poses(source, target, lifter):
    np.savez(source, keypoints_2d=np.empty((0, 17, 2)), image_size=SIZE)
    assert lift_file(source, target, lifter).shape == (0, 17, 3)


def test_a_pose_file_can_be_lifted_again(source, target, frame_lifter):
    """Its keys are those of keypoints."""
    from gridpose.core import Person
    from gridpose.pipeline.poses.spool import PoseSpool

    spool, keypoints = PoseSpool(25, (1920, 1080)), poses(2)
    for index in range(4):
        shown = [0, 1] if index != 2 else [0]
        spool.add(
            index / 25,
            [
                Person(
                    row,
                    np.zeros(4, np.float32),
                    keypoints[row],
                    np.ones(17, np.float32),
                    np.zeros((17, 3), np.float32),
                    np.zeros((17, 3), np.float32),
                )
                for row in shown
            ],
        )
    spool.write_npz(source, {})
    assert lift_file(source, target, frame_lifter).shape == (2, 4, 17, 3)
    with np.load(target) as result:
        expected = frame_lifter.lift(keypoints, SIZE)
        np.testing.assert_allclose(result["poses_3d"][:, 0], expected, atol=1e-6)
        assert (result["repaired"][1, 2] > 0).all()  # a short gap
        assert result["track_id"].tolist() == [0, 1]


def test_an_unknown_image_size_is_asked_for(source, target, lifter):
    np.savez(source, keypoints_2d=poses(2))
    with pytest.raises(InputError, match=r"in\.npz: has no image_size.*`image_size`"):
        lift_file(source, target, lifter)
    assert not target.exists()
    assert lift_file(source, target, lifter, (1920, 1080)).shape == (2, 17, 3)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"points": np.zeros((3, 9))}, "neither keypoints_2d nor keypoints_px, but points"),
        ({"keypoints_2d": np.zeros((3, 16, 2))}, "people have 16 keypoints"),
        ({"keypoints_2d": np.zeros((3, 17, 3))}, r"\(3, 17, 3\)"),
        ({"keypoints_2d": np.zeros((3, 34))}, r"\(3, 34\)"),
        ({"keypoints_2d": np.zeros(())}, r"\(\)"),
        ({"keypoints_2d": np.full((3, 17, 2), "x")}, "keypoints"),
        ({"keypoints_2d": poses(3), "image_size": np.array([1920])}, "image_size"),
        ({"keypoints_2d": poses(3), "image_size": np.array(1920)}, "image_size"),
        ({"keypoints_2d": poses(3), "image_size": np.tile(SIZE, (4, 1))}, "image_size"),
        ({"keypoints_2d": poses(3), "image_size": np.array([0, 1080])}, "image_size"),
        ({"keypoints_2d": poses(3), "image_size": np.array([np.nan, 1080])}, "image_size"),
        ({"keypoints_2d": poses(3), "image_size": np.array("big")}, "npz file of keypoints"),
    ],
)
def test_arrays_that_cannot_be_lifted(source, target, lifter, arrays, words):
    np.savez(source, **{"image_size": SIZE, **arrays})
    with pytest.raises(InputError, match=rf"in\.npz: .*{words}"):
        lift_file(source, target, lifter)
    assert [entry.name for entry in target.parent.iterdir()] == ["in.npz"]


@pytest.mark.parametrize(
    "make",
    [
        lambda file: file.write_text("x,y\n" * 100),
        lambda file: file.touch(),
        lambda file: np.savez(file, keypoints_2d=np.array([{}], object)),
        lambda file: np.array([{}], object).dump(file),
    ],
    ids=["text", "empty", "objects", "pickle"],
)
def test_other_files(source, target, lifter, make):
    make(source)
    with pytest.raises(InputError, match=r"in\.npz: not an npz file of keypoints"):
        lift_file(source, target, lifter, (1920, 1080))


def test_damaged_files(source, target, lifter):
    np.savez_compressed(source, keypoints_2d=poses(50), image_size=SIZE)
    whole = source.read_bytes()
    for at in (len(whole) // 4, len(whole) // 2):
        source.write_bytes(whole[:at] + bytes(64) + whole[at + 64 :])
        with pytest.raises(InputError, match=r"in\.npz: not an npz file of keypoints"):
            lift_file(source, target, lifter)
    source.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"in\.npz: not an npz file of keypoints"):
        lift_file(source, target, lifter)


def test_a_missing_file(source, target, lifter):
    with pytest.raises(InputError, match=r"in\.npz: no such file"):
        lift_file(source, target, lifter)


def test_a_missing_folder(source, target, lifter):
    np.savez(source, keypoints_2d=poses(1), image_size=SIZE)
    with pytest.raises(MissingError, match=r"out\.npz: cannot be written"):
        lift_file(source, target.parent / "gone" / "out.npz", lifter)


class TestCommand:
    """``gridpose lift``."""

    def test_lifts(self, source, target, lifter, invoke):
        np.savez(source, keypoints_2d=poses(4, 2), image_size=SIZE)
        result = invoke("lift", source, "-o", target)
        assert result.exit_code == 0, result.output
        assert str(target) in result.stdout
        with np.load(target) as data:
            flat = lifter.lift(poses(4, 2).reshape(-1, 17, 2), SIZE)
            np.testing.assert_allclose(data["poses_3d"].reshape(-1, 17, 3), flat, atol=1e-6)

    def test_json(self, source, target, invoke):
        import json

        np.savez(source, keypoints_2d=poses(4), image_size=SIZE)
        result = invoke("lift", source, "-o", target, "--json")
        assert json.loads(result.stdout) == {
            "output": str(target),
            "poses_3d": [4, 17, 3],
            "convention": "human3.6m-17",
            "lifter": "default",
        }
        assert result.stdout.count("\n") == 1

    def test_takes_the_image_size(self, source, target, lifter, invoke):
        np.savez(source, keypoints_2d=poses(4))
        assert invoke("lift", source, "-o", target).exit_code == 3
        assert invoke("lift", source, "-o", target, "--image-size", "1920x1080").exit_code == 0
        with np.load(target) as data:
            np.testing.assert_allclose(data["poses_3d"], lifter.lift(poses(4), SIZE), atol=1e-6)

    def test_takes_the_convention_and_warns(self, source, target, invoke):
        np.savez(source, keypoints_2d=poses(4), image_size=SIZE)
        assert invoke("lift", source, "-o", target, "--convention", "openpose").exit_code == 2
        assert not target.exists()
        result = invoke("lift", source, "-o", target, "--convention", "coco-17", "--quiet")
        assert result.exit_code == 0, result.output
        assert "warning: " in result.stderr
        assert "look like human3.6m-17, not coco-17" in result.stderr

    @pytest.mark.parametrize("size", ["1920", "1920x", "0x5", "axb", "-1x5", "1.5x2", "1x2x3"])
    def test_image_sizes_that_are_none(self, source, target, invoke, size):
        np.savez(source, keypoints_2d=poses(4))
        result = invoke("lift", source, "-o", target, "--image-size", size)
        assert result.exit_code == 2
        assert "--image-size" in result.stderr
        assert not target.exists()

    def test_other_suffixes(self, source, target, invoke):
        np.savez(source, keypoints_2d=poses(4), image_size=SIZE)
        result = invoke("lift", source, "-o", target.with_suffix(".csv"))
        assert result.exit_code == 2
        assert ".npz" in result.stderr

    def test_existing_results_are_safe(self, source, target, invoke):
        np.savez(source, keypoints_2d=poses(4), image_size=SIZE)
        target.write_bytes(b"mine")
        assert invoke("lift", source, "-o", target).exit_code == 2
        assert target.read_bytes() == b"mine"
        assert invoke("lift", source, "-o", target, "--overwrite").exit_code == 0
        assert target.read_bytes() != b"mine"


def walk(frames, x=600.0):
    """Somebody who swings arms and legs."""
    people = []
    for frame in range(frames):
        person = standing_at(x + 3 * frame, 500, 200)
        person[[3, 13], 0] += 40 * np.sin(frame / 5)
        person[[6, 16], 0] -= 40 * np.sin(frame / 5)
        people.append(person)
    return np.stack(people)


def test_frames_are_lifted_as_a_sequence(source, target, lifter):
    keypoints = walk(12)
    np.savez(source, keypoints_2d=keypoints, image_size=SIZE)
    expected = lifter.lift_sequence(keypoints, SIZE, fps=25)
    lift_file(source, target, lifter, fps=25)
    with np.load(target) as result:
        np.testing.assert_allclose(result["poses_3d"], expected, atol=1e-6)
    lift_file(source, target, lifter)  # nothing says that they are frames
    with np.load(target) as result:
        np.testing.assert_allclose(result["poses_3d"], lifter.lift(keypoints, SIZE), atol=1e-6)


def test_a_file_with_a_rate_holds_a_sequence_of_each_person(source, target, lifter):
    keypoints = np.stack((walk(16), walk(16, 900.0)))
    keypoints[1, 10:14, 4:7] = np.nan
    confidence = np.full(keypoints.shape[:3], 0.8, np.float32)
    np.savez(source, keypoints_2d=keypoints, image_size=SIZE, confidence=confidence, fps=30.0)
    lifted = lift_file(source, target, lifter)
    assert lifted.warnings == ()
    with np.load(target) as result:
        for person in range(2):
            expected = lifter.lift_sequence(keypoints[person], SIZE, confidence[person])
            np.testing.assert_allclose(result["poses_3d"][person], expected, atol=1e-6)
        assert np.isfinite(result["poses_3d"]).all()


@pytest.mark.parametrize("fps", [0, -5, np.nan, np.inf, (30, 30), "fast"])
def test_rates_that_are_none(source, target, lifter, fps):
    np.savez(source, keypoints_2d=walk(3), image_size=SIZE, fps=fps)
    with pytest.raises(InputError, match="fps must be"):
        lift_file(source, target, lifter)
    if isinstance(fps, int):
        with pytest.raises(UsageError, match="`fps`"):
            lift_file(source, target, lifter, fps=fps)
