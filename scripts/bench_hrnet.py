"""HRNet-W32 by OpenVINO and by torch, against a loop over mmpose's own ``inference_topdown``.

Random weights, so times alone mean anything: their maps are nearly level, and keypoints leap in
bf16. Two boxes a frame are
given to all, which take turns every few frames in one process, so that other work on the machine
slows all alike; ratios are medians over the turns.

    python scripts/bench_hrnet.py [VIDEO] [--frames 60] [--device cpu] [--loop]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from mmengine import Config

from gridpose.core import FloatArray, ImageArray
from gridpose.detectors.mmpose_models import build_model, import_mmpose
from gridpose.detectors.openvino_network import OpenVINONetwork, converted
from gridpose.detectors.person_boxes import load_person_finder
from gridpose.detectors.pose_config import DEFAULT_CONFIG, packaged_config, read_config
from gridpose.detectors.topdown import TopDownNetwork
from gridpose.devices import Precision
from gridpose.pipeline.reader import VideoReader
from gridpose.pipeline.sample import sample_video


def mmpose_model(device: str) -> Any:
    """The model as mmpose's ``init_model`` makes it, without flip test."""
    apis = import_mmpose("mmpose.apis")
    config = Config.fromfile(packaged_config(DEFAULT_CONFIG))
    config.model.test_cfg.flip_test = False
    return apis.init_model(config, None, device)


Run = Callable[[Sequence[ImageArray], FloatArray], FloatArray]
"""Frames and the boxes in each of them to keypoints."""


def networks(device: str, compiled: bool, loop: bool) -> dict[str, Run]:
    """All that are compared, with the same weights."""
    reference = mmpose_model(device)
    config = read_config(DEFAULT_CONFIG)

    def torchs(precision: Precision) -> TopDownNetwork:
        model = build_model(config.model, config.name)
        model.load_state_dict(reference.state_dict())
        return TopDownNetwork(
            config,
            model,
            torch.device(device),
            precision=precision,
            batch_size=8 if device == "cpu" else 64,
            compiled=compiled,
        )

    made = {"torch fp32": torchs("fp32"), "torch bf16": torchs("bf16")}
    if device == "cpu":
        whole = torchs("fp32")
        begun = time.perf_counter()
        known = converted(whole.whole, config.input_size, {})
        print(f"conversion: {time.perf_counter() - begun:.1f} s")
        made["OpenVINO fp32"] = whole.run_by(OpenVINONetwork(known, "fp32"))
        made["OpenVINO bf16"] = whole.run_by(OpenVINONetwork(known, "bf16"))
    else:
        made["torch fp16"] = torchs("fp16")

    def batched(network: TopDownNetwork, group: Sequence[ImageArray], boxes: Any) -> FloatArray:
        index = [i for i in range(len(group)) for _ in boxes]
        return network.keypoints(group, index, np.tile(boxes, (len(group), 1)))[0]

    runs: dict[str, Run] = {name: partial(batched, network) for name, network in made.items()}
    inference_topdown = import_mmpose("mmpose.apis").inference_topdown

    def one_by_one(group: Sequence[ImageArray], boxes: FloatArray) -> FloatArray:
        answers = []
        for frame in group:
            people = inference_topdown(reference, frame[..., ::-1], boxes)
            answers.append(np.concatenate([p.pred_instances.keypoints for p in people]))
        return np.concatenate(answers)

    return {**runs, "inference_topdown": one_by_one} if loop else runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--group", type=int, default=4, help="frames given at once")
    parser.add_argument("--compile", action="store_true", help="torch's network")
    parser.add_argument("--loop", action="store_true", help="inference_topdown too")
    asked = parser.parse_args()

    reader = VideoReader(asked.video or sample_video())
    frames = [frame.image for frame in islice(reader, asked.frames)]
    reader.close()
    height, width = frames[0].shape[:2]
    boxes = np.array(
        [
            [0.1 * width, 0.1 * height, 0.3 * width, 0.9 * height],
            [0.5 * width, 0.2 * height, 0.7 * width, 0.9 * height],
        ],
        np.float32,
    )
    with tempfile.TemporaryDirectory() as room, patch.dict(os.environ, GRIDPOSE_HOME=room):
        runs = networks(asked.device, asked.compile, asked.loop)

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    apart: dict[str, float] = dict.fromkeys(runs, 0.0)
    for run in runs.values():  # warm all up
        run(frames[: asked.group], boxes)
    for start in range(0, len(frames) - asked.group + 1, asked.group):
        group = frames[start : start + asked.group]
        wanted: FloatArray | None = None
        for name, run in runs.items():
            begun, worked = time.perf_counter(), time.process_time()
            answer = run(group, boxes)
            processor[name].append((time.process_time() - worked) / asked.group)
            seconds[name].append((time.perf_counter() - begun) / asked.group)
            wanted = answer if wanted is None else wanted
            apart[name] = max(apart[name], float(np.abs(answer - wanted).max()))
    first = next(iter(runs))
    print(f"load {os.getloadavg()[0]:.1f}; s are medians of {len(seconds[first])} turns")
    for name, spent in seconds.items():
        ratio = np.median(np.array(seconds[first]) / np.array(spent))
        used = np.median(np.array(processor[first]) / np.array(processor[name]))
        print(
            f"{name:<18}{np.median(spent):8.4f} s/frame, {np.median(processor[name]):8.4f} CPU s; "
            f"{ratio:6.2f} times as fast, {used:6.2f} in CPU s; at most {apart[name]:.4f} px apart"
        )

    with load_person_finder("auto") as finder:
        finder.find(frames[:1])
        begun = time.perf_counter()
        for frame in frames[::15]:
            finder.find([frame])
        spent = (time.perf_counter() - begun) / len(frames[::15])
    print(f"a search for people with {finder.name}: {1000 * spent:.0f} ms")


if __name__ == "__main__":
    main()
