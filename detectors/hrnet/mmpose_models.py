"""mmpose's own networks, built from configs, without the packages that mmpose merely imports.

mmpose 1.3.2 imports, at the top of modules that HRNet does not need, two packages that have no
wheels or are gigabytes large. While mmpose is imported, empty modules stand in for those that are
absent; afterwards they are gone again, so nobody else takes them for real. Packages that are
installed are used.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final, NamedTuple

from torch import nn

from gridpose.core import InputError, MissingError

INSTALL: Final = (
    "pip install 'gridpose[hrnet]', then "
    "pip install --no-deps mmpose==1.3.2 mmcv-lite==2.1.0 (or ./scripts/setup in a clone)"
)


class StandIn(NamedTuple):
    """Empty stand-in for one module.

    Attributes:
        module: what is imported.
        real: the module without which the real one cannot be imported.
        names: what is taken from it.
    """

    module: str
    real: str
    names: tuple[str, ...] = ()


STAND_INS: Final = (
    # mmcv-lite has mmcv.ops, but not the compiled operators; two transformer heads take one.
    StandIn("mmcv.ops", "mmcv._ext", ("MultiScaleDeformableAttention",)),
    # RTMO, a one-stage head, takes a type and a helper of training from mmdet.
    StandIn("mmdet.utils", "mmdet", ("ConfigType", "reduce_mean")),
    # Reading and scoring of COCO's annotations; its wheels are for NumPy 1 alone.
    StandIn("xtcocotools.coco", "xtcocotools._mask", ("COCO",)),
    StandIn("xtcocotools.cocoeval", "xtcocotools._mask", ("COCOeval",)),
    StandIn("xtcocotools.mask", "xtcocotools._mask"),
    # Drawing of SimCC labels, which mmpose.apis imports; torchvision must match torch exactly and
    # is gigabytes with CUDA.
    StandIn("torchvision.transforms", "torchvision", ("ToPILImage",)),
)


def _absent(module: str) -> bool:
    if module in sys.modules:
        return False
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:
        return True


def _never(name: str) -> type:
    """A class that says so when somebody does use it."""

    def refuse(*_: object, **__: object) -> None:
        raise ImportError(f"{name} is not installed")

    return type(name, (), {"__init__": refuse})


@contextmanager
def stand_ins(wanted: tuple[StandIn, ...] = STAND_INS) -> Iterator[None]:
    """Empty modules in place of those that are not installed, for the time of an import."""
    placed: dict[str, ModuleType] = {}
    try:
        for stand_in in wanted:
            if stand_in.module in sys.modules or not _absent(stand_in.real):
                continue
            package = stand_in.module.rpartition(".")[0]
            names = [stand_in.module] if not _absent(package) else [package, stand_in.module]
            for name in names:
                sys.modules[name] = placed[name] = ModuleType(name)
            for name in stand_in.names:
                setattr(sys.modules[stand_in.module], name, _never(name))
        yield
    finally:
        for name, module in placed.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def absent_packages() -> list[str]:
    """What stand-ins take the place of."""
    return [stand_in.module for stand_in in STAND_INS if _absent(stand_in.real)]


def import_mmpose(module: str = "mmpose.models") -> ModuleType:
    """Import mmpose or a module of it.

    Raises:
        MissingError: mmpose, or something that it needs, is not installed or does not fit.
    """
    try:
        with stand_ins(), warnings.catch_warnings():
            # pkg_resources, docstrings with odd escapes and the like: nothing a user can mend.
            warnings.simplefilter("ignore")
            return import_module(module)
    except ImportError as error:
        raise MissingError(
            f"the HRNet detector needs mmpose, which cannot be imported ({error}); {INSTALL}"
        ) from error
    except AssertionError as error:  # how mmpose says that versions do not fit
        reason = " ".join(str(error).split())
        raise MissingError(f"the HRNet detector: {reason}; {INSTALL}") from error


def build_model(config: Mapping[str, Any], source: str) -> nn.Module:
    """A pose estimator of mmpose in eval mode, with random weights.

    Args:
        config: mmpose's ``model`` dict.
        source: what errors call it.

    Raises:
        MissingError: mmpose is missing.
        InputError: mmpose cannot build it.
    """
    models = import_mmpose()
    registry = import_mmpose("mmpose.registry")
    wanted = dict(config)
    # Weights come from the checkpoint: nothing is to be fetched for a backbone.
    if "backbone" in wanted:
        wanted["backbone"] = {**wanted["backbone"], "init_cfg": None}
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import DefaultScope

    try:
        with DefaultScope.overwrite_default_scope("mmpose"):
            model = registry.MODELS.build(wanted)
    except Exception as error:
        why = (str(error).splitlines() or [""])[0]
        raise InputError(f"{source}: mmpose cannot build this model ({why})") from error
    if not isinstance(model, models.TopdownPoseEstimator):
        raise InputError(f"{source}: {type(model).__name__} is no top-down pose estimator")
    plain: nn.Module = revert_sync_batchnorm(model)
    return plain.eval()
