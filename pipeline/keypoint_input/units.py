"""Keypoints in shares of the picture, made pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from gridpose.core import FloatArray, InputError
from gridpose.pipeline.keypoint_input.keypoints import Keypoints2D

_LARGEST_SHARE: Final = 1.5
"""People who reach out of the picture have joints beyond it; in px nobody is so small."""
_LEAST_SPREAD: Final = 1e-3
"""Where all keypoints lie in one place they say nothing of their unit."""


def in_pixels(
    data: Keypoints2D, size: FloatArray | None, normalized: bool, source: Path
) -> Keypoints2D:
    """Keypoints in px.

    Args:
        data: as a file has them.
        size: (2,) or (..., 2) width and height px, if known.
        normalized: whether the user says that they are shares of the picture.
        source: for messages.

    Raises:
        InputError: they are shares, and nobody says so or no size is known; or they are none.
    """
    known = data.keypoints[np.isfinite(data.keypoints).all(-1)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    are_shares = low >= -_LARGEST_SHARE and high <= _LARGEST_SHARE and high - low > _LEAST_SPREAD
    if data.normalized or (normalized and (are_shares or not len(known))):
        if size is None:
            raise InputError(
                f"{source}: its keypoints are shares of the picture, 0 to 1; give its size with "
                "`image_size` WIDTHxHEIGHT"
            )
        scale = size if size.ndim == 1 else size[..., None, :]
        return replace(
            data, keypoints=(data.keypoints * scale).astype(np.float32), normalized=False
        )
    if normalized:
        raise InputError(
            f"{source}: its keypoints reach from {low:.4g} to {high:.4g}, so they are px and not "
            "shares of the picture; leave `normalized=True` out"
        )
    if not are_shares:
        return data
    if np.median(known) < 0.1 and (known < -0.1).mean() > 0.1:
        raise InputError(
            f"{source}: its keypoints lie between {low:.2g} and {high:.2g}, not in px; multiply "
            "them by half the picture's width and move its middle before"
        )
    also = "" if size is not None else ", with the picture's size as `image_size` WIDTHxHEIGHT"
    raise InputError(
        f"{source}: its keypoints lie between {low:.2g} and {high:.2g}, as shares of the picture, "
        f"not in px; `normalized=True` multiplies them{also}"
    )
