"""Drawing: 2D keypoints over the source, 3D skeletons, and their layout.

Names are looked up on first use: choices of :class:`Look` need no OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridpose.visualize.layout import Layout
    from gridpose.visualize.look import LAYOUTS, Look, parse_resolution
    from gridpose.visualize.overlay import draw_people
    from gridpose.visualize.scene import SceneRenderer
    from gridpose.visualize.viewer import viewer_page
    from gridpose.visualize.views import VIEWS, View, parse_view

__all__ = [
    "LAYOUTS",
    "VIEWS",
    "Layout",
    "Look",
    "SceneRenderer",
    "View",
    "draw_people",
    "parse_resolution",
    "parse_view",
    "viewer_page",
]

_NAMES = {
    "look": ("LAYOUTS", "Look", "parse_resolution"),
    "layout": ("Layout",),
    "overlay": ("draw_people",),
    "scene": ("SceneRenderer",),
    "viewer": ("viewer_page",),
    "views": ("VIEWS", "View", "parse_view"),
}
"""By the module that has them."""


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f"gridpose.visualize.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
