"""Weights that detectors can use: what they are, where they come from and how they are known.

BlazePose's come with an installation as far as they could be had when it was built, the others do
not. OpenMMLab puts the first eight digits of a file's SHA-256 into its name; where nothing else is
known, these are what is checked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from gridpose.core import UsageError
from gridpose.storage import cache_dir, file_sha256

MIRROR_VARIABLE: Final = "GRIDPOSE_MIRROR"
"""Environment variable with the address of a folder that holds copies; it is tried first."""

_MMPOSE: Final = "https://download.openmmlab.com/mmpose/"
_COCO: Final = "Apache-2.0; trained on COCO (annotations CC BY 4.0, pictures under Flickr's terms)"
_HUMAN36M: Final = "Apache-2.0; trained on Human3.6M, whose licence allows academic use only"


@dataclass(frozen=True)
class Archive:
    """A package of a registry that holds a file: its address, all of its SHA-256, and where."""

    url: str
    sha256: str
    member: str


@dataclass(frozen=True)
class Model:
    """One file of weights.

    Attributes:
        name: as users write it.
        file: its name in the cache.
        urls: where it can be had, in order of preference.
        sha256: 64 hex digits, or the first 8 where no more is known.
        size: bytes, where known.
        licence: of the weights, and what the training data ask for.
        input_size: width, height of the network's input, px.
        yields: the keypoint convention, or ``boxes``.
        config: name of the network's config, of those that have one; see ``pose_config``.
        quality: as its makers measured it, or we.
        archive: where it can be had if no address has it by itself.
        shipped_in: the package whose folder ``vendor`` has it if it came with the installation.
    """

    name: str
    file: str
    urls: tuple[str, ...]
    sha256: str
    size: int | None
    licence: str
    input_size: tuple[int, int]
    yields: str
    config: str
    quality: str
    archive: Archive | None = None
    shipped_in: str = ""

    @property
    def is_top_down(self) -> bool:
        """Whether it is a keypoint network of mmpose."""
        return bool(self.config) and self.yields != "boxes"


def _coco(
    name: str,
    config: str,
    known_as: str,
    size: tuple[int, int],
    quality: str,
    sha256: str | None = None,
) -> Model:
    file = f"{config}-{known_as}.pth"
    return Model(
        name=name,
        file=file,
        urls=(f"{_MMPOSE}v1/body_2d_keypoint/topdown_heatmap/coco/{file}",),
        sha256=sha256 or known_as.partition("_")[0],
        size=None,
        licence=_COCO,
        input_size=size,
        yields="coco-17",
        config=config,
        quality=quality,
    )


def _h36m(width: int, sha256: str, error: str) -> Model:
    file = f"hrnet_w{width}_h36m_256x256-{sha256}_20210621.pth"
    return Model(
        name=f"hrnet-w{width}-h36m",
        file=file,
        urls=(f"{_MMPOSE}top_down/hrnet/{file}",),
        sha256=sha256,
        size=None,
        licence=_HUMAN36M,
        input_size=(256, 256),
        yields="human3.6m-17",
        config=f"hrnet-w{width}-h36m-256x256",
        quality=f"Human3.6M error {error} px",
    )


_BLAZEPOSE: Final = "Apache-2.0; Google's own pictures"
_BLAZEPOSE_PACKAGE: Final = "gridpose.detectors.blazepose"
_POSE_PACKAGE: Final = "@mediapipe/pose@0.5.1675469404"


def _blazepose(size: str, sha256: str, length: int, quality: str) -> Model:
    file = f"pose_landmark_{size}.tflite"
    return Model(
        name=f"blazepose-{size}",
        file=file,
        urls=(
            f"https://cdn.jsdelivr.net/npm/{_POSE_PACKAGE}/{file}",
            f"https://unpkg.com/{_POSE_PACKAGE}/{file}",
        ),
        sha256=sha256,
        size=length,
        licence=_BLAZEPOSE,
        input_size=(256, 256),
        yields="blazepose-33",
        config="",
        quality=quality,
        archive=Archive(
            "https://registry.npmjs.org/@mediapipe/pose/-/pose-0.5.1675469404.tgz",
            "8bb349a7b3a3ba699df23be804ddd3b3eab810b50b15406894be257859388a84",
            f"package/{file}",
        ),
        shipped_in=_BLAZEPOSE_PACKAGE,
    )


_ALL: Final = (
    _coco(
        "hrnet-w48-coco-384x288",
        "td-hm_hrnet-w48_8xb32-210e_coco-384x288",
        "c161b7de_20220915",
        (288, 384),
        "COCO AP 0.767",
    ),
    _coco(
        "hrnet-w48-coco",
        "td-hm_hrnet-w48_8xb32-210e_coco-256x192",
        "0e67c616_20220913",
        (192, 256),
        "COCO AP 0.756",
        sha256="0e67c6167d6a10fe8f27e3da1e9a415b57289d5820dcca2b42bd8079df4b7a3a",
    ),
    _coco(
        "hrnet-w32-coco",
        "td-hm_hrnet-w32_8xb64-210e_coco-256x192",
        "81c58e40_20220909",
        (192, 256),
        "COCO AP 0.749",
    ),
    _h36m(48, "78e88d08", "7.36"),
    _h36m(32, "d3206675", "9.43"),
    _blazepose(
        "heavy",
        "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe",
        27_709_200,
        "for --detector blazepose",
    ),
    _blazepose(
        "full",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        6_440_512,
        "for --detector blazepose-full",
    ),
    _blazepose(
        "lite",
        "f17bfbecadb61c3be1baa8b8d851cc6619c870a87167b32848ad20db306b9d61",
        2_819_824,
        "for --detector blazepose-lite",
    ),
    Model(
        name="blazepose-detector",
        file="pose_detection.tflite",
        urls=(),
        sha256="9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        size=2_959_046,
        licence=_BLAZEPOSE,
        input_size=(224, 224),
        yields="boxes",
        config="",
        quality="finds the people for all BlazePose detectors",
        archive=Archive(
            "https://files.pythonhosted.org/packages/9f/99/5da7ae7f7e25847383bc2fe5a9adc7ce150dd3"
            "71682f486c0666b407cad7/mediapipe-0.10.21-cp312-cp312-manylinux_2_28_x86_64.whl",
            "956eb1ebc275c629e61b085b2cab89c3a5b9e93bad1bb107348d98dafb5a4bb5",
            "mediapipe/modules/pose_detection/pose_detection.tflite",
        ),
        shipped_in=_BLAZEPOSE_PACKAGE,
    ),
    Model(
        name="rtmdet-m-person",
        file="rtmdet_m_8xb32-100e_coco-obj365-person-235e8209.pth",
        urls=(f"{_MMPOSE}v1/projects/rtmpose/rtmdet_m_8xb32-100e_coco-obj365-person-235e8209.pth",),
        sha256="235e8209",
        size=None,
        licence="Apache-2.0; trained on COCO and Objects365",
        input_size=(640, 640),
        yields="boxes",
        config="rtmdet_m_640-8xb32_coco-person",
        quality="for --person-boxes mmdet",
    ),
)

MODELS: Final[Mapping[str, Model]] = {model.name: model for model in _ALL}
"""Pose networks, best first (those trained on Human3.6M know its studio only), then the rest."""


def model(name: str) -> Model:
    """The model of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}; known are {', '.join(MODELS)}")
    return MODELS[name]


def sources(model: Model) -> tuple[str, ...]:
    """Addresses to try, the user's own mirror first."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    own = (f"{mirror.rstrip('/')}/{model.file}",) if mirror else ()
    return (*own, *model.urls)


def weights_file(model: Model) -> Path:
    """Where the file lies in the cache, or would lie."""
    return cache_dir() / "models" / model.file


def copies(model: Model) -> list[Path]:
    """The files that are there, whole or damaged: what was installed before what is in the cache.

    A download puts a file into the cache only when it is complete.
    """
    places = [weights_file(model)]
    if model.shipped_in:
        places.insert(0, Path(str(files(model.shipped_in) / "vendor" / model.file)))
    return [place for place in places if place.is_file()]


def is_present(model: Model) -> bool:
    """Whether there is a file."""
    return bool(copies(model))


def right_copy(model: Model) -> Path | None:
    """The first of the files that are there whose SHA-256 is right."""
    return next((file for file in copies(model) if _fault(model, file) is None), None)


def check(model: Model) -> str | None:
    """What is wrong with the file that is there; None when the SHA-256 of one is right."""
    faults = [_fault(model, file) for file in copies(model)]
    return None if None in faults else (faults or ["missing"])[0]


def _fault(model: Model, file: Path) -> str | None:
    try:
        found = file_sha256(file)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if found.startswith(model.sha256):
        return None
    return f"damaged: SHA-256 {found}, not {model.sha256}"
