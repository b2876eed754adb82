"""Drawing: 2D keypoints over the source, 3D skeletons, and their layout."""

from gridpose.visualize.layout import SideBySide
from gridpose.visualize.overlay import draw_people
from gridpose.visualize.scene import SceneRenderer, View

__all__ = ["SceneRenderer", "SideBySide", "View", "draw_people"]
