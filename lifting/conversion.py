"""The default lifter converted to OpenVINO's form, once, for runs that need no torch any more."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import filelock
import numpy as np
import torch

from gridpose.core import NUM_JOINTS, GridposeError, InputError
from gridpose.lifting.converted import (
    ABOUT,
    NETWORK,
    WEIGHTS,
    ConvertedLifter,
    folder_for,
    load_converted,
)
from gridpose.lifting.lifter import Lifter
from gridpose.lifting.model.forward import FrameLifter, LiftWindows
from gridpose.openvino_engine import import_openvino
from gridpose.storage import file_sha256

_LARGEST_ERROR: Final = 1e-4
"""Of a converted network against torch, metres."""
_FRAMES: Final = 81
"""Of the example. Shorter windows can be lifted, too, and somewhat longer ones."""


def keep_converted(lifter: Lifter) -> ConvertedLifter | None:
    """Convert the default lifter, and keep that in the cache folder.

    Returns:
        The converted lifter; None where OpenVINO is not installed or cannot convert it, nothing
        can be kept, or another process is at it.
    """
    try:
        folder = folder_for(lifter.weights_sha256)
        folder.parent.mkdir(exist_ok=True)
        with filelock.FileLock(folder.with_suffix(".lock"), timeout=0):
            kept = load_converted()
            if kept is None:
                _keep(lifter, folder)
                kept = load_converted()
            return kept
    except (OSError, filelock.Timeout, GridposeError):
        return None


def _keep(lifter: Lifter, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as room:
        made = Path(room) / folder.name
        made.mkdir()
        convert(lifter, made / NETWORK)
        about = {
            "fov_degrees": lifter.fov_degrees,
            "sha256": {name: file_sha256(made / name) for name in (NETWORK, WEIGHTS)},
        }
        (made / ABOUT).write_text(json.dumps(about))
        if folder.exists():  # and damaged
            shutil.move(folder, Path(room) / "old")
        made.rename(folder)


def convert(lifter: Lifter, file: Path) -> None:
    """Write a lifter that sees time as OpenVINO's network, ``.xml`` with ``.bin`` beside it.

    It takes windows of any number and length, as
    :class:`gridpose.lifting.model.forward.LiftWindows`.

    Raises:
        MissingError: OpenVINO is not installed.
        InputError: OpenVINO cannot convert it, or converts it wrongly.
        ValueError: the lifter sees no time, or not from the person.
    """
    if lifter.temporal is None or lifter.checkpoint.normalisation != "person":
        raise ValueError("not a lifter like the default one")
    openvino = import_openvino()
    # A copy: the lifter may lie on a GPU.
    module = LiftWindows(FrameLifter(lifter.checkpoint.build()), lifter.temporal.build())
    module.frames.network.fuse()
    module.network.fuse()
    example, other = _windows(2, _FRAMES), _windows(3, _FRAMES // 2)
    try:
        # Not inference_mode, whose tensors the tracer cannot take.
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing, for developers of the network
            wanted = [module(*windows).numpy() for windows in (example, other)]
            trace: Any = torch.jit.trace
            traced = trace(module, example, check_trace=False)
            joints = [-1, -1, NUM_JOINTS]
            model = openvino.convert_model(traced, input=[[*joints, 2], joints])
        openvino.save_model(model, file, compress_to_fp16=False)
    except Exception as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise InputError(f"OpenVINO cannot convert the lifter ({why})") from error
    converted = ConvertedLifter(file, lifter.weights_sha256, lifter.fov_degrees)
    for windows, poses in zip((example, other), wanted, strict=True):
        found = converted.lift_windows(*(tensor.numpy() for tensor in windows))
        if not np.abs(found - poses).max() <= _LARGEST_ERROR:
            raise InputError("OpenVINO converts the lifter to one that answers otherwise")


def _windows(count: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints that nobody has, now and then unseen."""
    generator = torch.Generator().manual_seed(frames)
    flat = 0.1 * torch.randn(count, frames, NUM_JOINTS, 2, generator=generator)
    confidence = torch.rand(count, frames, NUM_JOINTS, generator=generator)
    return flat, confidence * (confidence > 0.1)
