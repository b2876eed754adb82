"""Motion capture seen by made cameras, and what becomes of it after detection.

The benchmark's own scripts, beside its data in ``shared/mocap``, say how people and cameras are.
"""

import importlib
import sys
from dataclasses import dataclass

import numpy as np

from gridpose.core import JOINT_NAMES
from gridpose.detectors import HUMAN36M_17, Detection
from gridpose.pipeline.motion.post_detection import PostDetection

FPS = 30.0
ANKLES = [JOINT_NAMES.index(f"{side}_ankle") for side in ("right", "left")]


@dataclass(frozen=True)
class Filmed:
    """A person before a camera that stands still.

    ``keypoints`` (T, 17, 2) px, exact; ``world`` (T, 17, 3) m, z up; ``image_size`` px; ``fov``
    degrees; ``clip`` is the name of the motion.
    """

    keypoints: np.ndarray
    world: np.ndarray
    image_size: tuple[int, int]
    fov: float
    clip: str


def filmed(shared, actions, random, file="temporal_test.npz", elevations=(-5.0, 10.0)):
    """Every unbroken run of the clips whose action is one of ``actions``, once each."""
    bench, temporal = _bench(shared)
    data = np.load(shared / "mocap" / file)
    for clip, motion in temporal.runs(data):
        if str(data["action"][clip]) not in actions:
            continue
        body = bench.relength(motion)
        world = body + motion[:, :1] - motion[:, :1].mean(0)
        # Legs of other lengths carry the hip at another height.
        world[..., 2] += (motion[:, ANKLES, 2] - world[:, ANKLES, 2]).min(1)[:, None]
        found = _seen(world, bench.rotation, random, elevations)
        if found is not None:
            yield Filmed(found[0], world, *found[1:], str(data["clip_names"][clip]))


def _seen(world, rotation, random, elevations):
    """Pixels, size and field of view of the first camera that has nearly all in its picture."""
    centre = world[:, 0].mean(0)
    for _ in range(400):
        width, height = ((1920, 1080), (1280, 720))[random.integers(2)]
        fov = random.uniform(45, 65)
        focal = width / 2 / np.tan(np.radians(fov) / 2)
        elevation = np.radians(random.uniform(*elevations))
        turn = rotation(random.uniform(0, 2 * np.pi), elevation, 0.0).T
        depth = random.uniform(3.5, 8)
        aside = random.uniform((-0.2, -0.1), (0.2, 0.1)) * (width, height) / focal * depth
        seen = (world - centre) @ turn + (*aside, depth)
        if seen[..., 2].min() < 1.5:
            continue
        pixels = seen[..., :2] / seen[..., 2:] * focal + np.array((width, height)) / 2
        if ((pixels > 0) & (pixels < (width, height))).all(-1).mean() > 0.99:
            return pixels, (width, height), fov
    return None


def noisy(keypoints, random, level):
    """Errors (RMS) of ``level`` times the person's size; a third persists to the next frame."""
    fresh = random.normal(0, 1, keypoints.shape)
    error = fresh.copy()
    for frame in range(1, len(error)):
        error[frame] = error[frame - 1] / 3 + fresh[frame] * np.sqrt(1 - 1 / 9)
    error += 0.5 * random.normal(0, 1, (1, *keypoints.shape[1:]))
    size = np.ptp(keypoints, axis=1).max(-1)[:, None, None]
    return keypoints + level * size * error


def finished(keypoints, image_size, lifter, options, confidence=None, fps=FPS):
    """People of each frame as a run makes them of one person's keypoints (T, 17, 2)."""
    if confidence is None:
        confidence = np.full(keypoints.shape[:2], 0.9, np.float32)
    stages, people = PostDetection(lifter, image_size, fps, options), []
    for frame, (points, sure) in enumerate(zip(keypoints, confidence, strict=True)):
        points = points.astype(np.float32)
        box = np.concatenate((points.min(0), points.max(0)))
        stages.add([Detection(box, points, sure)], HUMAN36M_17, frame / fps)
        if frame % 8 == 7:
            stages.advance()
            people += stages.finished()
    stages.advance(at_end=True)
    return [*people, *stages.finished(at_end=True)]


def _bench(shared):
    folder = str(shared / "mocap")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("make_bench"), importlib.import_module("make_temporal_bench")
