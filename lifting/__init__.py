"""The lifter: 2D keypoints to 3D poses with grid convolution (Kang et al., AAAI 2023)."""

from gridpose.devices import resolve_device
from gridpose.lifting.lifter import Lifter, load_lifter
from gridpose.lifting.metrics import mpjpe, pa_mpjpe
from gridpose.lifting.sgt import inverse_semantic_grid_transform, semantic_grid_transform

__all__ = [
    "Lifter",
    "inverse_semantic_grid_transform",
    "load_lifter",
    "mpjpe",
    "pa_mpjpe",
    "resolve_device",
    "semantic_grid_transform",
]
