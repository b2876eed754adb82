from .layout import Layout
from .look import LAYOUTS, Look, parse_resolution
from .overlay import draw_people
from .scene import SceneRenderer
from .viewer import viewer_page
from .views import VIEWS, View, parse_view

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
