"""People who stand close together: each has keypoints of their own."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from gridpose.detectors import COCO_17, load_detector

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script():
    file = Path(__file__).parents[2] / "scripts" / "measure_detector.py"
    spec = importlib.util.spec_from_file_location("measure_close_people", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_keypoints_are_on_the_right_person(script, shared):
    folder = shared / "video"
    found = astray = marked = 0
    with load_detector("blazepose") as detector:
        columns = [detector.convention.keypoints.index(name) for name in COCO_17.keypoints]
        for picture in script.read_truth(folder / "coco_keypoints.json", [folder]):
            for image, keypoints in script.sights(picture):
                detector.forget()
                people = [one.keypoints[columns] for one in detector.detect([image], [0.0])[0]]
                found += len(script.owned(people, keypoints, picture.areas))
                lost, of = script.strayed(people, keypoints, picture.areas)
                astray, marked = astray + lost, marked + of
    print(f"{found} of 72 found, {astray} of {marked} keypoints nearer to somebody else's")
    assert found >= 64
    assert astray <= 0.03 * marked


def test_nobody_is_there_twice_in_clips(script, shared):
    from gridpose.pipeline.motion.tracking import observed, without_duplicates

    for name, least in (("mmpose_demo_5frames_960x540.mp4", 3), ("posetrack_000001.mp4", 2)):
        images = [script.read_frame(f"{name}#{number}", [shared / "video"]) for number in range(5)]
        with load_detector("blazepose") as detector:
            answers = detector.detect(images, (np.arange(5) / 25).tolist())
            for people in answers:
                joints = observed(people, detector.convention)
                assert len(without_duplicates(joints)) == len(people) >= least
