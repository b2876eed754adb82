"""One part of the check: ``python -m gpu.part NAME DEVICE FOLDER SECONDS [small]``."""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

import torch

from gpu.common import Job


def main() -> None:
    name, device, folder, seconds = sys.argv[1:5]
    end = time.monotonic() + float(seconds)
    job = Job(name, torch.device(device), "small" in sys.argv[5:], Path(folder), end)
    part = importlib.import_module(f"gpu.{name}")
    begun = time.monotonic()
    with job.guarded("failed"):
        prepared = part.prepare(job)
        job.put("preparing took, s", round(time.monotonic() - begun, 1))
        part.run(job, prepared)
    job.put("seconds", round(time.monotonic() - begun, 1))
    os._exit(0)  # to take everything down takes seconds


if __name__ == "__main__":
    main()
