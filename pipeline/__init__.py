"""The end-to-end run, its parts, and the command line.

Names are looked up on first use, so that importing this package (and with it ``gridpose --help``)
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridpose.pipeline.angles import write_angles
    from gridpose.pipeline.batch import BatchOptions, run_batch
    from gridpose.pipeline.exports import export_poses
    from gridpose.pipeline.job import Progress, VideoOptions, VideoResult
    from gridpose.pipeline.keypoint_files import lift_file
    from gridpose.pipeline.posefile import read_pose_file
    from gridpose.pipeline.render import RenderOptions, render_poses
    from gridpose.pipeline.run import run_video

__all__ = [
    "BatchOptions",
    "Progress",
    "RenderOptions",
    "VideoOptions",
    "VideoResult",
    "export_poses",
    "lift_file",
    "read_pose_file",
    "render_poses",
    "run_batch",
    "run_video",
    "write_angles",
]

_HOMES = {
    "Progress": "job",
    "VideoOptions": "job",
    "VideoResult": "job",
    "RenderOptions": "render",
    "render_poses": "render",
    "BatchOptions": "batch",
    "run_batch": "batch",
    "run_video": "run",
    "export_poses": "exports",
    "lift_file": "keypoint_files",
    "read_pose_file": "posefile",
    "write_angles": "angles",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"gridpose.pipeline.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
