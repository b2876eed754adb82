import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from gridpose.core import UsageError
from gridpose.lifting.normalise import (
    Normalised,
    focal_from_fov,
    normalise,
    view_rotation,
)

torch.set_num_threads(1)  # threads only wait for each other on matrices this small

SIZE = (1920, 1080)
FOV = 62.0
FOCAL = 960 / math.tan(math.radians(FOV / 2))

quick = settings(max_examples=40, deadline=None)
places = st.tuples(st.floats(-0.5, 0.5), st.floats(-0.3, 0.3), st.floats(3, 9))


def body(seed: int = 0) -> np.ndarray:
    """Seventeen points about as far apart as joints, metres, hip at the origin."""
    points = np.random.default_rng(seed).uniform((-0.4, -0.8, -0.4), (0.4, 0.8, 0.4), (17, 3))
    points[0] = 0
    points[8] = (0.05, -0.5, 0.1)
    return points


def placed(place: tuple[float, float, float], seed: int = 0) -> np.ndarray:
    """The body at a bearing (tangents to the right and down) and a depth before the camera."""
    right, down, depth = place
    return body(seed) + np.array((right * depth, down * depth, depth))


def pinhole(points: np.ndarray) -> np.ndarray:
    return points[..., :2] / points[..., 2:] * FOCAL + np.array(SIZE) / 2


def camera_turned_to(direction: np.ndarray) -> np.ndarray:
    """Rotation into a camera first panned, then tilted, by angles."""
    pan = math.atan2(direction[0], direction[2])
    tilt = math.atan2(direction[1], math.hypot(direction[0], direction[2]))
    about_y = np.array(
        ((math.cos(pan), 0, -math.sin(pan)), (0, 1, 0), (math.sin(pan), 0, math.cos(pan)))
    )
    about_x = np.array(
        ((1, 0, 0), (0, math.cos(tilt), -math.sin(tilt)), (0, math.sin(tilt), math.cos(tilt)))
    )
    return about_x @ about_y


def trunk_bearing(points: np.ndarray) -> np.ndarray:
    """Where the middle of hip and thorax lies in the picture, as a direction."""
    middle = (pinhole(points)[0] + pinhole(points)[8]) / 2
    return np.append((middle - np.array(SIZE) / 2) / FOCAL, 1.0)


def as_batch(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels)[None]


def person(pixels: np.ndarray, size: tuple[float, float] = SIZE, fov: float = FOV) -> Normalised:
    sizes = torch.tensor([size], dtype=torch.float64)
    return normalise(as_batch(pixels), sizes, "person", fov)


def test_published_scheme_ignores_the_frame() -> None:
    pixels = torch.tensor([[[0.0, 500.0], [1000.0, 250.0]]])
    for size in ((1000.0, 1000.0), (640.0, 480.0)):
        normalised = normalise(pixels, torch.tensor([size]), "published")
        expected = torch.tensor([[[-1.0, 0.0], [1.0, -0.5]]])
        torch.testing.assert_close(normalised.keypoints, expected)


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (800, 800)])
def test_frame_scheme_centres_and_divides_by_half_the_longer_side(size: tuple[int, int]) -> None:
    width, height = size
    corners = torch.tensor([[[0, 0], [width, height], [width / 2, height / 2]]])
    normalised = normalise(corners, torch.tensor([size]), "frame")
    longer = max(size)
    corner = [width / longer, height / longer]
    expected = torch.tensor([[[-corner[0], -corner[1]], corner, [0, 0]]])
    torch.testing.assert_close(normalised.keypoints, expected)


def test_frame_scheme_takes_each_pose_by_its_own_frame() -> None:
    pixels = torch.full((2, 17, 2), 500.0)
    normalised = normalise(pixels, torch.tensor([[1000, 1000], [2000, 1000]]), "frame")
    torch.testing.assert_close(normalised.keypoints[0], torch.zeros(17, 2))
    torch.testing.assert_close(normalised.keypoints[1], torch.tensor([-0.5, 0.0]).expand(17, 2))


@pytest.mark.parametrize("scheme", ["published", "frame"])
def test_schemes_without_a_virtual_camera_leave_poses_as_they_are(scheme: str) -> None:
    normalised = normalise(torch.rand(2, 17, 2), torch.tensor([[9, 9], [9, 9]]), scheme)
    poses = torch.randn(2, 17, 3)
    torch.testing.assert_close(normalised.rotate_back(poses), poses, rtol=0, atol=0)


def test_unknown_scheme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="published, frame, person") as caught:
        normalise(torch.zeros(1, 17, 2), torch.ones(1, 2), "nonsense")
    assert "nonsense" in str(caught.value)


@pytest.mark.parametrize(
    ("fov", "focal"), [(90.0, 500.0), (2 * math.degrees(math.atan(0.5)), 1000.0)]
)
def test_focal_length_follows_from_the_width(fov: float, focal: float) -> None:
    sizes = torch.tensor([[1000.0, 400.0], [2000.0, 400.0]])
    torch.testing.assert_close(focal_from_fov(sizes, fov), torch.tensor([focal, 2 * focal]))


@quick
@given(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.sampled_from([-1.0, 0.5, 1.0])))
def test_view_rotation_is_that_of_a_panned_and_tilted_camera(
    bearing: tuple[float, float, float],
) -> None:
    rotation = view_rotation(torch.tensor([bearing], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(rotation, camera_turned_to(np.array(bearing)), atol=1e-9)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)


@quick
@given(places, st.integers(0, 99))
def test_person_scheme_shows_what_a_camera_turned_to_the_person_would_see(
    place: tuple[float, float, float], seed: int
) -> None:
    points = placed(place, seed)
    turned = points @ camera_turned_to(trunk_bearing(points)).T
    flat = (pinhole(turned) - np.array(SIZE) / 2) / FOCAL
    size = np.sqrt(((flat - flat.mean(0)) ** 2).sum(-1).mean())
    actual = person(pinhole(points)).keypoints[0]
    np.testing.assert_allclose(actual, flat / size, atol=1e-9)


@quick
@given(places, st.integers(0, 99))
def test_person_scheme_hardly_changes_when_the_camera_is_really_turned(
    place: tuple[float, float, float], seed: int
) -> None:
    points = placed(place, seed)
    turned = points @ camera_turned_to(trunk_bearing(points)).T
    before, after = person(pinhole(points)), person(pinhole(turned))
    # The middle of two pixels is not the picture of one fixed point, hence not zero.
    np.testing.assert_allclose(before.keypoints, after.keypoints, atol=0.03)
    # Far less than without a virtual camera:
    sizes = torch.tensor([SIZE], dtype=torch.float64)
    frame = [normalise(as_batch(pinhole(p)), sizes, "frame").keypoints for p in (points, turned)]
    if np.hypot(*place[:2]) > 0.3:
        assert (frame[0] - frame[1]).abs().max() > 0.2


@quick
@given(places, st.integers(0, 99))
def test_rotate_back_undoes_the_turn_of_the_camera(
    place: tuple[float, float, float], seed: int
) -> None:
    points = placed(place, seed)
    turned = body(seed) @ camera_turned_to(trunk_bearing(points)).T
    back = person(pinhole(points)).rotate_back(as_batch(turned))
    np.testing.assert_allclose(back[0], body(seed), atol=1e-9)


@quick
@given(places)
def test_rotation_to_the_camera_is_proper(place: tuple[float, float, float]) -> None:
    rotation = person(pinhole(placed(place))).to_camera
    assert rotation is not None
    product = rotation[0] @ rotation[0].T
    torch.testing.assert_close(product, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.linalg.det(rotation[0]).item() == pytest.approx(1)


@quick
@given(places, st.floats(0.1, 10))
def test_person_scheme_does_not_see_the_resolution(
    place: tuple[float, float, float], factor: float
) -> None:
    pixels = pinhole(placed(place))
    before = person(pixels)
    after = person(factor * pixels, (factor * SIZE[0], factor * SIZE[1]))
    torch.testing.assert_close(after.keypoints, before.keypoints, rtol=0, atol=1e-9)
    torch.testing.assert_close(after.to_camera, before.to_camera, rtol=0, atol=1e-9)


@quick
@given(places)
def test_normalised_person_has_unit_size(place: tuple[float, float, float]) -> None:
    keypoints = person(pinhole(placed(place))).keypoints[0]
    spread = keypoints - keypoints.mean(0)
    assert spread.square().sum(-1).mean().item() == pytest.approx(1)


def test_person_scheme_depends_on_the_lens_away_from_the_middle() -> None:
    pixels = pinhole(placed((0.5, 0.0, 5.0)))
    difference = person(pixels, fov=40.0).keypoints - person(pixels, fov=FOV).keypoints
    assert difference.abs().max() > 0.02


@pytest.mark.parametrize("place", [(960.0, 540.0), (300.0, 300.0)])
def test_coinciding_keypoints_stay_together(place: tuple[float, float]) -> None:
    normalised = person(np.tile(place, (17, 1)))
    assert normalised.keypoints.abs().max() < 1e-3
    assert torch.isfinite(normalised.rotate_back(torch.randn(1, 17, 3).double())).all()


def test_a_joint_beside_the_turned_camera_does_not_shrink_the_others_to_nothing() -> None:
    # With 90 degrees the left and right edges lie at right angles: the wrist is at infinity.
    rays = body()[:, :2] * 0.2 + (1.0, 0.0)
    rays[16] = (-1.0, 0.0)
    keypoints = person(rays * 960 + np.array(SIZE) / 2, fov=90.0).keypoints[0]
    assert torch.isfinite(keypoints).all()
    assert keypoints[:16].std(0).min() > 1e-3


def test_poses_of_a_batch_do_not_influence_each_other() -> None:
    pixels = np.stack([pinhole(placed((0.4, 0.1, 4))), pinhole(placed((-0.4, 0.2, 8), seed=1))])
    sizes = torch.tensor([SIZE, SIZE], dtype=torch.float64)
    both = normalise(torch.from_numpy(pixels), sizes, "person", FOV)
    for index in (0, 1):
        alone = person(pixels[index])
        torch.testing.assert_close(both.keypoints[index], alone.keypoints[0])
        assert both.to_camera is not None
        assert alone.to_camera is not None
        torch.testing.assert_close(both.to_camera[index], alone.to_camera[0])


@quick
@given(places, st.integers(0, 99))
def test_a_mirrored_picture_gives_mirrored_keypoints_and_poses(
    place: tuple[float, float, float], seed: int
) -> None:
    pixels = pinhole(placed(place, seed))
    seen, mirrored = person(pixels), person((SIZE[0], 0) + pixels * (-1, 1))
    torch.testing.assert_close(
        mirrored.keypoints, seen.keypoints * torch.tensor((-1.0, 1.0)), rtol=0, atol=1e-9
    )
    pose, across = as_batch(body(seed)), torch.tensor((-1.0, 1.0, 1.0))
    torch.testing.assert_close(
        mirrored.rotate_back(pose * across), seen.rotate_back(pose) * across, rtol=0, atol=1e-9
    )


@quick
@given(arrays(np.float32, (17, 2), elements=st.floats(-1e5, 1e5, width=32)), st.floats(10, 120))
def test_person_scheme_answers_finite_numbers_for_any_pixels(
    pixels: np.ndarray, fov: float
) -> None:
    normalised = person(pixels, fov=fov)
    assert torch.isfinite(normalised.keypoints).all()
    assert normalised.to_camera is not None
    product = normalised.to_camera[0] @ normalised.to_camera[0].T
    torch.testing.assert_close(product, torch.eye(3), rtol=0, atol=1e-5)
