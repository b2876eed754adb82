"""Files of 2D keypoints that other programs write."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fakes import standing_at
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridpose.core import InputError, UsageError
from gridpose.detectors import BLAZEPOSE_33, COCO_17, CONVENTIONS, HUMAN36M_17
from gridpose.detectors.conventions import COCO_WHOLEBODY_133, HALPE_26
from gridpose.detectors.hrnet.mmpose_models import import_mmpose
from gridpose.pipeline import lift_file, read_pose_file
from gridpose.pipeline.keypoint_input import Keypoints2D, doubts, read_keypoints, to_human36m

SIZE = (1920, 1080)
ROOT = Path(__file__).parents[2]
FRONT = {
    "nose": (0, -0.62),
    "eye": (0.033, -0.655),
    "ear": (0.075, -0.64),
    "shoulder": (0.18, -0.46),
    "elbow": (0.24, -0.2),
    "wrist": (0.25, 0.04),
    "hip": (0.1, 0),
    "knee": (0.11, 0.44),
    "ankle": (0.12, 0.86),
}
"""x to the person's left and y down, in metres."""


def coco_people(count, seed=0, sides=(1,)):
    """(N, 17, 2) pixels of upright people in COCO's order, seen from the front (1) or behind."""
    random = np.random.default_rng(seed)
    people = []
    for index in range(count):
        side = sides[index % len(sides)]
        points = []
        for name in COCO_17.keypoints:
            x, y = FRONT[name.rpartition("_")[2]]
            sign = (-1 if name.startswith("right") else 1) * side
            points.append((sign * x, y))
        metre = random.uniform(150, 300)
        shift = random.uniform((300, 300), (1500, 700))
        people.append(np.array(points) * metre + shift + random.normal(0, 0.008, (17, 2)) * metre)
    return np.array(people, np.float32)


def human36m_people(count, seed=0):
    random = np.random.default_rng(seed)
    return np.array(
        [
            standing_at(*random.uniform((300, 300), (1500, 700)), random.uniform(150, 300))
            + random.normal(0, 2, (17, 2))
            for _ in range(count)
        ],
        np.float32,
    )


def more(people, count):
    """COCO's keypoints and others."""
    extra = np.broadcast_to(people[:, :1], (len(people), count - 17, 2))
    return np.concatenate((people, extra), axis=1)


def blazepose_people(count):
    people = coco_people(count)
    keypoints = np.zeros((count, 33, 2), np.float32)
    stand_in = {"pinky": "wrist", "index": "wrist", "thumb": "wrist", "heel": "ankle"}
    for place, name in enumerate(BLAZEPOSE_33.keypoints):
        side, _, part = name.partition("_")
        if name.startswith("mouth"):
            part, side = "nose", ""
        known = {"eye_inner": "eye", "eye_outer": "eye", "foot_index": "ankle", **stand_in}
        part = known.get(part, part)
        coco = "nose" if part in ("nose", "") else f"{side}_{part}"
        keypoints[:, place] = people[:, COCO_17.keypoints.index(coco)]
        keypoints[:, place, 1] += 10 if name.startswith("mouth") else 0
    return keypoints


def write(file, content):
    file.write_text(json.dumps(content))
    return file


def coco_results(keypoints, scores=None):
    scores = np.full(keypoints.shape[:2], 0.75) if scores is None else scores
    triples = np.concatenate((keypoints, scores[..., None]), -1).astype(float)
    return [
        {
            "image_id": 100 + index // 2,
            "category_id": 1,
            "keypoints": triple.ravel().tolist(),
            "score": 0.5 + index / 100,
        }
        for index, triple in enumerate(triples)
    ]


def coco_annotations(keypoints, names=COCO_17.keypoints, visibility=2, size=SIZE):
    flags = np.broadcast_to(visibility, keypoints.shape[:2])[..., None]
    triples = np.concatenate((np.where(flags > 0, keypoints, 0), flags), -1).astype(float)
    return {
        "images": [
            {"id": index, "file_name": f"{index}.jpg", "width": size[0], "height": size[1] + index}
            for index in range(len(keypoints))
        ],
        "annotations": [
            {
                "id": 1000 + index,
                "image_id": index,
                "category_id": 1,
                "num_keypoints": int((flags[index] > 0).sum()),
                "bbox": [0, 0, 1, 1],
                "keypoints": triple.ravel().tolist(),
            }
            for index, triple in enumerate(triples)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(names), "skeleton": []}],
    }


def mmpose_people(keypoints, scores=None):
    """As mmpose's ``split_instances`` makes them, the odd box included."""
    scores = np.full(keypoints.shape[:2], 0.8) if scores is None else scores
    return [
        {
            "keypoints": points.astype(float).tolist(),
            "keypoint_scores": score.astype(float).tolist(),
            "bbox": [[1.0, 2.0, 3.0, 4.0]],
            "bbox_score": 0.9,
        }
        for points, score in zip(keypoints, scores, strict=True)
    ]


def mmpose_video(keypoints, first=1):
    """Two people a frame."""
    people = mmpose_people(keypoints)
    return [
        {"frame_id": first + index, "instances": people[2 * index : 2 * index + 2]}
        for index in range((len(people) + 1) // 2)
    ]


def mmpose_meta(names, dataset="own"):
    return {
        "dataset_name": dataset,
        "num_keypoints": len(names),
        "keypoint_id2name": {str(index): name for index, name in enumerate(names)},
        "keypoint_name2id": {name: index for index, name in enumerate(names)},
        "sigmas": {"__ndarray__": [0.1], "dtype": "float32", "shape": [1]},
    }


COCO_SYMMETRY = [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
HUMAN36M_SYMMETRY = [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]


def videopose3d(file, positions, layout="coco", symmetry=COCO_SYMMETRY, videos=None, **more):
    metadata = {"layout_name": layout, "num_joints": 17, "keypoints_symmetry": symmetry, **more}
    if videos is not None:
        metadata["video_metadata"] = videos
    metadata = {key: value for key, value in metadata.items() if value is not None}
    np.savez_compressed(file, positions_2d=positions, metadata=metadata)
    return file


@pytest.fixture
def source(tmp_path):
    return tmp_path / "in.json"


@pytest.fixture
def npz(tmp_path):
    return tmp_path / "in.npz"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.npz"


def converted(convention, keypoints):
    return convention.to_human36m(keypoints, np.ones(keypoints.shape[:2], np.float32))[0]


def assert_lifted(target, lifter, joints, sizes=SIZE):
    """The file holds what the lifter says of the converted keypoints."""
    with np.load(target, allow_pickle=False) as result:
        np.testing.assert_allclose(result["keypoints_2d"], joints, atol=1e-3)
        expected = lifter.lift(joints, sizes)
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(result["poses_3d"], expected, atol=1e-5)
        return {name: result[name] for name in result.files}


class TestCocoResults:
    def test_lifts_like_the_converted_keypoints(self, source, target, lifter):
        people, scores = coco_people(5), np.random.default_rng(0).uniform(0.1, 1, (5, 17))
        write(source, coco_results(people, scores))
        lifted = lift_file(source, target, lifter, SIZE)
        assert (lifted.shape, lifted.convention, lifted.warnings) == ((5, 17, 3), "coco-17", ())
        joints, confidence = COCO_17.to_human36m(people, scores.astype(np.float32))
        arrays = assert_lifted(target, lifter, joints)
        np.testing.assert_allclose(arrays["confidence"], confidence, rtol=1e-5)
        assert arrays["image_id"].tolist() == [100, 100, 101, 101, 102]
        assert arrays["person"].tolist() == [0, 1, 0, 1, 0]
        np.testing.assert_allclose(arrays["score"], 0.5 + np.arange(5) / 100)

    def test_names_of_pictures_and_tracks(self, source):
        results = coco_results(coco_people(3))
        for index, result in enumerate(results):
            result.update(image_id=f"a/{index}.jpg", track_id=7 + index)
            del result["score"]
        columns = read_keypoints(write(source, results)).columns
        assert columns["image_id"].tolist() == ["a/0.jpg", "a/1.jpg", "a/2.jpg"]
        assert columns["person"].tolist() == [7, 8, 9]
        assert columns.keys() == {"image_id", "person"}

    def test_without_a_size_it_is_asked_for(self, source, target, lifter):
        write(source, coco_results(coco_people(2)))
        with pytest.raises(InputError, match=r"in\.json: has no image_size.*`image_size`"):
            lift_file(source, target, lifter)
        assert not target.exists()

    def test_keypoints_at_the_origin_without_a_score_are_absent(self, source, target, lifter):
        people, scores = coco_people(3), np.full((3, 17), 0.5)
        knee, eye = COCO_17.keypoints.index("left_knee"), COCO_17.keypoints.index("left_eye")
        for row, place in ((1, knee), (2, eye)):
            people[row, place], scores[row, place] = 0, 0
        write(source, coco_results(people, scores))
        lifted = lift_file(source, target, lifter, SIZE)
        assert lifted.warnings == (
            f"{source}: 1 of 3 people lack keypoints that 3D needs; their poses_3d are NaN",
        )
        with np.load(target) as result:
            assert np.isfinite(result["poses_3d"]).all((1, 2)).tolist() == [True, False, True]
            # Only what depends on the knee is lost in 2D.
            assert np.argwhere(np.isnan(result["keypoints_2d"][..., 0])).tolist() == [[1, 5]]
            assert (result["confidence"] == 0).sum() == 1

    @pytest.mark.parametrize("convention", [HALPE_26, COCO_WHOLEBODY_133, BLAZEPOSE_33])
    def test_other_numbers_of_keypoints(self, source, target, lifter, convention):
        count = len(convention.keypoints)
        people = blazepose_people(4) if count == 33 else more(coco_people(4), count)
        write(source, coco_results(people))
        lifted = lift_file(source, target, lifter, SIZE)
        assert (lifted.convention, lifted.warnings) == (convention.name, ())
        assert_lifted(target, lifter, converted(convention, people))

    def test_nobody(self, source, target, lifter):
        write(source, [])
        lifted = lift_file(source, target, lifter, SIZE)
        assert (lifted.shape, lifted.warnings) == ((0, 17, 3), ())


class TestCocoAnnotations:
    def test_lifts_with_the_sizes_of_the_pictures(self, source, target, lifter):
        people = coco_people(4)
        write(source, coco_annotations(people))
        lifted = lift_file(source, target, lifter)
        assert (lifted.shape, lifted.convention, lifted.warnings) == ((4, 17, 3), "coco-17", ())
        sizes = [(1920, 1080 + index) for index in range(4)]
        arrays = assert_lifted(target, lifter, converted(COCO_17, people), sizes)
        assert arrays["image_size"].tolist() == [list(size) for size in sizes]
        assert arrays["image_id"].tolist() == [0, 1, 2, 3]
        assert arrays["annotation_id"].tolist() == [1000, 1001, 1002, 1003]
        assert (arrays["confidence"] == 1).all()

    def test_unmarked_keypoints_and_people(self, source, target, lifter):
        people, flags = coco_people(5), np.full((5, 17), 2)
        left_ear, wrist = (COCO_17.keypoints.index(name) for name in ("left_ear", "left_wrist"))
        flags[1] = 0
        flags[2, wrist] = 0
        flags[3, left_ear] = 0
        flags[4, wrist] = 1  # hidden, but marked
        content = coco_annotations(people, visibility=flags)
        del content["annotations"][0]["keypoints"]
        write(source, content)
        lifted = lift_file(source, target, lifter)
        assert lifted.shape == (3, 17, 3)
        assert "1 of 3 people lack keypoints" in lifted.warnings[0]
        with np.load(target) as result:
            assert result["annotation_id"].tolist() == [1002, 1003, 1004]
            assert np.isfinite(result["poses_3d"]).all((1, 2)).tolist() == [False, True, True]
            # One ear stands for both.
            people[3, left_ear] = people[3, left_ear + 1]
            expected = converted(COCO_17, people[3:])
            np.testing.assert_allclose(result["keypoints_2d"][1:], expected, atol=1e-3)
            assert (result["confidence"][1:] == 1).all()

    def test_a_picture_without_a_size(self, source, target, lifter):
        content = coco_annotations(coco_people(2))
        del content["images"][1]
        write(source, content)
        with pytest.raises(InputError, match="`image_size`"):
            lift_file(source, target, lifter)
        assert lift_file(source, target, lifter, SIZE).shape == (2, 17, 3)

    def test_the_order_follows_from_the_names(self, source, target, lifter):
        order = np.random.default_rng(3).permutation(17)
        people = coco_people(3)
        names = [COCO_17.keypoints[index].title().replace("_", " ") for index in order]
        write(source, coco_annotations(people[:, order], names))
        assert lift_file(source, target, lifter, SIZE).warnings == ()
        assert_lifted(target, lifter, converted(COCO_17, people))

    def test_human36m_by_its_names(self, source, target, lifter):
        people = human36m_people(3)
        write(source, coco_annotations(people, HUMAN36M_17.keypoints))
        lifted = lift_file(source, target, lifter, SIZE)
        assert (lifted.convention, lifted.warnings) == ("human3.6m-17", ())
        assert_lifted(target, lifter, people)
        order = np.random.default_rng(3).permutation(17)
        names = [HUMAN36M_17.keypoints[index] for index in order]
        write(source, coco_annotations(people[:, order], names))
        assert lift_file(source, target, lifter, SIZE).warnings == ()
        assert_lifted(target, lifter, people)

    def test_other_categories_do_not_matter(self, source):
        content = coco_annotations(coco_people(2))
        content["categories"].append({"id": 2, "name": "dog", "keypoints": ["snout", "tail"]})
        content["categories"].append({"id": 3, "name": "car"})
        assert read_keypoints(write(source, content)).stated == "file"

    def test_names_that_lead_nowhere(self, source, target, lifter):
        content = coco_annotations(coco_people(2), [f"point {index}" for index in range(17)])
        write(source, content)
        with pytest.raises(InputError, match=r"in\.json: its 17 keypoints cannot be turned into"):
            lift_file(source, target, lifter)
        # The user knows better than names that say nothing.
        assert lift_file(source, target, lifter, convention="coco").convention == "coco-17"


class TestMmpose:
    @pytest.mark.parametrize("first", [0, 1])
    def test_a_video_of_the_demo(self, source, target, lifter, first):
        people = coco_people(5)
        content = {
            "meta_info": mmpose_meta(COCO_17.keypoints, "coco"),
            "instance_info": mmpose_video(people, first),
        }
        write(source, content)
        data = read_keypoints(source)
        assert data.columns["frame"].tolist() == [first + shift for shift in (0, 0, 1, 1, 2)]
        assert data.columns["person"].tolist() == [0, 1, 0, 1, 0]
        lifted = lift_file(source, target, lifter, SIZE, fps=30)
        # Each of them is somewhere else, and so somebody else.
        assert (lifted.shape, lifted.convention, lifted.warnings) == ((5, 3, 17, 3), "coco-17", ())
        poses = read_pose_file(target)
        assert poses.present.tolist() == [
            [frame == index // 2 for frame in range(3)] for index in (0, 1, 2, 3, 4)
        ]
        by_x = [converted(COCO_17, people)[pair] for pair in (slice(0, 2), slice(2, 4))]
        for frame, pair in enumerate(by_x):
            found = poses.keypoints_2d[poses.present[:, frame], frame]
            np.testing.assert_allclose(sorted(found[:, 0, 0]), sorted(pair[:, 0, 0]), rtol=1e-5)
        np.testing.assert_allclose(poses.confidence[poses.present], 0.8)

    def test_tracks_are_lifted_over_time(self, source, target, lifter):
        first, second = human36m_people(1)[0], human36m_people(1, seed=1)[0]
        shift = np.array((4, 0), np.float32)
        walks = np.stack(
            [person + shift * frame for frame in range(12) for person in (first, second)]
        )
        content = mmpose_video(walks)
        for frame, entry in enumerate(content):
            for track, person in enumerate(entry["instances"]):
                person["track_id"] = 5 + track
            if frame % 2:  # trackers keep no order
                entry["instances"].reverse()
        del content[4]
        names = mmpose_meta(HUMAN36M_17.keypoints)
        write(source, {"meta_info": names, "instance_info": content})
        lift_file(source, target, lifter, SIZE, fps=25)
        poses = read_pose_file(target)
        assert poses.track_id.tolist() == [5, 6]
        assert (poses.present.all(), poses.fps) == (True, 25)
        shown = walks[::2].copy()
        shown[4] = np.nan
        confidence = np.full((12, 17), 0.8, np.float32)
        expected = lifter.lift_sequence(shown, SIZE, confidence, 25)
        seen = np.arange(12) != 4
        np.testing.assert_allclose(poses.poses_3d[0, seen], expected[seen], atol=1e-5)
        assert (poses.repaired[:, 4] > 0).all()

    def test_the_demos_picture_and_the_inferencers_files(self, source):
        people = coco_people(4)
        contents = {
            "demo": {
                "meta_info": mmpose_meta(COCO_17.keypoints),
                "instance_info": mmpose_people(people),
            },
            "picture": mmpose_people(people),
            "video": mmpose_video(people),
        }
        for name, content in contents.items():
            data = read_keypoints(write(source, content))
            np.testing.assert_allclose(data.keypoints, people, rtol=1e-6)
            assert data.convention is COCO_17
            assert data.stated == ("file" if name == "demo" else "count")
            assert ("frame" in data.columns) == (name == "video")
            people_there = [0, 1, 0, 1] if name == "video" else [0, 1, 2, 3]
            assert data.columns["person"].tolist() == people_there

    @pytest.mark.filterwarnings("ignore:json-tricks")
    @pytest.mark.parametrize("video", [False, True])
    def test_what_mmpose_itself_writes(self, source, target, lifter, video):
        """Its own functions, put together as its demo does it."""
        mmpose = pytest.importorskip("mmpose", reason="needs mmpose")
        import_mmpose()  # without what mmpose merely imports
        json_tricks = pytest.importorskip("json_tricks", reason="needs json_tricks")
        from mmengine.structures import InstanceData
        from mmpose.datasets.datasets.utils import parse_pose_metainfo
        from mmpose.structures import split_instances

        folder = Path(mmpose.__file__).parent / ".mim" / "configs" / "_base_" / "datasets"
        meta = parse_pose_metainfo({"from_file": str(folder / "halpe26.py")})
        people = more(coco_people(2), 26)
        instances = split_instances(
            InstanceData(
                keypoints=people,
                keypoint_scores=np.full((2, 26), 0.5, np.float32),
                bboxes=np.zeros((2, 4), np.float32),
                bbox_scores=np.ones(2, np.float32),
            )
        )
        info = [{"frame_id": 1, "instances": instances}] if video else instances
        with source.open("w") as stream:
            json_tricks.dump({"meta_info": meta, "instance_info": info}, stream, indent="\t")
        lifted = lift_file(source, target, lifter, SIZE, fps=30)
        assert (lifted.convention, lifted.warnings) == ("halpe-26", ())
        assert lifted.shape == ((2, 1, 17, 3) if video else (2, 17, 3))
        poses = read_pose_file(target)
        order = np.argsort(poses.keypoints_2d[:, 0, 0, 0])
        expected = converted(HALPE_26, people)
        expected = expected[np.argsort(expected[:, 0, 0])]
        np.testing.assert_allclose(poses.keypoints_2d[order, 0], expected, atol=1e-3)
        np.testing.assert_allclose(poses.confidence, 0.5)

    def test_mmposes_own_names_of_human36m(self, source, target, lifter):
        names = list(HUMAN36M_17.keypoints)
        for place, name in ((0, "root"), (3, "right_foot"), (6, "left_foot"), (9, "neck_base")):
            names[place] = name
        people = human36m_people(3)
        content = {"meta_info": mmpose_meta(names, "h36m"), "instance_info": mmpose_people(people)}
        write(source, content)
        lifted = lift_file(source, target, lifter, SIZE)
        assert (lifted.convention, lifted.warnings) == ("human3.6m-17", ())
        assert_lifted(target, lifter, people)

    @pytest.mark.parametrize(
        ("dataset", "convention"),
        [
            ("coco", COCO_17),
            ("h36m", HUMAN36M_17),
            ("halpe26", HALPE_26),
            ("coco_wholebody", COCO_WHOLEBODY_133),
        ],
    )
    def test_the_data_set_alone(self, source, dataset, convention):
        content = {"meta_info": {"dataset_name": dataset}, "instance_info": []}
        data = read_keypoints(write(source, content))
        assert data.convention is convention
        assert data.keypoints.shape == (0, len(convention.keypoints), 2)

    def test_mpii_is_refused(self, source):
        meta = mmpose_meta(["right_ankle", "right_knee", "pelvis"], "mpii")
        write(source, {"meta_info": meta, "instance_info": []})
        with pytest.raises(InputError, match=r"in\.json: .* cannot be turned into Human3\.6M's"):
            read_keypoints(source)
        del meta["keypoint_id2name"]
        write(source, {"meta_info": meta, "instance_info": []})
        with pytest.raises(InputError, match=r"in\.json: its layout is 'mpii'; known are .*coco"):
            read_keypoints(source)

    def test_scores_may_be_missing(self, source, target, lifter):
        people = mmpose_people(coco_people(3))
        del people[1]["keypoint_scores"]
        write(source, people)
        assert lift_file(source, target, lifter, SIZE).shape == (3, 17, 3)
        with np.load(target) as result:
            assert (result["confidence"] == 1).all()

    def test_tracks(self, source):
        people = mmpose_people(coco_people(3))
        for index, person in enumerate(people):
            person["track_id"] = 10 * index
        assert read_keypoints(write(source, people)).columns["person"].tolist() == [0, 10, 20]

    def test_frames_without_people(self, source, target, lifter):
        video = mmpose_video(coco_people(2), first=5)
        video = [{"frame_id": 4, "instances": []}, *video, {"frame_id": 6, "instances": []}]
        write(source, video)
        assert lift_file(source, target, lifter, SIZE).shape == (2, 3, 17, 3)
        assert read_pose_file(target).present.tolist() == [[False, True, False]] * 2


class TestVideoPose3D:
    def test_own_videos(self, npz, target, frame_lifter):
        first, second = coco_people(4), coco_people(3, seed=1)
        positions = {"a.mp4": {"custom": [first]}, "b.mp4": {"custom": [second]}}
        sizes = {"a.mp4": {"w": 1920, "h": 1080}, "b.mp4": {"w": np.int64(640), "h": 480}}
        videopose3d(npz, positions, videos=sizes)
        lifted = lift_file(npz, target, frame_lifter)
        assert (lifted.shape, lifted.convention, lifted.warnings) == ((7, 17, 3), "coco-17", ())
        expected = [(1920, 1080)] * 4 + [(640, 480)] * 3
        both = converted(COCO_17, np.concatenate((first, second)))
        arrays = assert_lifted(target, frame_lifter, both, expected)
        assert arrays["subject"].tolist() == ["a.mp4"] * 4 + ["b.mp4"] * 3
        assert arrays["action"].tolist() == ["custom"] * 7
        assert arrays["camera"].tolist() == [0] * 7
        assert arrays["frame"].tolist() == [0, 1, 2, 3, 0, 1, 2]

    def test_human36m(self, npz, target, frame_lifter):
        views = [human36m_people(2, seed) for seed in range(8)]
        positions = {"S9": {"Walking 1": views[:4], "Photo": views[4:]}}
        videopose3d(npz, positions, "h36m", HUMAN36M_SYMMETRY)
        lifted = lift_file(npz, target, frame_lifter)
        assert (lifted.shape, lifted.convention) == ((16, 17, 3), "human3.6m-17")
        heights = [1002, 1002, 1000, 1000, 1000, 1000, 1002, 1002] * 2
        sizes = [(1000, height) for height in heights]
        arrays = assert_lifted(target, frame_lifter, np.concatenate(views), sizes)
        assert arrays["camera"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3] * 2
        assert arrays["action"].tolist() == ["Walking 1"] * 8 + ["Photo"] * 8

    def test_other_recordings_of_people_of_that_name_have_no_size(self, npz, target, lifter):
        videopose3d(npz, {"S1": {"custom": [human36m_people(2)]}}, "h36m", HUMAN36M_SYMMETRY)
        with pytest.raises(InputError, match="`image_size`"):
            lift_file(npz, target, lifter)
        assert lift_file(npz, target, lifter, SIZE).shape == (1, 2, 17, 3)

    def test_views_are_sequences_of_50_frames_a_second(self, npz, target, lifter):
        views = [human36m_people(8, seed) for seed in range(4)]
        videopose3d(npz, {"S9": {"Walking": views}}, "h36m", HUMAN36M_SYMMETRY)
        lift_file(npz, target, lifter)
        with np.load(target) as result:
            for camera, view in enumerate(views):
                expected = lifter.lift_sequence(view, result["image_size"][8 * camera], fps=50)
                found = result["poses_3d"][8 * camera : 8 * camera + 8]
                np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_all_32_joints(self, npz, target, frame_lifter):
        from gridpose.lifting.data.convert import STATIC_JOINTS

        people = human36m_people(3)
        full = np.zeros((3, 32, 2), np.float32)
        full[:, [joint for joint in range(32) if joint not in STATIC_JOINTS]] = people
        videopose3d(npz, {"me": {"x": [full]}}, "h36m", HUMAN36M_SYMMETRY)
        np.testing.assert_array_equal(read_keypoints(npz).keypoints, people)

    def test_a_third_number_is_the_confidence(self, npz):
        people = np.concatenate((coco_people(3), np.full((3, 17, 1), 0.25, np.float32)), -1)
        data = read_keypoints(videopose3d(npz, {"me": {"x": [people]}}))
        np.testing.assert_array_equal(data.keypoints, people[..., :2])
        assert (data.confidence == 0.25).all()

    def test_one_camera_need_not_be_in_a_list(self, npz):
        people = coco_people(3)
        data = read_keypoints(videopose3d(npz, {"me": {"x": people}}))
        np.testing.assert_array_equal(data.keypoints, people)
        data = read_keypoints(videopose3d(npz, {"me": {"x": np.stack((people, people))}}))
        assert data.columns["camera"].tolist() == [0, 0, 0, 1, 1, 1]

    @pytest.mark.parametrize(
        ("layout", "symmetry", "convention"),
        [
            ("h36m", None, HUMAN36M_17),
            ("coco", None, COCO_17),
            (None, HUMAN36M_SYMMETRY, HUMAN36M_17),
            (None, COCO_SYMMETRY, COCO_17),
            (None, np.array(COCO_SYMMETRY), COCO_17),
        ],
    )
    def test_what_tells_the_convention(self, npz, layout, symmetry, convention):
        data = read_keypoints(videopose3d(npz, {"me": {"x": [coco_people(1)]}}, layout, symmetry))
        assert (data.convention, data.stated) == (convention, "file")

    def test_nothing_tells_the_convention(self, npz):
        np.savez(npz, positions_2d={"me": {"x": [human36m_people(2)]}})
        data = read_keypoints(npz)
        assert (data.convention, data.stated) == (HUMAN36M_17, "count")

    def test_it_contradicts_itself(self, npz):
        videopose3d(npz, {"me": {"x": [coco_people(1)]}}, "h36m", COCO_SYMMETRY)
        with pytest.raises(InputError, match=r"that its keypoints are human.* they are coco-17"):
            read_keypoints(npz)

    def test_mpii_is_refused(self, npz):
        videopose3d(npz, {"me": {"x": [coco_people(1)[:, :16]]}}, "mpii", None)
        with pytest.raises(InputError, match=r"layout is 'mpii'; known are human3\.6m-17, coco-17"):
            read_keypoints(npz)

    @pytest.mark.parametrize(
        ("positions", "words"),
        [
            ([1, 2], "positions_2d is an array of int64"),
            ([1, {}], "positions_2d must be a dictionary"),
            ({"me": [1]}, "subject me must be a dictionary"),
            ({1: {}}, "key 1 must be a string"),
            ({"me": {"x": "y"}}, "me x must be a list"),
            ({"me": {"x": np.array(3)}}, "me x must be a list"),
            ({"me": {"x": [[1, 2]]}}, "camera 0 must be an array of numbers"),
            ({"me": {"x": [np.zeros((3, 17, 4))]}}, r"\(3, 17, 4\)"),
            ({"me": {"x": [np.zeros((3, 34))]}}, r"\(3, 34\)"),
            ({"me": {"x": [np.full((3, 17, 2), "a")]}}, "array of numbers"),
            ({"me": {"x": [np.zeros((3, 17, 2)), np.zeros((3, 16, 2))]}}, "others in the file"),
            ({"me": {}}, "no sequences"),
            ({}, "no sequences"),
        ],
    )
    def test_other_content(self, npz, positions, words):
        videopose3d(npz, positions)
        with pytest.raises(InputError, match=rf"in\.npz: .*{words}"):
            read_keypoints(npz)

    @pytest.mark.parametrize(
        "size", [{"w": "a", "h": 2}, {"w": 0, "h": 5}, {"w": np.inf, "h": 5}, {"w": None, "h": 1}]
    )
    def test_sizes_that_are_none(self, npz, size):
        videopose3d(npz, {"me": {"x": [coco_people(1)]}}, videos={"me": size})
        with pytest.raises(InputError, match="video_metadata of me"):
            read_keypoints(npz)

    @pytest.mark.parametrize("flags", [0x1, 0x20], ids=["encrypted", "patched"])
    def test_archives_of_other_kinds(self, npz, flags):
        videopose3d(npz, {"me": {"x": [coco_people(1)]}})
        data = bytearray(npz.read_bytes())
        entry = data.index(b"PK\x01\x02")
        data[data.index(b"PK\x03\x04") + 6] |= flags
        data[entry + 8] |= flags
        npz.write_bytes(data)
        with pytest.raises(InputError, match=r"in\.npz: not an npz file"):
            read_keypoints(npz)

    def test_nothing_in_it_runs(self, npz, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "ran"),)

        content = io.BytesIO()
        np.save(content, np.array({"me": Evil()}, object), allow_pickle=True)
        with zipfile.ZipFile(npz, "w") as archive:
            archive.writestr("positions_2d.npy", content.getvalue())
        with pytest.raises(InputError, match=r"in\.npz: positions_2d"):
            read_keypoints(npz)
        assert not (tmp_path / "ran").exists()
        with np.load(npz, allow_pickle=True) as data:  # the file would do it
            data["positions_2d"]
        assert (tmp_path / "ran").exists()


class TestConventions:
    def test_unknown_names(self, source, target, lifter):
        write(source, coco_results(coco_people(1)))
        with pytest.raises(UsageError, match=r"`convention` openpose: unknown; known .*coco-17"):
            lift_file(source, target, lifter, SIZE, convention="openpose")

    @pytest.mark.parametrize("name", ["coco-17", "COCO", "coco_17"])
    def test_other_spellings(self, source, target, lifter, name):
        write(source, coco_results(coco_people(1)))
        assert lift_file(source, target, lifter, SIZE, convention=name).convention == "coco-17"

    def test_the_user_contradicts_the_file(self, source, target, lifter):
        write(source, coco_annotations(coco_people(2)))
        words = r"in\.json: `convention` says human3.6m-17, but the file says coco-17"
        with pytest.raises(InputError, match=words):
            lift_file(source, target, lifter, convention="h36m")

    def test_a_number_that_does_not_go_with_the_convention(self, source):
        write(source, coco_results(coco_people(2)))
        with pytest.raises(InputError, match="people have 17 keypoints, but halpe-26 has 26"):
            read_keypoints(source, HALPE_26)
        write(source, coco_results(coco_people(2)[:, :14]))
        with pytest.raises(InputError, match=r"14 keypoints, which no known convention has.*coco"):
            read_keypoints(source)

    def test_coco_in_an_own_npz(self, npz, target, lifter):
        people = coco_people(4)
        np.savez(npz, keypoints_2d=people, image_size=SIZE)
        lifted = lift_file(npz, target, lifter, convention="coco-17")
        assert (lifted.convention, lifted.warnings) == ("coco-17", ())
        assert_lifted(target, lifter, converted(COCO_17, people))

    def test_names_and_confidence_in_an_own_npz(self, npz, target, lifter):
        people, scores = coco_people(4), np.random.default_rng(0).random((4, 17), np.float32)
        np.savez(
            npz,
            keypoints_2d=people,
            image_size=SIZE,
            confidence=scores,
            joint_names=np.array(COCO_17.keypoints),
        )
        assert lift_file(npz, target, lifter).convention == "coco-17"
        joints, confidence = COCO_17.to_human36m(people, scores)
        arrays = assert_lifted(target, lifter, joints)
        np.testing.assert_allclose(arrays["confidence"], confidence)
        # What was lifted can be lifted again: it says that it is Human3.6M-17 now.
        again = target.with_name("again.npz")
        assert lift_file(target, again, lifter).convention == "human3.6m-17"
        assert_lifted(again, lifter, joints)

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"joint_names": np.array(["a"] * 3)}, "joint_names must be 17 names"),
            ({"joint_names": np.arange(17)}, "joint_names must be 17 names"),
            ({"confidence": np.ones(3)}, r"confidence \(3,\) does not go"),
        ],
    )
    def test_own_npz_of_other_content(self, npz, arrays, words):
        np.savez(npz, keypoints_2d=human36m_people(2), **arrays)
        with pytest.raises(InputError, match=rf"in\.npz: {words}"):
            read_keypoints(npz)


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=lambda each: each.name)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_absent_keypoints_take_along_what_is_made_of_them(convention, data):
    count = len(convention.keypoints)
    keypoints = np.random.default_rng(0).uniform(0, 1000, (2, count, 2)).astype(np.float32)
    gone = data.draw(st.sets(st.integers(0, count - 1), max_size=4))
    holed = keypoints.copy()
    holed[0, sorted(gone), data.draw(st.integers(0, 1))] = data.draw(
        st.sampled_from([np.nan, np.inf, -np.inf])
    )
    joints, confidence = to_human36m(Keypoints2D(holed, convention, "user"))
    assert confidence is None
    ears = {place for place, name in enumerate(convention.keypoints) if name.endswith("_ear")}
    missing = gone if ears <= gone else gone - ears  # one ear stands for both
    lost = {row for row in range(17) for place in missing if convention.matrix[row, place]}
    finite = np.isfinite(joints).all(-1)
    assert set(np.flatnonzero(~finite[0])) == lost
    whole = converted(convention, keypoints)
    if not gone & ears:
        np.testing.assert_allclose(joints[finite], whole[finite], rtol=1e-4, atol=0.01)
    np.testing.assert_allclose(joints[1], whole[1], rtol=1e-4, atol=0.01)


def test_more_poses_than_are_converted_at_once(monkeypatch):
    from gridpose.pipeline.keypoint_input import conversion

    people = coco_people(24).reshape(2, 12, 17, 2)
    scores = np.random.default_rng(0).random((2, 12, 17), np.float32)
    whole = to_human36m(Keypoints2D(people, COCO_17, "user", scores))
    monkeypatch.setattr(conversion, "_BLOCK", 5)
    parts = to_human36m(Keypoints2D(people, COCO_17, "user", scores))
    for part, expected in zip(parts, whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-6)
    assert parts[1].shape == (2, 12, 17)


coordinates = st.floats(-5000, 5000, width=32)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_keypoints_survive_every_kind_of_file(tmp_path, data):
    people = data.draw(st.integers(1, 4))
    flat = data.draw(st.lists(coordinates, min_size=34, max_size=34))
    keypoints = np.array([flat] * people, np.float32).reshape(people, 17, 2)
    keypoints += np.arange(people)[:, None, None]
    file = tmp_path / "in.json"
    writers = {
        "results": lambda: write(file, coco_results(keypoints)),
        "annotations": lambda: write(file, coco_annotations(keypoints)),
        "people": lambda: write(file, mmpose_people(keypoints)),
        "video": lambda: write(file, mmpose_video(keypoints)),
        "VideoPose3D": lambda: videopose3d(tmp_path / "in.npz", {"me": {"x": [keypoints]}}),
    }
    for kind, make in writers.items():
        read = read_keypoints(make())
        np.testing.assert_array_equal(read.keypoints, keypoints, err_msg=kind)
        assert read.convention is COCO_17


class TestPlausibility:
    """Real detections and more are measured in the docstring of the module."""

    @pytest.fixture
    def mocap(self):
        """60 real poses, projected: (60, 17, 2) in Human3.6M's order."""
        with np.load(ROOT / "data" / "mocap_small.npz") as data:
            positions = data["positions"].astype(np.float64)
        random = np.random.default_rng(0)
        yaw = random.uniform(0, 2 * np.pi, len(positions))[:, None]
        x, y, z = np.moveaxis(positions - positions[:, :1], -1, 0)
        across, away = np.cos(yaw) * x - np.sin(yaw) * y, np.sin(yaw) * x + np.cos(yaw) * y
        away = away + 4
        return np.stack((960 + 1200 * across / away, 540 - 1200 * z / away), -1).astype(np.float32)

    @pytest.mark.parametrize("count", [1, 4, 30])
    def test_people_raise_no_doubts(self, mocap, count):
        samples = [
            (HUMAN36M_17, mocap[::-1][:count]),
            (HUMAN36M_17, human36m_people(count)),
            (COCO_17, coco_people(count)),
            (COCO_17, coco_people(count, sides=(1, -1))),
            (BLAZEPOSE_33, blazepose_people(count)),
        ]
        for convention, people in samples:
            assert doubts(Keypoints2D(people, convention, "count"), "f") == []

    def test_a_wrong_guess_is_an_error(self, mocap):
        for people, wrong, right in (
            (mocap, COCO_17, "human3.6m-17"),
            (coco_people(8), HUMAN36M_17, "coco-17"),
        ):
            for sample in (people, people[:1]):
                words = f"f: its keypoints look like {right}, not .* `convention={right}` or"
                with pytest.raises(InputError, match=words):
                    doubts(Keypoints2D(sample, wrong, "count"), "f")

    @pytest.mark.parametrize(("stated", "who"), [("user", "`convention`"), ("file", "the file")])
    def test_what_is_said_is_doubted_but_done(self, mocap, stated, who):
        (warning,) = doubts(Keypoints2D(mocap, COCO_17, stated), "f")
        assert warning == f"f: its keypoints look like human3.6m-17, not coco-17 as {who} says"

    def test_through_a_file(self, source, npz, target, lifter, mocap):
        write(source, mmpose_people(mocap))
        with pytest.raises(InputError, match=r"in\.json: .* look like human3\.6m-17, not coco-17"):
            lift_file(source, target, lifter, SIZE)
        assert not target.exists()
        lifted = lift_file(source, target, lifter, SIZE, convention="human3.6m-17")
        assert lifted.warnings == ()
        assert_lifted(target, lifter, mocap)
        np.savez(npz, keypoints_2d=coco_people(5), image_size=SIZE)
        with pytest.raises(InputError, match=r"in\.npz: .* look like coco-17, not human3\.6m-17"):
            lift_file(npz, target, lifter)
        lifted = lift_file(npz, target, lifter, convention="h36m")
        assert "look like coco-17" in lifted.warnings[0]

    def test_orders_that_are_none(self, mocap):
        random = np.random.default_rng(0)
        orders = [random.permutation(17) for _ in range(20)]
        for convention, people in ((HUMAN36M_17, mocap), (COCO_17, coco_people(9))):
            found = [
                doubts(Keypoints2D(people[:, order], convention, "file"), "f") for order in orders
            ]
            # Some orders happen to leave limbs together.
            assert sum(bool(each) for each in found) >= 15, convention.name
            words = [each[0] for each in found if each]
            assert sum("do not look like people" in each for each in words) >= 12

    def test_faces_the_other_way_round_than_the_body(self):
        people = coco_people(8, sides=(1, -1))
        swapped = people.copy()
        left = [index for index, name in enumerate(COCO_17.keypoints) if "left" in name]
        body = [index for index in left if index > 4]
        for index in body:
            swapped[:, [index, index + 1]] = people[:, [index + 1, index]]
        (warning,) = doubts(Keypoints2D(swapped, COCO_17, "file"), "f")
        assert "left and right of 100% of the people are exchanged" in warning
        assert doubts(Keypoints2D(swapped[:4], COCO_17, "file"), "f") == []  # too few

    @pytest.mark.parametrize("seen", ["front", "behind"])
    def test_everything_exchanged_where_annotators_saw_the_face(self, source, seen):
        people = coco_people(8, sides=(1 if seen == "front" else -1,))
        write(source, coco_annotations(people))
        found = doubts(read_keypoints(source), "f")
        assert [("left eye where the right one is" in each) for each in found] == (
            [] if seen == "front" else [True]
        )
        # Who is seen from behind has eyes that are marked but not visible.
        flags = np.full((8, 17), 2)
        flags[:, :3] = 1
        write(source, coco_annotations(people, visibility=flags))
        assert doubts(read_keypoints(source), "f") == []

    @pytest.mark.parametrize("value", [0, 7, np.nan])
    def test_no_bodies_no_doubts(self, value):
        keypoints = np.full((5, 17, 2), value, np.float32)
        for convention in (COCO_17, HUMAN36M_17):
            assert doubts(Keypoints2D(keypoints, convention, "count"), "f") == []


def people_of(*changes):
    """mmpose's people, the first of whom is changed."""
    person, *others = mmpose_people(coco_people(2))
    for key, value in changes:
        if value is None:
            del person[key]
        else:
            person[key] = value
    return [person, *others]


def result_of(key, value, delete=False):
    first, *others = coco_results(coco_people(2))
    first[key] = value
    if delete:
        del first[key]
    return [first, *others]


def annotated(**changes):
    return {**coco_annotations(coco_people(2)), **changes}


def annotation_of(key, value, delete=False):
    content = coco_annotations(coco_people(2))
    content["annotations"][0][key] = value
    if delete:
        del content["annotations"][0][key]
    return content


POINTS = [[1.0, 2.0]] * 17
TRIPLES = [1.0, 2.0, 2] * 17


class TestDamage:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ({}, r"of a known kind \(mmpose 1.x, COCO annotations, OpenPose"),
            (5, "of a known kind"),
            ("text", "of a known kind"),
            (None, "of a known kind"),
            ([1, 2], r"predictions\[0\] must be an object, not 1"),
            ([{}], r"predictions\[0\] has no keypoints"),
            ({"instance_info": 3}, "instance_info must be a list"),
            ({"instance_info": [], "meta_info": 3}, "meta_info must be an object"),
            (
                {"instance_info": [], "meta_info": {"keypoint_id2name": {"1": "nose"}}},
                "must name keypoints 0, 1, 2",
            ),
            ([{"frame_id": 1, "instances": 3}], r"\[0\].instances must be a list"),
            ([{"frame_id": "1", "instances": []}], "frame_id must be a whole number, not '1'"),
            ([{"frame_id": True, "instances": []}], "frame_id must be a whole number, not True"),
            ([{"frame_id": 1.5, "instances": []}], "frame_id must be a whole number"),
            ([{"frame_id": 10**30, "instances": []}], "frame_id must be a whole number"),
            ([{"instances": []}], r"predictions\[0\] has no frame_id"),
            ([{"frame_id": 1, "instances": []}, {}], r"predictions\[1\] has no instances"),
            (people_of(("keypoints", None)), r"\[0\] has no keypoints"),
            (people_of(("keypoints", [])), "pairs of numbers"),
            (people_of(("keypoints", 7)), "pairs of numbers"),
            (people_of(("keypoints", [[1, 2, 3]] * 17)), "3D already"),
            (people_of(("keypoints", [[1], *POINTS[1:]])), "pairs of numbers"),
            (people_of(("keypoints", POINTS[1:])), "17 keypoints, others in the file 16|16 key"),
            (people_of(("keypoints", [["1", "2"], *POINTS[1:]])), "must be numbers, but has '1'"),
            (people_of(("keypoints", [[True, 2], *POINTS[1:]])), "must be numbers, but has True"),
            (people_of(("keypoints", [[None, 2], *POINTS[1:]])), "must be numbers, but has None"),
            (people_of(("keypoints", [[10**400, 2], *POINTS[1:]])), "number that is too large"),
            (people_of(("keypoints", [[1, 2]] * 2000)), "pairs of numbers"),
            (people_of(("keypoint_scores", [1.0])), "17 keypoints and 1 scores"),
            (people_of(("keypoint_scores", "high")), "must be a list of numbers"),
            (result_of("keypoints", TRIPLES[1:]), "got 50 numbers"),
            (result_of("keypoints", []), "got 0 numbers"),
            (result_of("keypoints", "x"), "must be a list of numbers"),
            (result_of("keypoints", ["1", *TRIPLES[1:]]), "must be numbers, but has '1'"),
            (result_of("keypoints", [False, *TRIPLES[1:]]), "must be numbers, but has False"),
            (result_of("keypoints", TRIPLES[3:]), "others in the file 16"),
            (result_of("keypoints", 0, delete=True), r"results\[0\] has no keypoints"),
            (result_of("image_id", 1.5), "image_id must be a whole number or a short text"),
            (result_of("image_id", "x" * 1000), "image_id must be a whole number or a short text"),
            (result_of("score", "0.5"), "score must be numbers, but has '0.5'"),
            ([*result_of("score", 1), {"keypoints": TRIPLES}], r"results\[2\] has no image_id"),
            ([*result_of("score", 1), 3], r"results\[2\] must be an object"),
            (annotated(annotations=3), "annotations must be a list"),
            (annotated(annotations=[3]), r"annotations\[0\] must be an object"),
            (annotated(annotations=[{"image_id": 1, "bbox": []}]), "annotations have no keypoints"),
            (annotated(images={}), "images must be a list"),
            (annotated(images=[{"id": 0, "width": 0, "height": 5}]), "the size 0 x 5"),
            (annotated(images=[{"id": 0, "width": 1e300, "height": 5}]), "the size 1e.300 x 5"),
            (annotated(images=[{"id": 0, "width": "9", "height": 5}]), "width must be numbers"),
            (annotated(images=[{"id": 0, "width": True, "height": 5}]), "width must be numbers"),
            (annotated(images=[{"id": [], "width": 9, "height": 5}]), "id must be a whole number"),
            (annotated(categories=7), "categories must be a list"),
            (annotated(categories=[{"id": 1, "keypoints": 4}]), "keypoints must be names"),
            (annotated(categories=[{"id": 1, "keypoints": [4]}]), "keypoints must be names"),
            (annotation_of("keypoints", TRIPLES[2:]), "got 49 numbers"),
            (annotation_of("keypoints", [None, *TRIPLES[1:]]), "but has None"),
            (annotation_of("image_id", 0, delete=True), r"annotations\[0\] has no image_id"),
            (annotation_of("category_id", "1"), "category_id must be a whole number"),
        ],
    )
    def test_json_of_other_content(self, source, target, lifter, content, words):
        write(source, content)
        with pytest.raises(InputError, match=rf"in\.json: .*({words})") as caught:
            lift_file(source, target, lifter, SIZE)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400 + len(str(source))
        assert not target.exists()

    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_something_else_anywhere(self, tmp_path, data):
        """Any value of a good file may be any other: it is read or refused with a sentence."""
        kind = data.draw(st.sampled_from(["results", "annotations", "people", "video"]))
        people = coco_people(2)
        content = {
            "results": lambda: coco_results(people),
            "annotations": lambda: coco_annotations(people),
            "people": lambda: mmpose_people(people),
            "video": lambda: {
                "meta_info": mmpose_meta(COCO_17.keypoints),
                "instance_info": mmpose_video(people),
            },
        }[kind]()
        node, depth = content, data.draw(st.integers(0, 4))
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if depth == 0 or not isinstance(node[key], (dict, list)):
                other = (
                    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
                )
                other |= st.lists(st.integers(), max_size=3) | st.just({}) | st.just({"a": []})
                node[key] = data.draw(other)
                break
            node, depth = node[key], depth - 1
        file = write(tmp_path / "in.json", content)
        try:
            read = read_keypoints(file)
        except InputError:
            return
        assert read.keypoints.dtype == np.float32
        assert all(len(column) == len(read.keypoints) for column in read.columns.values())

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"[",
            b'{"annotations": [',
            b"[NaN",
            b"\xff\xfe\xfd",
            b"\x80abc",
            b"[" * 200_000,
            b"[" + b"9" * 5000 + b"]",
            b"[1] and more",
            pickle.dumps([1]),
        ],
        ids=["empty", "cut", "cut object", "cut NaN", "bytes", "no text", "deep", "digits", "rest",
             "pickle"],
    )  # fmt: skip
    def test_other_files(self, source, data):
        source.write_bytes(data)
        with pytest.raises(InputError, match=r"in\.json: not a JSON file of keypoints"):
            read_keypoints(source)

    def test_cut_anywhere(self, source):
        whole = json.dumps(coco_annotations(coco_people(2))).encode()
        for end in range(0, len(whole), 97):
            source.write_bytes(whole[:end])
            with pytest.raises(InputError, match=r"in\.json: not a JSON file of keypoints"):
                read_keypoints(source)

    def test_huge_files(self, source, npz):
        with source.open("wb") as stream:
            stream.write(b"[")
            stream.truncate(3 << 30)  # takes no room on the disk
        with pytest.raises(InputError, match=r"in\.json: has 3\.0 GB; JSON of at most 2 GB"):
            read_keypoints(source)

    def test_archives_that_unpack_to_more_than_fits(self, npz, monkeypatch):
        from gridpose.pipeline.keypoint_input import reader

        monkeypatch.setattr(reader, "MAX_NPZ_BYTES", 1 << 20)
        np.savez_compressed(npz, keypoints_2d=np.zeros((20_000, 17, 2), np.float32))
        assert npz.stat().st_size < 1 << 20
        with pytest.raises(InputError, match=r"in\.npz: has 0\.0 GB unpacked; at most"):
            read_keypoints(npz)

    def test_a_missing_file_and_a_folder(self, source):
        with pytest.raises(InputError, match=r"in\.json: no such file"):
            read_keypoints(source)
        source.mkdir()
        with pytest.raises(InputError, match=r"in\.json: "):
            read_keypoints(source)

    def test_numbers_that_are_none_are_absent(self, source, target, lifter):
        people = mmpose_people(coco_people(3))
        people[0]["keypoints"][5] = [float("nan"), 1.0]
        people[1]["keypoints"][6] = [1e300, 1.0]
        write(source, people)
        lifted = lift_file(source, target, lifter, SIZE)
        assert "2 of 3 people lack keypoints" in lifted.warnings[0]
        with np.load(target) as result:
            assert np.isfinite(result["poses_3d"]).all((1, 2)).tolist() == [False, False, True]

    def test_json_is_known_by_its_content_too(self, tmp_path):
        file = tmp_path / "predictions.txt"
        file.write_text(" \n" + json.dumps(mmpose_people(coco_people(2))))
        assert len(read_keypoints(file).keypoints) == 2
        file.write_bytes(b"\xef\xbb\xbf" + json.dumps(mmpose_people(coco_people(2))).encode())
        assert len(read_keypoints(file).keypoints) == 2


def test_real_annotations(shared, target, lifter):
    """14 people in four pictures, of whom some are cut off or hidden."""
    lifted = lift_file(shared / "video" / "coco_keypoints.json", target, lifter)
    assert (lifted.shape, lifted.convention) == ((12, 17, 3), "coco-17")  # 2 have no keypoint
    assert [("lack keypoints" in each) for each in lifted.warnings] == [True]
    with np.load(target) as result:
        assert np.isfinite(result["poses_3d"]).all((1, 2)).sum() >= 7
        assert set(result["image_id"].tolist()) == {785, 40083, 196141, 197388}
