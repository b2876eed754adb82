"""People whom the picture's lower edge cuts: as they are in the uncut picture, and nobody else."""

import json

import cv2
import numpy as np
import pytest

from gridpose.detectors import BLAZEPOSE_33, COCO_17, load_detector
from gridpose.pipeline.motion.tracking import has_left, observed

pytestmark = pytest.mark.slow

COLUMNS = [BLAZEPOSE_33.keypoints.index(name) for name in COCO_17.keypoints]
CUTS = {"chest": [5, 6, 11, 12], "waist": [11, 12], "knees": [13, 14]}
UPPER = 11
"""COCO's keypoints before this one are above the hips."""
FOUND, WRONG = 0.1, 0.12
ANNOTATED = 12
"""Keypoints at least, of people who are cut."""


class Cut:
    """A picture cut where somebody has chest, waist or knees."""

    def __init__(self, image, person, people, excused, at):
        self.image = np.ascontiguousarray(image[:at])
        self.whole, self.person, self.people, self.at = image, person, people, at
        self.excused = excused


def apart(found, person, below=np.inf):
    """How far (median, in sizes) keypoints are from those annotated above a row."""
    marked = (person["points"][:, 2] > 0) & (person["points"][:, 1] < below)
    distances = np.linalg.norm(found.keypoints[COLUMNS] - person["points"][:, :2], axis=1)
    return np.median(distances[marked]) / person["size"] if marked.any() else np.inf


def is_excused(bbox, excused):
    """Whether somebody stands where annotators marked a person, but no keypoints."""
    x, y = (bbox[:2] + bbox[2:]) / 2
    return any(x0 < x < x0 + w and y0 < y < y0 + h for x0, y0, w, h in excused)


def nearest(found, person, below=np.inf):
    """Whoever is found where the person is, or None."""
    best = min(found, key=lambda one: apart(one, person, below), default=None)
    return best if best is not None and apart(best, person, below) < FOUND else None


@pytest.fixture(scope="module")
def cuts(shared):
    truth = json.loads((shared / "video" / "coco_keypoints.json").read_text())
    made = []
    for entry in truth["images"]:
        (file,) = (shared / "video").glob("*" + entry["file_name"].rpartition("/")[2])
        image = np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])
        people = [
            {
                "points": np.array(one["keypoints"], float).reshape(17, 3),
                "size": max(one["bbox"][2:]),
                "marked": one["num_keypoints"],
            }
            for one in truth["annotations"]
            if one["image_id"] == entry["id"] and one["num_keypoints"]
        ]
        excused = [
            one["bbox"]
            for one in truth["annotations"]
            if one["image_id"] == entry["id"] and not one["num_keypoints"]
        ]
        for person in people:
            for joints in CUTS.values():
                rows = person["points"][joints]
                rows = rows[rows[:, 2] > 0, 1]
                if person["marked"] >= ANNOTATED and len(rows):
                    made.append(Cut(image, person, people, excused, int(rows.mean())))
    return made


@pytest.fixture(scope="module")
def answers(cuts):
    """Who is found in each cut picture, and in the whole one."""
    whole = {}
    with load_detector("blazepose") as detector:

        def found(image):
            detector.forget()
            return detector.detect([image], [0.0])[0]

        for cut in cuts:
            if id(cut.whole) not in whole:
                whole[id(cut.whole)] = found(cut.whole)
        return [(found(cut.image), whole[id(cut.whole)]) for cut in cuts]


def test_most_are_found_and_few_are_invented(cuts, answers):
    assert len(cuts) == 36
    lost = sum(
        nearest(found, cut.person, cut.at) is None
        for cut, (found, _) in zip(cuts, answers, strict=True)
    )
    # Reached, not wished for: somebody before another, of whom one is seen, is lost in three cuts.
    assert lost <= 4
    invented = [
        one
        for cut, (found, _) in zip(cuts, answers, strict=True)
        for one in found
        if all(min(apart(one, person), apart(one, person, cut.at)) > WRONG for person in cut.people)
        and not is_excused(one.bbox, cut.excused)
    ]
    # Heads and shoulders with a body too small or turned: all are on somebody.
    assert len(invented) <= 7


def test_what_is_not_in_the_picture_is_not_seen_and_nobody_has_left_it(cuts, answers):
    below = 0
    for cut, (found, _) in zip(cuts, answers, strict=True):
        height, width = cut.image.shape[:2]
        for one in found:
            outside = (one.keypoints < 0) | (one.keypoints >= (width, height))
            assert (one.confidence[outside.any(1)] == 0).all()
            below += (one.keypoints[:, 1] >= height).any()
        own = nearest(found, cut.person, cut.at)
        if own is not None:
            (person,) = observed([own], BLAZEPOSE_33)
            assert not has_left(person.keypoints, (width, height))
    assert below > 20


def test_the_upper_body_is_where_it_is_in_the_whole_picture(cuts, answers):
    moved = []
    for cut, (found, whole) in zip(cuts, answers, strict=True):
        own, full = nearest(found, cut.person, cut.at), nearest(whole, cut.person)
        if own is None or full is None:
            continue
        points = cut.person["points"]
        trunk = np.linalg.norm(points[5:7, :2].mean(0) - points[11:13, :2].mean(0))
        seen = (points[:UPPER, 2] > 0) & (points[:UPPER, 1] < cut.at - 4)
        change = own.keypoints[COLUMNS][:UPPER] - full.keypoints[COLUMNS][:UPPER]
        moved.extend(np.linalg.norm(change, axis=1)[seen] / trunk)
    half, most = np.percentile(moved, (50, 90))
    print(f"upper body moves by {half:.3f} of the trunk, 90 % by less than {most:.3f}")
    assert half < 0.04
    assert most < 0.2
