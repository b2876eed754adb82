"""Configs of top-down pose networks: mmpose's own by name, users' files, and ours for Human3.6M."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gridpose.core import JOINT_NAMES, MIRRORED, InputError, MissingError
from gridpose.detectors.hrnet import evoskeleton
from gridpose.detectors.hrnet.mmpose_models import import_mmpose

if TYPE_CHECKING:
    from mmengine import Config

DEFAULT_CONFIG: Final = "td-hm_hrnet-w32_8xb64-210e_coco-256x192"
_HUMAN36M: Final[Mapping[str, str]] = {
    "hrnet-w32-h36m-256x256": DEFAULT_CONFIG,
    "hrnet-w48-h36m-256x256": "td-hm_hrnet-w48_8xb32-210e_coco-256x192",
}
"""mmpose 1.x has no configs for these: the COCO config with the same network."""


@dataclass(frozen=True)
class PoseConfig:
    """What must be known to run a top-down network.

    Attributes:
        name: as users write it.
        model: mmpose's ``model`` dict.
        input_size: width, height of a crop, px.
        padding: how much larger than the person's box the crop is.
        udp: whether crops are cut as UDP (arXiv:1911.07524) has it.
        keypoints: names in the network's order.
        counterparts: for each keypoint its index on the other side of the body.
        finer_maps: whether the head is EvoSkeleton's.
    """

    name: str
    model: Mapping[str, Any]
    input_size: tuple[int, int]
    padding: float
    udp: bool
    keypoints: tuple[str, ...]
    counterparts: tuple[int, ...]
    finer_maps: bool = False


def packaged_config(name: str) -> Path | None:
    """The config of this name inside the mmpose package, or None.

    Raises:
        MissingError: mmpose is not installed.
    """
    package = import_mmpose("mmpose").__file__
    assert package is not None
    folder = Path(package).parent / ".mim/configs/body_2d_keypoint"
    return next(folder.rglob(f"{name}.py"), None) if re.fullmatch(r"[\w-]+", name) else None


def is_known(name: str) -> bool:
    """Whether :func:`read_config` finds a config of this name without a file of the user's."""
    ours = name in _HUMAN36M or name == evoskeleton.CONFIG
    return ours or packaged_config(name) is not None


def read_config(name_or_file: str | Path) -> PoseConfig:
    """Read a config by name, or a user's mmpose config file, which is a Python program and runs.

    Raises:
        MissingError: mmpose or the file is missing.
        InputError: it describes no top-down network that mmpose can run.
    """
    source = str(name_or_file)
    if source in _HUMAN36M:
        return _human36m(source)
    if source == evoskeleton.CONFIG:
        return _evoskeleton()
    file = packaged_config(source)
    name = source if file is not None else Path(source).stem
    file = file or Path(source)
    if not file.is_file():
        raise MissingError(
            f"{source}: neither a file nor a config that mmpose carries, such as {DEFAULT_CONFIG}"
        )
    return _parsed(_loaded(file), name, source)


def _loaded(file: Path) -> Config:
    from mmengine import Config

    try:
        return Config.fromfile(file)
    except Exception as error:
        why = (str(error).splitlines() or [""])[0]
        raise InputError(f"{file}: not an mmpose config ({type(error).__name__}: {why})") from error


def _human36m(name: str) -> PoseConfig:
    """As mmpose 0.x trained on Human3.6M: 256x256 crops, 64x64 maps, sigma 2, plain decoding."""
    file = packaged_config(_HUMAN36M[name])
    if file is None:
        raise MissingError(f"{name}: the installed mmpose does not carry {_HUMAN36M[name]}")
    config = _loaded(file)
    size = (256, 256)
    config.merge_from_dict(
        {
            "codec": {"input_size": size, "heatmap_size": (64, 64), "sigma": 2},
            "model.head.decoder": {"input_size": size, "heatmap_size": (64, 64), "sigma": 2},
            "test_dataloader.dataset.metainfo": {"from_file": "configs/_base_/datasets/h36m.py"},
        }
    )
    for step in config.test_dataloader.dataset.pipeline:
        if step["type"] == "TopdownAffine":
            step["input_size"] = size
    return _parsed(config, name, name)


def _evoskeleton() -> PoseConfig:
    """The COCO network of this size with other joints and a longer head."""
    names = evoskeleton.KEYPOINTS
    opposite = [JOINT_NAMES[MIRRORED[JOINT_NAMES.index(name)]] for name in names]
    return replace(
        read_config("td-hm_hrnet-w48_8xb32-210e_coco-384x288"),
        name=evoskeleton.CONFIG,
        keypoints=names,
        counterparts=tuple(names.index(name) for name in opposite),
        finer_maps=True,
    )


def _parsed(config: Config, name: str, source: str) -> PoseConfig:
    try:
        model = config.model.to_dict()
        dataset = config.test_dataloader.dataset
        steps = {step["type"].rpartition(".")[2]: step for step in dataset.pipeline}
    except (AttributeError, KeyError, TypeError) as error:
        raise _bad(source, f"it lacks model or test_dataloader ({error})") from error
    if "TopdownAffine" not in steps:
        raise _bad(source, "its test pipeline cuts out no persons (no TopdownAffine)")
    affine, box = steps["TopdownAffine"], steps.get("GetBBoxCenterScale", {})
    meta = _meta(config, source)
    keypoints = tuple(meta["keypoint_id2name"][i] for i in range(meta["num_keypoints"]))
    return PoseConfig(
        name=name,
        model=model,
        input_size=(int(affine["input_size"][0]), int(affine["input_size"][1])),
        padding=float(box.get("padding", 1.25)),
        udp=bool(affine.get("use_udp", False)),
        keypoints=keypoints,
        counterparts=tuple(int(index) for index in meta["flip_indices"]),
    )


def _bad(source: str, why: str) -> InputError:
    return InputError(f"{source}: no config of a top-down pose network: {why}")


def _meta(config: Config, source: str) -> dict[str, Any]:
    """What mmpose says of the keypoints that the test data have."""
    datasets = import_mmpose("mmpose.datasets.datasets")
    registry = import_mmpose("mmpose.registry")
    parse = import_mmpose("mmpose.datasets.datasets.utils").parse_pose_metainfo
    dataset = config.test_dataloader.dataset
    described = dataset.get("metainfo")
    if described is None:
        kind = registry.DATASETS.get(str(dataset.type))
        described = getattr(kind or datasets.CocoDataset, "METAINFO", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mmpose finds its own files and warns of it
            meta: dict[str, Any] = parse(dict(described))
    except Exception as error:
        why = (str(error).splitlines() or [""])[0]
        raise _bad(source, f"its keypoints cannot be read ({why})") from error
    return meta
