import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.core import JOINT_NAMES, MIRRORED
from gridpose.detectors import BLAZEPOSE_33, COCO_17, CONVENTIONS, HUMAN36M_17, Convention
from gridpose.detectors.blazepose.detector import load_blazepose
from gridpose.detectors.conventions import (
    COCO_WHOLEBODY_133,
    HALPE_26,
    HALPE_136,
    OPENPOSE_18,
    OPENPOSE_25,
)
from gridpose.detectors.topdown import TopDownDetector

SHARED_VIDEO = Path(__file__).parents[3] / "shared" / "video"
JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
SIDES = ("left", "right")
LIMBS = [f"{side}_{part}" for side in SIDES for part in ("knee", "ankle", "elbow", "wrist")]

every_convention = pytest.mark.parametrize(
    "convention", list(CONVENTIONS.values()), ids=lambda convention: convention.name
)
quick = settings(max_examples=30, deadline=None)


def random_keypoints(convention: Convention, *batch: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1000, (*batch, len(convention.keypoints), 2)).astype(np.float32)


def certain(convention: Convention, *batch: int) -> np.ndarray:
    return np.ones((*batch, len(convention.keypoints)), np.float32)


def swapped_sides(convention: Convention) -> list[int]:
    """Index of each keypoint's counterpart on the other side, found by its name."""

    def other(name: str) -> str:
        if "left" in name:
            return name.replace("left", "right")
        return name.replace("right", "left")

    return [convention.keypoints.index(other(name)) for name in convention.keypoints]


def test_conventions_are_found_by_their_names() -> None:
    assert CONVENTIONS == {
        "human3.6m-17": HUMAN36M_17,
        "coco-17": COCO_17,
        "halpe-26": HALPE_26,
        "blazepose-33": BLAZEPOSE_33,
        "coco-wholebody-133": COCO_WHOLEBODY_133,
        "openpose-body-25": OPENPOSE_25,
        "openpose-coco-18": OPENPOSE_18,
        "halpe-136": HALPE_136,
    }
    counts = [17, 17, 26, 33, 133, 25, 18, 136]
    assert [len(c.keypoints) for c in CONVENTIONS.values()] == counts
    for name, convention in CONVENTIONS.items():
        assert len(set(convention.keypoints)) == int(name.rpartition("-")[2])


@pytest.mark.parametrize(
    ("convention", "dataset"), [(HALPE_26, "halpe26"), (COCO_WHOLEBODY_133, "coco_wholebody")]
)
def test_orders_are_those_of_mmpose(convention: Convention, dataset: str) -> None:
    """The installed data set descriptions."""
    mmpose = pytest.importorskip("mmpose", reason="needs mmpose")
    from mmengine import Config

    folder = Path(mmpose.__file__).parent / ".mim" / "configs" / "_base_" / "datasets"
    info = Config.fromfile(folder / f"{dataset}.py").dataset_info.keypoint_info
    assert [info[index]["name"] for index in range(len(info))] == list(convention.keypoints)


@pytest.mark.parametrize("convention", [HALPE_26, COCO_WHOLEBODY_133], ids=lambda c: c.name)
def test_more_keypoints_than_coco_make_no_other_joints(convention: Convention) -> None:
    keypoints = random_keypoints(convention, 3)
    confidence = np.random.default_rng(1).random((3, len(convention.keypoints)))
    expected = COCO_17.to_human36m(keypoints[:, :17], confidence[:, :17])
    for own, coco in zip(convention.to_human36m(keypoints, confidence), expected, strict=True):
        np.testing.assert_allclose(own, coco, rtol=1e-5)


def test_coco_order() -> None:
    expected = ["nose", "left_eye", "right_eye", "left_ear", "right_ear"] + [
        f"{side}_{part}"
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in SIDES
    ]
    assert list(COCO_17.keypoints) == expected


def test_blazepose_order_is_that_of_mediapipe() -> None:
    golden = np.load(Path(__file__).parents[1] / "data" / "blazepose_golden.npz")
    assert [name.upper() for name in BLAZEPOSE_33.keypoints] == golden["names"].tolist()


@every_convention
def test_weights_of_every_joint_sum_to_one(convention: Convention) -> None:
    assert convention.matrix.shape == (17, len(convention.keypoints))
    np.testing.assert_allclose(convention.matrix.sum(1), 1, atol=1e-6)


def test_human36m_is_left_as_it_is() -> None:
    keypoints = random_keypoints(HUMAN36M_17, 4)
    confidence = np.random.default_rng(1).random((4, 17))
    joints, joint_confidence = HUMAN36M_17.to_human36m(keypoints, confidence)
    np.testing.assert_array_equal(joints, keypoints)
    np.testing.assert_allclose(joint_confidence, confidence, rtol=1e-6)


@every_convention
@quick
@given(data=st.data())
def test_moving_turning_and_scaling_commute_with_conversion(
    convention: Convention, data: st.DataObject
) -> None:
    number = st.floats(-3, 3)
    linear = np.array([[data.draw(number) for _ in range(2)] for _ in range(2)])
    offset = 100 * np.array([data.draw(number) for _ in range(2)])
    keypoints = random_keypoints(convention, 2, seed=data.draw(st.integers(0, 99)))
    ones = certain(convention, 2)
    before, _ = convention.to_human36m((keypoints @ linear + offset).astype(np.float32), ones)
    after, _ = convention.to_human36m(keypoints, ones)
    np.testing.assert_allclose(before, after @ linear + offset, rtol=0, atol=0.02)


@every_convention
def test_a_joint_is_as_certain_as_the_least_certain_of_its_main_keypoints(
    convention: Convention,
) -> None:
    confidence = np.random.default_rng(0).random((3, len(convention.keypoints)))
    _, actual = convention.to_human36m(random_keypoints(convention, 3), confidence)
    for row, weights in enumerate(convention.matrix):
        np.testing.assert_allclose(
            actual[:, row], confidence[:, np.abs(weights) >= 0.1].min(1), rtol=1e-6
        )


@every_convention
def test_doubt_about_one_keypoint_reaches_the_joints_that_move_a_tenth_as_far(
    convention: Convention,
) -> None:
    for index in range(len(convention.keypoints)):
        keypoints, confidence = random_keypoints(convention), certain(convention)
        before, _ = convention.to_human36m(keypoints, confidence)
        keypoints[index] += 500
        confidence[index] = 0.25
        after, joint_confidence = convention.to_human36m(keypoints, confidence)
        moved = np.abs(after - before).max(1) > 49.9
        np.testing.assert_array_equal(joint_confidence == 0.25, moved)


@every_convention
def test_swapping_the_sides_of_keypoints_swaps_those_of_joints(convention: Convention) -> None:
    keypoints = random_keypoints(convention, 2)
    confidence = np.random.default_rng(1).random((2, len(convention.keypoints)))
    joints, joint_confidence = convention.to_human36m(keypoints, confidence)
    swap = swapped_sides(convention)
    swapped = convention.to_human36m(keypoints[:, swap], confidence[:, swap])
    np.testing.assert_allclose(swapped[0], joints[:, list(MIRRORED)], rtol=0, atol=1e-3)
    np.testing.assert_allclose(swapped[1], joint_confidence[:, list(MIRRORED)])


@pytest.mark.parametrize("convention", [COCO_17, BLAZEPOSE_33], ids=lambda c: c.name)
def test_limbs_are_taken_over(convention: Convention) -> None:
    keypoints = random_keypoints(convention)
    joints, _ = convention.to_human36m(keypoints, certain(convention))
    shoulders = [f"{side}_shoulder" for side in SIDES] if convention is COCO_17 else []
    for name in [*LIMBS, *shoulders]:
        np.testing.assert_array_equal(
            joints[JOINT[name]], keypoints[convention.keypoints.index(name)]
        )


def person_from_the_front(convention: Convention) -> np.ndarray:
    """Someone upright who faces the camera, arms hanging; left is at the right of the picture."""
    rows = {
        "nose": 100, "eye": 90, "ear": 95, "mouth": 110, "shoulder": 160, "elbow": 230,
        "wrist": 300, "pinky": 310, "index": 312, "thumb": 308, "hip": 310, "knee": 420,
        "ankle": 520, "heel": 530, "foot": 535,
    }  # fmt: skip
    columns = {"nose": 0, "eye": 10, "ear": 22, "mouth": 8, "shoulder": 45}
    keypoints = np.zeros((len(convention.keypoints), 2), np.float32)
    for index, name in enumerate(convention.keypoints):
        part = next(part for part in rows if part in name)
        sign = 1 if "left" in name else -1
        keypoints[index] = (200 + sign * columns.get(part, 30), rows[part])
    return keypoints


@pytest.mark.parametrize("convention", [COCO_17, BLAZEPOSE_33], ids=lambda c: c.name)
def test_joints_of_an_upright_person_are_in_anatomical_order(convention: Convention) -> None:
    keypoints = person_from_the_front(convention)
    joints, _ = convention.to_human36m(keypoints, certain(convention))
    trunk = joints[[JOINT[name] for name in ("head", "nose", "thorax", "spine", "hip")]]
    assert (np.diff(trunk[:, 1]) > 0).all()
    np.testing.assert_allclose(trunk[:, 0], 200, atol=1e-3)
    for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist"):
        assert joints[JOINT[f"left_{part}"], 0] > 200 > joints[JOINT[f"right_{part}"], 0]
    # Human3.6M's hips lie wider and higher than detectors' ones, around the pelvis.
    hips = joints[[JOINT["left_hip"], JOINT["right_hip"]]]
    assert 60 < hips[0, 0] - hips[1, 0] < 90
    assert (hips[:, 1] < 310).all()
    np.testing.assert_allclose(hips.mean(0), joints[JOINT["hip"]], atol=1e-3)


def test_shoulders_of_blazepose_come_nearer_to_each_other_and_to_the_hips() -> None:
    keypoints = person_from_the_front(BLAZEPOSE_33)
    joints, _ = BLAZEPOSE_33.to_human36m(keypoints, certain(BLAZEPOSE_33))
    left, right = joints[JOINT["left_shoulder"]], joints[JOINT["right_shoulder"]]
    assert left[0] - right[0] == pytest.approx(0.85 * 90, abs=0.01)
    trunk = 310 - 160
    assert left[1] == right[1] == pytest.approx(160 + 0.06 * trunk, abs=0.01)
    assert joints[JOINT["hip"], 1] == pytest.approx(310 - 0.12 * trunk, abs=0.01)


@every_convention
def test_another_number_of_keypoints_is_refused(convention: Convention) -> None:
    count = len(convention.keypoints)
    for keypoints, confidence in (
        ((2, count - 1, 2), (2, count - 1)),
        ((2, count, 3), (2, count)),
        ((2, count, 2), (2, count + 1)),
    ):
        with pytest.raises(ValueError, match=convention.name):
            convention.to_human36m(
                np.zeros(keypoints, np.float32), np.zeros(confidence, np.float32)
            )


def box(points: np.ndarray) -> np.ndarray:
    return np.concatenate((points.min(0), points.max(0)))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes."""

    def area(corners: np.ndarray) -> float:
        return float(np.prod(np.maximum(corners[2:] - corners[:2], 0)))

    common = area(
        np.concatenate((np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])))
    )
    return common / (area(first) + area(second) - common)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TopDownDetector]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDPOSE_HOME", str(tmp_path_factory.mktemp("cache")))
        with load_blazepose() as opened:
            yield opened


# COCO val2017 000000000785: a skier who faces the camera, her left hand at the right of the
# picture. 000000197388: five skiers, of whom the detector finds the one in front, facing the
# camera too. The other two pictures show their main person from the side, where the two sides
# fall together.
@pytest.mark.skipif(
    not (SHARED_VIDEO / "coco_keypoints.json").is_file(),
    reason="the shared folder with COCO pictures is not beside this clone",
)
@pytest.mark.parametrize("picture", ["000000000785", "000000197388"])
def test_left_is_the_persons_own_left_in_real_pictures(
    picture: str, detector: TopDownDetector
) -> None:
    image = cv2.cvtColor(cv2.imread(str(SHARED_VIDEO / f"coco_{picture}.jpg")), cv2.COLOR_BGR2RGB)
    annotations = json.loads((SHARED_VIDEO / "coco_keypoints.json").read_text())["annotations"]
    detector.forget()
    (found,) = detector.detect([image], [0.0])

    compared = 0
    for annotation in annotations:
        truth = np.array(annotation["keypoints"], float).reshape(-1, 3)
        visible = truth[:, 2] > 0
        if annotation["image_id"] != int(picture) or not visible.any():
            continue
        corners = box(truth[visible, :2])
        left, right = (COCO_17.keypoints.index(f"{side}_shoulder") for side in SIDES)
        facing = truth[left, 0] - truth[right, 0] > 0.1 * (corners[2:] - corners[:2]).max()
        best = max(found, key=lambda person: overlap(person.bbox, corners))
        if not facing or overlap(best.bbox, corners) < 0.5:
            continue
        for part in ("shoulder", "hip", "ankle"):
            coco = [COCO_17.keypoints.index(f"{side}_{part}") for side in SIDES]
            blaze = [BLAZEPOSE_33.keypoints.index(f"{side}_{part}") for side in SIDES]
            if not visible[coco].all():
                continue
            pairs = best.keypoints[blaze][:, None] - truth[coco][None, :, :2]
            distance = np.linalg.norm(pairs, axis=-1)
            own, other = np.trace(distance), np.trace(distance[::-1])
            assert own < other, part
        compared += 1
    assert compared >= 1


@pytest.mark.parametrize("convention", [COCO_17, BLAZEPOSE_33], ids=lambda one: one.name)
def test_who_is_cut_at_the_waist_keeps_head_and_shoulders(convention):
    count = len(convention.keypoints)
    legs = ("hip", "knee", "ankle", "heel", "foot_index")
    unseen = [name.endswith(legs) for name in convention.keypoints]
    confidence = np.where(unseen, 0, 0.9).astype(np.float32)
    _, joints = convention.to_human36m(np.zeros((count, 2), np.float32), confidence)
    gone = {name for name, sure in zip(JOINT_NAMES, joints, strict=True) if sure == 0}
    assert gone == {
        *("hip", "spine", "left_hip", "left_knee", "left_ankle"),
        *("right_hip", "right_knee", "right_ankle"),
    }
