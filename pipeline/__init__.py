"""The end-to-end run, its parts, and the command line.

Names are looked up on first use, so that importing this package (and with it ``gridpose --help``)
costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
