"""Crops made on the device against OpenCV's."""

import cv2
import numpy as np
import pytest
import torch

from gridpose.detectors.crops import cut, regions_of, warp_matrices
from gridpose.detectors.device_crops import cut_on_device, upload

CPU = torch.device("cpu")


def both(frames, boxes, frame_of_crop, size, udp):
    matrices = warp_matrices(regions_of(boxes, size, 1.25), size, udp)
    wanted = np.empty((len(boxes), size[1], size[0], 3), np.uint8)
    cut(frames, frame_of_crop, matrices, wanted)
    return cut_on_device(upload(frames, CPU), frame_of_crop, matrices, size).numpy(), wanted


@pytest.mark.parametrize("udp", [True, False])
@pytest.mark.parametrize("size", [(192, 256), (288, 384)])
def test_crops_are_those_of_opencv(size, udp):
    rng = np.random.default_rng(1)
    frames = [
        cv2.GaussianBlur(rng.integers(0, 256, (240, 320, 3), np.uint8), (0, 0), 1) for _ in "abc"
    ]
    centres = rng.uniform((0, 0), (320, 240), (20, 2))  # many reach beyond the frame
    sizes = rng.uniform(8, 300, (20, 2))
    boxes = np.concatenate((centres - sizes / 2, centres + sizes / 2), 1).astype(np.float32)
    found, wanted = both(frames, boxes, [n % 3 for n in range(20)], size, udp)
    apart = np.abs(found.astype(int) - wanted)
    # OpenCV 5 rounds otherwise than OpenCV 4.
    old = cv2.__version__.startswith("4")
    assert apart.max() <= (3 if old else 8)
    assert (apart > 0).mean() < (0.01 if old else 0.2)


def test_outside_the_frame_is_black():
    frames = [np.full((40, 50, 3), 255, np.uint8)]
    boxes = np.array([[200, 200, 230, 240], [-30, -30, 0, 0]], np.float32)
    found, wanted = both(frames, boxes, [0, 0], (48, 64), True)
    assert not found[0].any()
    assert (wanted == 0).mean() == pytest.approx((found == 0).mean(), abs=0.01)


def test_a_frame_that_is_not_there_is_refused():
    frames = upload([np.zeros((10, 10, 3), np.uint8)], CPU)
    matrices = np.array([[[1.0, 0, 0], [0, 1.0, 0]]])
    for index in (1, -1):
        with pytest.raises(ValueError, match="another frame"):
            cut_on_device(frames, [index], matrices, (4, 4))
