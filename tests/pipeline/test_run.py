import json
import math
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import FakeDetector, standing_at
from media import ffmpeg

from gridpose.core import InputError, UsageError
from gridpose.pipeline import Models, VideoOptions, read_pose_file, run_video
from gridpose.pipeline.video.reader import VideoReader, check_readable, probe

WIDTH, HEIGHT = 320, 240


def body(x, size=80.0, swing=0.0):
    """Somebody upright whose left arm swings."""
    keypoints = standing_at(x, 120, size)
    keypoints[12:14, 0] += np.array((1, 2)) * swing * size
    return keypoints


@pytest.fixture(scope="module")
def video(tmp_path_factory, make_video):
    return make_video(
        tmp_path_factory.mktemp("video") / "in.mp4",
        frames=60,
        fps="30000/1001",
        size=(WIDTH, HEIGHT),
        audio=True,
    )


def walking_pair(frame):
    return [body(60 + frame, swing=0.1 * math.sin(frame / 5)), body(260 - 0.5 * frame)]


def run(video, output, lifter, script, **options):
    detector = FakeDetector(script)
    result = run_video(video, output, VideoOptions(detector=detector, lifter=lifter, **options))
    return result, detector


def test_a_video_of_two_people_comes_out_whole(video, tmp_path, lifter):
    output, numbers = tmp_path / "out.mp4", tmp_path / "out.npz"
    progress = []
    detector = FakeDetector(walking_pair)
    result = run_video(
        video,
        output,
        VideoOptions(detector=detector, lifter=lifter, save_poses=(numbers,)),
        on_progress=progress.append,
    )

    made = probe(output)
    assert made.fps == probe(video).fps
    assert made.audio_codec == "aac"
    assert result.frames == 60
    with VideoReader(output) as frames:
        assert sum(1 for _ in frames) == 60
    assert [p.done for p in progress] == list(range(1, 61))

    poses = read_pose_file(numbers)
    assert poses.track_id.tolist() == result.track_ids == [1, 2]
    assert poses.present.all()
    np.testing.assert_allclose(poses.frame_time, np.arange(60) * 1001 / 30000, atol=1e-3)
    first = min((0, 1), key=lambda t: poses.keypoints_2d[t, 0, 0, 0])
    np.testing.assert_allclose(poses.keypoints_2d[first, 10], walking_pair(10)[0], atol=1e-3)
    expected = lifter.lift_sequence(
        poses.keypoints_2d[first], (WIDTH, HEIGHT), poses.confidence[first], 30000 / 1001
    )
    np.testing.assert_allclose(poses.poses_3d[first], expected, atol=1e-4)
    # Upright people stand on the floor with their heads up.
    assert (poses.poses_world[..., 10, 2] > 1.2).all()
    assert np.abs(poses.poses_world[..., [3, 6], 2].min(-1) - 0.08).max() < 0.06
    np.testing.assert_array_equal(result.poses.poses_world, poses.poses_world)

    assert poses.meta["lifter"]["sha256"] == lifter.weights_sha256
    assert poses.meta["detector"]["name"] == "fake"
    assert json.loads(json.dumps(result.summary()))["seconds_by_stage"].keys() == {
        "decode",
        "detect",
        "lift",
        "render",
        "encode",
    }


@pytest.fixture(scope="module")
def two_shots(video, make_video, tmp_path_factory):
    """``video``, and another scene after its frame 40."""
    other = make_video(
        tmp_path_factory.mktemp("other") / "other.mp4",
        frames=20,
        fps="30000/1001",
        size=(WIDTH, HEIGHT),
        source="mandelbrot",
    )
    joined = other.with_name("joined.mp4")
    parts = "[0:v]trim=end_frame=40[a];[a][1:v]concat=n=2:v=1[v]"
    ffmpeg("-i", video, "-i", other, "-filter_complex", parts, "-map", "[v]", joined)
    return joined


def test_nobody_goes_on_across_a_cut(two_shots, lifter):
    """The same people at the same places are others in the next shot, and nothing is mixed."""
    result, detector = run(two_shots, None, lifter, walking_pair, smoothing="savgol")
    poses = result.poses
    assert poses.shot.tolist() == [1] * 40 + [2] * 20
    assert poses.track_id.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(poses.present[:2], np.tile(poses.shot == 1, (2, 1)))
    np.testing.assert_array_equal(poses.present[2:], np.tile(poses.shot == 2, (2, 1)))
    assert detector.videos == 2

    alone, _ = run(two_shots, None, lifter, walking_pair, end=40 * 1001 / 30000 - 0.01)
    assert alone.frames == 40
    np.testing.assert_allclose(poses.poses_world[:2, :40], alone.poses.poses_world, atol=1e-6)


def test_cuts_may_be_ignored(two_shots, lifter):
    result, detector = run(two_shots, None, lifter, walking_pair, cuts=False)
    assert (result.poses.shot == 1).all()
    assert result.track_ids == [1, 2]
    assert detector.videos == 1


def test_skeletons_are_drawn_where_people_are(video, tmp_path, lifter):
    output = tmp_path / "out.mp4"
    run(video, output, lifter, walking_pair, end=0.5)
    empty = tmp_path / "empty.mp4"
    run(video, empty, lifter, lambda frame: [], end=0.5)
    with VideoReader(output) as drawn, VideoReader(empty) as plain:
        for one, other in zip(drawn, plain, strict=True):
            changed = np.abs(one.image.astype(int) - other.image).max(-1) > 60
            scale = 720 / HEIGHT
            x, y = (walking_pair(one.index)[0][8] * scale).round().astype(int)
            assert changed[y - 8 : y + 8, x - 8 : x + 8].any()
            assert changed[:, round(WIDTH * scale) :].any()


@pytest.mark.parametrize(
    "script",
    [
        lambda frame: [],
        lambda frame: walking_pair(frame) if frame >= 20 else [],
        lambda frame: walking_pair(frame) if not 15 <= frame < 35 else [],
        lambda frame: walking_pair(frame) if frame < 30 else [],
    ],
    ids=["nobody", "nobody at first", "nobody in the middle", "nobody at the end"],
)
def test_frames_without_people_are_frames_like_others(script, video, tmp_path, lifter):
    result, _ = run(video, None, lifter, script, save_poses=(tmp_path / "out.npz",))
    poses = read_pose_file(tmp_path / "out.npz")
    assert result.frames == 60
    assert poses.present.sum(0).tolist() == [len(script(frame)) for frame in range(60)]
    assert np.isnan(poses.poses_world[~poses.present]).all()
    assert any("nobody" in warning for warning in result.warnings) == (not result.track_ids)


def test_largest_person_only(video, lifter):
    result, _ = run(
        video,
        None,
        lifter,
        lambda frame: [body(60, size=50), body(220, size=90)],
        persons="largest",
    )
    assert len(result.track_ids) == 1
    assert result.poses.keypoints_2d[0, 30, 0, 0] == pytest.approx(220)


def test_start_end_and_stride(video, lifter):
    result, detector = run(video, None, lifter, walking_pair, start=0.5, end=1.5, stride=2)
    assert detector.times[0] == pytest.approx(0.5, abs=0.04)
    assert np.diff(detector.times) == pytest.approx(2 * 1001 / 30000, abs=1e-3)
    assert result.frames == len(detector.times) == pytest.approx(15, abs=1)
    assert result.fps == pytest.approx(30000 / 1001 / 2)


def test_smoothing_changes_the_world_and_nothing_else(video, frame_lifter):
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 1.0, (60, 17, 2))

    def script(frame):
        return [body(160) + noise[frame]]

    jitter = {}
    for method in ("none", "savgol", "one-euro"):
        result, _ = run(video, None, frame_lifter, script, smoothing=method)
        poses = result.poses
        jitter[method] = np.linalg.norm(np.diff(poses.poses_world[0], axis=0), axis=-1).mean()
        np.testing.assert_allclose(poses.keypoints_2d[0, 7], script(7)[0], atol=1e-3)
    assert jitter["savgol"] < 0.7 * jitter["none"]
    assert jitter["one-euro"] < 0.7 * jitter["none"]


def test_a_picture(tmp_path, lifter):
    source, output = tmp_path / "in.png", tmp_path / "out.png"
    cv2.imwrite(str(source), np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
    result, _ = run(source, output, lifter, lambda frame: [body(160)])
    assert result.frames == 1
    drawn = cv2.imread(str(output))
    assert drawn.shape[0] == 720
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("light", [True, False])
def test_a_lifter_that_needs_torch_does_not_load_beside_the_detector(
    tmp_path, frame_lifter, monkeypatch, light
):
    """Two threads that make syntax trees disturb each other (Python 3.11)."""
    source = tmp_path / "in.png"
    cv2.imwrite(str(source), np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
    lifter_begun, order = threading.Event(), []

    def load_detector(*_, **__):
        lifter_begun.wait(20 if light else 0.5)
        order.append("detector")
        return FakeDetector(lambda frame: [body(160)])

    class SlowModels(Models):
        lifter_needs_torch = not light

        @property
        def lifter(self):
            lifter_begun.set()
            order.append("lifter")
            return frame_lifter

    monkeypatch.setattr("gridpose.detectors.load_detector", load_detector)
    options = VideoOptions(detector="blazepose")
    run_video(source, tmp_path / "out.png", options, models=SlowModels(options))
    assert order == (["lifter", "detector"] if light else ["detector", "lifter"])


def test_a_failing_detector_leaves_nothing_behind(video, tmp_path, lifter):
    def script(frame):
        if frame == 30:
            raise RuntimeError("the detector broke")
        return walking_pair(frame)

    before = set(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="the detector broke"):
        run(video, tmp_path / "out.mp4", lifter, script, save_poses=(tmp_path / "out.npz",))
    assert set(tmp_path.iterdir()) == before


def test_a_run_can_be_ended_before_its_first_frame(video, tmp_path, lifter):
    asked = threading.Event()

    def script(frame):
        assert asked.wait(20)  # nobody is seen until somebody asked
        return []

    def end():
        asked.set()
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        run_video(
            video,
            tmp_path / "out.mp4",
            VideoOptions(detector=FakeDetector(script), lifter=lifter),
            while_waiting=end,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"start": 2.0, "end": 1.0},
        {"start": -1.0},
        {"stride": 0},
        {"crf": 60},
        {"persons": 0},
        {"fov": 0.0},
        {"save_poses": ("x.xlsx",)},
    ],
)
def test_options_out_of_range(options, video, tmp_path, lifter):
    options = {k: tuple(map(Path, v)) if k == "save_poses" else v for k, v in options.items()}
    with pytest.raises(UsageError):
        run(video, tmp_path / "out.mp4", lifter, walking_pair, **options)


def test_a_missing_lifter_is_told_before_any_work(video, tmp_path):
    detector = FakeDetector(walking_pair)
    options = VideoOptions(detector=detector, lifter=tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"none\.safetensors"):
        run_video(video, tmp_path / "out.mp4", options)
    assert not detector.times


def test_real_video_end_to_end(sample_video, tmp_path):
    """The sample's first half: two people walking and jumping, BlazePose and the shipped lifter."""
    check_readable(sample_video)
    output, numbers = tmp_path / "out.mp4", tmp_path / "out.npz"
    result = run_video(
        sample_video,
        output,
        VideoOptions(detector="blazepose-full", end=3.6, save_poses=(numbers,)),
    )
    assert result.frames == 108
    poses = read_pose_file(numbers)
    long_tracks = poses.present.sum(1) > 40
    assert long_tracks.sum() == 2
    world = poses.poses_world[long_tracks]
    assert np.nanmedian(world[..., 10, 2]) > 1.4
    # He is on a roof, and she is on the ground. The camera stands still.
    assert poses.meta["cameras"][0]["still"]
    assert poses.has_places
    lowest = np.sort(np.nanmedian(world[..., [3, 6], 2].min(-1), axis=1))
    assert lowest[0] == pytest.approx(0.08, abs=0.05)
    assert 0.7 < lowest[1] < 3
    # The woman (right at first) walks to the left, side on: her left side is nearer to the camera.
    track = int(np.nanargmax(np.nanmax(poses.keypoints_2d[..., 0, 0], axis=1)))
    hip_x = poses.keypoints_2d[track, :, 0, 0]
    hip_x = hip_x[np.isfinite(hip_x)]
    assert hip_x[0] - hip_x[-1] > 200
    depth = poses.poses_3d[track, :, :, 2]
    assert np.nanmedian(depth[:, 11] - depth[:, 14]) < 0


def test_people_go_where_they_went(video, lifter):
    def script(frame):
        return [body(60 + 2 * frame, swing=0.1)]

    still, _ = run(video, None, lifter, script, trajectory=False)
    moved, _ = run(video, None, lifter, script, trajectory=True, fov=60)
    assert not still.poses.has_places
    assert moved.poses.has_places
    path = moved.poses.poses_world[0, :, 0]
    # The hip passes 118 px and the person is 1.6 m from head to ankles.
    tall = float(np.ptp(moved.poses.keypoints_2d[0, 30, :, 1]))
    assert path[-1, 0] - path[0, 0] == pytest.approx(118 / tall * 1.6, rel=0.15)
    assert abs(path[-1, 1]) < 0.3


class Leaning:
    """A lifter whose people lean by so many degrees."""

    def __init__(self, lifter, degrees):
        angle = math.radians(degrees)
        turn = (
            (1, 0, 0),
            (0, math.cos(angle), -math.sin(angle)),
            (0, math.sin(angle), math.cos(angle)),
        )
        self._lifter, self._turn = lifter, np.array(turn, np.float32)

    def __getattr__(self, name):
        return getattr(self._lifter, name)

    def lift(self, *arguments):
        return self._lifter.lift(*arguments) @ self._turn.T

    def lift_windows(self, *arguments):
        return self._lifter.lift_windows(*arguments) @ self._turn.T


def test_a_camera_that_looks_down(video, lifter):
    def script(frame):
        return [body(160, size=100)]

    leaning = Leaning(lifter, 30)
    level, _ = run(video, None, leaning, script, gravity="level")
    assert any("`gravity=auto` sets them upright" in warning for warning in level.warnings)
    upright, _ = run(video, None, leaning, script, gravity="estimate")
    assert upright.warnings == []
    as_it_is, _ = run(video, None, lifter, script)
    assert as_it_is.warnings == []

    def lean(result):
        world = result.poses.poses_world[0, 30]
        axis = world[8] - (world[3] + world[6]) / 2
        return math.degrees(math.acos(axis[2] / np.linalg.norm(axis)))

    assert lean(level) > 20
    assert lean(upright) < 6


def test_numbers_only(video, tmp_path, lifter):
    """Nothing is drawn, and the poses are the same."""
    numbers = tmp_path / "out.npz"
    drawn, _ = run(video, tmp_path / "out.mp4", lifter, walking_pair)
    plain, detector = run(video, None, lifter, walking_pair, save_poses=(numbers,))
    assert plain.output is None
    assert plain.files == [numbers]
    assert plain.seconds_by_stage["render"] == plain.seconds_by_stage["encode"] == 0
    np.testing.assert_array_equal(plain.poses.poses_world, drawn.poses.poses_world)
    assert detector.videos == 1
    assert not detector.closed  # a detector that is given stays open


def test_a_detector_starts_anew_with_every_video(sample_video, frame_lifter):
    """Whom it followed in the video before does not matter."""
    from gridpose.detectors import load_detector

    found = []
    with load_detector("blazepose-full") as detector:
        for start in (2.0, 0.0, 2.0):
            options = VideoOptions(
                detector=detector, lifter=frame_lifter, start=start, end=start + 0.3
            )
            found.append(run_video(sample_video, None, options).poses.keypoints_2d)
    np.testing.assert_array_equal(found[0], found[2])


def test_frame_by_frame_each_pose_is_what_its_keypoints_say(video, frame_lifter):
    result, _ = run(video, None, frame_lifter, walking_pair)
    for keypoints, poses in zip(result.poses.keypoints_2d, result.poses.poses_3d, strict=True):
        expected = frame_lifter.lift(keypoints, (WIDTH, HEIGHT))
        np.testing.assert_allclose(poses, expected, atol=1e-4)


def test_a_lifter_that_sees_time_is_steadier(video, lifter, frame_lifter):
    noise = np.random.default_rng(0).normal(0, 1.0, (60, 17, 2))

    def script(frame):
        return [body(160) + noise[frame]]

    steady, nervous = (run(video, None, each, script)[0].poses for each in (lifter, frame_lifter))
    np.testing.assert_array_equal(steady.keypoints_2d, nervous.keypoints_2d)
    jitter = [
        np.linalg.norm(np.diff(poses.poses_world[0], axis=0), axis=-1).mean()
        for poses in (steady, nervous)
    ]
    assert jitter[0] < 0.5 * jitter[1]


def test_people_who_come_go_and_return_are_lifted_as_one_sequence(video, lifter):
    def script(frame):
        return [body(100)] * (not 25 <= frame < 40) + [body(250)] * (frame >= 10)

    result, _ = run(video, None, lifter, script)
    poses = result.poses
    assert poses.present.sum(1).tolist() in ([45, 50], [50, 45])
    assert np.isfinite(poses.poses_3d[poses.present]).all()
    assert np.isnan(poses.poses_3d[~poses.present]).all()
    order = np.argsort(np.nanmin(poses.keypoints_2d[:, :, 0, 0], 1))
    first = order[0]
    expected = lifter.lift_sequence(
        poses.keypoints_2d[first], (WIDTH, HEIGHT), poses.confidence[first], 30000 / 1001
    )
    there = poses.present[first]
    np.testing.assert_allclose(poses.poses_3d[first][there], expected[there], atol=1e-4)


def test_phantoms_are_in_no_file_but_told_of(video, tmp_path, lifter):
    def script(frame):
        return [body(100)] + [body(250, 8)] * (10 <= frame < 40)

    numbers, export = tmp_path / "out.npz", tmp_path / "out.bvh"
    result, _ = run(video, None, lifter, script, save_poses=(numbers, export))
    poses = read_pose_file(numbers)
    assert poses.track_id.tolist() == result.track_ids == [1]
    assert [file.suffix for file in result.files] == [".npz", ".bvh"]
    (phantom,) = poses.meta["left_out"]
    assert (phantom["reason"], phantom["frames"]) == ("much smaller than the others", 30)
    assert phantom["first"] == pytest.approx(10 * 1001 / 30000, abs=2e-3)
    assert phantom["last"] == pytest.approx(39 * 1001 / 30000, abs=2e-3)
    assert phantom["height_px"] == pytest.approx(np.ptp(body(250, 8)[:, 1]), abs=0.1)
    assert result.summary()["left_out"] == 1
    assert any(note.startswith("1 person left out") for note in result.warnings)
    everyone, _ = run(video, None, lifter, script, persons="everyone")
    assert everyone.track_ids == [1, 2]
    assert everyone.meta["left_out"] == []
