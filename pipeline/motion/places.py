"""Where people are, heights included, in one scene with one floor: for cameras that stand still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gridpose.core import DoubleArray, FloatArray
from gridpose.pipeline.motion.floor import Floor
from gridpose.pipeline.motion.trajectory import bilateral, hip_path
from gridpose.pipeline.motion.world import (
    lowest_below_hip,
    rise_over_support,
    steady,
)

_ON_FLOOR_METRES, _OFF_FLOOR_METRES = 0.25, 0.5
"""Supports nearer to the floor than the first are the floor, from the second on they are not."""
_LEVEL_SECONDS, _LEVEL_METRES = 0.5, 0.12
_SUPPORT_SECONDS = 0.2
_LEAST_SHARE = 0.9
"""A camera that is still in fewer frames than this of those known at first moves."""


@dataclass(frozen=True)
class _Path:
    """Where a person is.

    ``poses`` (T, 17, 3) world axes, hip at the origin; ``hips`` (T, 3) m, world axes from the
    camera; ``carried`` (T,) m the height of what carries them, and ``rise`` (T,) m how far above it
    they are.
    """

    poses: FloatArray
    hips: DoubleArray
    carried: DoubleArray
    rise: DoubleArray


class Places:
    """Decides whether people are put where they are, and where that is.

    Args:
        fps: rate of the frames.
        image_size: width, height px.
        fov_degrees: the lens's horizontal field of view.
        wanted: whether people are put where they are; None does so where the camera stands still.
    """

    def __init__(
        self,
        fps: float,
        image_size: tuple[int, int],
        fov_degrees: float,
        wanted: bool | None = None,
    ) -> None:
        self._fps, self._image_size, self._fov_degrees = fps, image_size, fov_degrees
        self._chosen = wanted
        self._frames = self._still_frames = 0
        self._floor = Floor()
        self._origin: DoubleArray | None = None

    def saw_camera(self, still: bool) -> None:
        """Take in whether the camera is where it was at first, by the next frame."""
        self._frames += 1
        self._still_frames += still

    @property
    def camera_still(self) -> bool:
        """Whether the camera has stood still so far, but for a few frames."""
        return bool(self._frames) and self._still_frames >= _LEAST_SHARE * self._frames

    @property
    def are_shown(self) -> bool:
        """Whether people are put where they are: decided when first asked, by what is known."""
        if self._chosen is None:
            self._chosen = self.camera_still
        return self._chosen

    def placed_together(
        self,
        poses: Mapping[int, FloatArray],
        keypoints: Mapping[int, FloatArray],
        frames: Mapping[int, Sequence[int]],
        to_world: DoubleArray,
        new: int,
    ) -> dict[int, FloatArray]:
        """Poses of people in a window where they are: from where the first was seen first; z = 0
        is the floor.

        Args:
            poses: by track id (T, 17, 3) m, world axes, hip at the origin.
            keypoints: (T, 17, 2) px.
            frames: numbers of these frames.
            to_world: (3, 3) takes camera axes to world axes.
            new: frames since the last window.
        """
        paths = {
            track_id: self._path(world, keypoints[track_id], frames[track_id], to_world)
            for track_id, world in poses.items()
        }
        stride = max(1, round(_SUPPORT_SECONDS * self._fps))
        for path in paths.values():
            points = np.column_stack((path.hips[:, :2], path.carried)) @ to_world
            self._floor.add(points[::stride])
            if self._origin is None:
                self._origin = points[0]
        self._floor.settle(to_world, new / self._fps)
        return {track_id: self._placed(path, to_world) for track_id, path in paths.items()}

    def _path(
        self, poses: FloatArray, keypoints: FloatArray, frames: Sequence[int], to_world: DoubleArray
    ) -> _Path:
        seen = (poses @ to_world).astype(np.float32)
        size, fov = self._image_size, self._fov_degrees
        hips = hip_path(seen, keypoints, frames, size, fov, self._fps) @ to_world.T
        return _Path(
            poses, hips, *rise_over_support(hips[:, 2] - lowest_below_hip(poses), self._fps)
        )

    def _placed(self, path: _Path, to_world: DoubleArray) -> FloatArray:
        """The person's poses (T, 17, 3), from where the first one was seen first; z = 0: floor."""
        over_floor = path.carried - self._floor.heights(path.hips)
        level = bilateral(over_floor[:, None], self._fps, _LEVEL_SECONDS, _LEVEL_METRES)[:, 0]
        share = (np.abs(level) - _ON_FLOOR_METRES) / (_OFF_FLOOR_METRES - _ON_FLOOR_METRES)
        level = level * np.clip(share, 0, 1)
        height = steady(lowest_below_hip(path.poses) + path.rise, self._fps) + level
        origin = np.zeros(3) if self._origin is None else to_world @ self._origin
        moved = np.column_stack((path.hips[:, :2] - origin[:2], height))
        return np.asarray(path.poses + moved[:, None], np.float32)
