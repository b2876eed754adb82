"""Part 4: crops a second of HRNet with random weights, and what lower precision costs in px."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from pose_networks import random_model, small_config_file

from gpu.common import Job, profiled, recorded, tf32
from gridpose.detectors.pose_config import PoseConfig, read_config
from gridpose.detectors.topdown import TopDownNetwork

W32 = "td-hm_hrnet-w32_8xb64-210e_coco-256x192"
CONFIGS = {
    "W32 256x192": W32,
    "W48 256x192": "td-hm_hrnet-w48_8xb32-210e_coco-256x192",
    "W32 384x288": "td-hm_hrnet-w32_8xb64-210e_coco-384x288",
    "W48 384x288": "td-hm_hrnet-w48_8xb32-210e_coco-384x288",
}


def prepare(job: Job) -> dict[str, tuple[PoseConfig, Any]]:
    if job.small:
        config = read_config(small_config_file(job.folder))
        return {"small": (config, random_model(config))}
    found = {}
    for name, config_name in CONFIGS.items():
        config = read_config(config_name)
        found[name] = (config, random_model(config))
    return found


def frames_and_boxes(
    count: int, size: tuple[int, int] = (1920, 1080)
) -> tuple[list[Any], list[int], Any]:
    """Blurred noise, and ``count`` boxes, four a frame."""
    import cv2

    rng = np.random.default_rng(0)
    width, height = size
    frames = []
    for _ in range(-(-count // 4)):
        small = rng.integers(0, 255, (height // 8, width // 8, 3), np.uint8)
        frames.append(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC))
    index = [n // 4 for n in range(count)]
    corner = rng.uniform((0, 0), (0.8 * width, 0.4 * height), (count, 2))
    extent = np.array((0.17 * width, 0.55 * height))
    boxes = np.concatenate((corner, corner + extent), 1)
    return frames, index, boxes.astype(np.float32)


def _network(
    job: Job, config: PoseConfig, model: Any, precision: Any, **more: Any
) -> TopDownNetwork:
    options = {"batch_size": 256, **more}
    return TopDownNetwork(config, copy.deepcopy(model), job.device, precision=precision, **options)


def run(job: Job, models: dict[str, tuple[PoseConfig, Any]]) -> None:
    each = 0.2
    batches = [1, 4] if job.small else [64, 1, 8, 256]
    precisions = ("fp32", "fp16", "bf16", "tf32") if job.cuda else ("fp32",)  # exact ones first
    count = 4 if job.small else 64
    frames, index, boxes = frames_and_boxes(count, (320, 240) if job.small else (1920, 1080))
    for name, (config, model) in models.items():
        exact = None
        for precision in precisions:
            key = f"{name} {precision}"
            with job.guarded(key), tf32(precision == "tf32"):
                if not job.affords(key, 3.0):
                    continue
                network = _network(job, config, model, "fp32" if precision == "tf32" else precision)
                found: dict[str, Any] = {}
                places, scores = network.keypoints(frames, index, boxes)
                if exact is None:
                    exact = places, scores
                apart = np.linalg.norm(places - exact[0], axis=-1)
                found["px_to_fp32"] = {
                    "median": float(np.median(apart)),
                    "p95": float(np.percentile(apart, 95)),
                    "max": float(apart.max()),
                    "within_1px": float((apart < 1).mean()),
                }
                wanted = batches if precision in ("fp16", "fp32") or name == "small" else [64]
                if name != "W32 256x192" and job.cuda:
                    wanted = [64, 8] if precision == "fp16" else [64]
                for batch in wanted:
                    if job.left() < 1.0:
                        break
                    width, height = config.input_size
                    pixels = torch.randint(
                        0, 256, (batch, height, width, 3), dtype=torch.uint8, device=job.device
                    )

                    def call(network: Any = network, pixels: Any = pixels) -> object:
                        with torch.inference_mode(), network._autocast():
                            return network._decoded(network._normalised(pixels))

                    seconds = job.seconds_per_call(call, each)
                    found[f"batch {batch}"] = {"crops_s": batch / seconds, "ms": 1000 * seconds}
                    if batch <= 8 and job.cuda and precision == "fp16":
                        seconds = job.seconds_per_call(recorded(call), each)
                        found[f"batch {batch} graph"] = {
                            "crops_s": batch / seconds,
                            "ms": 1000 * seconds,
                        }
                    if batch == 64 and name == "W32 256x192" and precision in ("fp16", "fp32"):
                        found["kernels"] = profiled(job, lambda call=call: [call(), call()])  # type: ignore[misc]
                job.put(key, found)
        with job.guarded(f"{name} from frames"):
            if name in ("W32 256x192", "small") and job.affords(f"{name} from frames", 2.0):
                job.put(f"{name} from frames", _from_frames(job, config, model))


def _from_frames(job: Job, config: PoseConfig, model: Any) -> dict[str, Any]:
    """Crops a second of whole calls, and px: batches of other sizes, and not recorded."""
    count = 4 if job.small else 256
    frames, index, boxes = frames_and_boxes(count, (320, 240) if job.small else (1920, 1080))
    precision: Any = "fp16" if job.cuda else "fp32"
    found: dict[str, Any] = {}
    answers = []
    ways: dict[str, dict[str, Any]] = {
        "batch 64, recorded": {"batch_size": 64},
        "batch 64, launched": {"batch_size": 64, "recorded": False},
        "batch 256": {"batch_size": 256},
    }
    for way, options in ways.items():
        network = _network(job, config, model, precision, **options)
        seconds = job.seconds_per_call(lambda: network.keypoints(frames, index, boxes), 0.4)  # noqa: B023
        places = network.keypoints(frames, index, boxes)[0]
        answers.append(places)
        apart = np.linalg.norm(places - answers[0], axis=-1)
        found[way] = {
            "crops_s": count / seconds,
            "px_to_first": {
                "median": float(np.median(apart)),
                "within_1px": float((apart < 1).mean()),
            },
        }
    return found
