"""HRNet (Sun et al., CVPR 2019) and its kin through mmpose: the accurate detector."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from gridpose.core import MissingError, UsageError
from gridpose.detectors.conventions import convention_of
from gridpose.detectors.hrnet import evoskeleton
from gridpose.detectors.hrnet.config import PoseConfig, is_known, read_config
from gridpose.detectors.hrnet.cpu_engine import on_openvino, why_torch
from gridpose.detectors.hrnet.mmpose_models import INSTALL, build_model
from gridpose.detectors.hrnet.network import TopDownNetwork
from gridpose.detectors.hrnet.person_finder import load_person_finder
from gridpose.detectors.hrnet.weights import (
    PoseWeights,
    branch_width,
    fit,
    is_evoskeleton,
    read_pose_weights,
)
from gridpose.detectors.options import HRNetOptions, weights_at_hand
from gridpose.detectors.registry import MODELS, is_present, weights_file
from gridpose.detectors.topdown import TopDownDetector, WithoutHints
from gridpose.devices import PrecisionChoice, resolve_device, resolve_precision

_BATCH: Final = {"cpu": 8, "cuda": 64}


def load_hrnet(
    options: HRNetOptions | None = None,
    *,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    max_persons: int = 6,
    reason: str = "asked for",
) -> TopDownDetector:
    """Load HRNet, or another top-down network of mmpose.

    Raises:
        MissingError: mmpose, the weights, a config or the device are missing.
        InputError: weights or config cannot be used.
        UsageError: options that do not go together.
    """
    options = options or HRNetOptions()
    chosen = resolve_device(device)
    if chosen.type == "cpu" and precision == "fp16":
        raise UsageError("`precision=fp16` needs a GPU; use fp32, or bf16 on a recent CPU")
    if find_spec("mmpose") is None:
        raise MissingError(f"the HRNet detector needs mmpose; {INSTALL}")
    lack = why_torch(options.engine_cpu) if chosen.type == "cpu" else ""
    by_openvino = chosen.type == "cpu" and not lack
    file, config_name = _find_weights(options)
    weights = read_pose_weights(file)
    config, notices = _find_config(options.config or config_name, weights)
    # What the weights were trained on goes before what the config says of its data.
    convention = convention_of(weights.keypoints or config.keypoints, config.name)
    model = build_model(config.model, config.name)
    if config.finer_maps:
        evoskeleton.add_upsampling(model)
    fit(weights, model, config.name)
    network = TopDownNetwork(
        config,
        model,
        chosen,
        precision=resolve_precision(precision),
        flip_test=options.flip_test,
        batch_size=_BATCH[chosen.type],
        compiled=options.compiled and not by_openvino,
    )
    where = f"{chosen} (torch: {lack})" if lack else str(chosen)
    if by_openvino:
        ran = on_openvino(network, weights.sha256, precision)
        network, where = ran.network, f"{chosen} ({ran.how})"
        notices += ran.notices
        if options.compiled:
            notices.append("`compiled` is for torch, which `engine_cpu=torch` takes on a CPU")
    finder = load_person_finder(options.person_boxes, device=str(chosen), max_persons=max_persons)
    return TopDownDetector(
        "hrnet",
        WithoutHints(network),
        finder,
        convention,
        weights.sha256,
        reason=f"{reason}; {config.name} on {where}, persons by {finder.name}",
        notices=notices,
        search_seconds=options.search_seconds,
        max_persons=max_persons,
        crops_at_once=_BATCH["cuda"] if chosen.type == "cuda" else 0,
    )


def _find_weights(options: HRNetOptions) -> tuple[Path, str | None]:
    """The file, and the config that the registry knows for it."""
    name = options.weights
    if name is None and (name := weights_at_hand()) is None:
        raise MissingError(
            "no HRNet weights are in the cache: gridpose models download hrnet-w48-coco fetches "
            "some (gridpose models list shows all), `weights` takes a file of yours"
        )
    if str(name) in MODELS:
        model = MODELS[str(name)]
        if model.yields == "boxes":
            raise UsageError(f"{model.name} yields boxes of persons, not keypoints")
        if not model.is_top_down:
            raise UsageError(f"{model.name} is not a network that the detector hrnet can run")
        if not is_present(model):
            raise MissingError(
                f"the weights {model.name} are not in the cache; gridpose models download "
                f"{model.name} fetches them"
            )
        return weights_file(model), model.config
    file = Path(name)
    known = next((model for model in MODELS.values() if model.file == file.name), None)
    return file, None if known is None else known.config


def _find_config(wanted: str | Path | None, weights: PoseWeights) -> tuple[PoseConfig, list[str]]:
    """The config given, or the one that fits the file; and what was assumed."""
    if wanted is not None:
        return read_config(wanted), []
    stated = weights.config_in_name
    if stated is not None and is_known(stated):
        return read_config(stated), []
    if is_evoskeleton(weights):
        return read_config(evoskeleton.CONFIG), []
    name = weights.file.name.lower()
    width = 48 if branch_width(weights) == 48 else 32
    if any(mark in name for mark in ("h36m", "human36m", "human3.6m")):
        config = read_config(f"hrnet-w{width}-h36m-256x256")
    else:
        trained = {32: "8xb64-210e", 48: "8xb32-210e"}[width]
        crop = "384x288" if "384x288" in name else "256x192"
        config = read_config(f"td-hm_hrnet-w{width}_{trained}_coco-{crop}")
    return config, [
        f"{weights.file}: the file does not say which network it is for: taken for {config.name}; "
        "`config` overrides"
    ]
