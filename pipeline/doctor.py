"""What is installed, what works, and the command that mends each lack."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from gridpose.core import GridposeError, MissingError


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


WRITABLE = "set GRIDPOSE_HOME to a writable folder"


class _LackError(MissingError):
    """Something is missing, and ``mend`` is the command for this very lack."""

    def __init__(self, text: str, mend: str) -> None:
        super().__init__(text)
        self.mend = mend


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _torch() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"{torch.__version__}, {torch.get_num_threads()} CPU threads, no CUDA device"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{torch.__version__}, CUDA: {', '.join(names)}"


def _ffmpeg() -> str:
    from gridpose.pipeline.video.ffmpeg import ffmpeg_program, ffmpeg_version

    program = ffmpeg_program()
    known = ffmpeg_version(program)
    return f"{'.'.join(map(str, known)) if known else 'development build'} at {program}"


def _blazepose() -> str:
    from gridpose.detectors import load_detector

    with load_detector("blazepose") as detector:
        return " ".join(
            (f"openvino {version('openvino')}, runs as {detector.name}", *detector.notices)
        )


def _mmpose() -> str:
    from gridpose.detectors.hrnet.mmpose_models import absent_packages, import_mmpose

    import_mmpose()
    absent = absent_packages()
    without = f", without {', '.join(absent)}, which it can do without" if absent else ""
    return f"mmpose {version('mmpose')}, imports{without}"


def _hrnet_weights() -> str:
    from gridpose.detectors.registry import MODELS, check, is_present

    # BlazePose's own are looked at where it is loaded.
    weights = [model for model in MODELS.values() if not model.shipped_in]
    present = [model for model in weights if is_present(model)]
    for model in present:
        if fault := check(model):
            raise _LackError(f"{model.name} is {fault}", f"gridpose models download {model.name}")
    names = [model.name for model in present if model.is_top_down]
    if not names:
        raise _LackError("none in the cache", "gridpose models download hrnet-w48-coco")
    return f"{', '.join(names)}; their SHA-256 is right"


def _auto() -> str:
    from gridpose.detectors.options import why_unusable

    lack = why_unusable()
    return f"takes blazepose: {lack}" if lack else "takes hrnet"


def _engine_cpu() -> str:
    from gridpose.openvino_engine import INSTALL, import_openvino, processor_has_bf16

    try:
        release = str(import_openvino().__version__).partition("-")[0]
    except MissingError as error:
        raise _LackError(f"torch, several times slower: {error}", INSTALL) from error
    precisions = "bf16 where a network's keypoints stay where they are, else fp32"
    if not processor_has_bf16():
        precisions = "fp32, as the processor has no bf16"
    return f"OpenVINO {release}, {precisions}; torch where it cannot convert a network"


def _mmdet() -> str:
    from gridpose.detectors.hrnet.mmdet_boxes import why_unusable

    if lack := why_unusable():
        from gridpose.detectors.hrnet.mmdet_boxes import INSTALL, WEIGHTS

        raise _LackError(
            f"{lack}; BlazePose finds the persons for HRNet",
            f"{INSTALL} && gridpose models download {WEIGHTS}",
        )
    return f"mmdet {version('mmdet')} and its weights are there"


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
    from gridpose.detectors.hrnet.mmpose_models import INSTALL
    from gridpose.openvino_engine import INSTALL as INSTALL_OPENVINO

    checks: list[tuple[str, Callable[[], str], str, bool]] = [
        ("python", _python, "", True),
        ("torch", _torch, "pip install torch", True),
        ("ffmpeg", _ffmpeg, "pip install imageio-ffmpeg", True),
        ("detector blazepose", _blazepose, "pip install --force-reinstall gridpose", True),
        ("lifter", _lifter, "pip install --force-reinstall gridpose", True),
        ("cache", _cache, WRITABLE, True),
        ("training (mmengine)", partial(_installed, "mmengine"), "pip install mmengine", False),
        ("tensorboard", partial(_installed, "tensorboard"), "pip install tensorboard", False),
        ("mmpose", _mmpose, INSTALL, False),
        ("hrnet weights", _hrnet_weights, WRITABLE, False),
        ("mmdet", _mmdet, WRITABLE, False),
        ("hrnet on the CPU", _engine_cpu, INSTALL_OPENVINO, False),
        ("detector auto", _auto, WRITABLE, False),
        ("app (gradio)", partial(_installed, "gradio"), "pip install 'gridpose[app]'", False),
        ("batch --engine ray", partial(_installed, "ray"), "pip install 'gridpose[ray]'", False),
        ("addresses (yt-dlp)", partial(_installed, "yt-dlp"), "pip install yt-dlp", False),
        ("DeepLabCut's HDF5 (h5py)", partial(_installed, "h5py"), "pip install h5py", False),
    ]
    findings = []
    for name, check, mend, needed in checks:
        try:
            findings.append(Finding(name, True, check(), needed=needed))
        except PackageNotFoundError:
            findings.append(Finding(name, False, "not installed", mend, needed))
        except _LackError as error:
            findings.append(Finding(name, False, str(error), error.mend, needed))
        except (GridposeError, ImportError, OSError) as error:
            findings.append(Finding(name, False, str(error), mend, needed))
    return findings
