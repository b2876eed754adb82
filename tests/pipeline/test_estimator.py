import numpy as np
import pytest
from fakes import FakeDetector, standing_at

from gridpose.core import InputError, UsageError
from gridpose.detectors import Detection
from gridpose.pipeline import PoseEstimator, VideoOptions, run_video

FRAME = np.zeros((360, 640, 3), np.uint8)


def walking(index):
    """One who walks to the right, and from the sixth frame on somebody else, who stands."""
    people = [standing_at(150 + 4 * index, 180, 120)]
    return people if index < 5 else [*people, standing_at(500, 180, 110)]


@pytest.fixture
def detector():
    return FakeDetector(walking)


@pytest.fixture(params=["lifter", "frame_lifter"])
def estimator(request, detector):
    with PoseEstimator(detector, request.getfixturevalue(request.param)) as estimator:
        yield estimator


def test_each_frame_is_answered_at_once_and_people_keep_their_numbers(estimator):
    answers = [estimator(FRAME) for _ in range(12)]
    assert [[person.track_id for person in people] for people in answers] == [[1]] * 5 + [
        [1, 2]
    ] * 7
    for index, people in enumerate(answers):
        for person, keypoints in zip(people, walking(index), strict=True):
            np.testing.assert_allclose(person.keypoints_2d, keypoints, atol=1e-4)
            assert person.pose_3d.shape == person.pose_world.shape == (17, 3)
            np.testing.assert_allclose(person.pose_3d[0], 0, atol=1e-6)
            # Upright, on the floor, and not mirrored: their right is on the left of the picture.
            assert person.pose_world[10, 2] - person.pose_world[0, 2] > 0.5
            assert 0 <= person.pose_world[:, 2].min() < 0.15
            assert person.pose_3d[2, 0] < person.pose_3d[5, 0]


def test_a_frame_is_lifted_with_what_came_before(detector, lifter):
    with PoseEstimator(detector, lifter, fps=30.0) as estimator:
        poses = [estimator(FRAME)[0].pose_3d for _ in range(10)]
    keypoints = np.stack([walking(index)[0] for index in range(10)])
    for last in (0, 4, 9):
        seen = np.full((last + 1, 17), 0.9)
        expected = lifter.lift_sequence(keypoints[: last + 1], (640, 360), seen, 30.0)[-1]
        np.testing.assert_allclose(poses[last], expected, atol=1e-4)


def test_whoever_is_missed_for_a_moment_is_the_same_person(lifter):
    detector = FakeDetector(lambda index: [] if index in (6, 7, 8) else walking(index)[:1])
    with PoseEstimator(detector, lifter) as estimator:
        answers = [[person.track_id for person in estimator(FRAME)] for _ in range(12)]
    assert answers == [[1]] * 6 + [[]] * 3 + [[1]] * 3


def test_reset_begins_anew(estimator, detector):
    for _ in range(8):
        people = estimator(FRAME)
    assert [person.track_id for person in people] == [1, 2]
    estimator.reset()
    detector.script = lambda index: [standing_at(80, 100, 60)]
    (person,) = estimator(np.zeros((200, 160, 3), np.uint8))
    assert person.track_id == 1
    assert detector.videos == 2


def test_frames_may_come_unevenly(lifter):
    """As a camera gives them of which every other frame is dropped: seen at the lifter's rate."""

    def crossing(index):
        return [standing_at(150 + 4 * index, 180, 120)]

    every, some = FakeDetector(crossing), FakeDetector(lambda call: crossing(taken[call]))
    taken = [0, 1, 3, 4, 6, 7, 8, 10, 12, 13, 14, 16, 17, 19]
    with PoseEstimator(every, lifter) as estimator:
        expected = [estimator(FRAME, index / 30)[0] for index in range(20)]
    with PoseEstimator(some, lifter) as estimator:
        for index in taken:
            (person,) = estimator(FRAME, 100 + index / 30)
            np.testing.assert_allclose(person.pose_3d, expected[index].pose_3d, atol=2e-3)


def test_a_time_must_rise(estimator):
    estimator(FRAME, 1.0)
    for time in (1.0, 0.5, float("nan")):
        with pytest.raises(InputError, match="second"):
            estimator(FRAME, time)


def test_smoothed_poses_tremble_less(lifter):
    generator = np.random.default_rng(0)
    trembling = [standing_at(300, 180, 120) + generator.normal(0, 1.5, (17, 2)) for _ in range(30)]

    def shaking(smooth):
        with PoseEstimator(FakeDetector(lambda i: [trembling[i]]), lifter, smooth=smooth) as one:
            poses = np.stack([one(FRAME)[0].pose_3d for _ in range(30)])
        return np.abs(np.diff(poses[10:], axis=0)).mean()

    assert shaking(True) < 0.6 * shaking(False)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((360, 640), np.uint8),
        np.zeros((360, 640, 4), np.uint8),
        np.zeros((360, 640, 3), np.float32),
    ],
)
def test_what_is_no_frame_is_refused(estimator, frame):
    with pytest.raises(InputError, match="a frame must be"):
        estimator(frame)


def test_frames_of_another_size_are_refused_until_reset(estimator):
    estimator(FRAME)
    with pytest.raises(InputError, match="reset"):
        estimator(np.zeros((180, 320, 3), np.uint8))


def test_impossible_options_are_refused(detector, lifter):
    with pytest.raises(UsageError, match="`fov`"):
        PoseEstimator(detector, lifter, fov=200.0)
    with pytest.raises(UsageError, match="`fps`"):
        PoseEstimator(detector, lifter, fps=0)


def test_what_was_given_loaded_stays_open(detector, lifter):
    with PoseEstimator(detector, lifter):
        pass
    assert not detector.closed


@pytest.mark.slow
def test_poses_are_close_to_those_of_a_run(sample_video, tmp_path):
    from gridpose.pipeline.video.reader import VideoReader

    reader = VideoReader(sample_video, end=3.0)
    with PoseEstimator("blazepose-full", fps=float(reader.fps)) as estimator:
        answers = [estimator(frame.image) for frame in reader]
    tracks = run_video(sample_video, None, VideoOptions(detector="blazepose-full", end=3.0)).poses
    apart = []
    for index, people in enumerate(answers):
        for person in people:
            for other in tracks.people(index):
                if np.abs(person.keypoints_2d - other.keypoints_2d).mean() < 5:
                    apart.append(np.linalg.norm(person.pose_3d - other.pose_3d, axis=-1).mean())
    assert len(apart) > 60
    assert np.mean(apart) < 0.05


class Recorded(FakeDetector):
    """Finds what is set before each frame."""

    def detect(self, frames, times):
        box = np.concatenate((self.keypoints.min(0), self.keypoints.max(0))).astype(np.float32)
        return [[Detection(box, self.keypoints, self.confidence, 1)]]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "error_mm"), [(1, 46), (2, 46)])
def test_smoothing_takes_trembling_away_and_little_else(shared, lifter, step, error_mm):
    """Of noisy keypoints of simulated cameras, at 30 fps and with every other frame dropped."""
    data = dict(np.load(shared / "mocap" / "bench_temporal.npz"))
    errors, trembling = {False: [], True: []}, {False: [], True: []}
    for sequence in (0, 12, 24):
        rows = np.flatnonzero(data["sequence"] == np.unique(data["sequence"])[sequence])[:90:step]
        width, height = data["image_size"][rows[0]]
        fov = np.degrees(2 * np.arctan(width / 2 / data["focal_px"][rows[0]]))
        truth = data["poses_camera"][rows] - data["poses_camera"][rows, :1]
        for smooth in (False, True):
            detector = Recorded()
            with PoseEstimator(detector, lifter, fov=float(fov), smooth=smooth) as estimator:
                poses = []
                for number, row in enumerate(rows):
                    detector.keypoints = data["keypoints_noisy_px"][row]
                    detector.confidence = data["confidence"][row].astype(np.float32)
                    frame = np.zeros((height, width, 3), np.uint8)
                    poses.append(estimator(frame, number * step / 30)[0].pose_3d)
            off = np.stack(poses) - truth
            errors[smooth].append(1000 * np.linalg.norm(off, axis=-1).mean())
            trembling[smooth].append(np.linalg.norm(np.diff(off, 2, axis=0), axis=-1).mean())
    assert np.mean(errors[True]) < error_mm
    assert np.mean(errors[True]) < np.mean(errors[False]) + 4
    assert np.mean(trembling[True]) < 0.65 * np.mean(trembling[False])
