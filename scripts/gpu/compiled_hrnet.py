"""What ``torch.compile`` makes of HRNet-W32; compiled while others run."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
import torch._inductor.config as inductor
from pose_networks import random_model

from gpu.common import Job
from gpu.hrnet import W32
from gridpose.detectors.pose_config import read_config
from gridpose.detectors.topdown import TopDownNetwork

BATCH = 64


def prepare(job: Job) -> Any:
    if not job.cuda:
        return None
    os.nice(10)
    inductor.compile_threads = 4
    config = read_config(W32)
    network = TopDownNetwork(
        config, random_model(config), job.device, precision="fp16", batch_size=BATCH
    )
    pixels = torch.randint(0, 256, (BATCH, 256, 192, 3), dtype=torch.uint8, device=job.device)
    network._network = torch.compile(network._network)

    def call() -> object:
        with torch.inference_mode():
            return network._decoded(network._normalised(pixels))

    begun = time.monotonic()
    call()
    job.sync()
    return call, time.monotonic() - begun


def run(job: Job, prepared: Any) -> None:
    if prepared is None:
        job.put("all", {"skipped": "no GPU"})
        return
    call, compiling = prepared
    seconds = job.seconds_per_call(call, 1.0)
    job.put(
        f"W32 256x192 fp16 batch {BATCH}", {"crops_s": BATCH / seconds, "compiling_s": compiling}
    )
