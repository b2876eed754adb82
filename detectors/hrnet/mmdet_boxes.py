"""Person boxes from mmdet's detectors, where the user has installed mmdet.

mmdet is never a dependency: it needs mmcv with compiled operators, for which there are no wheels
for current releases of torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from gridpose.core import FloatArray, GridposeError, ImageArray, InputError, MissingError
from gridpose.detectors.boxes import (
    PersonBoxes,
    PersonFinder,
    non_maximum_suppression,
    person_boxes,
)
from gridpose.detectors.registry import MODELS, weights_file

WEIGHTS: Final = "rtmdet-m-person"
"""RTMDet-m trained on the people of COCO and Objects365, as mmpose publishes it."""
_CONFIG: Final = ".mim/demo/mmdetection_cfg/rtmdet_m_640-8xb32_coco-person.py"

INSTALL: Final = (
    "pip uninstall -y mmcv-lite && pip install -U openmim && mim install mmcv==2.1.0 && "
    "pip install mmdet==3.3.0"
)
_PERSON: Final = 0
_MIN_SCORE: Final = 0.5
_SAME_IOU: Final = 0.6
_BATCH: Final = 8


def default_weights() -> Path:
    """Where RTMDet-m's checkpoint lies in the cache, or would."""
    return weights_file(MODELS[WEIGHTS])


def default_config() -> Path:
    """RTMDet-m's config for people, which the mmpose package carries.

    Raises:
        MissingError: mmpose is not installed, or without its configs.
    """
    spec = find_spec("mmpose")
    file = Path(spec.origin).parent / _CONFIG if spec and spec.origin else None
    if file is None or not file.is_file():
        raise MissingError(
            "RTMDet's config comes with mmpose, which is not installed: give a config file of "
            "your own, or pip install --no-deps mmpose==1.3.2"
        )
    return file


def why_unusable() -> str:
    """Why mmdet cannot find people; empty when it can be tried."""
    if find_spec("mmdet") is None:
        return "mmdet is not installed"
    file = default_weights()
    return "" if file.is_file() else f"mmdet's weights are missing ({file})"


class MmdetPersons(PersonFinder):
    """People whom a detector of mmdet finds.

    Args:
        config: mmdet's config file, whose first class is the person; by default RTMDet-m's.
        weights: its checkpoint; by default RTMDet-m's, in the cache.
        device: as torch names it.
        max_persons: of more people in a frame the largest are taken.

    Raises:
        MissingError: mmdet, the config, the weights or the device are missing.
        InputError: mmdet cannot build the network, or the weights are not for it.
    """

    name = "mmdet"

    def __init__(
        self,
        config: Path | None = None,
        weights: Path | None = None,
        *,
        device: str = "cpu",
        max_persons: int = 6,
    ) -> None:
        from gridpose.detectors.hrnet.weights import read_pose_weights

        self._max_persons = max_persons
        try:
            with _quiet():
                self._apis: Any = import_module("mmdet.apis")
        except (ImportError, AssertionError) as error:  # the latter: versions do not fit
            reason = " ".join(str(error).split())
            raise MissingError(
                f"person boxes from mmdet need mmdet, which cannot be imported ({reason}); "
                f"{INSTALL}"
            ) from error
        config = config or default_config()
        if not config.is_file():
            raise MissingError(f"{config}: no such config file of mmdet")
        if weights is None:
            weights = default_weights()
            if not weights.is_file():
                raise MissingError(
                    f"{weights}: RTMDet's weights are missing; gridpose models download "
                    f"{WEIGHTS} fetches them"
                )
        # The checkpoint is not mmdet's to read: torch's pickles can run code.
        state = read_pose_weights(weights).state
        self._model = self._built(config, device)
        try:
            missing = self._model.load_state_dict(state, strict=False).missing_keys
        except (RuntimeError, TypeError) as error:
            raise InputError(f"{weights}: does not fit {config} ({_first_line(error)})") from error
        if missing:
            raise InputError(f"{weights}: does not fit {config}: {missing[0]} is missing")

    def _built(self, config: Path, device: str) -> Any:
        try:
            with _scope(), _quiet():
                # With a palette given, mmdet does not look for the data set's.
                return self._apis.init_detector(str(config), None, palette="coco", device=device)
        except Exception as error:
            why = _first_line(error)
            # torch says both where a device does not exist.
            if device != "cpu" and isinstance(error, (AssertionError, RuntimeError)):
                raise MissingError(f"mmdet cannot run on device {device!r} ({why})") from error
            raise InputError(f"{config}: mmdet cannot build this detector ({why})") from error

    def find(self, frames: Sequence[ImageArray]) -> list[PersonBoxes]:
        """See :class:`PersonFinder`."""
        found = []
        for start in range(0, len(frames), _BATCH):
            batch = frames[start : start + _BATCH]
            # mmdet's pipelines expect OpenCV's BGR, and swap channels where a network wants RGB.
            images = [np.ascontiguousarray(frame[..., ::-1]) for frame in batch]
            try:
                with _scope(), _quiet():
                    results = self._apis.inference_detector(self._model, images)
            except RuntimeError as error:
                raise GridposeError(f"mmdet failed ({_first_line(error)})") from error
            found += [
                self._people(result, frame) for result, frame in zip(results, batch, strict=True)
            ]
        return found

    def _people(self, result: Any, frame: ImageArray) -> PersonBoxes:
        instances = result.pred_instances
        boxes, scores = _array(instances.bboxes), _array(instances.scores)
        wanted = (_array(instances.labels) == _PERSON) & (scores >= _MIN_SCORE)
        boxes, scores = boxes[wanted], scores[wanted]
        kept = non_maximum_suppression(boxes, scores, _SAME_IOU)
        height, width = frame.shape[:2]
        return person_boxes(boxes[kept], scores[kept], (width, height), self._max_persons)

    def __exit__(self, *exception: object) -> None:
        del self._model


def _scope() -> Any:
    """Mmdet's registry as the default; afterwards mmpose's must be that again."""
    from mmengine.registry import DefaultScope

    return DefaultScope.overwrite_default_scope("mmdet")


def _quiet() -> Any:
    """Keep warnings about mmdet's code from users. Caught: filters would be undone by mmdet."""
    return warnings.catch_warnings(record=True)


def _array(tensor: Any) -> FloatArray:
    return np.asarray(tensor.detach().cpu().numpy(), np.float32)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
