"""Folders of videos: found, worked through by several processes or machines, and accounted for.

Names are looked up on first use: the command line needs the options alone for its ``--help``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
