"""What the parts of the check share: results that survive a kill, ways of timing."""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Job:
    """One part of the check: where it runs, until when, what it has found."""

    name: str
    device: torch.device
    small: bool
    folder: Path
    end: float = 0.0
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def put(self, key: str, value: Any) -> None:
        """Keep a result, also should this process be killed."""
        self.results[key] = value
        print(f"{key}: {value}", flush=True)
        partial = self.folder / f"{self.name}.part"
        partial.write_text(json.dumps(self.results))
        os.replace(partial, self.folder / f"{self.name}.json")

    @contextmanager
    def guarded(self, key: str) -> Iterator[None]:
        """Record an error and go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            first = (str(error).splitlines() or [""])[0][:300]
            self.put(key, {"error": f"{type(error).__name__}: {first}"})

    def affords(self, key: str, seconds: float) -> bool:
        """Whether there is time; notes what is skipped."""
        if self.left() >= seconds:
            return True
        self.put(key, {"skipped": f"{self.left():.1f} s left, wants {seconds:.0f}"})
        return False

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def seconds_per_call(self, call: Callable[[], object], budget: float = 0.6) -> float:
        """Median over samples of at least 10 ms, after a warm-up; one sample of a slow call."""

        def sample(repeats: int) -> float:
            self.sync()
            begun = time.perf_counter()
            for _ in range(repeats):
                call()
            self.sync()
            return (time.perf_counter() - begun) / repeats

        sample(1)
        once = sample(1)
        if once > budget:
            return once
        repeats = max(1, min(1000, round(0.01 / once)))
        samples = [sample(repeats) for _ in range(3)]
        end = time.monotonic() + min(budget, self.left()) - 3 * repeats * once
        while time.monotonic() < end:
            samples.append(sample(repeats))
        return statistics.median(samples)


def recorded(call: Callable[[], object]) -> Callable[[], object]:
    """``call`` as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        call()
    return graph.replay


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Matrix products and convolutions of float32 in TF32, or in full."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


class Utilisation:
    """Samples, in a thread, the share of time in which the GPU ran anything (NVML's)."""

    def __init__(self, job: Job) -> None:
        self._job, self._stop = job, threading.Event()
        self._samples: list[int] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with suppress(Exception):  # no GPU, or no NVML
            while self._job.cuda and not self._stop.wait(0.1):
                self._samples.append(torch.cuda.utilization())

    def __enter__(self) -> Utilisation:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def percent(self) -> float | None:
        return statistics.mean(self._samples) if self._samples else None


def profiled(job: Job, call: Callable[[], object], top: int = 12) -> dict[str, Any]:
    """Share of the wall time in which kernels ran, and the kernels that took most."""
    from torch.profiler import ProfilerActivity, profile

    job.sync()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        begun = time.perf_counter()
        call()
        job.sync()
        wall = time.perf_counter() - begun
    return busy(profiler, wall, top)


def busy(profiler: Any, wall: float, top: int = 12) -> dict[str, Any]:
    """What a profile says of the device."""
    events = [
        ((getattr(event, "self_device_time_total", 0) or 0) / 1e6, int(event.count), event.key[:90])
        for event in profiler.key_averages()
    ]
    kernels = sorted((event for event in events if event[0]), reverse=True)
    total = sum(seconds for seconds, _, _ in kernels)
    return {
        "wall_s": wall,
        "kernel_s": total,
        "busy": total / wall if wall else None,
        "kernels": sum(count for _, count, _ in kernels),
        "top": [
            {"ms": round(1000 * seconds, 3), "count": count, "kernel": name}
            for seconds, count, name in kernels[:top]
        ],
    }
