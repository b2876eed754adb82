import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gridpose.core import GridposeError, InputError, MissingError
from gridpose.lifting import load_lifter
from gridpose.lifting.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from gridpose.lifting.network import NetworkConfig, build_network

torch.set_num_threads(1)  # threads only wait for each other on matrices this small

CONFIG = NetworkConfig("dgridconv", 16, 1, (5, 5), ("r", "c"), temperature=2.5, dropout=0.125)
KEYPOINTS = np.random.default_rng(0).uniform(100, 900, (2, 17, 2))
SIZE = (1000, 1000)


def example() -> Checkpoint:
    torch.manual_seed(0)
    state = build_network(CONFIG).state_dict()
    return Checkpoint(
        CONFIG,
        state,
        "frame",
        fov_degrees=48.5,
        training={"data": ["a.npz"], "steps": 3},
        metrics={"mpjpe": 41.5},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "lifter.safetensors"
    save_checkpoint(example(), file)
    return file


def rewrite(file: Path, drop: str | None = None, **metadata: str) -> None:
    """Give a good checkpoint other metadata, or drop an entry of it."""
    good = {
        "format": "gridpose-lifter-1",
        "network": json.dumps(CONFIG.to_dict()),
        "normalisation": "frame",
        "fov_degrees": "48.5",
        "joints": "human3.6m-17",
        "training": "{}",
        "metrics": "{}",
    }
    stored = {name: value for name, value in {**good, **metadata}.items() if name != drop}
    save_file(load_file(file), file, stored)


def refusal(file: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_lifter(file)
    message = str(caught.value)
    assert file.name in message
    assert "\n" not in message, "an error is one sentence"
    return message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_checkpoint_comes_back_as_it_was_written(tmp_path: Path, dtype: torch.dtype) -> None:
    written, file = example(), tmp_path / "lifter.safetensors"
    written.state["batch_norm1.num_batches_tracked"].fill_(7)
    save_checkpoint(written, file, dtype)
    read = read_checkpoint(file)
    for name in ("network", "normalisation", "fov_degrees", "training", "metrics"):
        assert getattr(read, name) == getattr(written, name)
    assert read.state.keys() == written.state.keys()
    for name, value in written.state.items():
        if value.is_floating_point():
            value = value.to(dtype).float()
        assert read.state[name].dtype == value.dtype
        assert torch.equal(read.state[name], value)


def test_half_precision_halves_the_file(tmp_path: Path, file: Path) -> None:
    half = tmp_path / "half.safetensors"
    save_checkpoint(example(), half, torch.float16)
    weights = sum(value.numel() for value in example().state.values())
    assert file.stat().st_size - half.stat().st_size > 1.8 * weights


def test_a_built_network_is_ready_to_use() -> None:
    checkpoint = example()
    network = checkpoint.build()
    assert not network.training
    assert network.config == CONFIG
    assert torch.equal(network.w1.branch1_weight, checkpoint.state["w1.branch1_weight"])


def test_a_lifter_uses_what_its_checkpoint_says(file: Path) -> None:
    lifter = load_lifter(file)
    assert lifter.name == "lifter.safetensors"
    assert lifter.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert lifter.checkpoint.network == CONFIG
    assert lifter.checkpoint.fov_degrees == 48.5
    # ``frame``: the middle of the frame is zero, half its longer side is one.
    np.testing.assert_allclose(
        np.diff(lifter.lift(KEYPOINTS, SIZE), axis=1),
        np.diff(lifter.lift_normalized((KEYPOINTS - 500) / 500), axis=1),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "override",
    [{"temperature": 30.0}, {"padding_mode": ("c", "z")}],
    ids=["temperature", "padding"],
)
def test_overrides_are_those_of_a_checkpoint_that_says_so(
    file: Path, tmp_path: Path, override: dict[str, Any]
) -> None:
    other = tmp_path / "other.safetensors"
    save_checkpoint(replace(example(), network=replace(CONFIG, **override)), other)
    overridden = load_lifter(file, **override).lift(KEYPOINTS, SIZE)
    np.testing.assert_array_equal(overridden, load_lifter(other).lift(KEYPOINTS, SIZE))
    assert np.abs(overridden - load_lifter(file).lift(KEYPOINTS, SIZE)).max() > 1e-4


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"absent\.safetensors"):
        load_lifter(tmp_path / "absent.safetensors")


def test_a_folder_is_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(GridposeError):
        load_lifter(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello, this is a text file\n" * 20, b"\xff" * 4096])
def test_other_files_are_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "not a safetensors file" in refusal(file)


@pytest.mark.parametrize("kept", [4, 200, 0.5, 0.999])
def test_truncated_files_are_refused(file: Path, kept: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    assert "not a safetensors file" in refusal(file)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_others_are_refused(file: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weight": torch.zeros(3)}, file, metadata)
    assert "not a gridpose lifter" in refusal(file)


@pytest.mark.parametrize("name", ["network", "normalisation", "fov_degrees", "training", "metrics"])
def test_missing_metadata_is_refused_by_name(file: Path, name: str) -> None:
    rewrite(file, drop=name)
    assert name in refusal(file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network", "{"),
        ("network", "3"),
        ("training", "{'a': 1}"),
        ("training", "[1]"),
        ("metrics", ""),
        ("metrics", "[1]"),
        ("fov_degrees", "wide"),
        ("fov_degrees", "nan"),
        ("fov_degrees", "180"),
        ("normalisation", "nonsense"),
    ],
)
def test_damaged_metadata_is_refused(file: Path, name: str, value: str) -> None:
    rewrite(file, **{name: value})
    assert "damaged checkpoint metadata" in refusal(file)


def test_other_joints_are_refused(file: Path) -> None:
    rewrite(file, joints="coco-17")
    assert "joints" in refusal(file)


@pytest.mark.parametrize(
    "values",
    [
        {"hidden": "many"},
        {"hidden": 0},
        {"hidden": 1.5},
        {"blocks": -1},
        {"blocks": 10**9},
        {"grid_shape": [5]},
        {"grid_shape": 5},
        {"grid_shape": [5, 0]},
        {"padding_mode": ["c"]},
        {"padding_mode": ["c", "q"]},
        {"temperature": 0},
        {"temperature": None},
        {"dropout": 1},
        {"layers": 3},
    ],
    ids=json.dumps,
)
def test_impossible_networks_are_refused(file: Path, values: dict[str, Any]) -> None:
    rewrite(file, network=json.dumps({**CONFIG.to_dict(), **values}))
    assert "damaged checkpoint metadata" in refusal(file)


@pytest.mark.parametrize(
    "values",
    [{"hidden": 32}, {"hidden": 10**12}, {"blocks": 2}, {"blocks": 0}, {"grid_shape": [4, 7]}],
    ids=json.dumps,
)
def test_weights_of_another_architecture_are_refused(file: Path, values: dict[str, Any]) -> None:
    rewrite(file, network=json.dumps({**CONFIG.to_dict(), **values}))
    assert "do not fit" in refusal(file)


@pytest.mark.parametrize("change", ["missing", "extra", "reshaped"])
def test_a_tensor_too_few_too_many_or_misshapen_is_refused_by_name(file: Path, change: str) -> None:
    state = load_file(file)
    name = "linear_stages.0.w2.branch1_weight"
    if change == "missing":
        del state[name]
    elif change == "extra":
        name = "w3.branch1_weight"
        state[name] = torch.zeros(2)
    else:
        state[name] = state[name][:, :3].contiguous()
    save_file(state, file)
    with pytest.raises(InputError):
        load_lifter(file)  # no metadata either
    save_checkpoint(replace(example(), state=state), file)
    message = refusal(file)
    assert "do not fit" in message
    assert name in message


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_without_running_it(tmp_path: Path, zipped: bool) -> None:
    trace, file = tmp_path / "trace", tmp_path / "lifter.safetensors"
    content = {"state_dict": example().state, "payload": Payload(trace)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    assert "not a safetensors file" in refusal(file)
    assert not trace.exists()
    # The file is dangerous indeed: PyTorch's own loader runs it.
    torch.load(file.rename(tmp_path / "lifter.pth"), weights_only=False)
    assert trace.is_dir()
