"""The default lifter on a CPU without torch, as OpenVINO's network that was converted before.

To import torch costs as much as to lift ten seconds of one person. The conversion, which needs it,
is kept in the cache folder; see :mod:`gridpose.lifting.conversion`.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from numpy.typing import ArrayLike

from gridpose.core import FloatArray, GridposeError, MissingError
from gridpose.lifting.sequences import lift_keypoints
from gridpose.lifting.weights.shipped import SHIPPED, shipped_sha256
from gridpose.openvino_engine import OPENVINO_FOLDER, is_installed, openvino_core
from gridpose.storage import cache_dir, file_sha256, sha256

_FORMAT: Final = 2
"""To be raised when what is converted changes, though weights do not."""
NETWORK, WEIGHTS, ABOUT = "windows.xml", "windows.bin", "about.json"


class ConvertedLifter:
    """Lifts sequences as the default lifter does, but for rounding.

    Args:
        network: OpenVINO's file, of :class:`gridpose.lifting.model.forward.LiftWindows`.
        weights: SHA-256 of the weights that it was made from.
        fov_degrees: horizontal field of view that is assumed where none is given.
        cache: where OpenVINO may keep what it makes of the file; None for nowhere.

    Raises:
        MissingError: OpenVINO cannot run it.
    """

    name = SHIPPED
    device = "cpu"
    sees_time = True
    notices: tuple[str, ...] = ()

    def __init__(
        self, network: Path, weights: str, fov_degrees: float, cache: Path | None = None
    ) -> None:
        self.weights_sha256, self.fov_degrees = weights, fov_degrees
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            # Further threads would mostly wait on windows this small, and others need them.
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        if cache is not None:
            options["CACHE_DIR"] = str(cache)
        try:
            compiled = openvino_core().compile_model(str(network), "CPU", options)
            self._request: Any = compiled.create_infer_request()
        except RuntimeError as error:
            why = (str(error).strip().splitlines() or [""])[-1]
            raise MissingError(f"{network}: OpenVINO cannot run it ({why})") from error

    def lift_windows(self, flat: FloatArray, confidence: FloatArray) -> FloatArray:
        """As :meth:`gridpose.lifting.Lifter.lift_windows`."""
        answer: FloatArray = self._request.infer([flat, confidence])[0]
        return answer.copy()

    def lift_sequence(
        self,
        keypoints_px: ArrayLike,
        image_size: ArrayLike,
        confidence: ArrayLike | None = None,
        fps: float = 30.0,
        fov_degrees: float | None = None,
    ) -> FloatArray:
        """As :meth:`gridpose.lifting.Lifter.lift_sequence`."""
        fov = self.horizontal_fov(image_size, fov_degrees)
        return lift_keypoints(self.lift_windows, keypoints_px, image_size, confidence, fps, fov)

    def horizontal_fov(self, image_size: ArrayLike, fov_degrees: float | None) -> float:
        """As :meth:`gridpose.lifting.Lifter.horizontal_fov`."""
        return self.fov_degrees if fov_degrees is None else fov_degrees


def folder_for(weights: str) -> Path:
    """Where the conversion of weights with this SHA-256 is kept.

    Raises:
        MissingError: OpenVINO is not installed, or there is no cache folder.
    """
    try:
        key = [_FORMAT, version("openvino"), weights]
    except PackageNotFoundError as error:
        raise MissingError("OpenVINO is not installed") from error
    return cache_dir() / OPENVINO_FOLDER / f"lifter-{sha256(json.dumps(key).encode())[:32]}"


def is_converted() -> bool:
    """Whether the default lifter has been converted, as far as one can see without loading it."""
    try:
        return (folder_for(shipped_sha256(SHIPPED)) / ABOUT).is_file()
    except (OSError, GridposeError):
        return False


def load_converted() -> ConvertedLifter | None:
    """The default lifter, if it has been converted."""
    if not is_installed():
        return None
    try:
        weights = shipped_sha256(SHIPPED)
        folder = folder_for(weights)
        about = json.loads((folder / ABOUT).read_text())
        if any(file_sha256(folder / name) != about["sha256"][name] for name in (NETWORK, WEIGHTS)):
            return None
        fov_degrees = float(about["fov_degrees"])
        return ConvertedLifter(folder / NETWORK, weights, fov_degrees, folder)
    except (OSError, ValueError, KeyError, TypeError, GridposeError):
        return None
