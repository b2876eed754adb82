"""How the camera of the 3D view moves while it films people."""

from dataclasses import dataclass

import numpy as np
from poses import standing_pose

from gridpose.core import Person
from gridpose.visualize import SceneRenderer, View
from gridpose.visualize.stage import LOOK_AHEAD_SECONDS, Stage

FPS = 30.0


def standing(number, across=0.0, away=0.0, height=0.0):
    """A person upright at a place, feet ``height`` above the floor."""
    camera = standing_pose()
    world = camera[:, [0, 2, 1]] * (1, 1, -1) + (across, away, height + 0.95)
    keypoints = np.stack((300 + 100 * world[:, 0], 400 - 100 * world[:, 2]), -1)
    return Person(
        number,
        np.concatenate((keypoints.min(0), keypoints.max(0))).astype(np.float32),
        keypoints.astype(np.float32),
        np.ones(17, np.float32),
        camera,
        world.astype(np.float32),
    )


def moments_of(people):
    """Frames with times, 30 in a second."""
    return [(frame / FPS, those) for frame, those in enumerate(people)]


@dataclass(frozen=True)
class Film:
    """``times`` (T,) s, ``spans`` (T,) m from top to bottom, ``centres`` (T, 3) m in the middle,
    ``filled`` (T',) the larger of the parts of width and height that people fill, ``cut_off`` how
    many frames show somebody in part.
    """

    times: np.ndarray
    spans: np.ndarray
    centres: np.ndarray
    filled: np.ndarray
    cut_off: int

    @property
    def scale_rate(self):
        """(T - 1,) change of the scale per second."""
        return np.abs(np.diff(np.log(self.spans)) / np.diff(self.times))

    @property
    def pan_speed(self):
        """(T - 1,) m/s."""
        return np.linalg.norm(np.diff(self.centres, axis=0), axis=1) / np.diff(self.times)

    @property
    def path(self):
        """How far the middle moves in all, m."""
        return np.linalg.norm(np.diff(self.centres, axis=0), axis=1).sum()

    @property
    def jolt(self):
        """Largest change from frame to frame of the rate of the scale, 1/s."""
        return np.abs(np.diff(np.diff(np.log(self.spans)) / np.diff(self.times))).max()

    @property
    def reversals(self):
        """How often the zoom changes its direction."""
        steps = np.diff(self.spans)
        return int((np.diff(np.sign(steps[np.abs(steps) > 2e-3])) != 0).sum())


def filmed(
    moments, size, arrangement="places", view=None, look_ahead=LOOK_AHEAD_SECONDS, whole=False
):
    """Film moments [(time, people)] with a renderer; ``whole`` shows it all of them first."""
    view = view or View()
    renderer = SceneRenderer(size, view, arrangement=arrangement)
    places = Stage(size[0] / size[1], view, arrangement)
    if whole:
        renderer.frame_all(moments)
    spans, centres, filled, cut_off, before = [], [], [], 0, moments[0][0]
    for index, (time, people) in enumerate(moments):
        ahead = [
            (later - time, those)
            for later, those in moments[index + 1 : index + 90]
            if later - time <= look_ahead
        ]
        renderer.draw(people, time - before, upcoming=ahead)
        moved = places.update(people, time - before)
        before = time
        now = view.at(time - moments[0][0])
        framing = renderer.framing
        spans.append(framing.span)
        across, away = framing.across * now.axes[0], framing.away * now.away
        centres.append(across + away + (0, 0, framing.height))
        if people:
            worlds = np.concatenate([each.pose_world + moved[each.track_id] for each in people])
            pixels, _ = renderer.project(worlds)
            cut_off += bool(((pixels < 0) | (pixels > size)).any())
            filled.append((np.ptp(pixels, axis=0) / size).max())
    return Film(
        np.array([time for time, _ in moments]),
        np.array(spans),
        np.array(centres),
        np.array(filled),
        cut_off,
    )
