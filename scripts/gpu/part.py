"""One part of the check in a process of its own: prepares, says so, waits for its turn, runs.

    python -m gpu.part NAME DEVICE FOLDER [small]

Prints ``ready`` to the file ``NAME.ready`` and waits for ``go SECONDS`` on its input.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

import torch

from gpu.common import Job


def main() -> None:
    name, device, folder = sys.argv[1:4]
    job = Job(name, torch.device(device), "small" in sys.argv[4:], Path(folder))
    begun = time.monotonic()
    part = importlib.import_module(f"gpu.{name}")
    if job.cuda:
        torch.zeros(1, device=job.device)  # the context
    prepared = part.prepare(job)
    (job.folder / f"{name}.ready").write_text(f"{time.monotonic() - begun:.1f}")
    print(f"ready after {time.monotonic() - begun:.1f} s", flush=True)
    words = sys.stdin.readline().split()
    if not words:
        return
    begun = time.monotonic()
    job.end = begun + float(words[1])
    with job.guarded("failed"):
        part.run(job, prepared)
    job.put("seconds", round(time.monotonic() - begun, 1))
    os._exit(0)  # to take everything down takes seconds, and others wait for their turn


if __name__ == "__main__":
    main()
