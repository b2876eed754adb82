import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gridpose.lifting import load_lifter
from gridpose.lifting.checkpoint import read_checkpoint

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_default_lifter.py"


@pytest.fixture
def mocap(tmp_path):
    generator = np.random.default_rng(0)
    folder = tmp_path / "mocap"
    folder.mkdir()
    for name in ("mocap_train", "extra_train", "more_train"):
        np.savez(
            folder / f"{name}.npz",
            positions=generator.normal(0, 0.5, (40, 17, 3)).astype(np.float32),
            clip=np.repeat(np.arange(4), 10).astype(np.int32),
            action=np.array(["walk", "walk", "run", "sit to stand (chair)"]),
        )
    return folder


def train(mocap, out, steps):
    command = [sys.executable, str(SCRIPT), "--mocap", str(mocap), "--out", str(out)]
    command += ["--hidden", "16", "--blocks", "1", "--batch", "8", "--evaluate-every", "2"]
    command += ["--steps", str(steps)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_training_writes_a_usable_lifter_and_goes_on_where_it_stopped(mocap, tmp_path):
    out = tmp_path / "run"
    done = train(mocap, out, 4)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]

    checkpoint = read_checkpoint(out / "default-frame.safetensors")
    assert checkpoint.training["steps"] == 4
    lifter = load_lifter(out / "default-frame.safetensors")
    poses = lifter.lift(np.random.default_rng(1).uniform(0, 500, (3, 17, 2)), (640, 480))
    assert np.isfinite(poses).all()

    again = train(mocap, out, 6)
    assert again.returncode == 0, again.stderr
    assert "goes on from step 4" in again.stdout
    assert read_checkpoint(out / "default-frame.safetensors").training["steps"] == 6


def test_missing_data_are_named(tmp_path):
    done = train(tmp_path, tmp_path / "run", 1)
    assert done.returncode == 2
    assert "mocap_train.npz" in done.stderr
