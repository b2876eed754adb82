"""Stand-ins for slow parts."""

import numpy as np

from gridpose.detectors import HUMAN36M_17, Detection

STANDING = np.array(
    [
        *((0, 0), (-0.13, 0), (-0.14, 0.45), (-0.15, 0.9), (0.13, 0), (0.14, 0.45), (0.15, 0.9)),
        *((0, -0.23), (0, -0.48), (0, -0.58), (0, -0.68)),
        *((0.15, -0.46), (0.2, -0.2), (0.22, 0.04), (-0.15, -0.46), (-0.2, -0.2), (-0.22, 0.04)),
    ],
    np.float32,
)
"""Human3.6M-17 keypoints of somebody who faces the camera; the leg is 0.9 long, the hip (0, 0)."""


def standing_at(x, y, size):
    """(17, 2) pixels."""
    return STANDING * np.float32(size) + np.array((x, y), np.float32)


def nobody(index):
    return []


class FakeDetector:
    """Answers ``script(frame number)``, a list of (17, 2) keypoints, without looking."""

    name = "fake"
    convention = HUMAN36M_17
    weights_sha256 = "0" * 64
    reason = "a test"
    notices = ()

    def __init__(self, script=nobody):
        self.script = script
        self.times = []
        self.closed = False
        self.videos = 0

    def forget(self):
        self.videos += 1

    def detect(self, frames, times):
        answers = []
        for time in times:
            people = self.script(len(self.times))
            self.times.append(time)
            answers.append(
                [
                    Detection(
                        np.concatenate((keypoints.min(0), keypoints.max(0))).astype(np.float32),
                        keypoints.astype(np.float32),
                        np.full(17, 0.9, np.float32),
                    )
                    for keypoints in people
                ]
            )
        assert len(frames) == len(answers)
        return answers

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.closed = True
