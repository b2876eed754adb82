"""What is installed, what works, and the command that mends each lack."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from gridpose.core import GridposeError


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``mend`` is a command, empty when nothing needs doing."""

    name: str
    ok: bool
    detail: str
    mend: str = ""
    needed: bool = True
    """Whether ``gridpose video`` with the embedded detector depends on it."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


HRNET_MEND = "./scripts/setup (from a clone), or the pip lines under Installation in README.md"


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _torch() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"{torch.__version__}, {torch.get_num_threads()} CPU threads, no CUDA device"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{torch.__version__}, CUDA: {', '.join(names)}"


def _ffmpeg() -> str:
    from gridpose.pipeline.ffmpeg import ffmpeg_program, ffmpeg_version

    program = ffmpeg_program()
    known = ffmpeg_version(program)
    return f"{'.'.join(map(str, known)) if known else 'development build'} at {program}"


def _blazepose() -> str:
    from gridpose.detectors import load_detector

    with load_detector("blazepose"):
        return f"mediapipe {version('mediapipe')}, runs"


def _lifter() -> str:
    from gridpose.lifting import load_lifter

    lifter = load_lifter()
    figure = lifter.checkpoint.metrics.get("exact_mpjpe")
    quality = f", {figure} mm on its benchmark" if figure else ""
    return f"{lifter.name}, sha256 {lifter.weights_sha256[:12]}{quality}"


def _cache() -> str:
    from gridpose.storage import cache_dir

    return str(cache_dir())


def _installed(package: str) -> str:
    return version(package)


def examine() -> list[Finding]:
    """Try everything that a run needs."""
    checks: list[tuple[str, Callable[[], str], str, bool]] = [
        ("python", _python, "", True),
        ("torch", _torch, "pip install torch", True),
        ("ffmpeg", _ffmpeg, "pip install imageio-ffmpeg", True),
        ("detector blazepose", _blazepose, "pip install mediapipe==0.10.21", True),
        ("lifter", _lifter, "pip install --force-reinstall gridpose", True),
        ("cache", _cache, "set GRIDPOSE_HOME to a writable folder", True),
        ("training (mmengine)", lambda: _installed("mmengine"), "pip install mmengine", False),
        ("tensorboard", lambda: _installed("tensorboard"), "pip install tensorboard", False),
        ("mmcv-lite", lambda: _installed("mmcv-lite"), HRNET_MEND, False),
        ("mmpose", lambda: _installed("mmpose"), HRNET_MEND, False),
    ]
    findings = []
    for name, check, mend, needed in checks:
        try:
            findings.append(Finding(name, True, check(), needed=needed))
        except PackageNotFoundError:
            findings.append(Finding(name, False, "not installed", mend, needed))
        except (GridposeError, ImportError, OSError) as error:
            findings.append(Finding(name, False, str(error), mend, needed))
    return findings
