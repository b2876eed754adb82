import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from gridpose.core import JOINT_NAMES, InputError
from gridpose.lifting import pa_mpjpe
from gridpose.lifting.benchmark import Benchmark, family_of, measure, read_actions, read_benchmark

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate_lifter.py"
CLIPS = ("cmu/test/walking_extra_10", "cmu/test/walking_extra_6", "cmu/13_29")


def arrays(count=6):
    """Poses 3 m away: what ``gridpose.lifting.benchmark.Benchmark`` says, exactly projected."""
    generator = np.random.default_rng(3)
    poses = generator.uniform(-0.5, 0.5, (count, 17, 3))
    poses[:, 0] = 0
    size = np.array([(640, 480), (480, 640)] * count)[:count]
    focal = np.linspace(400, 700, count)
    seen = poses + (0, 0, 3)
    pixels = seen[..., :2] / seen[..., 2:] * focal[:, None, None] + size[:, None] / 2
    return {
        "keypoints_px": pixels.astype(np.float32),
        "keypoints_noisy_px": (pixels + 1000).astype(np.float32),
        "image_size": size.astype(np.int32),
        "focal_px": focal.astype(np.float32),
        "poses_camera": poses.astype(np.float32),
        "clip": np.arange(count, dtype=np.int32) % 3,
        "clip_names": np.array(CLIPS),
    }


@pytest.fixture
def bench_file(tmp_path):
    def write(**changes):
        content = {**arrays(), **changes}
        file = tmp_path / "bench.npz"
        np.savez(file, **{name: array for name, array in content.items() if array is not None})
        return file

    return write


class KnownErrors:
    """Answers the truth, with joint 1 off by 17 mm for exact and 34 mm for noisy keypoints."""

    def __init__(self):
        self.truth = arrays()
        self.calls = []

    def lift(self, keypoints_px, image_size, fov_degrees=None, *, flip_test=False):
        noisy = keypoints_px.min() > 500
        known = self.truth["keypoints_noisy_px" if noisy else "keypoints_px"]
        rows = [int(np.flatnonzero((known == one).all((1, 2)))[0]) for one in keypoints_px]
        assert np.array_equal(self.truth["image_size"][rows], image_size)
        self.calls.append((rows, fov_degrees, flip_test))
        poses = self.truth["poses_camera"][rows]
        poses[:, 1, 2] += 0.034 if noisy else 0.017
        return poses


def test_known_errors_are_found_overall_by_family_and_by_joint(bench_file):
    def aligned(poses):
        return 1000 * pa_mpjpe(poses, arrays()["poses_camera"]).mean()

    result = measure(KnownErrors(), read_benchmark(bench_file()))
    for found, error in ((result.exact, 17.0), (result.noisy, 34.0)):
        assert found.overall.samples == 6
        assert found.overall.mpjpe == pytest.approx(error / 17, abs=1e-3)
        assert found.overall.pa_mpjpe == pytest.approx(aligned(found.poses), abs=1e-6)
        assert list(found.by_family) == ["cmu/13", "walking_extra"]
        assert [group.samples for group in found.by_family.values()] == [2, 4]
        assert list(found.by_joint) == list(JOINT_NAMES)
        assert found.by_joint["right_hip"].mpjpe == pytest.approx(error, abs=1e-3)
        assert found.by_joint["head"].mpjpe == pytest.approx(0, abs=1e-3)
        assert found.mpjpe == pytest.approx(np.full(6, error / 17), abs=1e-3)


def test_pa_mpjpe_forgives_another_size(bench_file):
    class TooLarge(KnownErrors):
        def lift(self, *arguments, **options):
            return np.float32(1.5) * self.truth["poses_camera"]

    found = measure(TooLarge(), read_benchmark(bench_file())).exact.overall
    assert found.pa_mpjpe == pytest.approx(0, abs=1e-3)
    lengths = 1000 * np.linalg.norm(arrays()["poses_camera"], axis=-1)
    assert found.mpjpe == pytest.approx(lengths.mean() / 2, rel=1e-5)


def test_families_may_be_given(bench_file):
    benchmark = read_benchmark(bench_file())
    result = measure(KnownErrors(), benchmark, ["b", "a", "a", "a", "a", "a"])
    assert {name: group.samples for name, group in result.exact.by_family.items()} == {
        "a": 5,
        "b": 1,
    }
    with pytest.raises(ValueError, match="2 families for 6 poses"):
        measure(KnownErrors(), benchmark, ["a", "b"])


def test_without_true_fov_the_lifter_assumes_its_own(bench_file):
    lifter = KnownErrors()
    measure(lifter, read_benchmark(bench_file()), flip_test=True)
    assert lifter.calls == [([*range(6)], None, True)] * 2


def test_true_fov_is_told_for_each_pose(bench_file):
    lifter = KnownErrors()
    result = measure(lifter, read_benchmark(bench_file()), true_fov=True)
    assert result.exact.overall.mpjpe == pytest.approx(1, abs=1e-3)
    told = {row: fov for rows, fov, _ in lifter.calls for row in rows}
    content = arrays()
    for row, fov in told.items():
        width, focal = content["image_size"][row, 0], content["focal_px"][row]
        assert 2 * focal * np.tan(np.radians(fov) / 2) == pytest.approx(width, rel=2e-3)
    assert len(told) == 6


def test_answers_that_are_not_finite_are_refused(bench_file):
    class Broken(KnownErrors):
        def lift(self, *arguments, **options):
            poses = super().lift(*arguments, **options)
            poses[4, 3] = np.nan
            return poses

    with pytest.raises(InputError, match="1 of 6 poses are not finite, first to pose 4"):
        measure(Broken(), read_benchmark(bench_file()))


@pytest.mark.parametrize(
    ("clip", "family"),
    [
        ("cmu/test/walking_extra_10", "walking_extra"),
        ("deepmimic/dance_b", "dance_b"),
        ("cmu/03_01", "cmu/03"),
        ("cmu/subject 7/3", "subject 7/3"),
        ("12_1", "12"),
        ("run3", "run3"),
        ("kick", "kick"),
    ],
)
def test_families_by_name(clip, family):
    assert family_of(clip) == family


def test_families_by_action():
    actions = {"cmu/13_29": "exercises (squats, twists)", "other_1": ""}
    assert family_of("cmu/13_29", actions) == "exercises"
    assert family_of("other_1", actions) == "other"
    assert family_of("unknown_7", actions) == "unknown"


def test_actions_are_read(tmp_path):
    file = tmp_path / "mocap.npz"
    np.savez(file, clip_names=np.array(CLIPS), action=np.array(["walk", "walk", "squat"]))
    assert read_actions(file) == dict(zip(CLIPS, ("walk", "walk", "squat"), strict=True))
    np.savez(file, clip_names=np.array(CLIPS), action=np.array(["walk"]))
    with pytest.raises(InputError, match=r"mocap\.npz: action is \(1,\)"):
        read_actions(file)
    np.savez(file, clip_names=np.array(CLIPS))
    with pytest.raises(InputError, match=r"mocap\.npz: no array action"):
        read_actions(file)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"focal_px": None, "clip": None}, "no array focal_px, clip"),
        ({"keypoints_px": np.zeros((6, 16, 2))}, r"keypoints_px is \(6, 16, 2\), expected \(6, 17"),
        ({"keypoints_noisy_px": np.zeros((5, 17, 2))}, r"keypoints_noisy_px is \(5"),
        ({"poses_camera": np.zeros((6, 51))}, r"poses_camera is \(6, 51\)"),
        ({"poses_camera": np.float32(1)}, r"poses_camera is \(\)"),
        ({"image_size": np.array((640, 480))}, r"image_size is \(2,\)"),
        ({"image_size": np.zeros((6, 2))}, "image_size must be positive"),
        ({"focal_px": np.full(6, -1.0)}, "focal_px must be positive"),
        ({"focal_px": np.full(6, np.inf)}, "focal_px has numbers that are not finite"),
        ({"focal_px": np.full(6, "x")}, "focal_px holds no numbers"),
        ({"clip": np.full(6, 3)}, "indices into the 3 clip_names"),
        ({"clip": np.full(6, -1)}, "indices into the 3 clip_names"),
        ({"clip": np.full(6, 0.5)}, "indices into the 3 clip_names"),
        ({"clip_names": np.arange(3)}, "clip_names must be a list of names"),
        ({"clip_names": np.array([None])}, "not an npz file"),
        ({name: array[:0] for name, array in arrays().items() if name != "clip_names"}, "no poses"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(bench_file, changes, complaint):
    file = bench_file(**changes)
    with pytest.raises(InputError, match=complaint) as caught:
        read_benchmark(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_what_is_no_npz_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_benchmark(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not one")
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "cut.npz", **arrays())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:500])
    for name in ("text.npz", "one.npy", "cut.npz"):
        with pytest.raises(InputError, match=f"{name}: not an npz file"):
            read_benchmark(tmp_path / name)


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("evaluate_lifter", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script(module):
    """``script(argument, ...)`` runs it in this process."""
    app = typer.Typer()
    app.command()(module.main)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_script_prints_a_row_for_each_family_and_joint(script, bench_file, lifter):
    done = script(bench_file())
    assert done.exit_code == 0, done.output
    expected = measure(lifter, read_benchmark(bench_file()))
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    overall = (expected.exact.overall, expected.noisy.overall)
    numbers = [f"{value:.1f}" for mean in overall for value in (mean.mpjpe, mean.pa_mpjpe)]
    assert rows["all"] == ["6", *numbers]
    assert {"cmu/13", "walking_extra", *JOINT_NAMES} < set(rows)


def test_script_answers_in_json_and_draws_the_sheet(script, bench_file, tmp_path, lifter):
    actions, sheet = tmp_path / "actions.npz", tmp_path / "sheet.png"
    np.savez(actions, clip_names=np.array(CLIPS), action=np.array(["walk", "walk", "squat"]))
    options = ("--actions", actions, "--sheet", sheet, "--worst", "5", "--worst-of", "exact")
    done = script(bench_file(), *options, "--json", "--flip-test", "--true-fov")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    benchmark = read_benchmark(bench_file())
    expected = measure(
        lifter, benchmark, benchmark.families(read_actions(actions)), flip_test=True, true_fov=True
    )
    assert answer["exact"] == expected.exact.to_dict()
    assert answer["noisy"] == expected.noisy.to_dict()
    assert list(answer["noisy"]["by_family"]) == ["squat", "walk"]
    assert answer["weights_sha256"] == lifter.weights_sha256
    picture = cv2.imread(str(sheet))
    height, width, _ = picture.shape
    assert width > 1500  # four poses side by side
    # Two rows, and in the second one pose alone: below the first row little but the left is inked.
    below = (picture[round(0.65 * height) :] < 200).any(axis=(0, 2))
    assert below[: width // 4].any()
    assert not below[width // 3 :].any()


def test_sheet_begins_with_the_worst_pose_and_shows_its_error(module, bench_file):
    class WorseAndWorse(KnownErrors):
        def lift(self, *arguments, **options):
            poses = super().lift(*arguments, **options)
            poses[:, 2, 1] += np.array((0.1, 0.2, 0.6, 0.3, 0.5, 0.4), np.float32)
            return poses

    benchmark = read_benchmark(bench_file())
    found = measure(WorseAndWorse(), benchmark).noisy
    figure = module.draw_worst(benchmark, found, module.Input.noisy, 3, "title")
    texts = [text.get_text() for text in figure.texts]
    clips = [CLIPS[2], CLIPS[1], CLIPS[2]]
    assert texts[0] == "title"
    assert texts[1::2] == [f"{clip} #{row}" for clip, row in zip(clips, (2, 4, 5), strict=True)]
    assert [text.split(" mm")[0] for text in texts[2::2]] == ["37", "31", "26"]  # (34 + 600) / 17


def test_script_says_what_is_wrong(script, bench_file, tmp_path):
    done = script(bench_file(clip=None))
    assert (done.exit_code, done.stdout) == (3, "")
    assert "bench.npz: no array clip" in done.stderr
    done = script(bench_file(), "--lifter", tmp_path / "none.safetensors")
    assert done.exit_code == 4
    assert "none.safetensors" in done.stderr
    done = script(bench_file(), "--sheet", tmp_path / "sheet.nonsense")
    assert done.exit_code == 4
    assert "sheet.nonsense: cannot be written" in done.stderr


def test_shipped_weights_keep_what_they_are_known_for(shared, lifter):
    """A tenth of the poses; all of them give 37.7 and 51.9 mm with the weights of version 0.1."""
    file = shared / "mocap" / "bench_test.npz"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    whole = read_benchmark(file)
    rows = slice(0, 300)
    part = Benchmark(
        keypoints_px=whole.keypoints_px[rows],
        keypoints_noisy_px=whole.keypoints_noisy_px[rows],
        image_size=whole.image_size[rows],
        focal_px=whole.focal_px[rows],
        poses_camera=whole.poses_camera[rows],
        clip=whole.clip[rows],
        clip_names=whole.clip_names,
    )
    result = measure(lifter, part)
    assert result.exact.overall.mpjpe < 42
    assert result.noisy.overall.mpjpe < 57
    informed = measure(lifter, part, true_fov=True)
    assert informed.exact.overall.mpjpe < result.exact.overall.mpjpe - 1
