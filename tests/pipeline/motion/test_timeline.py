import numpy as np
import pytest

from gridpose.pipeline.motion.lifting_stage import Lifted
from gridpose.pipeline.motion.timeline import MIN_OBSERVATIONS, Timeline
from gridpose.pipeline.motion.tracking import Observation

SIZE = (1280, 720)
POSE = np.random.default_rng(5).normal(0, 0.4, (17, 3)).astype(np.float32)
POSE -= POSE[0]


def seen(x=400.0, scale=200.0):
    keypoints = (POSE[:, :2] * scale + (x, 360)).astype(np.float32)
    bbox = np.concatenate((keypoints.min(0), keypoints.max(0)))
    return Observation(bbox, keypoints, np.ones(17, np.float32))


def lifted(people):
    return {track_id: Lifted(observation, POSE, POSE) for track_id, observation in people.items()}


def run(frames, **options):
    """People of each frame; ``frames`` are dicts of observations by track id."""
    timeline = Timeline(30.0, SIZE, **options)
    finished = []
    for frame in frames:
        timeline.add(lifted(frame))
        finished.extend(timeline.finished())
    finished.extend(timeline.finished(at_end=True))
    return finished


def ids(finished):
    return [[person.track_id for person in people] for people in finished]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 30, 33, 34, 47, 200])
def test_every_frame_comes_out_once(count):
    finished = run([{1: seen()} for _ in range(count)])
    assert ids(finished) == [[1]] * count


def test_frames_come_out_while_others_go_in():
    timeline = Timeline(30.0, SIZE)
    out = 0
    for _ in range(200):
        timeline.add(lifted({1: seen()}))
        out += len(list(timeline.finished()))
    assert 200 - out <= timeline.look_ahead + 12


def test_what_goes_in_comes_out_unchanged():
    observation = seen()
    person = run([{7: observation} for _ in range(40)])[20][0]
    np.testing.assert_array_equal(person.keypoints_2d, observation.keypoints)
    np.testing.assert_array_equal(person.pose_3d, POSE)
    assert np.isfinite(person.pose_world).all()


def test_a_false_detection_is_dropped_and_numbers_have_no_holes():
    frames = [{1: seen()} for _ in range(100)]
    for frame in range(40, 40 + MIN_OBSERVATIONS - 1):
        frames[frame][2] = seen(900)
    for frame in range(60, 100):
        frames[frame][3] = seen(700)
    finished = ids(run(frames))
    assert finished[:60] == [[1]] * 60
    assert finished[60:] == [[1, 2]] * 40


def test_a_flicker_of_a_lost_person_is_dropped():
    frames = [{1: seen()} for _ in range(60)] + [{} for _ in range(60)]
    frames[80] = {1: seen()}
    assert ids(run(frames))[80] == []


def test_somebody_missing_for_a_moment_is_absent_then():
    frames = [{1: seen()} for _ in range(60)]
    frames[30] = {}
    finished = ids(run(frames))
    assert finished[30] == []
    assert finished[29] == finished[31] == [1]


def test_a_clip_of_two_frames_shows_its_person():
    assert ids(run([{1: seen()}, {1: seen()}])) == [[1], [1]]


def test_largest_and_n_largest():
    frames = [{1: seen(300, 150), 2: seen(700, 250), 3: seen(1000, 200)} for _ in range(60)]
    largest = run(frames, persons="largest")
    assert {person.keypoints_2d[0, 0] for people in largest for person in people} == {700}
    two = run(frames, persons=2)
    assert {person.keypoints_2d[0, 0] for people in two for person in people} == {700, 1000}
    assert all(len(people) == 2 for people in two)


def test_two_people_of_like_size_do_not_take_turns():
    generator = np.random.default_rng(0)
    frames = [
        {1: seen(300, 200 + generator.normal(0, 8)), 2: seen(900, 200 + generator.normal(0, 8))}
        for _ in range(120)
    ]
    chosen = [people[0].keypoints_2d[0, 0] for people in run(frames, persons="largest")]
    assert len(set(chosen[5:])) == 1


def test_memory_is_bounded():
    timeline = Timeline(30.0, SIZE)
    for number in range(600):
        timeline.add(lifted({1 + number // 100: seen()}))
        list(timeline.finished())
    window = timeline._window
    assert window.known - window.first < 4 * timeline.look_ahead
    assert len(timeline._known) < 4
