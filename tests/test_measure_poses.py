import measure_poses as script
import numpy as np
import pytest
from fakes import STANDING
from typer.testing import CliRunner

from gridpose.pipeline.poses.file import write_pose_file

PX_PER_METRE = 200.0
FRAMES = 60


def statue(frames=FRAMES):
    """(T, 17, 3) somebody who does not move."""
    return np.repeat(np.pad(STANDING, ((0, 0), (0, 1)))[None].astype(float), frames, axis=0)


def steadiness(poses, keypoints=None, **options):
    """Keypoints are the poses' x and y unless given."""
    seen = poses[..., :2] * PX_PER_METRE + (320, 240) if keypoints is None else keypoints
    return script.steadiness_of(poses, seen, 20.0, **options)


def both(amount):
    return pytest.approx((amount, amount), abs=1e-2)


def test_a_statue_is_steady_and_symmetric():
    for figures in steadiness(statue()).values():
        assert all(amounts == both(0) for amounts in figures.values())
    assert max(script.bone_deviations(statue()).values()) == pytest.approx(0, abs=1e-3)
    assert max(script.asymmetries(statue()).values()) == pytest.approx(0, abs=1e-3)
    # A quarter of a second, five frames, is missing at either end.
    rest = script.at_rest(statue()[..., :2] * PX_PER_METRE, 20.0)
    assert rest.all(1).sum() == FRAMES - 10


def test_a_bone_that_changes_and_one_that_is_too_long():
    poses = statue()
    poses[::2, 10, 2] = 0.1  # the head, 0.1 m above the nose, comes and goes
    short, long = 0.1, 0.1 * 2**0.5
    deviations = script.bone_deviations(poses)
    assert deviations.pop("head") == pytest.approx(100 * (long - short) / (long + short), rel=1e-3)
    assert max(deviations.values()) == pytest.approx(0, abs=1e-3)

    poses = statue()
    poses[:, 6] += poses[:, 6] - poses[:, 5]  # the left shin is twice as long as the right
    assert max(script.bone_deviations(poses).values()) == pytest.approx(0, abs=1e-3)
    asymmetries = script.asymmetries(poses)
    assert asymmetries.pop("ankle") == pytest.approx(100 * 2 / 3, rel=1e-3)
    assert max(asymmetries.values()) == pytest.approx(0, abs=1e-3)


def test_jitter_in_the_picture_and_in_depth():
    sign = np.resize((1.0, -1.0), FRAMES)[:, None]
    poses = statue()
    poses[:, 1:, 0] += 0.003 * sign
    poses[:, 1:, 2] += 0.004 * sign
    figures = steadiness(poses)
    # ±5 mm: 10 mm from frame to frame, and back; of that 6 mm in the picture.
    assert figures["all"]["movement, mm"] == both(10)
    assert figures["all"]["jitter, mm"] == both(20)
    assert figures["all"]["jitter in depth, mm"] == both(16)
    assert figures["all"]["jitter, px"] == both(2.4)
    assert figures["all"]["movement, px"] == both(1.2)
    assert figures["at rest"]["jitter, mm"] == both(20)  # it does not look like movement


def test_independent_errors_make_2_3_times_their_size():
    poses = statue(400)
    poses[:, 1:] += np.random.default_rng(0).normal(0, 0.01 / 3**0.5, (400, 16, 3))
    assert steadiness(poses)["all"]["jitter, mm"][0] == pytest.approx(23, abs=0.8)


def test_walking_through_the_picture_is_no_jitter():
    seen = statue()[..., :2] * PX_PER_METRE + 100
    seen += np.linspace(0, 300, FRAMES)[:, None, None] ** 1.2
    figures = steadiness(statue(), seen)
    assert figures["all"]["jitter, px"] == both(0)
    assert figures["at rest"]["movement, px"] == both(0)


def test_joints_at_rest_are_told_from_those_that_move():
    time = np.arange(FRAMES)
    poses = statue()
    # The wrist waves once a second in the picture; the knee jumps in depth alone.
    poses[:, 13, 0] += 0.4 * np.sin(2 * np.pi * time / 20)
    poses[:, 5, 2] += 0.005 * (-1.0) ** time
    figures = steadiness(poses)
    waving = 400 * (2 - 2 * np.cos(2 * np.pi / 20)) * 2 / np.pi  # mean size of a sine: 2 / pi
    assert figures["all"]["jitter, mm"][0] == pytest.approx((waving + 20) / 16, rel=0.02)
    assert figures["at rest"]["jitter in depth, mm"][0] == pytest.approx(20 / 15, rel=0.05)
    # Of 16 joints 15 rest all the time; the wrist does where it turns back.
    keypoints = poses[..., :2] * PX_PER_METRE
    assert script.at_rest(keypoints, 20.0)[:, 13].sum() >= 5
    assert script.at_rest(keypoints, 20.0, 1e-4)[:, 13].sum() == 5  # in frames 5, 15, 25, 35, 45


def test_nothing_is_taken_across_gaps():
    poses = statue()
    poses[20:25] = np.nan
    poses[25:, 1:] += 0.3
    figures = steadiness(poses)
    assert figures["all"]["jitter, mm"] == both(0)
    rest = script.at_rest(poses[..., :2] * PX_PER_METRE, 20.0)
    assert rest.all(1).sum() == 20 - 10 + 35 - 10


def test_lag_is_found():
    time = np.arange(100.0)

    def waving(late):
        poses = np.zeros((1, 100, 17, 3))
        poses[0, :, 13, 0] = 300 * np.sin((time - late) / 5)
        return poses

    assert script.lag_ms(waving(1.5), waving(0), 20.0) == pytest.approx(75, abs=3)


def write(file, poses, present):
    lead, there = (1, len(poses)), present[:, None, None]
    write_pose_file(
        file,
        {
            "fps": 20.0,
            "frame_time": np.arange(len(poses)) / 20,
            "shot": np.ones(len(poses)),
            "image_size": (640, 480),
            "track_id": np.array([7]),
            "present": present[None],
            "bbox": np.zeros((*lead, 4)),
            "keypoints_2d": np.where(there, poses[..., :2] * PX_PER_METRE, np.nan)[None],
            "confidence": np.ones((*lead, 17)),
            "poses_3d": np.where(there, poses, np.nan)[None],
            "poses_world": np.zeros((*lead, 17, 3)),
            "repaired": np.zeros((*lead, 17)),
            "contacts": np.zeros((*lead, 2)),
            "meta": {},
        },
    )
    return file


def run(file):
    return CliRunner().invoke(script.app, ["steadiness", str(file)])


def test_a_pose_file_is_described(tmp_path):
    poses = statue()
    poses[:, 1:, 2] += 0.004 * np.resize((1.0, -1.0), FRAMES)[:, None]
    done = run(write(tmp_path / "poses.npz", poses, np.arange(FRAMES) != 30))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("track 7: 59 frames")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["jitter,", "mm", "16.0", "(16.0)"] in lines


def test_nobody_and_no_pose_file(tmp_path):
    done = run(write(tmp_path / "poses.npz", statue(), np.zeros(FRAMES, bool)))
    assert (done.exit_code, done.stdout) == (0, "track 7: nobody is there\n")
    done = run(tmp_path / "none.npz")
    assert done.exit_code == 3
    assert "none.npz: no such file" in done.stderr
