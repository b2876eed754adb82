"""HRNet-W32 against a loop over mmpose's own ``inference_topdown``, and with finding people.

Random weights, so only times mean anything. Two boxes a frame are given to both sides, which take
turns frame by frame in one process, so that other work on the machine slows both alike.

    python scripts/bench_hrnet.py [VIDEO] [--frames 60] [--device cpu] [--precision fp32]
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import Config

from gridpose.core import FloatArray, ImageArray
from gridpose.detectors.mmpose_models import build_model, import_mmpose
from gridpose.detectors.person_boxes import load_person_finder
from gridpose.detectors.pose_config import DEFAULT_CONFIG, packaged_config, read_config
from gridpose.detectors.topdown import TopDownNetwork
from gridpose.devices import Precision
from gridpose.pipeline.reader import VideoReader
from gridpose.pipeline.sample import sample_video

_GROUP = 4


def mmpose_model(device: str) -> Any:
    """The model as mmpose's ``init_model`` makes it, without flip test."""
    apis = import_mmpose("mmpose.apis")
    config = Config.fromfile(packaged_config(DEFAULT_CONFIG))
    config.model.test_cfg.flip_test = False
    return apis.init_model(config, None, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp32")
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    precision: Precision = asked.precision

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
    reference = mmpose_model(asked.device)
    config = read_config(DEFAULT_CONFIG)
    model = build_model(config.model, config.name)
    model.load_state_dict(reference.state_dict())
    ours = TopDownNetwork(
        config,
        model,
        torch.device(asked.device),
        precision=precision,
        batch_size=8 if asked.device == "cpu" else 64,
        compiled=asked.compile,
    )
    inference_topdown = import_mmpose("mmpose.apis").inference_topdown

    def loop(group: list[ImageArray]) -> FloatArray:
        answers = []
        for frame in group:
            people = inference_topdown(reference, frame[..., ::-1], boxes)
            answers.append(np.concatenate([p.pred_instances.keypoints for p in people]))
        return np.concatenate(answers)

    def batched(group: list[ImageArray]) -> FloatArray:
        index = [i for i in range(len(group)) for _ in boxes]
        return ours.keypoints(group, index, np.tile(boxes, (len(group), 1)))[0]

    seconds = {"inference_topdown": 0.0, "gridpose": 0.0}
    worst = 0.0
    for run in (loop, batched):  # warm both up
        run(frames[:_GROUP])
    for start in range(0, len(frames), _GROUP):
        group = frames[start : start + _GROUP]
        answers = []
        for name, run in (("inference_topdown", loop), ("gridpose", batched)):
            begun = time.perf_counter()
            answers.append(run(group))
            seconds[name] += time.perf_counter() - begun
        worst = max(worst, float(np.abs(answers[0] - answers[1]).max()))
    for name, spent in seconds.items():
        print(
            f"{name:<18}{len(frames) / spent:7.2f} frames/s, {spent / len(frames) / 2:.4f} s/crop"
        )
    ratio = seconds["inference_topdown"] / seconds["gridpose"]
    print(f"ratio {ratio:.2f}; keypoints differ by at most {worst:.4f} px")

    with load_person_finder("auto") as finder:
        finder.find(frames[:1])
        begun = time.perf_counter()
        for frame in frames[::15]:
            finder.find([frame])
        spent = (time.perf_counter() - begun) / len(frames[::15])
    print(f"a search for people with {finder.name}: {1000 * spent:.0f} ms")


if __name__ == "__main__":
    main()
