"""Checkpoints of the published code: what is read off them, assumed, refused, and computed."""

import collections
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gridpose.core import InputError, MissingError, UsageError
from gridpose.lifting.model.network import NetworkConfig, build_network
from gridpose.lifting.weights.checkpoint import read_checkpoint, save_checkpoint
from gridpose.lifting.weights.published import read_published

torch.set_num_threads(1)  # threads only wait for each other on matrices this small

DATA = Path(__file__).parents[2] / "data"
PUBLISHED = DATA / "published_gridconv.pth.tar"
KINDS = ["gridconv", "dgridconv", "dgridconv_autogrids"]


def config(kind="dgridconv", **changes):
    values = {"hidden": 8, "blocks": 1, "keep_joints": False, **changes}
    return NetworkConfig(kind=kind, **values)


def weights(kind="dgridconv", **changes):
    torch.manual_seed(0)
    return build_network(config(kind, **changes)).state_dict()


def save(file: Path, state, form="zip", **entries) -> Path:
    content = {"epoch": 3, "lr": 1e-3, "error": np.float64(47.9), "state_dict": state, **entries}
    torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    return file


def lifted(checkpoint, poses_2d):
    with torch.inference_mode():
        return checkpoint.build().lift(torch.tensor(poses_2d, dtype=torch.float32)).numpy()


# What the published code computed


def test_a_published_checkpoint_computes_what_the_published_code_did():
    checkpoint, notices = read_published(PUBLISHED)
    golden = np.load(DATA / "published_gridconv.npz")
    assert np.abs(lifted(checkpoint, golden["poses_2d"]) - golden["poses_3d"]).max() < 1e-4
    assert checkpoint.network == config("gridconv", hidden=16, blocks=2)
    assert checkpoint.normalisation == "published"
    assert checkpoint.training == {
        "source": "published_gridconv.pth.tar",
        "epoch": 7,
        "lr": pytest.approx(0.0009216),
        "error": 40.5,
    }
    assert notices == []  # static layers leave nothing open


@pytest.mark.parametrize("temperature", [1.0, 30.0])
@pytest.mark.parametrize(
    ("name", "padding"),
    [
        ("gridconv", "cz"),
        ("dgridconv_cz", "cz"),
        ("autogrids_cz", "cz"),
        ("autogrids_cz_type3", "cz"),
        ("autogrids_cr_soft", "cr"),
    ],
)
def test_every_golden_checkpoint(shared, name, padding, temperature):
    golden = np.load(shared / "golden" / f"{name}.npz")
    checkpoint, _ = read_published(
        shared / "golden" / f"{name}.pth.tar", padding_mode=tuple(padding), temperature=temperature
    )
    wanted = "poses_3d_T30" if temperature == 30 and name != "gridconv" else "poses_3d"
    assert np.abs(lifted(checkpoint, golden["poses_2d"]) - golden[wanted]).max() < 1e-4


def test_a_golden_grid_that_is_not_square(shared):
    file = shared / "golden" / "dgridconv_cz_4x7.pth.tar"
    with pytest.raises(InputError, match=r"28 cells .* give `grid_shape` HEIGHT WIDTH"):
        read_published(file)
    with pytest.raises(UsageError, match="28 cells, not 5x5"):
        read_published(file, grid_shape=(5, 5))
    golden = np.load(shared / "golden" / "dgridconv_cz_4x7.npz")
    outputs = []
    for shape in ((4, 7), (7, 4)):
        checkpoint, _ = read_published(file, grid_shape=shape)
        grid = torch.tensor(golden["grid_in"]).reshape(-1, 2, *shape)
        with torch.inference_mode():
            outputs.append(checkpoint.build()(grid).numpy().reshape(golden["grid_out"].shape))
    assert np.abs(outputs[0] - golden["grid_out_T30"]).max() < 1e-4
    assert np.abs(outputs[1] - golden["grid_out_T30"]).max() > 1e-2


def test_the_three_forms_hold_the_same(shared):
    forms = [
        read_published(shared / "golden" / f"dgridconv_cz{form}.pth.tar")[0]
        for form in ("", ".cuda0", ".torch2")
    ]
    for other in forms[1:]:
        assert other.network == forms[0].network
        assert list(other.state) == list(forms[0].state)
        assert all(torch.equal(other.state[name], forms[0].state[name]) for name in other.state)
        assert {**other.training, "source": ""} == {**forms[0].training, "source": ""}


# What is read off names and shapes


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"hidden": 40, "blocks": 3}, {"blocks": 0}])
def test_the_architecture_is_inferred(kind, form, changes, tmp_path):
    state = weights(kind, **changes)
    checkpoint, _ = read_published(save(tmp_path / "hrnet.pth.tar", state, form))
    assert checkpoint.network == config(kind, **changes)
    network = checkpoint.build()
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_larger_grid_is_taken_for_a_square(kind, tmp_path):
    file = save(tmp_path / "hrnet.pth.tar", weights(kind, grid_shape=(6, 6)))
    checkpoint, notices = read_published(file)
    assert checkpoint.network.grid_shape == (6, 6)
    assert any("6x6" in notice and "`grid_shape`" in notice for notice in notices)
    checkpoint, notices = read_published(file, grid_shape=(4, 9))
    assert checkpoint.network.grid_shape == (4, 9)
    assert not any("grid" in notice for notice in notices)
    checkpoint.build()


def test_static_layers_take_the_grid_they_are_given(tmp_path):
    file = save(tmp_path / "x.pth.tar", weights("gridconv"))
    assert read_published(file)[0].network.grid_shape == (5, 5)
    assert read_published(file, grid_shape=(4, 7))[0].network.grid_shape == (4, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_may_be_demanded(kind, tmp_path):
    file = save(tmp_path / "hrnet.pth.tar", weights(kind))
    assert read_published(file, kind=kind)[0].network.kind == kind
    for other in set(KINDS) - {kind}:
        with pytest.raises(UsageError, match=f"its lifting model is {kind}, not {other}"):
            read_published(file, kind=other)


def test_names_of_data_parallel_training(tmp_path):
    state = weights()
    wrapped = collections.OrderedDict((f"module.{name}", value) for name, value in state.items())
    checkpoint, _ = read_published(save(tmp_path / "hrnet.pth.tar", wrapped))
    assert list(checkpoint.state) == list(state)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_a_bare_state_dict(form, tmp_path):
    file = tmp_path / "gt.pth"
    if form == "bare":
        numbers = {name: value.numpy() for name, value in weights().items()}
        file.write_bytes(pickle.dumps(numbers))
        with pytest.raises(InputError, match="no state_dict of tensors"):
            read_published(file)
        return
    torch.save(weights(), file, _use_new_zipfile_serialization=form == "zip")
    checkpoint, _ = read_published(file)
    assert checkpoint.training == {"source": "gt.pth"}
    checkpoint.build()


def test_half_precision_becomes_single(tmp_path):
    half = {n: v.half() if v.is_floating_point() else v for n, v in weights().items()}
    state = read_published(save(tmp_path / "gt.pth.tar", half))[0].state
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}


def test_numbers_of_training_are_plain(tmp_path):
    entries = {"epoch": torch.tensor(4), "lr": "fast", "error": float("nan")}
    checkpoint, _ = read_published(save(tmp_path / "gt.pth.tar", weights(), **entries))
    assert checkpoint.training == {"source": "gt.pth.tar", "epoch": 4}
    save_checkpoint(checkpoint, tmp_path / "gt.safetensors")
    again = read_checkpoint(tmp_path / "gt.safetensors")
    assert again.training == checkpoint.training
    assert again.network == checkpoint.network


# What is assumed, and told


@pytest.mark.parametrize(
    ("name", "modes", "told"),
    [
        ("hrnet_d-gridconv.pth.tar", ("c", "z"), "published models named hrnet*"),
        ("HRNet.pth.tar", ("c", "z"), "published models named hrnet*"),
        ("gt_d-gridconv.pth.tar", ("c", "r"), "published models named gt*"),
        ("mine.pth.tar", ("c", "z"), "are a guess"),
        ("my_gt.pth.tar", ("c", "z"), "are a guess"),
    ],
)
@pytest.mark.parametrize("kind", KINDS[1:])
def test_padding_modes_by_name(kind, name, modes, told, tmp_path):
    file = save(tmp_path / name, weights(kind))
    checkpoint, notices = read_published(file)
    assert checkpoint.network.padding_mode == modes
    (notice,) = (notice for notice in notices if "padding" in notice)
    assert told in notice
    assert "`padding_mode`" in notice
    assert " ".join(modes) in notice
    checkpoint, notices = read_published(file, padding_mode=("r", "z"))
    assert checkpoint.network.padding_mode == ("r", "z")
    assert not any("padding" in notice for notice in notices)


def test_static_layers_have_the_padding_of_the_paper(tmp_path):
    checkpoint, notices = read_published(save(tmp_path / "gt.pth.tar", weights("gridconv")))
    assert checkpoint.network.padding_mode == ("c", "z")
    assert notices == []


def test_temperature_by_option_by_file_or_30(tmp_path):
    plain = save(tmp_path / "gt.pth.tar", weights())
    own = save(tmp_path / "gt_own.pth.tar", weights(), temperature=4.5)
    checkpoint, notices = read_published(plain)
    assert checkpoint.network.temperature == 30
    assert any("temperature 30" in notice and "`temperature`" in notice for notice in notices)
    for file, option, wanted in ((plain, 2.0, 2.0), (own, None, 4.5), (own, 2.0, 2.0)):
        checkpoint, notices = read_published(file, temperature=option)
        assert checkpoint.network.temperature == wanted
        assert not any("temperature" in notice for notice in notices)
    with pytest.raises(InputError, match="temperature of -1"):
        read_published(save(tmp_path / "gt.pth", weights(), temperature=-1))


# What is refused


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_shapes_are_those_of_the_network(kind, tmp_path):
    good = weights(kind)
    last = "w2.tablet_conv.weight" if kind == "gridconv" else "w2.branch2_weight"
    sick = {
        f"missing {last}": without(good, last),
        "unknown head.weight": {**good, "head.weight": torch.zeros(3)},
        f"of another shape {last} (3x9x3x3, not 3x8x3x3)": {**good, last: torch.zeros(3, 9, 3, 3)},
        f"with values that are no numbers {last}": {**good, last: good[last] * torch.nan},
        "missing linear_stages.1.": {**good, "linear_stages.1.x": torch.zeros(1)},
    }
    for message, state in sick.items():
        with pytest.raises(InputError) as caught:
            read_published(save(tmp_path / "gt.pth.tar", state))
        assert str(caught.value).startswith(f"{tmp_path}/gt.pth.tar: ")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_many_wrong_names_are_counted(tmp_path):
    extra = {f"extra.{n}": torch.zeros(1) for n in range(9)}
    with pytest.raises(InputError, match=r"unknown extra\.0, extra\.1, extra\.2 and 6 more"):
        read_published(save(tmp_path / "gt.pth.tar", {**weights(), **extra}))


def test_a_learnable_matrix_of_another_grid(tmp_path):
    state = weights("dgridconv_autogrids")
    state["sgt_layer.sgt_trans_mat"] = torch.zeros(1, 36, 17)
    with pytest.raises(InputError, match="sgt_trans_mat \\(1x36x17, not 1x25x17\\)"):
        read_published(save(tmp_path / "gt.pth.tar", state))


@pytest.mark.parametrize(
    "state",
    [
        {},
        [],
        None,
        {"w": 1},
        {1: torch.zeros(1)},
        {"conv.weight": torch.zeros(3)},
        {"w1.branch1_weight": torch.tensor(1.0), "atten_conv1.position_fc.weight": torch.ones(225)},
        {"w1.branch1_weight": torch.zeros(0), "atten_conv1.position_fc.weight": torch.ones(225)},
        {"w1.branch1_weight": torch.ones(8)},
        {"sgt_layer.sgt_trans_mat": torch.ones(8), "atten_conv1.position_fc.weight": torch.ones(9)},
    ],
    ids=str,
)
def test_what_is_no_lifting_network(state, tmp_path):
    with pytest.raises(InputError) as caught:
        read_published(save(tmp_path / "gt.pth.tar", state))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"{}"])
def test_what_is_no_checkpoint(content, tmp_path):
    (tmp_path / "gt.pth.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"gt\.pth\.tar"):
        read_published(tmp_path / "gt.pth.tar")


def test_no_file(tmp_path):
    with pytest.raises(MissingError, match=r"nothing\.pth\.tar"):
        read_published(tmp_path / "nothing.pth.tar")


class Exploit:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_an_unsafe_checkpoint_is_refused_and_does_nothing(form, tmp_path):
    file = tmp_path / "gt.pth.tar"
    save(file, weights(), form, optimizer=Exploit(f"touch {tmp_path}/canary"))
    with pytest.raises(InputError, match=r"gt\.pth\.tar: refused.* call (posix|nt)\.system"):
        read_published(file)
    assert not (tmp_path / "canary").exists()


def test_a_truncated_checkpoint_is_refused(tmp_path):
    size = PUBLISHED.stat().st_size
    for part in (size - 1, size // 2, 20_000, 100, 1):
        file = tmp_path / "gt.pth.tar"
        shutil.copyfile(PUBLISHED, file)
        os.truncate(file, part)
        with pytest.raises(InputError, match="damaged"):
            read_published(file)
