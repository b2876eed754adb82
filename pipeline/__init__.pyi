from .batch import BatchOptions, run_batch
from .estimator import PoseEstimator
from .exports import export_poses
from .exports.angles import write_angles
from .keypoint_input.lift import lift_file
from .live.options import LiveOptions
from .live.run import run_live
from .models import Models
from .options import VideoOptions
from .poses.file import read_pose_file
from .render import RenderOptions, render_poses
from .result import Progress, VideoResult
from .run import run_video

__all__ = [
    "BatchOptions",
    "LiveOptions",
    "Models",
    "PoseEstimator",
    "Progress",
    "RenderOptions",
    "VideoOptions",
    "VideoResult",
    "export_poses",
    "lift_file",
    "read_pose_file",
    "render_poses",
    "run_batch",
    "run_live",
    "run_video",
    "write_angles",
]
