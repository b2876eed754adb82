"""Crops a second of HRNet with random weights, and what lower precision costs in px."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import cv2
import numpy as np
from pose_networks import random_model, small_config_file

from gpu.common import Job, profiled, tf32
from gridpose.core import FloatArray, ImageArray
from gridpose.detectors.hrnet.config import PoseConfig, read_config
from gridpose.detectors.hrnet.network import TopDownNetwork

W32 = "td-hm_hrnet-w32_8xb64-210e_coco-256x192"
OTHERS = (
    "td-hm_hrnet-w48_8xb32-210e_coco-256x192",
    "td-hm_hrnet-w32_8xb64-210e_coco-384x288",
    "td-hm_hrnet-w48_8xb32-210e_coco-384x288",
)
EACH = 0.3
"""Seconds for a row."""


def frames_and_boxes(
    count: int, size: tuple[int, int] = (1920, 1080)
) -> tuple[list[ImageArray], list[int], FloatArray]:
    """Blurred noise, and ``count`` boxes, four a frame."""
    rng = np.random.default_rng(0)
    width, height = size
    frames = []
    for _ in range(-(-count // 4)):
        small = rng.integers(0, 255, (height // 8, width // 8, 3), np.uint8)
        frames.append(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC))
    corner = rng.uniform((0, 0), (0.8 * width, 0.4 * height), (count, 2))
    extent = np.array((0.17 * width, 0.55 * height))
    boxes = np.concatenate((corner, corner + extent), 1)
    return frames, [n // 4 for n in range(count)], boxes.astype(np.float32)


def prepare(job: Job) -> list[tuple[PoseConfig, Any]]:
    names = [small_config_file(job.folder)] if job.small else [W32, *OTHERS]
    configs = [read_config(name) for name in names]
    return [(config, random_model(config)) for config in configs]


def run(job: Job, models: list[tuple[PoseConfig, Any]]) -> None:
    precisions = ("fp32", "fp16", "bf16", "tf32") if job.cuda else ("fp32",)  # exact ones first
    batches = [4] if job.small else [64, 8, 1, 256]
    for number, (config, model) in enumerate(models):
        exact: dict[int, FloatArray] = {}
        for precision in precisions if number == 0 else precisions[:2]:
            for batch in batches if number == 0 else batches[:1]:
                _rows(job, config, model, precision, batch, exact)
        if job.cuda and number == 0:
            _rows(job, config, model, "fp16", 64, exact, compiled=True)


def _rows(
    job: Job,
    config: PoseConfig,
    model: Any,
    precision: str,
    batch: int,
    exact: dict[int, FloatArray],
    **options: Any,
) -> None:
    """One precision and number of crops: whole calls from frames, recorded and launched."""
    size = (320, 240) if job.small else (1920, 1080)
    for recorded in (True, False) if job.cuda and batch <= 64 else (False,):
        how = " ".join([*options, "recorded" if recorded else "launched"])
        key = f"{config.name} {precision} {how} {batch}"
        with job.guarded(key), tf32(precision == "tf32"):
            if not job.affords(key, 2.0):
                continue
            network = TopDownNetwork(
                config,
                copy.deepcopy(model),
                job.device,
                precision="fp32" if precision == "tf32" else precision,  # type: ignore[arg-type]
                batch_size=batch,
                recorded=recorded,
                **options,
            )
            call = partial(network.keypoints, *frames_and_boxes(batch, size))
            seconds = job.seconds_per_call(call, EACH)
            places = call()[0]
            apart = np.linalg.norm(places - exact.setdefault(batch, places), axis=-1)
            found = {"crops_s": batch / seconds, "within_1px": float((apart < 1).mean())}
            if job.cuda and batch == 64 and precision == "fp16":
                found["kernels"] = profiled(job, call)  # type: ignore[assignment]
            job.put(key, found)
