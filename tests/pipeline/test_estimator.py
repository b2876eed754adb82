import numpy as np
import pytest
from fakes import FakeDetector, standing_at

from gridpose.core import InputError, UsageError
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
