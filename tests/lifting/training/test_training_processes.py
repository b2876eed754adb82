"""Trainings that are killed and go on, and several processes that train as one."""

import functools
import itertools
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from training_data import Trainings, write_data

from gridpose.lifting.data.dataset import load_dataset
from gridpose.lifting.lifter import load_lifter
from gridpose.lifting.model.network import NetworkConfig
from gridpose.lifting.training.options import TrainOptions

KINDS = ("gridconv", "dgridconv", "dgridconv_autogrids")
RESULTS = ("best.safetensors", "last.safetensors", "curves.csv")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("GRIDPOSE_HOME", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder


@pytest.fixture(scope="module")
def data(home, tmp_path_factory):
    root = write_data(tmp_path_factory.mktemp("data"))
    load_dataset(root / "gt", "train", exclude_drift=False)  # one makes the cache for all
    return root / "gt"


@pytest.fixture(scope="module")
def trainings(data, tmp_path_factory):
    return Trainings(tmp_path_factory.mktemp("errors"))


@pytest.fixture
def options(data, tmp_path):
    """All that has a state of its own is on: dropout, schedules, averaged weights."""
    return TrainOptions(
        data,
        tmp_path / "run",
        NetworkConfig("dgridconv", hidden=16, blocks=1, padding_mode=("c", "r")),
        epochs=2,
        batch=30,
        lr_decay=2,
        temperature_schedule="linear",
        temperature_epochs=2,
        ema=0.9,
        device="cpu",
    )


def weights(file):
    """Bytes of each tensor, and the metadata, whose order in the file is left to chance."""
    with safe_open(file, framework="np") as stored:
        names = stored.keys()
        return {name: stored.get_tensor(name).tobytes() for name in names}, stored.metadata()


def contents(options):
    return {
        "best": weights(options.run / "best.safetensors"),
        "last": weights(options.run / "last.safetensors"),
        "curves": (options.run / "curves.csv").read_text(),
    }


@pytest.fixture(scope="module")
def references(trainings, tmp_path_factory):
    """``references(options)``: the options of a training that nothing interrupted."""

    @functools.cache
    def uninterrupted(options):
        assert trainings(options) == (0, "")

    folder = tmp_path_factory.mktemp("references")

    def references(options):
        name = f"{options.network.kind}-{options.ema}-{options.epochs}"
        whole = replace(options, run=folder / name)
        uninterrupted(whole)
        return whole

    return references


def go_on(trainings, options):
    """Resume, or start anew where there is nothing to resume."""
    code, error = trainings(replace(options, resume=True))
    if code == 4:
        assert "no training to go on with" in error
        code, error = trainings(replace(options, overwrite=True))
    assert (code, error) == (0, "")
    return contents(options)


def check_files(options):
    """What has its name is complete."""
    for name in RESULTS[:2]:
        if (options.run / name).exists():
            load_lifter(options.run / name)
    if (options.run / "state.pth").exists():
        torch.load(options.run / "state.pth", weights_only=True)
        assert all((options.run / name).exists() for name in (*RESULTS, "config.json"))


@pytest.mark.parametrize(
    ("kind", "ema"),
    [
        ("dgridconv_autogrids", 0.9),
        *(
            pytest.param(kind, ema, marks=pytest.mark.slow)
            for kind, ema in itertools.product(KINDS, (None, 0.9))
        ),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(trainings, references, options, kind, ema):
    options = replace(options, network=replace(options.network, kind=kind), ema=ema)
    whole = contents(references(options))
    step = 7 if ema else 6
    assert trainings(options, ("step", step))[0] == -9
    check_files(options)
    assert go_on(trainings, options) == whole


# In an epoch best, last, curves and state are written in this order; config.json before all.
SOME = [("after", 2), ("before", 7), ("before", 9)]
ALL = [(when, number) for when in ("before", "after") for number in range(1, 11)]


def killed_at_a_write(trainings, references, options, tmp_path, kills):
    whole = contents(references(options))
    for kill in kills:
        options = replace(options, run=tmp_path / f"{kill[0]}{kill[1]}")
        assert trainings(options, kill)[0] == -9, kill
        check_files(options)
        assert go_on(trainings, options) == whole, kill
        assert not list(options.run.glob(".*"))


def test_killed_between_writes(trainings, references, options, tmp_path):
    killed_at_a_write(trainings, references, options, tmp_path, SOME)


@pytest.mark.slow
def test_killed_at_every_write_and_step(trainings, references, options, tmp_path):
    steps = [("step", number) for number in range(1, 11)]
    longer = replace(options, epochs=3)
    killed_at_a_write(trainings, references, longer, tmp_path, [*ALL, *steps])


@pytest.mark.parametrize("size", [100, 150_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_full_disk_loses_nothing(trainings, references, options, size):
    """Files may not grow beyond ``size`` after the first epoch: logs, weights, state."""
    reference = references(options)
    whole = contents(reference)
    files = [reference.run / name for name in ("last.safetensors", "state.pth")]
    lifter_size, state_size = (file.stat().st_size for file in files)
    assert 20_000 < lifter_size < 150_000 < state_size
    code, error = trainings(options, ("size", size), at_epoch=1)
    assert code == 4
    assert "cannot be written" in error
    assert "\n" not in error
    check_files(options)
    assert not list(options.run.glob(".*"))
    assert go_on(trainings, options) == whole


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def rows(options):
    return np.genfromtxt(options.run / "curves.csv", delimiter=",", names=True)


def moved_by_noise(name):
    """Biases before a BatchNorm: rounding errors are their gradients, which Adam makes steps of."""
    return re.fullmatch(r"(.*\.)?w\d\.(branch\d_bias|.*_conv\.bias)", name) or re.fullmatch(
        r"(.*\.)?batch_norm\d\.running_mean", name
    )


def same_as_one(trainings, options, tmp_path):
    # Adam makes full steps of gradients that are rounding errors; small steps do little harm.
    network = replace(options.network, dropout=0.0)
    options = replace(options, epochs=2, network=network, lr=5e-5)
    one, two = (replace(options, run=tmp_path / name) for name in ("one", "two"))
    assert trainings(one) == (0, "")
    assert trainings.together(two, 2, free_port()) == ([0, 0], ["", ""])
    alone, together = rows(one), rows(two)
    np.testing.assert_allclose(together["loss"], alone["loss"], rtol=1e-5)
    for name in ("mpjpe", "pa_mpjpe"):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-3)
    states = [load_file(run.run / "last.safetensors") for run in (one, two)]
    apart = [
        (states[1][name] - value).abs().flatten()
        for name, value in states[0].items()
        if value.is_floating_point() and not moved_by_noise(name)
    ]
    assert torch.cat(apart).mean() < 0.01 * options.lr
    assert list(together["epoch"]) == [1, 2]
    names = {path.name for path in two.run.iterdir()}
    assert names == {*RESULTS, "state.pth", "config.json", "logs"}
    assert len(list((two.run / "logs").glob("*/*.log"))) == 1


def test_two_processes_train_as_one(trainings, options, tmp_path):
    network = replace(options.network, kind="dgridconv_autogrids")
    same_as_one(trainings, replace(options, network=network, batch=25), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [14, 20, 25, 49, 100])  # of 100 poses
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_two_processes_train_as_one_thoroughly(trainings, options, tmp_path, kind, batch, ema):
    network = replace(options.network, kind=kind, padding_mode=("c", "z"))
    options = replace(options, network=network, batch=batch, ema=ema)
    same_as_one(trainings, options, tmp_path)


@pytest.mark.parametrize("processes", [1, 2])
def test_last_batch_of_one_pose(trainings, options, tmp_path, processes):
    options = replace(options, batch=33, epochs=1)
    if processes == 1:
        assert trainings(options) == (0, "")
    else:
        assert trainings.together(options, 2, free_port()) == ([0, 0], ["", ""])
    assert np.isfinite(rows(options)["loss"])


def test_error_of_the_first_process_ends_all(trainings, options):
    options.run.parent.mkdir(exist_ok=True)
    options.run.write_text("not a folder")
    codes, errors = trainings.together(options, 2, free_port())
    assert codes == [4, 4]
    assert errors[0] == errors[1] != ""


def test_error_in_the_middle_ends_all(trainings, options):
    """The first process cannot write; the other waits for it in the next step."""
    options = replace(options, epochs=3)
    port = free_port()
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    first, second = (
        trainings.start(
            options,
            ("size", 20_000) if rank == 0 else None,
            1,
            {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    )
    for process in (first, second):
        process.join(60)
    codes = [first.exitcode, second.exitcode]
    for process in (first, second):
        process.kill()
    assert codes == [4, 1]
    error = trainings.errors(trainings._count).read_text()
    assert "another one did" in error
    assert "\n" not in error


COMMAND = "import sys; from gridpose.pipeline.cli import main; main()"


@pytest.mark.slow
def test_torchrun(data, tmp_path):
    """The command as the help has it, also with an error."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(free_port()), "--no-python", sys.executable, "-c", COMMAND]
    command += ["train", "--data-rootdir", str(data.parent), "--ckpt", str(tmp_path)]
    command += ["--hidsize", "16", "--epoch", "2", "--batch", "25", "--device", "cpu", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 2
    assert weights(tmp_path / "temporary" / "best.safetensors")[0]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 1
    assert "exitcode  : 2" in done.stderr
    assert "has a training already" in done.stderr
    assert done.stdout == ""
