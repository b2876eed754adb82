import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from poses import MOCAP, tracks_of

from gridpose.core import InputError, UsageError
from gridpose.pipeline import RenderOptions, export_poses, render_poses
from gridpose.pipeline.render import between
from gridpose.pipeline.video.ffmpeg import probe
from gridpose.pipeline.video.reader import VideoReader
from gridpose.visualize import Look


@pytest.fixture(scope="module")
def tracks():
    """Two people of 60 frames, the second away now and then."""
    return tracks_of(MOCAP, MOCAP[::-1] + np.array((2, 0, 0)), gaps=(0, 1, 20, 21, 22, 59))


@pytest.fixture(scope="module")
def source(tmp_path_factory, make_video):
    return make_video(
        tmp_path_factory.mktemp("render") / "source.mp4",
        frames=75,
        fps="30000/1001",
        size=(1280, 720),
        audio=True,
        args=["-preset", "ultrafast"],
    )


def test_a_video_of_the_skeletons(tracks, tmp_path):
    output = tmp_path / "out.mp4"
    progress = []
    options = RenderOptions(look=Look(layout="views", resolution=(640, 360)))
    assert render_poses(tracks, output, options, on_progress=progress.append) == []
    assert [step.done for step in progress] == list(range(1, 61))
    made = probe(output)
    assert (made.width, made.height) == (640, 360)
    assert float(made.fps) == pytest.approx(tracks.fps)
    with VideoReader(output) as frames:
        assert sum(1 for _ in frames) == 60


def test_the_source_beside_them(tracks, source, tmp_path):
    """Pictures of the source go with the poses of the same time."""
    output = tmp_path / "out.mp4"
    later = between(tracks, 0.5, 1.5)
    options = RenderOptions(look=Look(layout="overlay"), video=source, crf=10)
    render_poses(later, output, options)
    assert probe(output).audio_codec == "aac"
    with VideoReader(source) as frames:
        expected = {round(frame.time, 2): frame.image for frame in frames}
    with VideoReader(output) as frames:
        shown = [frame.image for frame in frames]
    assert len(shown) == len(later.frame_time) == 30
    for index in (0, 7, 29):
        wanted = expected[round(float(later.frame_time[index]), 2)]
        errors = {time: np.abs(image[:200].astype(int) - shown[index][:200]).mean()
                  for time, image in expected.items()}  # fmt: skip
        assert errors[round(float(later.frame_time[index]), 2)] == min(errors.values())
        assert wanted.shape == shown[index].shape


def test_a_contact_sheet(tracks, tmp_path):
    output = tmp_path / "sheet.png"
    render_poses(tracks, output, RenderOptions(pictures=5))
    sheet = cv2.imread(str(output))
    assert sheet.shape == (2 * 360, 3 * 480, 3)
    cells = [
        sheet[r * 360 : r * 360 + 360, c * 480 : c * 480 + 480] for r in (0, 1) for c in range(3)
    ]
    assert all(len(np.unique(cell.reshape(-1, 3), axis=0)) > 20 for cell in cells[:5])
    assert len(np.unique(cells[5].reshape(-1, 3), axis=0)) == 1
    assert len({cell.tobytes() for cell in cells[:5]}) == 5


def test_a_sheet_shows_moments_with_people(tracks, tmp_path):
    """Somebody is in every picture, though they are there in three frames only."""
    rare = tracks_of(MOCAP, gaps=set(range(60)) - {10, 11, 40})
    render_poses(rare, tmp_path / "sheet.png", RenderOptions(pictures=12))
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (2 * 360, 2 * 480, 3)


def test_every_shot_is_framed_on_its_own(tmp_path):
    """What is drawn of a shot does not depend on the one before, where they are far away."""
    far = MOCAP + np.where(np.arange(60) < 30, 20, 0)[:, None, None] * (1, 0, 0)
    both = replace(tracks_of(far), shot=np.repeat(np.array([1, 2], np.int32), 30))
    render_poses(both, tmp_path / "both.png", RenderOptions(pictures=3))
    render_poses(
        both.select(frames=slice(30, None)), tmp_path / "one.png", RenderOptions(pictures=2)
    )
    last = cv2.imread(str(tmp_path / "both.png"))[360:, :480]
    np.testing.assert_array_equal(last, cv2.imread(str(tmp_path / "one.png"))[:, 480:])
    assert len(np.unique(last.reshape(-1, 3), axis=0)) > 20


def test_places_are_kept_where_there_are_some(tracks):
    assert tracks.has_places
    centred = tracks_of(MOCAP - MOCAP[:, :1] * (1, 1, 0))
    assert not centred.has_places


def test_refusals(tracks, source, tmp_path, make_video):
    with pytest.raises(UsageError, match=r"\.avi: the name must end in one of \.mp4"):
        render_poses(tracks, tmp_path / "out.avi")
    with pytest.raises(InputError, match="no frames"):
        render_poses(tracks, tmp_path / "out.mp4", RenderOptions(start=50))
    for wrong in ({"pictures": 0}, {"start": 2, "end": 1}, {"crf": 99}):
        with pytest.raises(UsageError):
            render_poses(tracks, tmp_path / "out.mp4", RenderOptions(**wrong))
    small = make_video(tmp_path / "small.mp4", frames=75, fps="30", size=(320, 240))
    side = Look(layout="side-by-side")
    with pytest.raises(InputError, match="is 320x240, but the poses come from a video of 1280x720"):
        render_poses(tracks, tmp_path / "out.mp4", RenderOptions(look=side, video=small))
    assert not (tmp_path / "out.mp4").exists()


def test_command_line(tracks, source, tmp_path, invoke):
    poses = tmp_path / "poses.npz"
    export_poses(tracks, poses)
    sheet = tmp_path / "sheet.png"
    result = invoke(
        *("render", poses, "-o", sheet, "--video", source, "--theme", "light", "--track", "3"),
        *("--pictures", "4", "--view", "30,10", "--trails", "--json"),
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"output": str(sheet)}
    assert cv2.imread(str(sheet)).shape == (720, 2 * 960, 3)
    for wrong in (["--view", "below"], ["--resolution", "big"], ["--track", "9"]):
        result = invoke("render", poses, "-o", tmp_path / "other.png", *wrong)
        assert result.exit_code == 2, result.output
        assert wrong[1] in result.stderr
    assert invoke("render", poses, "-o", sheet).exit_code == 2
