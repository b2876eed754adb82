"""The camera pans over pictures whose people were painted out: what is detected is left out."""

import json

import cv2
import numpy as np
import pytest

from gridpose.detectors import load_detector
from gridpose.pipeline import VideoOptions
from gridpose.pipeline.motion.post_detection import PostDetection

pytestmark = pytest.mark.slow

FRAMES, FPS, WIDTH, SHOWN, MARGIN = 30, 30.0, 960, 0.8, 8


def panned(image):
    """Frames of a camera with some noise that moves to the right, and up and down."""
    height, width = image.shape[:2]
    size = (WIDTH, WIDTH * height // width)
    for frame in range(FRAMES):
        part = frame / (FRAMES - 1)
        x = int((1 - SHOWN) * width * part)
        y = int((1 - SHOWN) * height * (0.5 + 0.3 * np.sin(6 * part)))
        view = image[y : y + int(SHOWN * height), x : x + int(SHOWN * width)]
        noise = np.random.default_rng(frame).normal(0, 4, (size[1], size[0], 3))
        yield (cv2.resize(view, size) + noise).clip(0, 255).astype(np.uint8)


def shown_and_left_out(detector, lifter, image):
    frames = list(panned(image))
    stages = PostDetection(lifter, frames[0].shape[1::-1], FPS, VideoOptions())
    detector.forget()
    for number, frame in enumerate(frames):
        (people,) = detector.detect([frame], [number / FPS])
        stages.add(people, detector.convention, number / FPS)
    stages.advance(at_end=True)
    shown = {one.track_id for people in stages.finished(at_end=True) for one in people}
    return len(shown), len(stages.left_out)


def test_people_are_shown_and_what_is_seen_where_they_were_is_not(shared, lifter):
    truth = json.loads((shared / "video" / "coco_keypoints.json").read_text())
    left_out = 0
    with load_detector("blazepose") as detector:
        for entry in truth["images"]:
            (file,) = (shared / "video").glob("*" + entry["file_name"].rpartition("/")[2])
            image = cv2.imread(str(file))
            people = np.zeros(image.shape[:2], np.uint8)
            for one in truth["annotations"]:
                if one["image_id"] == entry["id"]:
                    x, y, width, height = map(int, one["bbox"])
                    rows = slice(max(y - MARGIN, 0), y + height + MARGIN)
                    people[rows, max(x - MARGIN, 0) : x + width + MARGIN] = 255
            without = cv2.inpaint(image, people, 5, cv2.INPAINT_TELEA)
            assert shown_and_left_out(detector, lifter, image[..., ::-1])[0] >= 1
            shown, phantoms = shown_and_left_out(detector, lifter, without[..., ::-1])
            assert shown == 0
            left_out += phantoms
    assert left_out > 0  # else nothing was to be told
