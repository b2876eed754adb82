import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from fakes import STANDING
from typer.testing import CliRunner

from gridpose.core import PoseTracks
from gridpose.pipeline.posefile import write_pose_file

SCRIPT = Path(__file__).parents[1] / "scripts" / "measure_poses.py"
PX_PER_METRE = 200.0
FRAMES = 60


@pytest.fixture
def script(monkeypatch):
    """``script(argument, ...)`` runs it in this process."""
    spec = importlib.util.spec_from_file_location("measure_poses", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look it up
    spec.loader.exec_module(module)
    app = typer.Typer()
    app.command()(module.main)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def figures(script, tmp_path):
    """``figures(poses, present=, keypoints=, options=)``: what is said of the first track."""

    def measured(poses, *, present=None, keypoints=None, options=()):
        file = write(tmp_path / "poses.npz", poses, present, keypoints)
        done = script(file, "--json", *options)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)["tracks"][0]

    return measured


def write(file, poses, present=None, keypoints=None):
    """A pose file of one track; its keypoints are the poses' x and y unless given."""
    frames = len(poses)
    seen = poses[..., :2] * PX_PER_METRE + (320, 240) if keypoints is None else keypoints
    present = np.ones(frames, bool) if present is None else present
    lead = (1, frames)
    tracks = PoseTracks(
        fps=20.0,
        frame_time=np.arange(frames) / 20,
        image_size=(640, 480),
        track_id=np.array([7]),
        present=present[None],
        bbox=np.zeros((*lead, 4), np.float32),
        keypoints_2d=np.where(present[:, None, None], seen, np.nan)[None].astype(np.float32),
        confidence=np.ones((*lead, 17), np.float32),
        poses_3d=np.where(present[:, None, None], poses, np.nan)[None].astype(np.float32),
        poses_world=np.zeros((*lead, 17, 3), np.float32),
        repaired=np.zeros((*lead, 17), np.uint8),
        meta={},
    )
    write_pose_file(file, vars(tracks))
    return file


def statue(frames=FRAMES):
    """(T, 17, 3) somebody who does not move."""
    return np.repeat(np.pad(STANDING, ((0, 0), (0, 1)))[None].astype(float), frames, axis=0)


def everywhere(amount):
    return pytest.approx({"mean": amount, "median": amount}, abs=1e-2)


def test_a_statue_is_steady_and_symmetric(figures):
    found = figures(statue())
    assert (found["track"], found["frames"]) == (7, FRAMES)
    assert found["pixels_per_metre"] == pytest.approx(PX_PER_METRE, rel=1e-4)
    assert found["bone_lengths"]["worst_percent"] == pytest.approx(0, abs=1e-3)
    assert found["asymmetry"]["worst_percent"] == pytest.approx(0, abs=1e-3)
    assert found["all"]["differences"] == 16 * (FRAMES - 2)
    for name in ("jitter_mm", "jitter_depth_mm", "jitter_2d_mm", "jitter_2d_px", "movement_mm"):
        assert found["all"][name] == everywhere(0)
    # A quarter of a second, five frames, is missing at either end.
    assert found["standing_still"]["differences"] == 16 * (FRAMES - 10)


def test_a_bone_that_changes_and_one_that_is_too_long(figures):
    poses = statue()
    poses[::2, 10, 2] = 0.1  # the head, 0.1 m above the nose, comes and goes
    found = figures(poses)["bone_lengths"]
    short, long = 0.1, 0.1 * 2**0.5
    share = 100 * (long - short) / (long + short)
    assert found["worst"] == "head"
    assert found["worst_percent"] == pytest.approx(share, rel=1e-3)
    assert found["mean_percent"] == pytest.approx(share / 16, rel=1e-3)
    assert found["mean_mm"] == pytest.approx(1000 * (long - short) / 2 / 16, rel=1e-3)

    poses = statue()
    poses[:, 6] += poses[:, 6] - poses[:, 5]  # the left shin is twice as long as the right
    found = figures(poses)
    assert found["bone_lengths"]["worst_percent"] == pytest.approx(0, abs=1e-3)
    shin = np.linalg.norm(STANDING[3] - STANDING[2])
    assert found["asymmetry"]["worst"] == "ankle"
    assert found["asymmetry"]["worst_percent"] == pytest.approx(100 * 2 / 3, rel=1e-3)
    assert found["asymmetry"]["mean_mm"] == pytest.approx(1000 * shin / 6, rel=1e-3)


def test_jitter_in_the_picture_and_in_depth(figures):
    sign = np.resize((1.0, -1.0), FRAMES)[:, None]
    poses = statue()
    poses[:, 1:, 0] += 0.003 * sign
    poses[:, 1:, 2] += 0.004 * sign
    found = figures(poses)["all"]
    # ±5 mm: 10 mm from frame to frame, and back; of that 6 mm in the picture.
    assert found["movement_mm"] == everywhere(10)
    assert found["jitter_mm"] == everywhere(20)
    assert found["jitter_depth_mm"] == everywhere(16)
    assert found["jitter_2d_mm"] == pytest.approx({"mean": 12, "median": 12}, abs=0.05)
    assert found["jitter_2d_px"] == everywhere(2.4)
    assert found["movement_2d_px"] == everywhere(1.2)
    assert found["movement_2d_mm"] == pytest.approx({"mean": 6, "median": 6}, abs=0.05)
    # It does not look like movement.
    assert figures(poses)["standing_still"]["jitter_mm"] == everywhere(20)


def test_independent_errors_make_2_3_times_their_size(figures):
    poses = statue(400)
    poses[:, 1:] += np.random.default_rng(0).normal(0, 0.01 / 3**0.5, (400, 16, 3))
    assert figures(poses)["all"]["jitter_mm"]["mean"] == pytest.approx(23, abs=0.8)


def test_walking_through_the_picture_is_no_jitter(figures):
    poses = statue()
    seen = poses[..., :2] * PX_PER_METRE + 100
    seen += np.linspace(0, 300, FRAMES)[:, None, None] ** 1.2
    found = figures(poses, keypoints=seen)
    assert found["all"]["jitter_2d_px"] == everywhere(0)
    assert found["standing_still"]["differences"] > 0


def test_joints_at_rest_are_told_from_those_that_move(figures):
    time = np.arange(FRAMES)
    poses = statue()
    # The wrist waves once a second in the picture; the knee jumps in depth alone.
    poses[:, 13, 0] += 0.4 * np.sin(2 * np.pi * time / 20)
    poses[:, 5, 2] += 0.005 * (-1.0) ** time
    found = figures(poses)
    waving = 400 * (2 - 2 * np.cos(2 * np.pi / 20)) * 2 / np.pi  # mean size of a sine: 2 / pi
    assert found["all"]["jitter_mm"]["mean"] == pytest.approx((waving + 20) / 16, rel=0.02)
    at_rest = found["joints_at_rest"]
    # Of 16 joints 15 rest all the time; the wrist does where it turns back.
    resting = 15 * (FRAMES - 10)
    assert resting + 5 <= at_rest["differences"] < resting + 0.4 * FRAMES
    assert at_rest["jitter_depth_mm"]["mean"] == pytest.approx(20 / 15, rel=0.05)
    assert found["standing_still"]["differences"] < 16 * 0.4 * FRAMES
    strict = figures(poses, options=("--rest", "0.0001"))["joints_at_rest"]
    assert strict["differences"] == resting + 5  # it turns in frames 5, 15, 25, 35, 45


def test_one_jump_raises_the_mean_alone(figures):
    poses = statue()
    poses[30, 1:, 0] += 0.5
    found = figures(poses)["all"]["jitter_mm"]
    assert found["median"] == pytest.approx(0, abs=1e-3)
    assert found["mean"] == pytest.approx(1000 * (0.5 + 1 + 0.5) / (FRAMES - 2), rel=1e-3)


def test_nothing_is_taken_across_gaps(figures):
    present = np.ones(FRAMES, bool)
    present[20:25] = False
    poses = statue()
    poses[25:, 1:] += 0.3
    found = figures(poses, present=present)
    assert found["frames"] == FRAMES - 5
    assert found["all"]["differences"] == 16 * (FRAMES - 5 - 4)
    assert found["all"]["jitter_mm"] == everywhere(0)
    assert found["standing_still"]["differences"] == 16 * (20 - 10 + 35 - 10)


def test_frames_are_chosen(figures, script, tmp_path):
    poses = statue()
    poses[30:, 1:, 0] += 0.01 * (-1.0) ** np.arange(30)[:, None]
    assert figures(poses, options=("--frames", ":30"))["all"]["jitter_mm"] == everywhere(0)
    assert figures(poses, options=("--frames", "30:50"))["all"]["jitter_mm"] == everywhere(40)
    assert figures(poses, options=("--frames", "31:33"))["all"]["jitter_mm"] is None
    for wrong in ("5", "a:b", "70:"):
        done = script(tmp_path / "poses.npz", "--frames", wrong)
        assert done.exit_code == 2
        assert f"--frames {wrong}" in done.stderr


def test_the_table_says_the_same(script, tmp_path):
    poses = statue()
    poses[:, 1:, 2] += 0.004 * np.resize((1.0, -1.0), FRAMES)[:, None]
    done = script(write(tmp_path / "poses.npz", poses))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("track 7: 60 frames, 200 px per metre")
    row = next(line for line in done.stdout.splitlines() if line.strip().startswith("all "))
    numbers = [float(number) for number in re.findall(r"[\d.]+", row)]
    assert numbers == [16 * 58, 16, 16, 0, 0, 8, 0, 0]


def test_nobody_and_no_pose_file(script, tmp_path):
    file = write(tmp_path / "poses.npz", statue(), present=np.zeros(FRAMES, bool))
    done = script(file)
    assert (done.exit_code, done.stdout) == (0, "poses.npz: nobody is there\n")
    done = script(tmp_path / "none.npz")
    assert done.exit_code == 3
    assert "none.npz: no such file" in done.stderr
