import cv2
import numpy as np
import pytest

from gridpose.pipeline.video.stillness import WIDTH, CameraStillness, small_grey

SIZE = (640, 360)
SCALE = WIDTH / SIZE[0]


@pytest.fixture(scope="module")
def background():
    """Something with corners, larger than a frame."""
    random = np.random.default_rng(1)
    image = cv2.resize(
        random.integers(0, 255, (60, 90, 3), np.uint8), (900, 600), interpolation=cv2.INTER_CUBIC
    )
    return cv2.GaussianBlur(image, (0, 0), 2)


def frames(background, shifts, size=100):
    """Frames seen at these shifts (x, y), with somebody who walks; and the box around them."""
    for number, (x, y) in enumerate(shifts):
        view = cv2.warpAffine(background, np.array(((1.0, 0, -x), (0, 1, -y))), SIZE)
        left = 20 + 5 * number % 400
        view[100 : 100 + 2 * size, left : left + size] = (np.arange(size)[:, None] * 7) % 255
        yield view, np.array((left, 100, left + size, 100 + 2 * size), float)


def answers(background, shifts, **options):
    camera = CameraStillness()
    return [
        camera.is_still(small_grey(view), [box], SCALE)
        for view, box in frames(background, shifts, **options)
    ]


def test_a_still_camera(background):
    assert all(answers(background, [(50, 50)] * 60))


def test_noise_and_light_do_not_move_it(background):
    random = np.random.default_rng(0)
    camera = CameraStillness()
    for number, (view, box) in enumerate(frames(background, [(50, 50)] * 30)):
        noisy = view * (1 + 0.01 * number) + random.normal(0, 4, view.shape)
        noisy = np.clip(noisy, 0, 255).astype(np.uint8)
        assert camera.is_still(small_grey(noisy), [box], SCALE)


@pytest.mark.parametrize("speed", [0.5, 2.0, 8.0])
def test_a_pan(background, speed):
    found = answers(background, [(10 + speed * number, 50) for number in range(31)])
    assert not any(found[round(4 / speed) + 2 :])


def test_shaking(background):
    random = np.random.default_rng(0)
    found = answers(background, 50 + random.normal(0, 6, (40, 2)))
    assert np.mean(found) < 0.3


def test_nothing_to_tell_by():
    assert not any(answers(np.full((600, 900, 3), 90, np.uint8), [(0, 0)] * 5))
