"""The viewer: poses, and the video they come from, as one HTML page that works offline."""

from gridpose.visualize.viewer.page import viewer_page

__all__ = ["viewer_page"]
