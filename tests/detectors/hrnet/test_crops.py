import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.detectors.hrnet.crops import cut, regions_of, warp_matrices
from gridpose.detectors.hrnet.mmpose_models import import_mmpose

SIZES = [(192, 256), (256, 256), (288, 384)]
coordinate = st.floats(-100, 700, width=32)
side = st.floats(8, 600, width=32)


@pytest.fixture(scope="module")
def picture():
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("size", SIZES)
@settings(max_examples=25, deadline=None)
@given(x=coordinate, y=coordinate, width=side, height=side)
def test_crops_equal_those_of_mmpose(picture, udp, size, x, y, width, height):
    pytest.importorskip("mmpose", reason="needs mmpose")
    transforms = import_mmpose("mmpose.datasets.transforms")
    box = np.array([[x, y, x + width, y + height]], np.float32)
    results = {"img": picture, "bbox": box}
    results = transforms.GetBBoxCenterScale(padding=1.25).transform(results)
    results = transforms.TopdownAffine(size, use_udp=udp).transform(results)

    regions = regions_of(box, size, 1.25)
    out = np.empty((1, size[1], size[0], 3), np.uint8)
    cut([picture], [0], warp_matrices(regions, size, udp), out)

    np.testing.assert_array_equal(regions.centers[0], results["input_center"])
    np.testing.assert_allclose(regions.sizes[0], results["input_scale"], rtol=1e-6)
    apart = np.abs(out[0].astype(int) - results["img"])
    assert apart.max() <= 1  # OpenCV works with 1/32 px: the last bit of a matrix may tip a value
    assert (apart > 0).mean() < 2e-3


@given(x=coordinate, y=coordinate, width=side, height=side)
def test_a_crop_has_the_networks_shape_and_holds_the_padded_box(x, y, width, height):
    box = np.array([[x, y, x + width, y + height]], np.float32)

    regions = regions_of(box, (192, 256), 1.25)

    across, along = regions.sizes[0]
    assert across / along == pytest.approx(0.75, rel=1e-5)
    assert across >= 1.25 * (box[0, 2] - box[0, 0]) * (1 - 1e-5)
    assert along >= 1.25 * (box[0, 3] - box[0, 1]) * (1 - 1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_px_of_a_crop_lead_back_to_the_frame(size):
    boxes = np.array([[10, 20, 110, 320], [50, 40, 300, 90]], np.float32)
    regions = regions_of(boxes, size, 1.25)
    matrices = warp_matrices(regions, size, udp=False)
    in_frame = np.array([[60.0, 170.0], [33.3, 80.25]])
    in_crop = in_frame @ matrices[:, :, :2].transpose(0, 2, 1) + matrices[:, None, :, 2]

    back = regions.to_frame(in_crop, size)

    np.testing.assert_allclose(back, np.broadcast_to(in_frame, back.shape), atol=1e-3)


def test_each_crop_is_cut_from_its_own_frame():
    frames = [np.full((40, 30, 3), shade, np.uint8) for shade in (50, 200)]
    boxes = np.array([[5, 5, 20, 25], [5, 5, 20, 25], [5, 5, 20, 25]], np.float32)
    out = np.zeros((3, 32, 24, 3), np.uint8)

    cut(frames, [1, 0, 1], warp_matrices(regions_of(boxes, (24, 32), 1.0), (24, 32), False), out)

    assert [int(crop[16, 12, 0]) for crop in out] == [200, 50, 200]


def test_what_lies_outside_the_frame_is_black():
    frame = np.full((40, 30, 3), 255, np.uint8)
    box = np.array([[100, 100, 120, 140]], np.float32)
    out = np.full((1, 32, 24, 3), 9, np.uint8)

    cut([frame], [0], warp_matrices(regions_of(box, (24, 32), 1.0), (24, 32), False), out)

    assert not out.any()
