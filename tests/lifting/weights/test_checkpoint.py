import hashlib
import json
import os
import struct
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from gridpose.core import GridposeError, InputError, MissingError
from gridpose.lifting import load_lifter
from gridpose.lifting.model.network import NetworkConfig, build_network
from gridpose.lifting.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint

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
        "network": json.dumps(asdict(CONFIG)),
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
    rewrite(file, network=json.dumps({**asdict(CONFIG), **values}))
    assert "damaged checkpoint metadata" in refusal(file)


@pytest.mark.parametrize(
    "values",
    [{"hidden": 32}, {"hidden": 10**12}, {"blocks": 2}, {"blocks": 0}, {"grid_shape": [4, 7]}],
    ids=json.dumps,
)
def test_weights_of_another_architecture_are_refused(file: Path, values: dict[str, Any]) -> None:
    rewrite(file, network=json.dumps({**asdict(CONFIG), **values}))
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("training", "[" * 200_000),
        ("metrics", '{"a":' * 200_000),
        ("network", '{"kind":' * 200_000),
        ("network", "1" + "0" * 5000),
        ("fov_degrees", "1" + "0" * 5000),
        ("normalisation", "\x1b[2Jframe\n"),
    ],
    ids=["deep list", "deep dict", "deep network", "long number", "wide lens", "escapes"],
)
def test_hostile_metadata_is_refused(file: Path, name: str, value: str) -> None:
    rewrite(file, **{name: value})
    message = refusal(file)
    assert "damaged checkpoint metadata" in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temperature", "1" + "0" * 400),
        ("temperature", "NaN"),
        ("temperature", "Infinity"),
        ("temperature", '"30"'),
        ("temperature", "[30]"),
        ("keep_joints", "[1]"),
        ("keep_joints", '"no"'),
        ("dropout", "NaN"),
        ("hidden", "true"),
        ("kind", "[]"),
        ("padding_mode", '[["c"], "z"]'),
        ("grid_shape", '{"5": 5}'),
        ("grid_shape", "[1e9, 1e9]"),
    ],
)
def test_hostile_networks_are_refused(file: Path, name: str, text: str) -> None:
    values = {key: json.dumps(value) for key, value in asdict(CONFIG).items()}
    values[name] = text
    rewrite(file, network="{" + ", ".join(f'"{k}": {v}' for k, v in values.items()) + "}")
    assert "damaged checkpoint metadata" in refusal(file)


def test_names_of_tensors_are_shown_without_their_escapes(file: Path) -> None:
    save_checkpoint(
        replace(example(), state={**example().state, "\x1b[2J\nw": torch.zeros(1)}), file
    )
    message = refusal(file)
    assert "unknown" in message
    assert "\x1b" not in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(file: Path, bad: float) -> None:
    checkpoint = example()
    checkpoint.state["linear_stages.0.w1.branch2_weight"][3, 2, 1, 0] = bad
    save_checkpoint(checkpoint, file)
    message = refusal(file)
    assert "linear_stages.0.w1.branch2_weight" in message
    assert "no numbers" in message


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_of_another_kind_of_number_are_refused(file: Path, dtype: torch.dtype) -> None:
    checkpoint = example()
    weight = "w1.branch1_weight"
    checkpoint.state[weight] = checkpoint.state[weight].to(dtype)
    save_checkpoint(checkpoint, file)
    assert weight in refusal(file)


def test_a_counter_of_fractions_is_refused(file: Path) -> None:
    checkpoint = example()
    checkpoint.state["batch_norm1.num_batches_tracked"] = torch.tensor(0.5)
    save_checkpoint(checkpoint, file)
    assert "num_batches_tracked" in refusal(file)


def header_of(content: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


METADATA = {"__metadata__": {"format": "gridpose-lifter-1"}}


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**9) + b"{}",
        struct.pack("<Q", 0) + b"{",
        header_of({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        header_of({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}, b"\0" * 4),
        header_of({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"\0" * 4),
        header_of({"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
        header_of({**METADATA, "w": {"dtype": "F32", "shape": [], "data_offsets": [4, 0]}}),
        header_of({"__metadata__": {"format": 3}}),
        header_of({"__metadata__": []}),
        struct.pack("<Q", 400_000) + b'{"a":' * 80_000,
    ],
    ids=[f"header {number}" for number in range(11)],
)
@pytest.mark.parametrize("name", ["lifter.safetensors", "lifter.bin"])
def test_hostile_headers_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    refusal(file)


@given(content=st.binary(max_size=300), prefix=st.sampled_from([b"", b"PK\3\4", b"\x80\x02", b"q"]))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("name", ["junk.safetensors", "junk.pth.tar"])
def test_junk_is_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, name: str, prefix: bytes, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / name
    file.write_bytes(prefix + content)
    refusal(file)


@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_a_changed_byte_of_the_header_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "changed.safetensors"
    save_checkpoint(example(), file)
    content = bytearray(file.read_bytes())
    content[place % (8 + struct.unpack("<Q", content[:8])[0])] = value
    file.write_bytes(content)
    try:
        lifter = load_lifter(file)
    except InputError:
        refusal(file)
        return
    assert lifter.lift(KEYPOINTS, SIZE).shape == (2, 17, 3)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the permissions of POSIX")
@pytest.mark.parametrize("name", ["lifter.safetensors", "lifter.pth.tar"])
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    save_checkpoint(example(), file)
    file.chmod(0)
    before = os.geteuid()
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        if before == 0:
            folder.chmod(0o755)
    if before == 0:
        os.seteuid(65534)  # root may read everything
    try:
        message = refusal(file)
    finally:
        os.seteuid(before)
    assert "cannot be read" in message


@pytest.mark.parametrize("name", ["", ".", "a" * 300, "folder.safetensors"])
def test_what_is_no_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(GridposeError) as caught:
        load_lifter(tmp_path / name)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    with pytest.raises(MissingError, match=r"pipe\.safetensors"):
        load_lifter(pipe)
