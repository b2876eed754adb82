"""The lifter: 2D keypoints to 3D poses with grid convolution (Kang et al., AAAI 2023).

Names are looked up on first use: not all of this needs torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
