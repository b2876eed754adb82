"""Slow: the camera of the 3D view on the sample, two people of whom one comes after 1.6 s."""

import numpy as np
import pytest
from motion_of_camera import filmed

from gridpose.pipeline import VideoOptions, run_video
from gridpose.pipeline.poses.file import read_pose_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["row", "places"])
def moments(request, sample_video, tmp_path_factory):
    """Times and people of the sample, with the arrangement that they are drawn in."""
    file = tmp_path_factory.mktemp("sample") / "poses.npz"
    places = request.param == "places"
    run_video(sample_video, None, VideoOptions(trajectory=places, save_poses=(file,)))
    tracks = read_pose_file(file)
    people = [(float(time), tracks.people(frame)) for frame, time in enumerate(tracks.frame_time)]
    return request.param, people


@pytest.mark.parametrize("size", [(720, 720), (1280, 720)])
def test_the_view_is_calm(moments, size):
    arrangement, people = moments
    film = filmed(people, size, arrangement)
    print(
        f"\n{arrangement} {size}: scale {film.scale_rate.max():.3f}/s, "
        f"pan {film.pan_speed.max():.2f} m/s, path {film.path:.2f} m, "
        f"{film.reversals} reversals, filled {film.filled.min():.2f}"
    )
    assert film.cut_off == 0
    assert film.reversals == 0
    if arrangement == "row":
        assert film.scale_rate.max() <= 0.15
        assert film.pan_speed.max() <= 1.2
        assert film.path <= 1.5


@pytest.mark.parametrize("size", [(720, 720), (1280, 720)])
def test_the_whole_file_in_one_framing(moments, size):
    arrangement, people = moments
    film = filmed(people, size, arrangement, whole=True)
    assert film.cut_off == 0
    if arrangement == "row":
        assert np.ptp(film.spans) == film.path == 0
