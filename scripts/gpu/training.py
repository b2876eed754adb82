"""Part 3: ``gridpose train`` itself: samples a second, waits, busy share, one resume, AMP."""

from __future__ import annotations

import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu.common import Job, Utilisation, busy, tf32
from gridpose.lifting.data.dataset import write_dataset
from gridpose.lifting.model.network import NetworkConfig
from gridpose.lifting.training import graph
from gridpose.lifting.training.options import TrainOptions
from gridpose.lifting.training.trainer import train

EPOCH_FRAMES = 1_559_752
"""Of Human3.6M's training subjects: what the published 20 minutes an epoch are of."""
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
FIRST, WATCHED, PROFILED = 30, 50, 50


def _write(folder: Path, frames: int) -> None:
    """Random poses in the published format: ``frames`` to train on, a few to test on."""
    rng = np.random.default_rng(0)
    splits = {
        "train": [(s, a) for s in ("S1", "S5", "S6", "S7", "S8") for a in ("Eating", "Walking")],
        "test": [("S9", "Walking"), ("S11", "Eating")],
    }
    for split, performances in splits.items():
        count = max(2, (frames if split == "train" else 400) // len(performances) // len(CAMERAS))
        two, three = {}, {}
        for subject, action in performances:
            for camera in CAMERAS:
                key = (subject, action, f"{action}.{camera}")
                poses = rng.normal(0, 300, (count, 17, 3))
                poses -= poses[:, :1]
                pelvis = np.array([0, 0, 5000.0]) + rng.normal(0, 100, (count, 3))
                seen = poses + pelvis[:, None]
                pixels = seen[..., :2] / seen[..., 2:] * 1145 + 500
                two[key] = pixels.reshape(count, 34)
                three[key] = {
                    "pelvis": pelvis,
                    "joint_3d": poses.reshape(count, 51),
                    "camera": [1145.0, 1145.0, 500.0, 500.0],
                }
        write_dataset(folder, split, two, three)  # type: ignore[arg-type]


class _Watch:
    """Looks at a training between its steps."""

    def __init__(self, job: Job, batch: int, profile: bool) -> None:
        self._job, self._batch, self._profile = job, batch, profile
        self._stack = ExitStack()
        self._before: Any = None
        self._profiler: Any = None
        self.waits: Counter[str] = Counter()
        self.found: dict[str, Any] = {}
        self._steps = 0
        self._begun = 0.0

    def __call__(self, epoch: int, done: int, steps: int) -> None:
        self._steps += 1
        last = self._steps == steps
        start = min(FIRST, steps // 3)
        if self._steps == start:
            self._job.sync()
            self._begun = time.perf_counter()
        # The rest is watched before the last steps, which are left out of the time.
        watched = steps - WATCHED - PROFILED - 5
        end = watched if watched > start + 20 and self._job.cuda else steps
        if self._steps == end:
            self._job.sync()
            spent = time.perf_counter() - self._begun
            rate = (end - start) * self._batch / spent
            self.found["samples_s"] = rate
            self.found["ms_per_step"] = 1000 * spent / (end - start)
            self.found["epoch_of_h36m_s"] = EPOCH_FRAMES / rate
            if end < steps:
                self._watch_waits()
        if end < steps and self._steps == end + WATCHED:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = self._before
            self.found["waits_per_step"] = sum(self.waits.values()) / WATCHED
            self.found["where"] = self.waits.most_common(6)
            if self._profile:
                from torch.profiler import ProfilerActivity, profile

                self._job.sync()
                with self._job.guarded("profile"):  # which is not to end a training
                    profiler = profile(activities=[ProfilerActivity.CUDA])
                    profiler.__enter__()
                    self._profiler = profiler
                self._begun = time.perf_counter()
        if self._profiler is not None and self._steps == end + WATCHED + PROFILED:
            self._job.sync()
            wall = time.perf_counter() - self._begun
            self._profiler.__exit__(None, None, None)
            self.found["profile"] = busy(self._profiler, wall)
        if last:
            self.found["last_steps"] = self._steps

    def _watch_waits(self) -> None:
        self._before = warnings.showwarning
        warnings.simplefilter("always")

        def note(message: Any, *_: Any, **__: Any) -> None:
            if "synchroniz" in str(message):
                # The innermost lines that are not PyTorch's own bookkeeping.
                lines = [
                    f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
                    for frame in traceback.extract_stack()[:-2]
                ]
                self.waits[" < ".join(reversed(lines[-4:]))] += 1

        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")


def prepare(job: Job) -> tuple[Any, TrainOptions]:
    temporary = tempfile.TemporaryDirectory()
    root = Path(temporary.name)
    _write(root / "gt", 600 if job.small else 100_000)
    network = NetworkConfig(hidden=16 if job.small else 256)
    options = TrainOptions(
        root / "gt", root / "run", network=network, epochs=1, device=str(job.device)
    )
    # Caches of the data, libraries loaded.
    tiny = replace(options, network=NetworkConfig(hidden=16), run=root / "warm", batch=20_000)
    train(replace(tiny, batch=100) if job.small else tiny)
    return temporary, options


def _run(
    job: Job, key: str, options: TrainOptions, *, records: bool = True, profile: bool = False
) -> None:
    before = graph.WARM_UP
    with job.guarded(key), warnings.catch_warnings():
        graph.WARM_UP = before if records else 10**9
        watch = _Watch(job, options.batch, profile)
        begun = time.monotonic()
        with Utilisation(job) as used:
            result = train(options, on_step=watch)
        found = dict(watch.found)
        found["whole_s"] = time.monotonic() - begun
        found["gpu_percent_with_start"] = used.percent
        found["loss"] = [row["loss"] for row in result.rows]
        found["mpjpe"] = [row["mpjpe"] for row in result.rows]
        if job.cuda:
            found["memory_MB"] = torch.cuda.max_memory_allocated() / 1e6
            torch.cuda.reset_peak_memory_stats()
        job.put(key, found)
    graph.WARM_UP = before
    if job.cuda:
        torch.cuda.set_sync_debug_mode("default")


def run(job: Job, prepared: tuple[Any, TrainOptions]) -> None:
    temporary, options = prepared
    runs = options.run.parent
    _run(job, "fp32 recorded", options, profile=True)
    bf16: dict[str, Any] = {"precision": "bf16"}
    kinds: list[tuple[str, dict[str, Any], bool, bool]] = [
        ("bf16 recorded", bf16, True, True),
        ("resume", {}, True, False),
        ("bf16 recorded, batch 1000", {**bf16, "batch": 1000}, True, False),
        ("fp16 recorded", {"precision": "fp16"}, True, False),
        ("tf32 recorded", {}, True, False),
        ("fp32 eager", {}, False, False),
        ("autogrids fp32 recorded", {"network": NetworkConfig("dgridconv_autogrids")}, True, False),
        ("gridconv fp32 recorded", {"network": NetworkConfig("gridconv")}, True, False),
        ("bf16 eager", bf16, False, False),
    ]
    longest = 0.0
    for key, changed, records, profile in kinds if job.cuda else [kinds[1]]:
        if not job.affords(key, 1.2 * longest if longest else 6):
            continue
        begun = time.monotonic()
        if key == "resume":
            _resume(job, options)
        else:
            folder = runs / key.replace(" ", "_").replace(",", "")
            chosen = replace(options, run=folder, **changed)
            with tf32(key.startswith("tf32")):
                _run(job, key, chosen, records=records, profile=profile)
        longest = max(longest, time.monotonic() - begun)
    temporary.cleanup()


def _resume(job: Job, options: TrainOptions) -> None:
    """One more epoch of the first training."""
    with job.guarded("resume"):
        result = train(replace(options, epochs=2, resume=True))
        kept = ("epoch", "loss", "lr", "mpjpe")
        job.put("resume", {"rows": [{k: row[k] for k in kept} for row in result.rows]})
