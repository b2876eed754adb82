"""Files of 2D keypoints of programs that process videos: read, and lifted into pose files."""

import csv
import io
import json
import os
import pickle
import sys

import numpy as np
import pytest
from fakes import standing_at
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from gridpose.core import InputError, MissingError
from gridpose.detectors import BLAZEPOSE_33, COCO_17, HUMAN36M_17
from gridpose.detectors.conventions import CONVENTIONS, OPENPOSE_18, OPENPOSE_25
from gridpose.pipeline import lift_file, read_pose_file
from gridpose.pipeline.keypoint_input import convention_named, read_keypoints

SIZE = (1920, 1080)
FRAMES = 24
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


def walk(frames=FRAMES, x=500.0, speed=12.0, metre=250.0):
    """(T, 17, 2) px in COCO's order: somebody who walks to the right, arms and legs swinging."""
    random = np.random.default_rng(int(x))
    path = np.empty((frames, 17, 2))
    for frame in range(frames):
        for index, name in enumerate(COCO_17.keypoints):
            across, down = FRONT[name.rpartition("_")[2]]
            sign = -1 if name.startswith("right") else 1
            swing = 0.2 * sign * np.sin(frame / 4) if name.endswith(("ankle", "wrist")) else 0
            path[frame, index] = sign * across + swing, down
    path = path * metre + random.normal(0, 0.3, path.shape)
    path += np.stack((x + speed * np.arange(frames), np.full(frames, 500)), -1)[:, None]
    return path.astype(np.float32)


def crossing():
    """Two people who walk through each other: (P, T, 17, 2)."""
    return np.stack((walk(x=600.0, speed=20.0), walk(x=1000.0, speed=-20.0)))


def scored(pose, score=0.9):
    """x, y and a score of each keypoint in a row."""
    return np.column_stack((pose, np.full(len(pose), score))).astype(float).ravel().tolist()


def in_order(pose, convention):
    """COCO's keypoints in the order of a convention that has them; others lie between."""
    middle = {"neck": ("left_shoulder", "right_shoulder"), "hip": ("left_hip", "right_hip")}
    place = {name: index for index, name in enumerate(COCO_17.keypoints)}
    points = []
    for name in convention.keypoints:
        ends = middle.get(name, (name, name))
        if not set(ends) <= place.keys():
            ends = ("left_ankle", "left_ankle")
        points.append(np.mean([pose[place[end]] for end in ends], axis=0))
    return np.array(points)


def write(file, content):
    file.write_text(json.dumps(content))
    return file


def alphapose(people, idx=lambda person: person + 1):
    """Rows of people, whose order changes from frame to frame."""
    rows = []
    for frame in range(people.shape[1]):
        order = range(len(people)) if frame % 2 else reversed(range(len(people)))
        for person in order:
            row = {
                "image_id": f"{frame}.jpg",
                "category_id": 1,
                "keypoints": scored(people[person, frame]),
                "score": 2.9,
                "box": [1.0, 2.0, 3.0, 4.0],
            }
            if idx is not None:
                row["idx"] = idx(person)
            rows.append(row)
    return rows


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.npz"


def assert_follows(poses, people, convention=COCO_17):
    """Each track is one of the people, in all frames."""
    joints, _ = convention.to_human36m(people, np.ones(people.shape[:3], np.float32))
    assert poses.present.all()
    assert len(poses.track_id) == len(people)
    taken = []
    for row in range(len(people)):
        errors = np.abs(joints - poses.keypoints_2d[row]).max((1, 2, 3))
        taken.append(int(errors.argmin()))
        assert errors.min() < 0.01
    assert sorted(taken) == list(range(len(people)))
    assert np.isfinite(poses.poses_3d).all()
    assert np.isfinite(poses.poses_world).all()
    return taken


class TestAlphaPose:
    def test_people_keep_their_idx(self, tmp_path, target, lifter):
        people = crossing()
        write(tmp_path / "in.json", alphapose(people, lambda person: 7 - person))
        lifted = lift_file(tmp_path / "in.json", target, lifter, SIZE, fps=25)
        assert (lifted.shape, lifted.convention) == ((2, FRAMES, 17, 3), "coco-17")
        poses = read_pose_file(target)
        assert (poses.track_id.tolist(), poses.fps) == ([6, 7], 25)
        assert assert_follows(poses, people) == [1, 0]
        np.testing.assert_allclose(poses.frame_time, np.arange(FRAMES) / 25)

    @pytest.mark.parametrize(
        ("idx", "names"),
        [
            (lambda person: ["ann", "bob"][person], ["ann", "bob"]),
            (lambda person: [person + 3], [3, 4]),
            (lambda person: float(person + 3), [3, 4]),
        ],
    )
    def test_ids_of_other_kinds(self, tmp_path, target, lifter, idx, names):
        people = crossing()
        write(tmp_path / "in.json", alphapose(people, idx))
        lift_file(tmp_path / "in.json", target, lifter, SIZE)
        poses = read_pose_file(target)
        assert_follows(poses, people)
        assert sorted(map(str, poses.meta["track_names"].values())) == list(map(str, names))

    def test_untracked_people_are_followed(self, tmp_path, target, lifter):
        people = np.stack((walk(x=400.0, speed=5.0), walk(x=1200.0, speed=-5.0)))
        write(tmp_path / "in.json", alphapose(people, None))
        lift_file(tmp_path / "in.json", target, lifter, SIZE)
        assert_follows(read_pose_file(target), people)

    @pytest.mark.parametrize("form", ["cmu", "open"])
    def test_forms_of_openpose(self, tmp_path, target, lifter, form):
        people = walk()[None]
        content = {}
        for frame in range(FRAMES):
            pose = scored(in_order(people[0, frame], OPENPOSE_18))
            person = {"joints": pose} if form == "cmu" else {"pose_keypoints_2d": pose}
            where = {"cmu": "bodies", "open": "people"}[form]
            content[f"{frame}.jpg"] = {"version": "AlphaPose v0.3", where: [person]}
        lifted = lift_file(write(tmp_path / "in.json", content), target, lifter, SIZE)
        assert (lifted.shape, lifted.convention) == ((1, FRAMES, 17, 3), "openpose-coco-18")
        assert_follows(read_pose_file(target), people)

    def test_tracked_by_poseflow(self, tmp_path, target, lifter):
        people = crossing()
        content = {
            f"frame_{frame:04d}.png": [
                {"keypoints": scored(people[person, frame]), "scores": 1.0, "idx": person}
                for person in (frame % 2, 1 - frame % 2)
            ]
            for frame in range(FRAMES)
        }
        lift_file(write(tmp_path / "in.json", content), target, lifter, SIZE)
        assert assert_follows(read_pose_file(target), people) == [0, 1]

    def test_missing_frames_are_gaps(self, tmp_path, target, lifter):
        rows = [row for row in alphapose(walk(90)[None]) if not 30 < int(row["image_id"][:-4]) < 70]
        lift_file(write(tmp_path / "in.json", rows), target, lifter, SIZE, fps=30)
        present = read_pose_file(target).present[0]
        assert len(present) == 90
        assert present[:31].all()
        assert present[70:].all()
        assert not present[31:70].any()

    def test_who_comes_late_is_late(self, tmp_path, target, lifter):
        rows = [row for row in alphapose(walk(90)[None]) if int(row["image_id"][:-4]) >= 40]
        lift_file(write(tmp_path / "in.json", rows), target, lifter, SIZE, fps=30)
        poses = read_pose_file(target)
        assert np.flatnonzero(poses.present[0])[0] == 40
        assert poses.frame_time[40] == pytest.approx(40 / 30)

    def test_the_surer_of_two_of_one_name(self, tmp_path, target, lifter):
        people = walk()[None]
        rows = alphapose(people)
        rows.append({**rows[3], "keypoints": scored(people[0, 20] + 300, 0.2)})
        lift_file(write(tmp_path / "in.json", rows), target, lifter, SIZE)
        assert_follows(read_pose_file(target), people)


def openpose_people(poses, convention=OPENPOSE_25, **more):
    return {
        "version": 1.3,
        "people": [
            {
                "person_id": [-1],
                "pose_keypoints_2d": scored(in_order(pose, convention)),
                "face_keypoints_2d": [],
                **more,
            }
            for pose in poses
        ],
    }


class TestOpenPose:
    @pytest.mark.parametrize("convention", [OPENPOSE_25, OPENPOSE_18])
    def test_a_folder(self, tmp_path, target, lifter, convention):
        people = np.stack((walk(x=400.0, speed=5.0), walk(x=1200.0, speed=-5.0)))
        folder = tmp_path / "json"
        folder.mkdir()
        (folder / "notes.json").write_text("{}")  # not a frame's name
        for frame in range(FRAMES):
            file = folder / f"clip_{frame:012d}_keypoints.json"
            write(file, openpose_people(people[:: 1 if frame % 2 else -1, frame], convention))
        lifted = lift_file(folder, target, lifter, SIZE)
        assert (lifted.shape, lifted.convention) == ((2, FRAMES, 17, 3), convention.name)
        assert any("taken for 30" in each for each in lifted.warnings)
        assert_follows(read_pose_file(target), people)

    def test_numbers_and_not_letters_give_the_order(self, tmp_path, target, lifter):
        people = walk()[None]
        for frame in range(FRAMES):
            write(tmp_path / f"f{frame}_keypoints.json", openpose_people(people[:, frame]))
        lift_file(tmp_path, target, lifter, SIZE)
        assert_follows(read_pose_file(target), people)

    def test_frames_without_people_and_faces_alone(self, tmp_path, target, lifter):
        people = walk()[None]
        for frame in range(FRAMES + 40):
            content = openpose_people(people[:, frame] if frame < FRAMES else [])
            content["people"].append({"person_id": [-1], "pose_keypoints_2d": []})
            write(tmp_path / f"f_{frame:03d}_keypoints.json", content)
        assert lift_file(tmp_path, target, lifter, SIZE).shape == (1, FRAMES + 40, 17, 3)
        assert not read_pose_file(target).present[0, FRAMES:].any()

    def test_keypoints_that_were_not_found(self, tmp_path, target, lifter):
        """The legs are below the picture's edge, an arm is hidden for a while."""
        people = walk()
        for frame in range(FRAMES):
            content = openpose_people(people[frame : frame + 1])
            pose = content["people"][0]["pose_keypoints_2d"]
            for place, name in enumerate(OPENPOSE_25.keypoints):
                hidden = name.endswith(("knee", "ankle", "toe", "heel"))
                hidden |= name == "left_wrist" and 8 <= frame < 16
                if hidden:
                    pose[3 * place : 3 * place + 3] = 0, 0, 0
            write(tmp_path / f"f_{frame:03d}_keypoints.json", content)
        lift_file(tmp_path, target, lifter, SIZE)
        poses = read_pose_file(target)
        assert poses.present.all()
        assert np.isfinite(poses.poses_world).all()
        knees = HUMAN36M_17.keypoints.index("left_knee")
        assert (poses.confidence[0, :, knees] == 0).all()
        assert (poses.repaired[0, :, knees] > 0).all()
        wrist = HUMAN36M_17.keypoints.index("left_wrist")
        assert (poses.confidence[0, :, wrist] == 0).tolist() == [8 <= f < 16 for f in range(FRAMES)]
        # What is hidden lies where it was before and will be after.
        true = people[:, COCO_17.keypoints.index("left_wrist")]
        assert np.abs(poses.keypoints_2d[0, :, wrist] - true).max() < 60

    def test_one_frame(self, tmp_path, target, lifter):
        file = write(tmp_path / "1_keypoints.json", openpose_people(walk(1)))
        assert lift_file(file, target, lifter, SIZE).shape == (1, 1, 17, 3)

    def test_folders_of_other_things(self, tmp_path, target, lifter):
        with pytest.raises(InputError, match="has no JSON files of frames"):
            lift_file(tmp_path, target, lifter, SIZE)
        write(tmp_path / "0_keypoints.json", [1])
        with pytest.raises(InputError, match=r"0_keypoints\.json: not a frame of OpenPose"):
            lift_file(tmp_path, target, lifter, SIZE)
        (tmp_path / "0_keypoints.json").write_text('{"people": [{"pose_')
        with pytest.raises(InputError, match=r"0_keypoints\.json: not a JSON file"):
            lift_file(tmp_path, target, lifter, SIZE)


def blazepose(pose):
    """COCO's keypoints among BlazePose's, the others near them."""
    near = {"pinky": "wrist", "index": "wrist", "thumb": "wrist", "heel": "ankle"}
    near |= {"eye_inner": "eye", "eye_outer": "eye", "foot_index": "ankle"}
    points = []
    for name in BLAZEPOSE_33.keypoints:
        side, _, part = name.partition("_")
        coco = "nose" if name.startswith(("nose", "mouth")) else f"{side}_{near.get(part, part)}"
        point = pose[COCO_17.keypoints.index(coco)]
        points.append(point + (0, 10) if name.startswith("mouth") else point)
    return np.array(points)


def landmarks(pose, size=SIZE):
    return [
        {"x": x / size[0], "y": y / size[1], "z": -0.1, "visibility": 0.9}
        for x, y in blazepose(pose).tolist()
    ]


class TestMediaPipe:
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda people: [{"pose_landmarks": people} for people in people],
            lambda people: [{"frame": i, "landmarks": each[0]} for i, each in enumerate(people)],
            lambda people: [each[0] for each in people],
            lambda people: {"frames": [{"poseLandmarks": each[0]} for each in people]},
            lambda people: [{"pose_landmarks": {"landmark": each[0]}} for each in people],
        ],
    )
    def test_landmarks_of_frames(self, tmp_path, target, lifter, wrap):
        people = walk()[None]
        content = wrap([[landmarks(people[0, frame])] for frame in range(FRAMES)])
        lifted = lift_file(write(tmp_path / "in.json", content), target, lifter, SIZE)
        assert (lifted.shape, lifted.convention) == ((1, FRAMES, 17, 3), "blazepose-33")
        expected = np.stack([blazepose(pose) for pose in people[0]])[None]
        assert_follows(read_pose_file(target), expected, BLAZEPOSE_33)

    def test_several_people_and_frames_with_nobody(self, tmp_path, target, lifter):
        people = np.stack((walk(x=400.0, speed=5.0), walk(x=1200.0, speed=-5.0)))
        content = [{"pose_landmarks": [landmarks(p) for p in people[:, f]]} for f in range(FRAMES)]
        content += [{"pose_landmarks": []}, {"pose_landmarks": None}]
        file = write(
            tmp_path / "in.json", {"fps": 24, "width": 1920, "height": 1080, "frames": content}
        )
        assert lift_file(file, target, lifter).shape == (2, FRAMES + 2, 17, 3)
        assert read_pose_file(target).fps == 24

    def test_the_size_is_asked_for(self, tmp_path, target, lifter):
        file = write(tmp_path / "in.json", [{"landmarks": landmarks(walk(1)[0])}])
        with pytest.raises(InputError, match=r"in\.json: its keypoints are shares .*`image_size`"):
            lift_file(file, target, lifter)
        assert lift_file(file, target, lifter, SIZE).shape == (1, 1, 17, 3)


class TestMmpose0:
    def test_frames_of_people_with_track_ids(self, tmp_path, target, lifter):
        people = crossing()
        content = [
            [
                {"track_id": person, "bbox": [0, 0, 9, 9, 1.0],
                 "keypoints": np.reshape(scored(people[person, frame]), (17, 3)).tolist()}
                for person in (frame % 2, 1 - frame % 2)
            ]
            for frame in range(FRAMES)
        ]  # fmt: skip
        lifted = lift_file(write(tmp_path / "in.json", content), target, lifter, SIZE)
        assert (lifted.shape, lifted.convention) == ((2, FRAMES, 17, 3), "coco-17")
        poses = read_pose_file(target)
        assert assert_follows(poses, people) == [0, 1]
        np.testing.assert_allclose(poses.confidence, 0.9)


class TestDetectron:
    def write(self, file, people, size=SIZE):
        boxes, keypoints = (np.empty((people.shape[1], 2), object) for _ in range(2))
        for frame in range(people.shape[1]):
            seen = people[:, frame]
            ones = np.ones((len(seen), 1, 17))
            pose = np.concatenate((seen.transpose(0, 2, 1), 0 * ones, 0.9 * ones), 1)
            boxes[frame, :] = [], np.array([[0, 0, 9, 9, 0.99]] * len(seen), np.float32)
            keypoints[frame, :] = [], pose.astype(np.float32)
        keypoints[-1, 1], boxes[-1, 1] = [], []  # nobody
        metadata = {"w": size[0], "h": size[1]}
        np.savez_compressed(file, boxes=boxes, segments=np.array([None]), keypoints=keypoints,
                            metadata=metadata)  # fmt: skip
        return file

    def test_people_of_a_video(self, tmp_path, target, lifter):
        people = np.stack((walk(x=400.0, speed=5.0), walk(x=1200.0, speed=-5.0)))
        lifted = lift_file(self.write(tmp_path / "in.npz", people), target, lifter)
        assert (lifted.shape, lifted.convention) == ((2, FRAMES, 17, 3), "coco-17")
        poses = read_pose_file(target)
        assert poses.image_size == SIZE
        assert poses.present[:, :-1].all()

    @pytest.mark.parametrize(
        "keypoints", [np.array(3), np.array([{}, 1], object), np.zeros((3, 3))]
    )
    def test_damage(self, tmp_path, keypoints):
        np.savez(tmp_path / "in.npz", boxes=np.array([{}], object), keypoints=keypoints)
        with pytest.raises(InputError, match=r"in\.npz: "):
            read_keypoints(tmp_path / "in.npz")


def table(rows):
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def deeplabcut(people, individuals=True, parts=COCO_17.keypoints):
    """Of (P, T, K, 2)."""
    rows = [["scorer"], ["individuals"], ["bodyparts"], ["coords"]]
    for who in range(len(people)):
        for part in parts:
            for what in ("x", "y", "likelihood"):
                for row, cell in zip(rows, ("net", f"ind{who + 1}", part, what), strict=True):
                    row.append(cell)
    for frame in range(people.shape[1]):
        rows.append([frame, *(value for person in people for value in scored(person[frame]))])
    return rows if individuals else [rows[0], *rows[2:]]


def write_h5(file, rows, columns=None):
    """The table of :func:`deeplabcut` as pandas' ``to_hdf(format="table")`` has it."""
    import h5py

    headings, body = rows[: -FRAMES or None], rows[-FRAMES:]
    if columns is None:
        columns = list(zip(*(row[1:] for row in headings), strict=True))
    values = np.array([row[1:] for row in body], np.float64)
    kind = np.dtype([("index", "<i8"), ("values_block_0", "<f8", (values.shape[1],))])
    stored = np.empty(len(body), kind)
    stored["index"], stored["values_block_0"] = [row[0] for row in body], values
    with h5py.File(file, "w") as content:
        data = content.create_dataset("df_with_missing/table", data=stored)
        data.attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(columns, protocol=0))


class TestTables:
    @pytest.mark.parametrize("count", [1, 2])
    def test_deeplabcut(self, tmp_path, target, lifter, count):
        people = crossing()[:count]
        (tmp_path / "in.csv").write_text(table(deeplabcut(people, count > 1)))
        lifted = lift_file(tmp_path / "in.csv", target, lifter, SIZE, fps=50)
        assert lifted.shape == (count, FRAMES, 17, 3)
        assert lifted.convention == "coco-17"
        poses = read_pose_file(target)
        assert_follows(poses, people)
        if count > 1:
            assert poses.meta["track_names"] == {"1": "ind1", "2": "ind2"}

    def test_other_spellings_of_body_parts_and_empty_cells(self, tmp_path, target, lifter):
        parts = [
            "".join(
                word.title() for word in name.replace("left", "L").replace("right", "R").split("_")
            )
            for name in COCO_17.keypoints
        ]
        rows = deeplabcut(walk()[None], False, parts)
        rows[8][4:7] = ["", "", ""]
        (tmp_path / "in.csv").write_text(table(rows))
        lifted = lift_file(tmp_path / "in.csv", target, lifter, SIZE)
        assert (lifted.shape, lifted.convention) == ((1, FRAMES, 17, 3), "coco-17")

    def test_bodies_without_a_face(self, tmp_path, target, lifter):
        parts = [*COCO_17.keypoints[5:], "head_top"]
        people = walk()
        top = people[:, :1] - (0, 60)
        people = np.concatenate((people[:, 5:], top), 1)[None]
        (tmp_path / "in.csv").write_text(table(deeplabcut(people, False, parts)))
        lifted = lift_file(tmp_path / "in.csv", target, lifter, SIZE)
        assert lifted.shape == (1, FRAMES, 17, 3)
        assert not [each for each in lifted.warnings if "look like" in each]

    def test_a_row_for_each_person(self, tmp_path, target, lifter):
        people = crossing()
        names = COCO_17.keypoints
        rows = [
            ["frame", "track_id", *(f"{n}_{end}" for n in names for end in ("x", "y", "score"))]
        ]
        for frame in range(FRAMES):
            for person in (1, 0):
                rows.append([frame, f"p{person}", *scored(people[person, frame])])
        (tmp_path / "in.csv").write_text(table(rows))
        lift_file(tmp_path / "in.csv", target, lifter, SIZE)
        poses = read_pose_file(target)
        assert assert_follows(poses, people) == [0, 1]
        assert poses.meta["track_names"] == {"1": "p0", "2": "p1"}

    def test_numbers_only(self, tmp_path, target, lifter):
        people = walk()
        rows = [pose.ravel().tolist() for pose in people]
        (tmp_path / "in.csv").write_text(table(rows))
        lift_file(tmp_path / "in.csv", target, lifter, SIZE)
        assert_follows(read_pose_file(target), people[None])

    def test_what_export_writes(self, tmp_path, target, lifter):
        from gridpose.pipeline import export_poses

        people = crossing()
        write(tmp_path / "in.json", alphapose(people))
        lift_file(tmp_path / "in.json", target, lifter, SIZE)
        poses = read_pose_file(target)
        export_poses(poses, tmp_path / "a.csv")
        again = tmp_path / "again.npz"
        lifted = lift_file(tmp_path / "a.csv", again, lifter, SIZE)
        assert lifted.convention == "human3.6m-17"
        np.testing.assert_allclose(
            read_pose_file(again).keypoints_2d, poses.keypoints_2d, atol=0.05
        )

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "has 0 rows"),
            ("a,b\n", "has 1 rows"),
            ("a,b\n1,2\n", "not a table of keypoints: its columns must be"),
            ("nose_x,nose_y\n1,2,3\n", "row 2 has 3 cells"),
            ("nose_x,nose_y\n1,x\n", "row 2: 'x' is no number"),
            ("1,2,3\n1,2,3\n", "has 3 numbers in a row"),
            ("scorer,net\nbodyparts,nose\n1,2\n", "rows bodyparts and coords"),
            ("frame,joint,x,y\n0,nose,1,2\n0,nose,1,2\n", "is there twice in frame 0"),
            ("frame,nose_x,nose_y\nx,1,2\n", "has no number of a frame"),
            ("frame,nose_x,nose_y\n0,1,2\n", "cannot be turned into"),
        ],
    )
    def test_other_tables(self, tmp_path, text, words):
        (tmp_path / "in.csv").write_text(text)
        with pytest.raises(InputError, match=rf"in\.csv: .*{words}"):
            read_keypoints(tmp_path / "in.csv")

    @pytest.mark.parametrize("count", [1, 2])
    def test_deeplabcut_as_pandas_writes_it(self, tmp_path, count):
        rows = deeplabcut(crossing()[:count], count > 1)
        (tmp_path / "in.csv").write_text(table(rows))
        write_h5(tmp_path / "in.h5", rows)
        expected, found = (read_keypoints(tmp_path / f"in.{kind}") for kind in ("csv", "h5"))
        np.testing.assert_allclose(found.keypoints, expected.keypoints, rtol=1e-4)
        np.testing.assert_allclose(found.confidence, expected.confidence, rtol=1e-4)
        assert found.convention is expected.convention
        assert found.columns.keys() == expected.columns.keys()

    def test_hdf5_needs_h5py(self, tmp_path, monkeypatch):
        (tmp_path / "in.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(
            MissingError, match=r"pip install h5py; or let DeepLabCut write a \.csv"
        ):
            read_keypoints(tmp_path / "in.h5")

    def test_damaged_hdf5(self, tmp_path):
        write_h5(tmp_path / "in.h5", deeplabcut(crossing()[:1], False))
        whole = (tmp_path / "in.h5").read_bytes()
        for size in (100, len(whole) // 2, len(whole) - 100):
            (tmp_path / "in.h5").write_bytes(whole[:size])
            with pytest.raises(InputError, match=r"in\.h5: damaged HDF5"):
                read_keypoints(tmp_path / "in.h5")

    def test_nothing_in_hdf5_is_run_and_no_other_file_is_read(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "trapped"),)

        rows = deeplabcut(crossing()[:1], False)
        write_h5(tmp_path / "in.h5", rows, columns=Trap())
        with pytest.raises(InputError, match=r"in\.h5"):
            read_keypoints(tmp_path / "in.h5")
        assert not (tmp_path / "trapped").exists()

        import h5py

        write_h5(tmp_path / "other.h5", rows)
        with h5py.File(tmp_path / "link.h5", "w") as file:
            file["df"] = h5py.ExternalLink("other.h5", "df_with_missing")
        with pytest.raises(InputError, match=r"link\.h5: no table of DeepLabCut"):
            read_keypoints(tmp_path / "link.h5")


class TestArrays:
    def test_npy_of_one_person(self, tmp_path, target, lifter):
        people = walk()
        np.save(tmp_path / "in.npy", people)
        lifted = lift_file(tmp_path / "in.npy", target, lifter, SIZE)
        assert (lifted.shape, lifted.convention) == ((1, FRAMES, 17, 3), "coco-17")
        assert_follows(read_pose_file(target), people[None])

    @pytest.mark.parametrize("frames_first", [False, True])
    def test_any_key_and_either_order_of_axes(self, tmp_path, target, lifter, frames_first):
        people = crossing()
        pose = np.concatenate((people, np.full((*people.shape[:3], 1), 0.7)), -1)
        pose = pose.swapaxes(0, 1) if frames_first else pose
        np.savez(tmp_path / "in.npz", whatever=pose, frame_names=np.array(["a"]))
        lifted = lift_file(tmp_path / "in.npz", target, lifter, SIZE)
        assert lifted.shape == (2, FRAMES, 17, 3)
        assert any("read whatever" in each for each in lifted.warnings)
        poses = read_pose_file(target)
        assert_follows(poses, people)
        np.testing.assert_allclose(poses.confidence, 0.7)

    def test_several_that_could_be(self, tmp_path):
        np.savez(tmp_path / "in.npz", a=walk(), b=walk())
        with pytest.raises(InputError, match="but a, b; a, b all are"):
            read_keypoints(tmp_path / "in.npz")

    @pytest.mark.parametrize("frames_first", [False, True])
    def test_own_arrays_with_a_rate_keep_their_shape(self, tmp_path, target, lifter, frames_first):
        people = COCO_17.to_human36m(crossing(), np.ones((2, FRAMES, 17), np.float32))[0]
        given = people.swapaxes(0, 1) if frames_first else people
        np.savez(tmp_path / "in.npz", keypoints_2d=given, image_size=SIZE)
        assert lift_file(tmp_path / "in.npz", target, lifter, fps=25).shape == given.shape[:-1] + (
            3,
        )
        with np.load(target) as data:
            listed = data["poses_3d"]
        poses = read_pose_file(target)
        assert_follows(poses, people, HUMAN36M_17)
        np.testing.assert_array_equal(
            poses.poses_3d, listed.swapaxes(0, 1) if frames_first else listed
        )


class TestOwnLists:
    """Poses that nothing says to be frames."""

    def test_are_pose_files_all_the_same(self, tmp_path, target, lifter):
        people = np.stack([standing_at(700 + 5 * i, 500, 200) for i in range(6)])
        np.savez(tmp_path / "in.npz", keypoints_px=people, image_size=SIZE)
        assert lift_file(tmp_path / "in.npz", target, lifter).shape == (6, 17, 3)
        poses = read_pose_file(target)
        assert poses.poses_3d.shape == (1, 6, 17, 3)
        assert poses.fps == 30
        assert poses.present.all()
        lowest = poses.poses_world[..., 2].min(-1)
        assert (np.abs(lowest) < 0.15).all()

    def test_people_in_pictures(self, tmp_path, target, lifter):
        people = walk(3)
        rows = [
            {"image_id": 10 * index, "category_id": 1, "keypoints": scored(pose), "score": 1.0}
            for index, pose in enumerate(people)
        ]
        assert lift_file(write(tmp_path / "in.json", rows), target, lifter, SIZE).shape == (
            3,
            17,
            3,
        )
        poses = read_pose_file(target)
        assert poses.present.tolist() == np.eye(3, dtype=bool).tolist()
        assert poses.shot.tolist() == [1, 2, 3]

    @pytest.mark.parametrize("tracked", [False, True])
    def test_pictures_of_a_video(self, tmp_path, target, lifter, tracked):
        """Whom the file follows through pictures is in a video; with a rate everybody is."""
        people = crossing() if tracked else walk()[None]
        rows = [
            {"image_id": 10_000_130_000 + frame, "category_id": 1, "keypoints": scored(pose)}
            | ({"track_id": f"t{person}"} if tracked else {})
            for person in range(len(people))
            for frame, pose in enumerate(people[person])
        ]
        file = write(tmp_path / "in.json", rows)
        lifted = lift_file(file, target, lifter, SIZE, fps=None if tracked else 25)
        assert lifted.shape == (len(people), FRAMES, 17, 3)
        assert_follows(read_pose_file(target), people)

    def test_pictures_without_numbers_are_no_frames(self, tmp_path, target, lifter):
        rows = [{"image_id": "a", "track_id": 1, "category_id": 1, "keypoints": scored(walk(1)[0])}]
        with pytest.raises(InputError, match=r"in\.json: image_id: 'a' has no number of a frame"):
            lift_file(write(tmp_path / "in.json", rows), target, lifter, SIZE)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"row_track": np.array([0, 0, 5])}, "out of range"),
            ({"row_track": np.array([0, 0])}, "row_frame"),
            ({"poses_3d": np.zeros((2, 17, 3))}, "not a pose file"),
        ],
    )
    def test_damaged(self, tmp_path, target, lifter, change, words):
        np.savez(tmp_path / "in.npz", keypoints_px=walk(3), image_size=SIZE)
        lift_file(tmp_path / "in.npz", target, lifter, convention="coco")
        with np.load(target) as data:
            arrays = dict(data)
        np.savez(target, **{**arrays, **change})
        with pytest.raises(InputError, match=words):
            read_pose_file(target)

    def test_too_many_to_be_shown(self, tmp_path, target, lifter):
        np.savez(tmp_path / "in.npz", keypoints_px=walk(3), image_size=SIZE)
        lift_file(tmp_path / "in.npz", target, lifter, convention="coco")
        with np.load(target) as data:
            arrays = dict(data)
        arrays.update(track_id=np.arange(3000), frame_time=np.arange(3000.0), shot=np.arange(3000))
        np.savez(target, **arrays)
        with pytest.raises(InputError, match="3000 people in 3000 pictures"):
            read_pose_file(target)


class TestNormalized:
    @pytest.mark.parametrize("kind", ["json", "npz", "csv"])
    def test_is_refused_with_the_remedy(self, tmp_path, target, lifter, kind):
        people = walk()
        shares = people / SIZE
        file = tmp_path / f"in.{kind}"
        if kind == "json":
            write(file, alphapose(shares[None]))
        elif kind == "csv":
            file.write_text(table([pose.ravel().tolist() for pose in shares]))
        else:
            np.savez(file, keypoints=shares)
        with pytest.raises(
            InputError, match=r"shares of the picture, not in px; `normalized=True`"
        ):
            lift_file(file, target, lifter, SIZE)
        assert not target.exists()
        lift_file(file, target, lifter, SIZE, normalized=True)
        assert_follows(read_pose_file(target), people[None])
        with pytest.raises(InputError, match="`image_size`"):
            lift_file(file, target, lifter, normalized=True)

    def test_the_size_may_be_in_the_file(self, tmp_path, target, lifter):
        np.savez(tmp_path / "in.npz", keypoints_2d=walk(2) / SIZE, image_size=SIZE)
        lift_file(tmp_path / "in.npz", target, lifter, convention="coco", normalized=True)
        with np.load(target) as data:
            expected = COCO_17.to_human36m(walk(2), np.ones((2, 17), np.float32))[0]
            np.testing.assert_allclose(data["keypoints_2d"], expected, atol=0.01)

    def test_pixels_are_not(self, tmp_path, target, lifter):
        np.save(tmp_path / "in.npy", walk())
        with pytest.raises(InputError, match=r"so they are px and not shares"):
            lift_file(tmp_path / "in.npy", target, lifter, SIZE, normalized=True)

    def test_screen_coordinates(self, tmp_path, target, lifter):
        np.save(tmp_path / "in.npy", walk() / 960 - (1, 0.5625))
        with pytest.raises(InputError, match=r"between -.* not in px; multiply"):
            lift_file(tmp_path / "in.npy", target, lifter, SIZE)


class TestCommand:
    def test_on_to_everything(self, tmp_path, invoke):
        file = write(tmp_path / "kp.json", alphapose(crossing()))
        result = invoke("lift", file, "-o", tmp_path / "a.npz", "--image-size", "1920x1080")
        assert result.exit_code == 0, result.output
        assert invoke("render", tmp_path / "a.npz", "-o", tmp_path / "a.html").exit_code == 0
        for suffix in ("json", "csv", "bvh", "trc", "c3d", "glb"):
            result = invoke("export", tmp_path / "a.npz", "-o", tmp_path / f"a.{suffix}")
            assert result.exit_code == 0, result.output
        assert invoke("angles", tmp_path / "a.npz", "-o", tmp_path / "angles.csv").exit_code == 0

    def test_normalized(self, tmp_path, invoke):
        np.save(tmp_path / "in.npy", walk() / SIZE)
        line = ("lift", tmp_path / "in.npy", "-o", tmp_path / "a.npz", "--image-size", "1920x1080")
        result = invoke(*line)
        assert result.exit_code == 3
        assert "--normalized multiplies them" in result.stderr
        assert invoke(*line, "--normalized").exit_code == 0

    def test_conventions_are_listed(self, invoke):
        result = invoke("lift", "--convention", "list")
        assert result.exit_code == 0, result.output
        for name, convention in CONVENTIONS.items():
            assert f"{name}: {len(convention.keypoints)} keypoints" in result.stdout
        assert "right_hip, right_knee" in result.stdout


@pytest.mark.parametrize(
    ("name", "convention"),
    [("BODY_25", OPENPOSE_25), ("coco_18", OPENPOSE_18), ("mediapipe", BLAZEPOSE_33)],
)
def test_names_of_conventions(name, convention):
    assert convention_named(name) is convention


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES |= st.lists(st.integers(), max_size=3) | st.just({}) | st.just({"a": []})
KINDS = {
    "alphapose": lambda: alphapose(crossing()[:, :2]),
    "cmu": lambda: {"0.jpg": {"bodies": [{"joints": scored(in_order(walk(1)[0], OPENPOSE_18))}]}},
    "openpose": lambda: openpose_people(walk(2)),
    "mediapipe": lambda: {"fps": 30, "frames": [{"pose_landmarks": [landmarks(walk(1)[0])]}] * 2},
    "mmpose 0.x": lambda: [
        [{"track_id": 1, "keypoints": np.reshape(scored(pose), (17, 3)).tolist()}]
        for pose in walk(2)
    ],
}


def assert_read_or_refused(file):
    """Whatever is in a file: keypoints, or one sentence."""
    try:
        assert read_keypoints(file).keypoints.dtype == np.float32
    except InputError as error:
        sentence = str(error)
    else:
        sentence = ""
    assert "\n" not in sentence


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_something_else_anywhere_in_json(tmp_path, target, frame_lifter, data):
    """Any value of a good file may be any other: it is lifted or refused with a sentence."""
    content = KINDS[data.draw(st.sampled_from(sorted(KINDS)))]()
    node, depth = content, data.draw(st.integers(0, 6))
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys)) if keys else None
        if key is None:
            break
        if depth == 0 or not isinstance(node[key], (dict, list)):
            node[key] = data.draw(VALUES)
            break
        node, depth = node[key], depth - 1
    text = json.dumps(content)
    if data.draw(st.booleans()):
        text = text[: data.draw(st.integers(0, len(text)))]
    file = tmp_path / "in.json"
    file.write_text(text)
    try:
        assert read_keypoints(file).keypoints.dtype == np.float32
        if not data.draw(st.integers(0, 7)):  # lifting takes most of the time
            lift_file(file, target, frame_lifter, SIZE)
            read_pose_file(target)
    except InputError as error:
        sentence = str(error)
    else:
        sentence = ""
    assert "\n" not in sentence


CELLS = st.sampled_from(["", "nan", "inf", "-1", "1e300", "x", "0", "1e9", '"', ",", "\n", "nose"])


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_something_else_anywhere_in_tables(tmp_path, data):
    kind = data.draw(st.sampled_from(["deeplabcut", "wide", "long", "bare"]))
    names = COCO_17.keypoints
    rows = {
        "deeplabcut": lambda: deeplabcut(crossing()[:, :2]),
        "wide": lambda: [
            ["frame", "id", *(f"{n}_{end}" for n in names for end in "xy")],
            *([0, person, *pose.ravel()] for person, pose in enumerate(walk(3))),
        ],
        "long": lambda: [
            ["frame", "track_id", "joint", "x", "y"],
            *([0, 1, name, *point] for name, point in zip(names, walk(1)[0], strict=True)),
        ],
        "bare": lambda: [pose.ravel().tolist() for pose in walk(3)],
    }[kind]()
    row = data.draw(st.sampled_from(rows))
    row[data.draw(st.integers(0, len(row) - 1))] = data.draw(CELLS)
    text = table(rows)
    if data.draw(st.booleans()):
        text = text[: data.draw(st.integers(0, len(text)))]
    file = tmp_path / "in.csv"
    file.write_text(text)
    assert_read_or_refused(file)


ARRAYS = arrays(
    st.sampled_from([np.float32, np.float64, np.int16, np.bool_, np.complex64, np.dtype("U3")]),
    array_shapes(min_dims=0, max_dims=5, max_side=4).map(
        lambda shape: (*shape[:-2], 17, shape[-1]) if len(shape) > 2 else shape
    ),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_arrays(tmp_path, data):
    names = ["a", "keypoints", "boxes", "keypoints_2d", "image_size", "fps", "track_id"]
    content = data.draw(st.dictionaries(st.sampled_from(names), ARRAYS, max_size=4))
    if data.draw(st.booleans()):
        file = tmp_path / "in.npy"
        np.save(file, data.draw(ARRAYS))
    else:
        file = tmp_path / "in.npz"
        np.savez(file, **content)
    if data.draw(st.booleans()):
        whole = file.read_bytes()
        file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    assert_read_or_refused(file)


OBJECTS = st.recursive(
    st.none() | st.integers(-2, 2) | st.text(max_size=2) | st.just(np.ones((2, 4, 17))) | ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("wh"), inner),
    max_leaves=6,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(keypoints=OBJECTS, boxes=OBJECTS, metadata=OBJECTS)
def test_any_objects_of_detectron(tmp_path, keypoints, boxes, metadata):
    def boxed(value):
        array = np.empty((), object)
        array[()] = value
        return array

    file = tmp_path / "in.npz"
    np.savez(file, keypoints=boxed(keypoints), boxes=boxed(boxes), metadata=boxed(metadata))
    assert_read_or_refused(file)


@pytest.mark.parametrize("frame", [10**9, 10**12, 10**30, -3])
def test_numbers_of_frames_that_cannot_be(tmp_path, target, lifter, frame):
    rows = alphapose(walk(3)[None])
    rows[-1]["image_id"] = frame
    with pytest.raises(InputError, match=r"in\.json"):
        lift_file(write(tmp_path / "in.json", rows), target, lifter, SIZE)
    assert not target.exists()
