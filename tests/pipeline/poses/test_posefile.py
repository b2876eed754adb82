import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.core import JOINT_NAMES, GridposeError, InputError, MissingError, Person
from gridpose.pipeline import read_pose_file
from gridpose.pipeline.poses.spool import PoseSpool
from gridpose.storage import save_npz

META = {"source": "dance 日本.mp4", "detector": {"name": "fake", "sha256": "0" * 64}, "fov": None}
ARRAYS = ("bbox", "keypoints_2d", "confidence", "poses_3d", "poses_world")


def person(track_id, random):
    def some(*shape):
        return random.normal(size=shape).astype(np.float32)

    return Person(track_id, some(4), some(17, 2), some(17), some(17, 3), some(17, 3))


def spooled(frames, fps=30000 / 1001, image_size=(1920, 1080)):
    """A spool of frames that are lists of people, at variable times."""
    spool = PoseSpool(fps, image_size)
    for index, people in enumerate(frames):
        spool.add(index / fps + 0.001 * (index % 3), people)
    return spool


def sample(count=6):
    """Track 7 in every frame, 3 in some."""
    random = np.random.default_rng(1)
    return [[person(7, random)] + [person(3, random)] * (n % 3 == 1) for n in range(count)]


def assert_same(found, expected):
    assert found.fps == expected.fps
    assert found.image_size == expected.image_size
    assert found.meta == expected.meta
    for name in ("frame_time", "track_id", "present", *ARRAYS):
        left, right = getattr(found, name), getattr(expected, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.fixture
def pose_file(tmp_path):
    file = tmp_path / "a.npz"
    spooled(sample()).write_npz(file, META)
    return file


def rewritten(file, **changes):
    """The same file with some arrays replaced, or left out where None."""
    with np.load(file) as data:
        arrays = {**data, **changes}
    np.savez(file, **{name: values for name, values in arrays.items() if values is not None})
    return file


@settings(max_examples=40, deadline=None)
@given(
    present=st.integers(0, 12).flatmap(
        lambda frames: st.lists(
            st.tuples(
                st.integers(1, 10_000), st.lists(st.booleans(), min_size=frames, max_size=frames)
            ),
            max_size=4,
            unique_by=lambda track: track[0],
        ).map(lambda tracks: (frames, tracks))
    )
)
def test_what_is_written_is_read_again(present):
    frames, tracks = present
    random = np.random.default_rng(frames)
    script = [
        [person(track_id, random) for track_id, seen in tracks if seen[frame]]
        for frame in range(frames)
    ]
    spool = spooled(script)
    expected = spool.tracks(META)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.npz"
        spool.write_npz(file, META)
        found = read_pose_file(file)
    assert_same(found, expected)

    shown = {track_id: seen for track_id, seen in tracks if any(seen)}
    assert found.track_id.tolist() == sorted(shown)
    for row, track_id in enumerate(found.track_id):
        assert found.present[row].tolist() == shown[track_id]
        for frame in range(frames):
            values = [getattr(found, name)[row, frame] for name in ARRAYS]
            if not shown[track_id][frame]:
                assert all(np.isnan(value).all() for value in values)
                continue
            (source,) = [one for one in script[frame] if one.track_id == track_id]
            for value, given_value in zip(
                values,
                (
                    source.bbox,
                    source.keypoints_2d,
                    source.confidence,
                    source.pose_3d,
                    source.pose_world,
                ),
                strict=True,
            ):
                np.testing.assert_array_equal(value, given_value)


def test_arrays_are_those_of_the_contract(pose_file):
    frames, tracks = 6, 2
    with np.load(pose_file, allow_pickle=False) as data:
        assert {name: (data[name].dtype.kind, data[name].shape) for name in data} == {
            "format_version": ("i", ()),
            "fps": ("f", ()),
            "frame_time": ("f", (frames,)),
            "shot": ("i", (frames,)),
            "contacts": ("b", (tracks, frames, 2)),
            "image_size": ("i", (2,)),
            "track_id": ("i", (tracks,)),
            "present": ("b", (tracks, frames)),
            "bbox": ("f", (tracks, frames, 4)),
            "keypoints_2d": ("f", (tracks, frames, 17, 2)),
            "confidence": ("f", (tracks, frames, 17)),
            "poses_3d": ("f", (tracks, frames, 17, 3)),
            "poses_world": ("f", (tracks, frames, 17, 3)),
            "repaired": ("u", (tracks, frames, 17)),
            "joint_names": ("U", (17,)),
            "meta": ("U", ()),
        }
        assert data["format_version"] == 1
        assert data["frame_time"].dtype == np.float64
        assert all(data[name].dtype == np.float32 for name in ARRAYS)
        assert data["image_size"].tolist() == [1920, 1080]
        assert data["fps"] == 30000 / 1001
        assert data["joint_names"].tolist() == list(JOINT_NAMES)
        assert json.loads(str(data["meta"])) == META
        assert data["track_id"].tolist() == [3, 7]


def test_presentation_times_are_kept(pose_file):
    fps = 30000 / 1001
    expected = [n / fps + 0.001 * (n % 3) for n in range(6)]
    np.testing.assert_array_equal(read_pose_file(pose_file).frame_time, expected)


@pytest.mark.parametrize("frames", [0, 5])
def test_nobody_at_all(tmp_path, frames):
    file = tmp_path / "a.npz"
    spool = spooled([[]] * frames)
    spool.write_npz(file, {})
    found = read_pose_file(file)
    assert_same(found, spool.tracks({}))
    assert found.poses_3d.shape == (0, frames, 17, 3)
    assert found.present.shape == (0, frames)
    assert found.frame_time.shape == (frames,)


def test_frames_may_be_added_after_reading(tmp_path):
    spool = spooled(sample(3))
    assert spool.tracks({}).present.shape == (2, 3)
    for people in sample(3):
        spool.add(1.0, people)
    assert spool.frame_count == 6
    assert spool.tracks({}).present.sum() == 8


def test_a_damaged_file_never_passes_as_poses(pose_file):
    """Cut anywhere, and with a wrong byte anywhere."""
    whole = pose_file.read_bytes()
    for size in range(0, len(whole), len(whole) // 40):
        pose_file.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"a\.npz: not a pose file"):
            read_pose_file(pose_file)
    expected = None
    for at in range(0, len(whole), len(whole) // 150):
        pose_file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            found = read_pose_file(pose_file)
        except InputError:
            continue
        # Bytes that carry no data, such as dates.
        expected = expected or spooled(sample()).tracks(META)
        assert_same(found, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda file: file.write_text("joints\n" * 100),
        lambda file: file.write_bytes(b""),
        lambda file: np.savez(file, images=np.zeros(3)),
        lambda file: np.save(file.open("wb"), np.zeros((4, 17, 3))),
        lambda file: np.savez(file, format_version=np.array([{}], object)),
        lambda file: np.array([{}], object).dump(file),
        lambda file: zipfile.ZipFile(file, "w").close(),
        lambda file: file.mkdir(),
    ],
    ids=["text", "empty", "other npz", "npy", "objects", "pickle", "empty zip", "folder"],
)
def test_other_files_are_no_pose_files(tmp_path, make):
    file = tmp_path / "other.npz"
    make(file)
    with pytest.raises(InputError, match=r"other\.npz: not a pose file"):
        read_pose_file(file)


def test_a_file_that_claims_to_be_huge(pose_file):
    with zipfile.ZipFile(pose_file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(pose_file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data.replace(b"(2, 6, 17, 3)", b"(9999999999,)"))
    with pytest.raises(InputError, match=r"a\.npz: not a pose file"):
        read_pose_file(pose_file)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.npz: no such file"):
        read_pose_file(tmp_path / "nothing.npz")


def test_a_later_version_is_named(pose_file):
    rewritten(pose_file, format_version=np.array(2))
    with pytest.raises(InputError, match="version 2; this program reads 1"):
        read_pose_file(pose_file)


@pytest.mark.parametrize(
    "changes",
    [
        {"poses_3d": None},
        {"poses_3d": np.zeros((2, 6, 16, 3), np.float32)},
        {"present": np.zeros((6, 2), bool)},
        {"track_id": np.arange(3)},
        {"frame_time": np.zeros(5)},
        {"image_size": np.arange(3)},
        {"fps": np.array("fast")},
        {"meta": np.array("{")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_arrays_that_do_not_go_together(pose_file, changes):
    rewritten(pose_file, **changes)
    with pytest.raises(InputError, match=r"a\.npz: not a pose file"):
        read_pose_file(pose_file)


def test_nothing_half_written_when_writing_fails(tmp_path, monkeypatch):
    spool = spooled(sample())
    file = tmp_path / "a.npz"
    file.write_bytes(b"older")
    real, calls = np.memmap, []

    def fails_late(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(np, "memmap", fails_late)
    with pytest.raises(MissingError, match=r"a\.npz: cannot be written \(No space left"):
        spool.write_npz(file, META)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]
    assert file.read_bytes() == b"older"


def test_a_missing_folder(tmp_path):
    with pytest.raises(GridposeError, match=r"a\.npz: cannot be written"):
        spooled(sample()).write_npz(tmp_path / "gone" / "a.npz", META)


def test_no_room_for_the_spool_is_told(monkeypatch):
    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    spool = PoseSpool(25, (64, 48))
    with pytest.raises(MissingError, match=r"No space left on device.*TMPDIR"):
        spool.add(0, sample()[0])


def test_tracks_and_frames_are_selected_in_all_fields_together():
    tracks = spooled(sample()).tracks(META)
    part = tracks.select(tracks=tracks.rows([7]), frames=slice(1, 4))
    assert part.track_id.tolist() == [7]
    np.testing.assert_array_equal(part.frame_time, tracks.frame_time[1:4])
    for name in ("present", "repaired", *ARRAYS):
        np.testing.assert_array_equal(getattr(part, name), getattr(tracks, name)[1:, 1:4])
    assert (part.fps, part.image_size, part.meta) == (tracks.fps, tracks.image_size, META)
    masked = tracks.select(frames=tracks.frame_time > 0.1)
    assert masked.present.shape == (2, (tracks.frame_time > 0.1).sum())
    assert_same(tracks.select(), tracks)


def test_objects_are_not_stored(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        save_npz(tmp_path / "a.npz", {"objects": np.array([{}], object)})
    assert list(tmp_path.iterdir()) == []
