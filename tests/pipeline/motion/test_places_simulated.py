"""Up, floor, roofs and jumps, on motion capture before simulated cameras that stand still."""

import sys

import numpy as np
import pytest

from gridpose.pipeline.motion.gravity import LEVEL
from gridpose.pipeline.motion.lifting_stage import Lifted
from gridpose.pipeline.motion.places import Places
from gridpose.pipeline.motion.timeline import Timeline
from gridpose.pipeline.motion.tracking import Observation

pytestmark = pytest.mark.slow
FPS, SIZE, FOV = 30.0, (1920, 1080), 55.0
FRAMES = 120


@pytest.fixture(scope="module")
def mocap(shared):
    """Runs of motion capture (T, 17, 3) by clip, and the modules that the benchmark is made by."""
    sys.path.insert(0, str(shared / "mocap"))
    try:
        import make_bench
        import make_temporal_bench as maker
    finally:
        sys.path.pop(0)
    data = np.load(shared / "mocap" / "temporal_test.npz", allow_pickle=False)
    clips = {}
    for clip, world in maker.runs(data):
        if len(world) >= FRAMES:
            clips.setdefault(str(data["clip_names"][clip]), world)
    return clips, make_bench, maker


class Scene:
    """People before a camera of that pitch (down is negative), roll, and height over the floor."""

    def __init__(self, mocap, lifter, pitch, roll=0.0, height=1.6, seed=0):
        self.clips, self._bench, self._maker = mocap
        self._lifter, self.rng, self._height = lifter, np.random.default_rng(seed), height
        self._turn = self._bench.rotation(np.pi / 2, np.radians(-pitch), np.radians(roll))
        self.up = self._turn[:, 2]
        self.people = []

    def add(self, clip, place, above=0.0, frames=FRAMES):
        """Somebody at x, y m, turned at random; ``above`` (T,) m over the floor. False: unseen."""
        world = self.clips[clip][:frames]
        yaw = self.rng.uniform(0, 2 * np.pi)
        spin = np.array(((np.cos(yaw), -np.sin(yaw), 0), (np.sin(yaw), np.cos(yaw), 0), (0, 0, 1)))
        poses = self._bench.relength(world @ spin.T)
        hips = world[:, 0] @ spin.T
        hips = hips - (*hips[:, :2].mean(0), 0) + (*place, 0)
        # As high as the lowest of the feet has it over the whole clip, so that it is on the floor.
        hips[:, 2] += 0.08 - (poses[..., 2].min(1) + hips[:, 2]).min() + above
        seen = (poses + hips[:, None] - (0, 0, self._height)) @ self._turn.T
        if seen[..., 2].min() < 1:
            return False
        focal = SIZE[0] / 2 / np.tan(np.radians(FOV) / 2)
        exact = seen[..., :2] / seen[..., 2:] * focal + np.array(SIZE) / 2
        if not ((exact > 0) & (exact < SIZE)).all(-1).mean() > 0.97:
            return False
        keypoints, confidence = self._maker.disturbed(exact, self.rng)
        lifted = self._lifter.lift_sequence(keypoints, SIZE, confidence, FPS)
        truth = poses + hips[:, None]
        self.people.append((truth, keypoints.astype(np.float32), confidence, lifted))
        return True

    def run(self, gravity="auto"):
        """World poses (P, T, 17, 3), and up."""
        timeline = Timeline(FPS, SIZE, gravity=gravity, places=Places(FPS, SIZE, FOV, True))
        finished = []
        for frame in range(len(self.people[0][0])):
            people = {}
            for track_id, (_, keypoints, confidence, lifted) in enumerate(self.people):
                at = keypoints[frame]
                box = np.concatenate((at.min(0), at.max(0)))
                seen = Observation(box, at, confidence[frame].astype(np.float32))
                people[track_id] = Lifted(seen, lifted[frame], lifted[frame])
            timeline.add(people)
            finished += timeline.finished()
        finished += timeline.finished(at_end=True)
        world = np.stack([[person.pose_world for person in people] for people in finished], 1)
        return world, timeline.gravity.up


def degrees(first, second):
    return np.degrees(np.arccos(np.clip(first @ second, -1, 1)))


def scenes(mocap, lifter, count, people, pitches, seed):
    """Scenes with so many people each, of clips in turn."""
    names = list(mocap[0])
    rng = np.random.default_rng(seed)
    for number in range(count):
        scene = Scene(mocap, lifter, pitches(rng), rng.normal(0, 1), seed=number)
        # The middle of the picture on somebody's hips.
        for _ in range(200):
            distance = rng.uniform(3.5, 8)
            ahead = scene.up @ (0, 0, 1)
            scene._height = 0.9 - distance * ahead
            place = (rng.uniform(-0.3, 0.3) * distance, distance + rng.uniform(-1, 1))
            scene.add(names[(number + 7 * len(scene.people)) % len(names)], place)
            if len(scene.people) == people:
                yield scene
                break


@pytest.mark.parametrize(("people", "median", "most"), [(1, 4.0, 15.0), (3, 3.0, 7.0)])
def test_up_of_tilted_cameras(mocap, lifter, people, median, most):
    """One in six turns cartwheels, rolls or gets up: of such a one alone nothing is known."""
    errors = []
    for scene in scenes(mocap, lifter, 30, people, lambda rng: rng.uniform(-30, 15), 5):
        _, up = scene.run()
        errors.append((degrees(up, scene.up), degrees(LEVEL, scene.up)))
    errors = np.array(errors)
    assert np.median(errors[:, 0]) <= median
    assert np.percentile(errors[:, 0], 90) <= most
    assert (errors[:, 0] - errors[:, 1]).max() <= 2


def test_level_cameras_stay_so(mocap, lifter):
    worse = []
    for scene in scenes(mocap, lifter, 30, 1, lambda rng: rng.normal(0, 2), 6):
        _, up = scene.run()
        worse.append(degrees(up, scene.up) - degrees(LEVEL, scene.up))
    assert max(worse) <= 2


@pytest.mark.parametrize(("pitch", "height"), [(-10, 3.0), (-5, 1.6), (0, 1.6), (3, 1.6)])
def test_walkers_share_a_floor_and_a_roof_is_as_high_as_it_is(mocap, lifter, pitch, height):
    walks = 3 * [name for name in mocap[0] if "walking" in name]
    scene = Scene(mocap, lifter, pitch, height=height, seed=3)
    assert scene.add(walks[0], (-1.3, 8.0))
    assert scene.add(walks[1], (1.5, 11.0))
    roof = 3.0
    assert scene.add(walks[2], (0.0, 20.0), above=roof)
    world, _ = scene.run()
    low = world[..., 2].min(-1)
    assert np.abs(low[:2] - 0.08).max() < 0.10
    assert np.median(low[2]) - 0.08 == pytest.approx(roof, rel=0.15)
    assert np.ptp(low[2, 30:]) < 0.15


@pytest.mark.parametrize("airborne", [12, 18])
def test_a_jump_takes_as_long_as_it_takes(mocap, lifter, airborne):
    stands = next(name for name in mocap[0] if "washwindow" in name)
    rise = np.zeros(FRAMES)
    time = np.arange(1, airborne + 1) / FPS
    rise[60 : 60 + airborne] = 9.81 / 2 * time * (time[-1] + 1 / FPS - time)
    scene = Scene(mocap, lifter, -4, seed=4)
    assert scene.add(stands, (0, 6), above=rise)
    world, _ = scene.run()
    low = world[0, ..., 2].min(-1)
    up = np.flatnonzero(low > 0.08 + 0.06)
    assert abs(up[0] - 60) <= 2
    assert abs(up[-1] - (59 + airborne)) <= 2
    assert low.max() - 0.08 == pytest.approx(rise.max(), rel=0.3)
