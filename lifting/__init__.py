"""The lifter: 2D keypoints to 3D poses with grid convolution (Kang et al., AAAI 2023)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridpose.devices import resolve_device
    from gridpose.lifting.lifter import Lifter, load_lifter
    from gridpose.lifting.metrics import mpjpe, pa_mpjpe
    from gridpose.lifting.model.sgt import inverse_semantic_grid_transform, semantic_grid_transform

__all__ = [
    "Lifter",
    "inverse_semantic_grid_transform",
    "load_lifter",
    "mpjpe",
    "pa_mpjpe",
    "resolve_device",
    "semantic_grid_transform",
]

_MODULES = {
    "Lifter": "lifting.lifter",
    "inverse_semantic_grid_transform": "lifting.model.sgt",
    "load_lifter": "lifting.lifter",
    "mpjpe": "lifting.metrics",
    "pa_mpjpe": "lifting.metrics",
    "resolve_device": "devices",
    "semantic_grid_transform": "lifting.model.sgt",
}


def __getattr__(name: str) -> Any:
    # Only when asked for: not all of the package needs torch.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"gridpose.{_MODULES[name]}"), name)
