from .lifter import Lifter, load_lifter
from .metrics import mpjpe, pa_mpjpe
from .model.sgt import inverse_semantic_grid_transform, semantic_grid_transform

__all__ = [
    "Lifter",
    "inverse_semantic_grid_transform",
    "load_lifter",
    "mpjpe",
    "pa_mpjpe",
    "semantic_grid_transform",
]
