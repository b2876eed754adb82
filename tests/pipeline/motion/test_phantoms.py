"""Who is left out, as the timeline's users see it."""

import numpy as np
import pytest
from fakes import STANDING
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.core import JOINT_NAMES
from gridpose.pipeline.motion.left_out import LeftOut, left_out_note
from gridpose.pipeline.motion.lifting_stage import Lifted
from gridpose.pipeline.motion.timeline import Timeline
from gridpose.pipeline.motion.tracking import Observation

SIZE = (1280, 720)
POSE = np.column_stack((STANDING, np.zeros(17))).astype(np.float32)
HEIGHT = np.ptp(STANDING[:, 1])
FPS = 30.0
SIDES, LEG = ("left", "right"), ("hip", "knee", "ankle")


def seen(height=400.0, x=600.0, noise=0.0, confidence=1.0, seed=0):
    """Somebody upright, so many px high; ``noise`` as a share of it."""
    keypoints = STANDING * (height / HEIGHT) + (x, 360)
    keypoints += np.random.default_rng(seed).normal(0, noise * height, (17, 2))
    keypoints = keypoints.astype(np.float32)
    bbox = np.concatenate((keypoints.min(0), keypoints.max(0)))
    return Observation(bbox, keypoints, np.full(17, confidence, np.float32))


def run(frames, persons="all", fps=FPS):
    """Track numbers shown in each frame, and who was left out."""
    timeline = Timeline(fps, SIZE, persons=persons)
    shown = []

    def take(finished):
        shown.extend([person.track_id for person in people] for people in finished)

    for people in frames:
        timeline.add({one: Lifted(person, POSE, POSE) for one, person in people.items()})
        take(timeline.finished())
    take(timeline.finished(at_end=True))
    return shown, timeline.left_out


def beside(other, frames=range(40, 110), count=150):
    """Frames of somebody, beside whom ``other(frame)`` is in some."""
    return [{1: seen(), **({2: other(f)} if f in frames else {})} for f in range(count)]


def test_in_a_clip_of_some_frames_quick_movement_is_no_phantom():
    frames = [{1: seen(), 2: seen(350, 200, noise=0.05, seed=frame)} for frame in range(5)]
    shown, left_out = run(frames)
    assert shown == [[1, 2]] * 5
    assert not left_out


@pytest.mark.parametrize("before", [60, 170])
@pytest.mark.parametrize("length", [12, 20, 40])
def test_foliage_that_goes_on_with_a_lost_persons_track_is_left_out(before, length):
    frames = [{1: seen()} for _ in range(before)] + [{}] * 13
    frames += [{1: seen(120, noise=0.1, seed=frame)} for frame in range(length)]
    assert run(frames)[0] == [[1]] * before + [[]] * (13 + length)


def test_somebody_seen_again_goes_on():
    frames = [{1: seen()} for _ in range(60)] + [{}] * 13 + [{1: seen()} for _ in range(40)]
    assert run(frames)[0] == [[1]] * 60 + [[]] * 13 + [[1]] * 40


def test_spectators_beside_a_skater_are_left_out():
    spectators = {2: 42, 3: 55, 4: 60, 5: 73}
    frames = [{1: seen(431)} for _ in range(150)]
    for track_id, height in spectators.items():
        for frame in range(20 * track_id, 20 * track_id + 40):
            frames[frame][track_id] = seen(height, 200 * track_id)
    shown, left_out = run(frames)
    assert shown == [[1]] * 150
    assert [person.reason for person in left_out] == ["small"] * 4
    assert [person.frames for person in left_out] == [40] * 4
    assert (left_out[0].first, left_out[0].last) == (40, 79)
    assert [round(person.height_px) for person in left_out] == list(spectators.values())
    assert run(frames, "everyone")[0][100] == [1, 4, 5]


@pytest.mark.parametrize("share", [0.21, 1 / 3, 1.0])
def test_real_people_in_the_background_stay(share):
    shown, left_out = run(beside(lambda _: seen(share * 400, 200)))
    assert shown[40:110] == [[1, 2]] * 70
    assert left_out == []


def test_who_comes_near_is_shown_from_then_on_and_stays_when_small_again():
    heights = np.concatenate((np.linspace(40, 300, 300), np.linspace(300, 40, 300)))
    frames = [{1: seen(), 2: seen(height, 200)} for height in heights]
    shown, left_out = run(frames)
    assert [people == [1] for people in shown[:15]] == [True] * 15
    assert shown[110:] == [[1, 2]] * 490
    assert left_out == []


def test_small_people_are_shown_where_nobody_else_is():
    assert run([{1: seen(50)} for _ in range(60)])[0] == [[1]] * 60


def test_small_people_are_shown_once_the_large_one_is_long_gone():
    frames = [{1: seen(400)} for _ in range(60)] + [{2: seen(60)} for _ in range(900)]
    shown, _ = run(frames)
    assert shown[61:120] == [[]] * 59
    assert shown[-300:] == [[2]] * 300


def test_a_number_of_people_is_taken_at_its_word():
    frames = [{1: seen(), 2: seen(50, 200)} for _ in range(60)]
    assert run(frames, 2) == ([[1, 2]] * 60, [])


@pytest.mark.parametrize(("count", "kept"), [(14, False), (16, True)])
def test_half_a_second_makes_a_person(count, kept):
    shown, left_out = run(beside(lambda _: seen(300, 200), range(40, 40 + count)))
    assert shown[50] == ([1, 2] if kept else [1])
    assert [person.reason for person in left_out] == ([] if kept else ["brief"])


def test_half_a_second_may_have_gaps():
    frames = beside(lambda _: seen(300, 200), [*range(40, 50), *range(56, 66)])
    assert run(frames)[0][45] == [1, 2]


def test_everyone_is_everyone():
    shown, left_out = run(beside(lambda _: seen(300, 200), range(40, 42)), "everyone")
    assert shown[40] == [1, 2]
    assert left_out == []


def test_a_body_that_jumps_about_is_none():
    shown, left_out = run(beside(lambda f: seen(300, 200, noise=0.05, seed=f)))
    assert shown == [[1]] * 150
    assert [person.reason for person in left_out] == ["implausible"]


def test_a_noisy_detector_is_believed():
    assert run(beside(lambda f: seen(300, 200, noise=0.02, seed=f)))[1] == []


def test_who_moves_fast_at_a_low_frame_rate_is_believed():
    def runner(frame):
        return seen(300, 300 + 200 * (frame % 2))

    assert run([{1: runner(frame)} for frame in range(30)], fps=5.0)[1] == []


def test_without_a_trunk_there_is_nobody():
    _, left_out = run([{1: seen(), 2: seen(300, 200, confidence=0.0)} for _ in range(60)])
    assert [person.reason for person in left_out] == ["implausible"]


def test_who_is_seen_to_the_waist_only_is_somebody():
    legs = [JOINT_NAMES.index(f"{side}_{joint}") for side in SIDES for joint in LEG]
    cut = seen(300, 200)
    cut.confidence[[0, 7, *legs]] = 0
    assert run([{1: cut} for _ in range(60)]) == ([[1]] * 60, [])


def test_a_picture_shows_its_people_but_the_tiny_ones():
    assert run([{1: seen(), 2: seen(300), 3: seen(40)}])[0] == [[1, 2]]


@given(
    heights=st.lists(st.floats(30, 600), min_size=1, max_size=5),
    count=st.integers(1, 80),
)
@settings(max_examples=30, deadline=None)
def test_everybody_is_shown_or_said_to_be_left_out(heights, count):
    people = {number: seen(height, 100 * number) for number, height in enumerate(heights)}
    shown, left_out = run([people] * count)
    assert len(set(shown[0])) + len(left_out) == len(heights)
    assert max(heights) < 30 or shown[0]
    assert {person.frames for person in left_out} <= {count}


def test_the_note_counts_reasons():
    small, brief = LeftOut("small", 9, 0, 8, 50.0), LeftOut("brief", 3, 0, 2, 300.0)
    assert left_out_note([small, brief, small]) == (
        "3 people left out: 2 much smaller than the others, 1 seen for less than half a second; "
        "`persons=everyone` keeps them"
    )
    assert left_out_note([brief]).startswith("1 person left out: 1 seen")
    assert brief.to_dict([1.0, 1.1, 1.2]) == {
        "reason": "seen for less than half a second",
        "frames": 3,
        "first": 1.0,
        "last": 1.2,
        "height_px": 300.0,
    }
