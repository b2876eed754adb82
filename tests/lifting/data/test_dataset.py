"""Reading and writing data sets in the published format, the protocol's rules, the cache."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import CAMERAS, body, save, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.core import GridposeError, InputError, MissingError
from gridpose.lifting import semantic_grid_transform
from gridpose.lifting.data import cache as dataset_cache
from gridpose.lifting.data.dataset import (
    DeviceBatches,
    Sequence,
    default_exclude_drift,
    describe_left_out,
    load_dataset,
    write_dataset,
)

KEYS = [("S1", "Walking", "Walking 1.54138969"), ("S5", "Eating", "Eating.55011271")]


@pytest.fixture
def load(tmp_path):
    def run(folder, split="train", exclude_drift=False):
        return load_dataset(
            folder, split, exclude_drift=exclude_drift, cache=tmp_path / "the cache"
        )

    return run


# The real thing


def test_the_published_example(shared, load):
    folder = shared / "golden" / "e2e_data"
    data = load(folder, "test", exclude_drift=True)
    assert len(data) == 448
    assert sum(len(sequence) for sequence in data.left_out) == 32
    assert len(load(folder, "test", exclude_drift=False)) == 472

    raw = [
        torch.load(
            folder / f"test_custom_{kind}_unnorm.pth.tar", encoding="latin1", weights_only=False
        )
        for kind in ("2d", "3d")
    ]
    keys = [(s.subject, s.action, s.file_name) for s in data.sequences]
    assert keys == sorted(keys)
    pixels = np.concatenate([raw[0][key] for key in keys]).reshape(-1, 17, 2)
    poses = np.concatenate([raw[1][key]["joint_3d"] for key in keys]).reshape(-1, 17, 3)
    np.testing.assert_array_equal(data.keypoints_px, pixels.astype(np.float32))
    np.testing.assert_array_equal(data.poses, (poses / 1000).astype(np.float32))
    assert data.subjects == ("S11", "S9")
    assert data.notes == ()


def test_training_example(shared, load):
    data = load(shared / "golden" / "e2e_data", "train")
    assert len(data) == 6000
    assert data.subjects == ("S1", "S5", "S6", "S7", "S8")
    assert data.left_out == ()


# Rules


@pytest.fixture
def test_folder(tmp_path):
    names = ("Directions", "Directions 1", "Greeting", "Greeting 1", "SittingDown", "SittingDown 1")
    names += ("Waiting", "Waiting 1", "Walking")
    keys = [
        (subject, name.split()[0], f"{name}.{camera}")
        for subject in ("S9", "S11")
        for name in names
        for camera in CAMERAS
    ]
    save(tmp_path / "any", "test", *tables(keys, 2))
    return tmp_path / "any"


def test_with_detected_2d_the_drifting_recordings_are_left_out_too(test_folder, load):
    data = load(test_folder, "test", exclude_drift=True)
    left = {(s.subject, s.performance) for s in data.left_out}
    assert left == {
        ("S11", "Directions"), ("S9", "Greeting"), ("S9", "SittingDown 1"), ("S9", "Waiting 1"),
    }  # fmt: skip
    assert len(data.left_out) == 16
    assert len(data) == 2 * (72 - 16)
    kept = {(s.subject, s.performance) for s in data.sequences}
    assert {("S11", "Directions 1"), ("S9", "Directions"), ("S11", "Greeting")} <= kept
    assert {("S9", "Greeting 1"), ("S9", "SittingDown"), ("S9", "Waiting")} <= kept


def test_with_true_2d_only_the_damaged_recording_is_left_out(test_folder, load):
    data = load(test_folder, "test", exclude_drift=False)
    assert {(s.subject, s.performance) for s in data.left_out} == {("S11", "Directions")}
    assert describe_left_out(data) == [
        "left out: S11 Directions (4 sequences, 8 frames): damaged recording"
    ]


def test_what_was_left_out_is_said_by_reason(test_folder, load):
    lines = describe_left_out(load(test_folder, "test", exclude_drift=True))
    assert len(lines) == 2
    assert "S9 Greeting, SittingDown 1, Waiting 1 (12 sequences, 24 frames)" in lines[1]
    assert "drift" in lines[1]


def test_other_cameras_of_the_same_names_are_kept(tmp_path, load):
    save(tmp_path / "d", "test", *tables([("S9", "Greeting", "Greeting.view1")]))
    assert len(load(tmp_path / "d", "test", exclude_drift=True)) == 3


def test_which_inputs_leave_drift_out():
    assert default_exclude_drift("test", "hrnet")
    assert not default_exclude_drift("test", "gt")
    assert not default_exclude_drift("train", "hrnet")


@pytest.mark.parametrize(
    ("file_name", "performance", "action", "camera"),
    [
        ("Walking 1.54138969", "Walking 1", "Walking", "54138969"),
        ("Directions.60457274", "Directions", "Directions", "60457274"),
        ("Walking 1.extra.55", "Walking 1", "Walking", "55"),
        ("Jump", "Jump", "Jump", ""),
    ],
)
def test_parts_of_a_file_name(file_name, performance, action, camera):
    sequence = Sequence("S9", "any", file_name, 0, 5)
    assert (sequence.performance, sequence.action_name, sequence.camera) == (
        performance, action, camera,
    )  # fmt: skip
    assert len(sequence) == 5


def test_subjects_of_the_other_split_are_not_used_and_that_is_said(tmp_path, load):
    save(tmp_path / "d", "train", *tables([*KEYS, ("S9", "Walking", "Walking.1")]))
    data = load(tmp_path / "d")
    assert data.subjects == ("S1", "S5")
    assert any("S9" in note for note in data.notes)


def test_own_subjects_are_all_used(tmp_path, load):
    save(tmp_path / "d", "test", *tables([("anna", "Jump", "Jump.1"), ("ben", "Jump", "Jump.1")]))
    assert load(tmp_path / "d", "test").subjects == ("anna", "ben")


def test_no_subject_for_the_split_is_an_error(tmp_path, load):
    save(tmp_path / "d", "test", *tables(KEYS))
    with pytest.raises(InputError, match=r"S9, S11.*it has S1, S5"):
        load(tmp_path / "d", "test")


# Parts of a data set


def test_selection_by_subject(tmp_path, load):
    keys = [(s, "Walking", f"Walking.{c}") for s in ("S1", "S5", "S6") for c in CAMERAS]
    save(tmp_path / "d", "train", *tables(keys, 2))
    data = load(tmp_path / "d")
    part = data.select(["S6", "S1"])
    assert part.subjects == ("S1", "S6")
    np.testing.assert_array_equal(part.poses[:8], data.poses[:8])
    np.testing.assert_array_equal(part.poses[8:], data.poses[16:])
    np.testing.assert_array_equal(part.keypoints_px[8:], data.keypoints_px[16:])
    assert [s.start for s in part.sequences] == list(range(0, 16, 2))
    assert len(part) == 16
    with pytest.raises(InputError, match="S7"):
        data.select(["S7"])
    with pytest.raises(InputError):
        data.select([])


def test_actions_of_rows(tmp_path, load):
    save(tmp_path / "d", "train", *tables([*KEYS, ("S1", "WalkDog", "WalkDog 2.1")], 2))
    assert load(tmp_path / "d").actions().tolist() == (
        ["WalkDog"] * 2 + ["Walking"] * 2 + ["Eating"] * 2
    )


# Forms of the files


def stored(poses):
    return (poses / 1000).astype(np.float32).reshape(-1, 17, 3)


@pytest.mark.parametrize("joint_key", ["joint_3d", "joints_3d"])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_forms_of_arrays_and_names(tmp_path, load, joint_key, deep, legacy):
    data2d, data3d = tables(KEYS)
    wanted = stored(np.concatenate([data3d[key]["joint_3d"] for key in sorted(data3d)]))
    for key, entry in data3d.items():
        array = entry.pop("joint_3d")
        entry[joint_key] = array.reshape(-1, 17, 3) if deep else array
        data2d[key] = data2d[key].reshape(-1, 17, 2) if deep else data2d[key]
    save(tmp_path / "d", "train", data2d, data3d, _use_new_zipfile_serialization=not legacy)
    data = load(tmp_path / "d")
    np.testing.assert_array_equal(data.poses, wanted)
    assert data.poses.dtype == data.keypoints_px.dtype == np.float32
    assert data.poses.flags.c_contiguous
    assert data.keypoints_px.shape == (6, 17, 2)


def test_the_name_that_the_published_program_reads_wins(tmp_path, load):
    data2d, data3d = tables(KEYS)
    wanted = data3d[KEYS[0]]["joint_3d"]
    data3d[KEYS[0]]["joints_3d"] = wanted + 1
    save(tmp_path / "d", "train", data2d, data3d)
    np.testing.assert_array_equal(load(tmp_path / "d").poses[:3], stored(wanted))


def test_tensors_and_bare_pickles(tmp_path, load):
    data2d, data3d = tables(KEYS)
    wanted = stored(data3d[KEYS[0]]["joint_3d"])
    save(tmp_path / "d", "train", {k: torch.from_numpy(v) for k, v in data2d.items()}, data3d)
    file = tmp_path / "d" / "train_custom_3d_unnorm.pth.tar"
    file.write_bytes(pickle.dumps(data3d, protocol=2))
    np.testing.assert_array_equal(load(tmp_path / "d").poses[:3], wanted)


names = st.text("abcXYZ 019._-é", min_size=1, max_size=8)


@settings(max_examples=25, deadline=None)
@given(keys=st.sets(st.tuples(names, names, names), min_size=1, max_size=5), data=st.data())
def test_what_is_written_is_read(tmp_path_factory, keys, data):
    folder = tmp_path_factory.mktemp("d")
    data2d, data3d = {}, {}
    for number, key in enumerate(keys):
        frames = data.draw(st.integers(1, 4))
        one2d, one3d = tables([key], frames)
        data2d[key] = one2d[key] + number
        data3d[key] = {**one3d[key], "joint_3d": body(frames, number)}
    write_dataset(folder, "train", data2d, data3d)
    loaded = load_dataset(folder, "train", exclude_drift=False, cache=folder / "cache")
    assert [(s.subject, s.action, s.file_name) for s in loaded.sequences] == sorted(keys)
    for sequence in loaded.sequences:
        key = (sequence.subject, sequence.action, sequence.file_name)
        rows = slice(sequence.start, sequence.stop)
        np.testing.assert_array_equal(loaded.poses[rows], stored(data3d[key]["joint_3d"]))
        np.testing.assert_array_equal(
            loaded.keypoints_px[rows], data2d[key].reshape(-1, 17, 2).astype(np.float32)
        )


def test_what_is_written_is_the_published_format(tmp_path):
    data2d, data3d = tables(KEYS)
    files = write_dataset(tmp_path / "root" / "gt", "test", data2d, data3d)
    assert [file.name for file in files] == [
        "test_custom_2d_unnorm.pth.tar", "test_custom_3d_unnorm.pth.tar",
    ]  # fmt: skip
    assert sorted((tmp_path / "root" / "gt").iterdir()) == sorted(files)
    read2d, read3d = (torch.load(file, weights_only=False) for file in files)
    assert list(read2d) == list(read3d) == sorted(KEYS)
    for key in KEYS:
        assert read2d[key].shape == (3, 34)
        assert read2d[key].dtype == np.float64
        np.testing.assert_array_equal(read2d[key], data2d[key])
        assert set(read3d[key]) == {"pelvis", "joint_3d", "camera"}
        np.testing.assert_array_equal(read3d[key]["joint_3d"], data3d[key]["joint_3d"])
        assert read3d[key]["pelvis"].shape == (3, 3)
        assert read3d[key]["camera"] == [1145.0, 1145.0, 512.0, 512.0]


def test_nothing_is_written_of_bad_data(tmp_path):
    data2d, data3d = tables(KEYS)
    data2d[KEYS[0]] = data2d[KEYS[0]][:1]
    with pytest.raises(InputError):
        write_dataset(tmp_path / "d", "train", data2d, data3d)
    assert not (tmp_path / "d").exists()


# Errors


def wrong_2d(value):
    return lambda two, three: two.__setitem__(KEYS[0], value)


def wrong_3d(value):
    return lambda two, three: three[KEYS[0]].__setitem__("joint_3d", value)


def nan_in(width):
    array = np.full((3, width), 400.0)
    array[1, 5] = np.nan
    return array


def rename(table, new):
    table[new] = table.pop(KEYS[0])


def scale(factor):
    def change(two, three):
        for entry in three.values():
            entry["joint_3d"] = entry["joint_3d"] * factor

    return change


def normalised(two, three):
    for key in two:
        two[key] = (two[key] - 500) / 500


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (wrong_2d(np.ones((3, 32))), r"_2d_.*Walking 1.*\(3, 32\).*\(N, 34\)"),
        (wrong_2d(np.ones((3, 17, 3))), r"\(3, 17, 3\)"),
        (wrong_2d(np.ones(34)), r"\(34,\)"),
        (wrong_2d(torch.ones((0, 34))), "no frames"),
        (wrong_2d(np.ones((2, 34))), r"_3d_.*Walking 1.*3 frames, but 2"),
        (wrong_2d([1, 2]), "list"),
        (wrong_2d(np.full((3, 34), None)), "array of object"),
        (wrong_2d(np.full((3, 34), "x")), "real numbers"),
        (wrong_2d(np.full((3, 34), 1j)), "real numbers"),
        (wrong_2d(nan_in(34)), r"_2d_.*Walking 1.*not finite in frame 1"),
        (wrong_2d(np.full((3, 34), 1e300)), "not finite in frame 0"),
        (wrong_3d(np.ones((3, 34))), r"_3d_.*joint_3d.*\(3, 34\).*\(N, 51\)"),
        (wrong_3d(nan_in(51)), r"_3d_.*Walking 1.*not finite"),
        (lambda two, three: three.__setitem__(KEYS[0], np.ones((3, 51))), "ndarray.*dictionary"),
        (lambda two, three: three[KEYS[0]].pop("joint_3d"), "neither 'joint_3d' nor 'joints_3d'"),
        (lambda two, three: three.pop(KEYS[0]), r"_3d_.*lacks.*Walking 1"),
        (lambda two, three: two.pop(KEYS[1]), r"_2d_.*lacks.*Eating"),
        (lambda two, three: rename(two, ("S1", "Walking")), r"_2d_.*three strings"),
        (lambda two, three: rename(two, ("S1", "Walking", 1)), "three strings"),
        (lambda two, three: rename(three, "S1"), r"_3d_.*'S1'.*three strings"),
        (lambda two, three: two.clear(), "no sequences"),
        (scale(0.001), "metres.*millimetres are needed"),
        (scale(0.1), "centimetres"),
        (normalised, "_2d_.*normalised already"),
    ],
)
def test_errors_name_file_and_key(tmp_path, load, change, words):
    data2d, data3d = copy.deepcopy(tables(KEYS))
    change(data2d, data3d)
    save(tmp_path / "d", "train", data2d, data3d)
    with pytest.raises(InputError, match=words) as caught:
        load(tmp_path / "d")
    assert str(tmp_path / "d") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 broken"])
def test_files_of_something_else(tmp_path, load, content):
    save(tmp_path / "d", "train", *tables(KEYS))
    (tmp_path / "d" / "train_custom_2d_unnorm.pth.tar").write_bytes(content)
    with pytest.raises(InputError, match="train_custom_2d"):
        load(tmp_path / "d")


def test_not_a_dictionary(tmp_path, load):
    save(tmp_path / "d", "train", [1], tables(KEYS)[1])
    with pytest.raises(InputError, match="list"):
        load(tmp_path / "d")


@pytest.mark.parametrize("missing", ["2d", "3d"])
def test_missing_file(tmp_path, load, missing):
    save(tmp_path / "d", "train", *tables(KEYS))
    (tmp_path / "d" / f"train_custom_{missing}_unnorm.pth.tar").unlink()
    with pytest.raises(MissingError, match=f"custom_{missing}.*gridpose data") as caught:
        load(tmp_path / "d")
    assert caught.value.exit_code == 4


def test_odd_units_are_noted(tmp_path, load):
    data2d, data3d = tables(KEYS)
    scale(0.3)(data2d, data3d)
    for entry in data3d.values():
        entry["joint_3d"] = entry["joint_3d"] + 200
    save(tmp_path / "d", "train", data2d, data3d)
    for _ in range(2):  # from the cache too
        notes = load(tmp_path / "d").notes
        assert any("1200 mm" in note for note in notes)
        assert any("hip lies 346 mm" in note for note in notes)


class Exploit:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_file_is_run(tmp_path, load, legacy):
    marker = tmp_path / "ran"
    data2d, data3d = tables(KEYS)
    data2d[KEYS[0]] = Exploit(marker)
    save(tmp_path / "d", "train", data2d, data3d, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match="train_custom_2d"):
        load(tmp_path / "d")
    assert not marker.exists()


# Cache


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "d", "train", *tables(KEYS))
    return tmp_path / "d"


def copies(tmp_path):
    return [path for path in (tmp_path / "the cache").iterdir() if not path.name.startswith(".")]


@pytest.fixture
def no_parsing(monkeypatch):
    def stop(two, three):
        raise AssertionError("parsed again")

    return lambda: monkeypatch.setattr(dataset_cache, "read_table", stop)


def test_the_second_reading_is_from_the_cache(folder, tmp_path, load, no_parsing):
    first = load(folder)
    assert len(copies(tmp_path)) == 1
    no_parsing()
    second = load(folder)
    np.testing.assert_array_equal(first.poses, second.poses)
    np.testing.assert_array_equal(first.keypoints_px, second.keypoints_px)
    assert (first.sequences, first.sha256) == (second.sequences, second.sha256)


def test_the_cache_goes_by_content_not_by_place(folder, tmp_path, load, no_parsing):
    load(folder)
    folder.rename(tmp_path / "elsewhere")
    no_parsing()
    assert len(load(tmp_path / "elsewhere")) == 6


def test_a_changed_file_is_read_anew_even_with_the_same_size_and_time(folder, load):
    load(folder)
    file = folder / "train_custom_3d_unnorm.pth.tar"
    before = file.stat()
    data2d, data3d = tables(KEYS)
    data3d[KEYS[0]]["joint_3d"] = body(3, 77).reshape(3, 51)
    save(folder, "train", data2d, data3d)
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    np.testing.assert_array_equal(load(folder).poses[:3], stored(body(3, 77)))


def test_what_is_done_to_the_arrays_does_not_reach_the_cache(folder, load):
    load(folder)
    data = load(folder)
    wanted = data.poses.copy()
    data.poses[:] = 0
    np.testing.assert_array_equal(load(folder).poses, wanted)


def flip_last_bit(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def damage_index_name(file):
    file.write_text(file.read_text().replace("Walking 1", "Walking 2"))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("poses.npy", flip_last_bit),
        ("keypoints_px.npy", flip_last_bit),
        ("poses.npy", lambda file: file.write_bytes(file.read_bytes()[:-40])),
        ("poses.npy", lambda file: file.write_bytes(b"")),
        ("poses.npy", Path.unlink),
        ("index.json", Path.unlink),
        ("index.json", lambda file: file.write_text("{")),
        ("index.json", lambda file: file.write_text("[]")),
        ("index.json", damage_index_name),
    ],
)
def test_a_damaged_copy_is_made_anew(folder, tmp_path, load, no_parsing, name, damage):
    wanted = load(folder)
    (copy_folder,) = copies(tmp_path)
    damage(copy_folder / name)
    again = load(folder)
    np.testing.assert_array_equal(again.poses, wanted.poses)
    np.testing.assert_array_equal(again.keypoints_px, wanted.keypoints_px)
    assert again.sequences == wanted.sequences
    assert copies(tmp_path) == [copy_folder]
    no_parsing()
    np.testing.assert_array_equal(load(folder).poses, wanted.poses)


def test_a_pickled_array_in_the_cache_is_not_loaded(folder, tmp_path, load):
    wanted = load(folder)
    (copy_folder,) = copies(tmp_path)
    marker = tmp_path / "ran"
    np.save(copy_folder / "poses.npy", np.array([Exploit(marker)]), allow_pickle=True)
    np.testing.assert_array_equal(load(folder).poses, wanted.poses)
    assert not marker.exists()


def test_a_cache_that_cannot_be_written_is_done_without(folder, tmp_path, load):
    (tmp_path / "the cache").write_text("in the way")
    data = load(folder)
    assert len(data) == 6
    assert any("cannot be kept" in note for note in data.notes)


def test_no_cache_folder_at_all(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path / "file" / "below"))
    assert len(load_dataset(folder, "train", exclude_drift=False)) == 6


def test_the_default_cache_is_gridposes_own(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path / "home"))
    load_dataset(folder, "train", exclude_drift=False)
    assert len(list((tmp_path / "home" / "datasets").iterdir())) == 1


def test_many_readers_at_once(folder, tmp_path, load):
    gate, results, errors = threading.Barrier(6), [], []

    def read():
        gate.wait()
        try:
            results.append(load(folder).poses)
        except GridposeError as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(results) == 6
    for poses in results:
        np.testing.assert_array_equal(poses, results[0])
    assert len(list((tmp_path / "the cache").iterdir())) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_killed_writer_leaves_nothing_that_is_trusted(folder, tmp_path, load):
    program = """
import sys, time
from pathlib import Path
import numpy as np
from gridpose.lifting.data.dataset import load_dataset
save = np.save
def slow(file, array, **how):
    save(file, array, **how)
    print("half", flush=True)
    time.sleep(60)
np.save = slow
load_dataset(Path(sys.argv[1]), "train", exclude_drift=False, cache=Path(sys.argv[2]))
"""
    cache = tmp_path / "the cache"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder), str(cache)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"half\n"
        writer.kill()
    assert copies(tmp_path) == []
    (leftover,) = cache.iterdir()
    assert len(load(folder)) == 6
    assert len(copies(tmp_path)) == 1
    assert leftover.exists()  # it might be another writer's, still at work

    os.utime(leftover, (0, 0))
    flip_last_bit(copies(tmp_path)[0] / "poses.npy")
    assert len(load(folder)) == 6
    assert not leftover.exists()


def test_files_that_change_while_they_are_read(folder, load, monkeypatch):
    parse = dataset_cache.read_table

    def meanwhile(two, three):
        table = parse(two, three)
        two.write_bytes(two.read_bytes() + b" ")
        return table

    monkeypatch.setattr(dataset_cache, "read_table", meanwhile)
    with pytest.raises(InputError, match="changed while"):
        load(folder)


# Batches on the device


@pytest.fixture
def arrays():
    generator = np.random.default_rng(3)
    pixels = generator.uniform(0, 1000, (23, 17, 2)).astype(np.float32)
    return pixels, generator.normal(size=(23, 17, 3)).astype(np.float32)


def test_a_batch_has_the_rows_asked_for(arrays):
    batches = DeviceBatches(*arrays)
    rows = batches.order(torch.Generator().manual_seed(0))[:5]
    batch = batches.batch(rows)
    np.testing.assert_array_equal(batch["targets"], arrays[1][rows])
    np.testing.assert_allclose(batch["inputs"], (arrays[0][rows] - 500) / 500, atol=1e-6)


def test_shuffling_follows_the_generator(arrays):
    batches = DeviceBatches(*arrays)

    def order(seed):
        return batches.order(torch.Generator().manual_seed(seed)).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1) != sorted(order(1)) == batches.order(None).tolist() == list(range(23))


def test_grids_are_those_of_the_grid_transform(arrays):
    batches = DeviceBatches(*arrays, grid_inputs=True, grid_targets=True)
    assert batches.inputs.shape == (23, 2, 5, 5)
    assert batches.targets.shape == (23, 3, 5, 5)
    index = torch.tensor([4, 0, 4])
    inputs, targets = batches.batch(index).values()
    flat = (torch.from_numpy(arrays[0]) - 500) / 500
    assert torch.equal(inputs, semantic_grid_transform(flat)[index])
    assert torch.equal(targets, semantic_grid_transform(torch.from_numpy(arrays[1]))[index])


def test_the_arrays_are_left_alone(arrays):
    before = [array.copy() for array in arrays]
    DeviceBatches(*arrays).inputs.zero_()
    for array, wanted in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_arrays_that_do_not_belong_together(arrays):
    with pytest.raises(ValueError, match="23 keypoint sets and 22 poses"):
        DeviceBatches(arrays[0], arrays[1][:22])
