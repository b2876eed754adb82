"""Drawing: 2D keypoints over the source, 3D skeletons, and their layout.

Names are looked up on first use: choices of :class:`Look` need no OpenCV.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
