"""Training by its Python interface: schedules, losses, selection, the learnable grid, resuming."""

import csv
import gc
import json
import logging
import multiprocessing
import os
import random
import re
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import AmpOptimWrapper
from mmengine.visualization import Visualizer
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from training_data import CAMERAS, FRAMES, write_data

from gridpose.core import InputError, MissingError, UsageError
from gridpose.lifting.data.dataset import PoseDataset, Sequence, load_dataset
from gridpose.lifting.evaluation import evaluate
from gridpose.lifting.lifter import load_lifter
from gridpose.lifting.model.learnable_sgt import LearnableSGT, prior_matrix
from gridpose.lifting.model.network import LiftingNetwork, NetworkConfig, build_network
from gridpose.lifting.model.sgt import semantic_grid_transform
from gridpose.lifting.training.hooks import temperature_at
from gridpose.lifting.training.model import pose_loss
from gridpose.lifting.training.options import TrainOptions
from gridpose.lifting.training.task import split_performances
from gridpose.lifting.training.trainer import train

KINDS = ("gridconv", "dgridconv", "dgridconv_autogrids")

# Epoch, step of 500, temperature: what the published function says under Python 3.
LINEAR = [
    *[(0, 0, 30.0), (0, 1, 29.9942), (0, 250, 28.55), (0, 499, 27.1058), (1, 0, 27.1)],
    *[(4, 250, 16.95), (7, 499, 6.8058), (9, 0, 3.9), (9, 250, 2.45), (9, 499, 1.0058)],
    *[(10, 0, 1.0), (10, 499, 1.0), (11, 250, 1.0)],
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDPOSE_HOME", str(tmp_path_factory.mktemp("home")))
        yield write_data(tmp_path_factory.mktemp("data"))


def small(root, run):
    network = NetworkConfig("dgridconv", hidden=16, blocks=1, padding_mode=("c", "r"))
    return TrainOptions(root / "gt", run, network, epochs=2, batch=50, device="cpu", val_share=0.2)


@pytest.fixture
def options(root, tmp_path):
    return small(root, tmp_path / "run")


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    options = small(root, tmp_path_factory.mktemp("trained") / "run")
    train(options)
    return options.run


def curves(options):
    with (options.run / "curves.csv").open(newline="") as stream:
        return [{n: float(v) for n, v in row.items() if v} for row in csv.DictReader(stream)]


def of_kind(options, kind, **changes):
    return replace(options, network=replace(options.network, kind=kind, **changes))


# --- Learning rate, temperature, loss


@pytest.mark.parametrize(("decay", "gamma", "epochs"), [(10, 0.96, 12), (3, 0.5, 5)])
def test_learning_rate_falls_as_published(options, decay, gamma, epochs):
    options = replace(options, lr_decay=decay, lr_gamma=gamma, epochs=epochs, batch=1000)
    train(options)
    expected, rate = [], 1e-3
    for epoch in range(1, epochs + 1):
        expected.append(rate)
        if (epoch - 1) % decay == 0:  # the published `epoch % 10 == 0`, counted from 0
            rate *= gamma
    assert [row["lr"] for row in curves(options)] == expected


def test_resuming_with_more_epochs_goes_on_as_if_they_were_asked_for_first(options, tmp_path):
    options = replace(options, lr_decay=2, lr_gamma=0.5)
    whole = replace(options, epochs=6, run=tmp_path / "whole")
    train(whole)
    train(options)
    assert len(train(replace(options, epochs=6, resume=True)).rows) == 6
    assert curves(options) == curves(whole)
    assert [row["lr"] for row in curves(whole)] == [1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4, 1.25e-4]
    states = [load_file(one.run / "last.safetensors") for one in (options, whole)]
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    config = json.loads((options.run / "config.json").read_text())
    assert config["options"]["epochs"] == 6


@pytest.mark.parametrize(("epoch", "step", "expected"), LINEAR)
def test_linear_temperature(epoch, step, expected):
    assert temperature_at("linear", 30.0, 10, epoch, step / 500) == pytest.approx(expected)
    assert temperature_at("none", 30.0, 10, epoch, step / 500) == 30.0


@pytest.mark.parametrize("kind", ["dgridconv", "dgridconv_autogrids"])
def test_temperature_of_every_step_and_in_the_checkpoint(options, monkeypatch, kind):
    options = of_kind(options, kind)
    options = replace(options, temperature_schedule="linear", temperature_epochs=3, epochs=4)
    seen = []
    original = LiftingNetwork.set_temperature

    def spy(self, temperature):
        seen.append(temperature)
        original(self, temperature)

    monkeypatch.setattr(LiftingNetwork, "set_temperature", spy)
    train(options)  # on 100 of 120 poses: 2 steps an epoch
    expected = [30 - 29 * step / 6 for step in range(6)] + [1.0, 1.0]
    assert seen == pytest.approx(expected)
    rows = curves(options)
    assert [row["temperature"] for row in rows] == pytest.approx(expected[1::2])
    last = load_lifter(options.run / "last.safetensors")
    assert last.checkpoint.network.temperature == 1.0
    assert last.network.atten_conv1.temperature == 1.0


def test_a_static_network_has_no_temperature(options):
    train(of_kind(options, "gridconv"))
    assert "temperature" not in curves(options)[0]


def first_loss(options):
    """The loss over all poses before the first step."""
    options = replace(options, batch=1000, epochs=1)
    options = replace(options, network=replace(options.network, dropout=0.0))
    return train(options).rows[0]["loss"]


PLAIN = {
    "l2": lambda difference: (difference**2).mean(),
    "l1": lambda difference: np.abs(difference).mean(),
    "sqrtl2": lambda difference: np.sqrt((difference**2).sum(-1)).mean(),
}


@pytest.mark.parametrize("loss", PLAIN)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_on_grid_values_or_joints(options, kind, loss):
    options = replace(of_kind(options, kind, dropout=0.0), loss=loss)
    data, _ = split_performances(
        load_dataset(options.data, "train", exclude_drift=False), options.val_share
    )
    torch.manual_seed(options.seed)
    network = build_network(options.network).train()
    inputs = torch.from_numpy((data.keypoints_px - 500) / 500)
    targets = torch.from_numpy(np.ascontiguousarray(data.poses))
    if kind != "dgridconv_autogrids":
        inputs, targets = semantic_grid_transform(inputs), semantic_grid_transform(targets)
    with torch.no_grad():
        answers = network(inputs)
    values = 51 if kind == "dgridconv_autogrids" else 75
    assert answers[0].numel() == targets[0].numel() == values
    difference = (answers - targets).double().numpy()
    if values == 75:
        difference = np.moveaxis(difference, 1, -1)
    assert first_loss(options) == pytest.approx(PLAIN[loss](difference), rel=1e-5)


@pytest.mark.parametrize("loss", PLAIN)
@pytest.mark.parametrize("shape", [(7, 3, 5, 5), (7, 17, 3)])
def test_pose_loss_is_differentiable_at_the_target(loss, shape):
    answer = torch.randn(shape, requires_grad=True)
    pose_loss(answer, torch.randn(shape), loss).backward()
    assert answer.grad.abs().sum() > 0
    answer.grad = None
    pose_loss(answer, answer.detach().clone(), loss).backward()
    assert torch.isfinite(answer.grad).all()


def test_mean_loss_weighs_a_short_last_batch_by_its_poses(options):
    """With a rate of next to nothing, batches do not matter (no attention, so no BatchNorm of
    single poses)."""
    options = of_kind(options, "gridconv", dropout=0.0, blocks=0)
    options = replace(options, lr=1e-12, epochs=1)
    losses = [
        train(replace(options, batch=batch, run=options.run / str(batch))).rows[0]["loss"]
        for batch in (100, 99)
    ]
    # BatchNorm sees other batches; a last batch of one pose that counted as 99 would differ more.
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


# --- What a step costs


class _Asked(TorchDispatchMode):
    """Counts what would make a GPU wait: values asked for by Python."""

    def __init__(self):
        super().__init__()
        self.counts, self.paused = 0, False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default and not self.paused:
            self.counts += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def questions(monkeypatch):
    asked = _Asked()
    with monkeypatch.context() as patch:
        for name in ("cpu", "tolist", "numpy"):
            original = getattr(torch.Tensor, name)

            def spy(self, *args, original=original, **kwargs):
                asked.counts += 1
                return original(self, *args, **kwargs)

            patch.setattr(torch.Tensor, name, spy)

        # Adam counts its steps on the CPU whatever the device; the learnable grid asks on the CPU
        # only, where that saves work.
        for kind, name in ((torch.optim.Adam, "step"), (LearnableSGT, "forward")):
            original = getattr(kind, name)

            def unheard(self, *args, original=original, **kwargs):
                asked.paused = True
                result = original(self, *args, **kwargs)
                asked.paused = False
                return result

            patch.setattr(kind, name, unheard)
        with asked:
            yield asked


@pytest.mark.parametrize("kind", KINDS)
def test_steps_ask_the_device_for_nothing(options, monkeypatch, kind):
    options = of_kind(options, kind)
    counts = []
    for batch in (50, 10):  # 2 and 10 steps
        with questions(monkeypatch) as asked:
            train(replace(options, batch=batch, epochs=1, run=options.run / str(batch)))
        counts.append(asked.counts)
    assert counts[0] == counts[1] > 0


def test_full_precision_does_not_use_autocast(options, monkeypatch):
    def never(*_, **__):
        raise AssertionError("mixed precision")

    monkeypatch.setattr(AmpOptimWrapper, "__init__", never)
    train(replace(options, epochs=1))


# --- Options that cannot be


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"precision": "bf16"}, UsageError, "`precision` bf16"),
        ({"precision": "fp16"}, UsageError, "`precision` fp16"),
        ({"device": "tpu"}, UsageError, "`device=tpu`"),
        ({"lr": 0.0}, UsageError, "`lr` 0"),
        ({"lr": float("nan")}, UsageError, "`lr` nan"),
        ({"lr": float("inf")}, UsageError, "`lr` inf"),
        ({"lr_gamma": -1.0}, UsageError, "`lr_gamma`"),
        ({"grid_lr": -1.0}, UsageError, "`grid_lr`"),
        ({"ema": 1.0}, UsageError, "`ema` 1.0"),
        ({"val_share": 1.0}, UsageError, "share"),
        ({"seed": 2**31}, UsageError, "`seed`"),
        ({"epochs": 0}, UsageError, "`epochs` 0"),
        ({"network": NetworkConfig(grid_shape=(4, 7))}, UsageError, "5x5"),
        ({"resume": True}, MissingError, "no training to go on with"),
    ],
)
def test_impossible_options(options, changes, error, words):
    with pytest.raises(error, match=re.escape(words)) as caught:
        train(replace(options, **changes))
    assert "\n" not in str(caught.value)
    assert not options.run.exists()


def test_no_cuda(options):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(MissingError, match="`device=cuda"):
        train(replace(options, device="cuda"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_seed(options, kind):
    train(replace(of_kind(options, kind), seed=2**31 - 1, epochs=1))


def test_divergence_is_told_and_keeps_what_was_good(options):
    train(options)
    good = load_file(options.run / "best.safetensors")
    rows = curves(options)
    with pytest.raises(UsageError, match="diverged in epoch 1"):
        train(replace(options, lr=1e30, run=options.run / "other"))
    assert not (options.run / "other" / "best.safetensors").exists()
    state = torch.load(options.run / "state.pth", weights_only=True)
    state["state_dict"]["network.w1.branch1_weight"].fill_(float("inf"))
    torch.save(state, options.run / "state.pth")
    with pytest.raises(UsageError, match="diverged in epoch 3"):
        train(replace(options, epochs=3, resume=True))
    assert curves(options) == rows
    kept = load_file(options.run / "best.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in good.items())


# --- Selection


def dataset_of(keys):
    sequences = tuple(Sequence(*key, number, number + 1) for number, key in enumerate(sorted(keys)))
    number = len(sequences)
    empty = np.zeros((number, 17, 3), np.float32)
    return PoseDataset(empty[..., :2], empty, sequences, (), {})


@given(
    performances=st.sets(
        st.tuples(st.sampled_from(["S1", "S5", "S8"]), st.sampled_from("ABCDEFGH")), min_size=2
    ),
    share=st.floats(0.01, 0.99),
)
@settings(deadline=None, max_examples=60)
def test_whole_performances_are_held_out(performances, share):
    keys = [
        (subject, name, f"{name} 1.{camera}")
        for subject, name in performances
        for camera in CAMERAS
    ]
    training, held = split_performances(dataset_of(keys), share)

    def names(part):
        return {(s.subject, s.performance) for s in part.sequences}

    assert not names(training) & names(held)
    assert len(training.sequences) + len(held.sequences) == len(keys)
    assert len(held.sequences) == len(CAMERAS) * len(names(held))
    assert len(names(training)) >= 1
    assert len(names(held)) == min(len(performances) - 1, max(1, round(share * len(performances))))
    again = split_performances(dataset_of(keys), share)
    assert (again[0].sequences, again[1].sequences) == (training.sequences, held.sequences)


def test_one_performance_cannot_be_split():
    keys = [("S1", "A", f"A.{camera}") for camera in CAMERAS]
    with pytest.raises(InputError, match="`select_on=test`"):
        split_performances(dataset_of(keys), 0.5)


def selected_on(options):
    train(options)
    described = json.loads((options.run / "config.json").read_text())["data"]
    sequences = described["validation"]["sequences"]
    return described, {(subject, name) for subject, _, name, _ in sequences}


def test_selection_on_held_out_performances(options):
    described, names = selected_on(options)
    assert described["validation"]["split"] == "held out of train"
    assert {subject for subject, _ in names} <= {"S1", "S5", "S6"}
    assert described["validation"]["frames"] == FRAMES * len(names)
    assert described["training"]["frames"] + described["validation"]["frames"] == 120
    assert described["left_out"] == []
    train_only = {"train_custom_2d_unnorm.pth.tar", "train_custom_3d_unnorm.pth.tar"}
    assert set(described["sha256"]) == train_only


@pytest.mark.parametrize("name", ["gt", "hrnet"])
def test_selection_on_the_test_set(options, root, name):
    described, names = selected_on(replace(options, data=root / name, select_on="test"))
    assert described["validation"]["split"] == "test"
    expected = {("S9", "Walking"), ("S11", "Eating 1")} | (
        {("S9", "Greeting")} if name == "gt" else set()
    )
    assert {(subject, file.partition(".")[0]) for subject, file in names} == expected
    assert described["training"]["frames"] == 120
    left_out = " ".join(described["left_out"])
    assert "Directions" in left_out
    assert ("Greeting" in left_out) == (name == "hrnet")
    assert len(described["sha256"]) == 4


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_best_and_last_are_the_epochs_that_the_curves_say(options, kind, ema):
    options = replace(of_kind(options, kind), select_on="test", epochs=4, ema=ema, lr=0.02)
    result = train(options)
    rows = curves(options)
    assert result.rows == rows
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    best = min(rows, key=lambda row: row["mpjpe"])
    assert result.best == best
    held = load_dataset(options.data, "test", exclude_drift=False)
    for name, row in (("best", best), ("last", rows[-1])):
        lifter = load_lifter(options.run / f"{name}.safetensors")
        assert lifter.checkpoint.training["epoch"] == row["epoch"]
        assert lifter.checkpoint.metrics["mpjpe"] == row["mpjpe"]
        assert lifter.checkpoint.normalisation == "published"
        report = evaluate(lifter, held)
        assert report.mpjpe == pytest.approx(row["mpjpe"], abs=1e-3)
        assert report.pa_mpjpe == pytest.approx(row["pa_mpjpe"], abs=1e-3)
    assert all(file.is_file() for file in result.files)


# --- Learnable grid


def scores(file):
    return load_file(file)["sgt_layer.sgt_trans_mat"]


@pytest.mark.parametrize("prior", ["standard", "learnt_type3", "random_prob"])
def test_grid_learns_and_keeps_every_joint(options, monkeypatch, prior):
    """``learnt_type3`` starts without joint 0."""
    options = of_kind(options, "dgridconv_autogrids", prior=prior)
    options = replace(options, epochs=4, batch=20, grid_lr=50.0)
    norms = []
    step = torch.optim.Adam.step

    def spy(self, *args, **kwargs):
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.stack([g.norm() for g in gradients]).norm().item())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    train(options)
    torch.manual_seed(options.seed)
    before = build_network(options.network).sgt_layer.joint_of_cell()
    lifter = load_lifter(options.run / "last.safetensors")
    after = lifter.network.sgt_layer.joint_of_cell()
    assert set(after.flatten().tolist()) == set(range(17))
    assert (before != after).any()
    assert len(norms) == 20
    assert max(norms) < 100


@pytest.mark.parametrize("shape", [(4, 7), (6, 6), (17, 1)])
def test_other_grids_train_and_are_read_again(options, shape):
    options = of_kind(options, "dgridconv_autogrids", grid_shape=shape)
    train(replace(options, epochs=1))
    lifter = load_lifter(options.run / "best.safetensors")
    assert lifter.network.config.grid_shape == shape
    assert lifter.lift(np.full((2, 17, 2), 500.0), (1000, 1000)).shape == (2, 17, 3)


def test_grid_rate(options):
    options = replace(of_kind(options, "dgridconv_autogrids"), epochs=1, batch=1000)
    prior = prior_matrix("standard", (5, 5))
    moved = {}
    for rate in (0.0, 1.0, 10.0):
        train(replace(options, grid_lr=rate, run=options.run / str(rate)))
        moved[rate] = (scores(options.run / str(rate) / "last.safetensors") - prior).abs().max()
    assert moved[0.0] == 0
    assert moved[1.0] == pytest.approx(1e-3, rel=1e-2)  # Adam's first step is the rate itself
    assert moved[10.0] == pytest.approx(1e-2, rel=1e-2)


def test_learned_grid_is_hard_when_measured(options):
    options = of_kind(options, "dgridconv_autogrids", prior="random_prob")
    train(options)
    lifter = load_lifter(options.run / "last.safetensors")
    keypoints = np.random.default_rng(0).normal(0, 0.3, (9, 17, 2)).astype(np.float32)
    before = lifter.lift_normalized(keypoints)
    with torch.no_grad():
        lifter.network.sgt_layer.sgt_trans_mat.mul_(7.0)  # the largest stay the largest
    np.testing.assert_array_equal(lifter.lift_normalized(keypoints), before)


# --- What is there already


@pytest.fixture
def done(options, trained):
    """A training that has ended: the same one for all tests, each of which has a copy."""
    shutil.copytree(trained, options.run)
    return options


def test_existing_results_are_not_replaced(done):
    before = (done.run / "best.safetensors").read_bytes()
    for missing in ((), ("state.pth",), ("curves.csv", "last.safetensors")):
        for name in missing:  # a user may keep the weights alone
            (done.run / name).unlink()
        with pytest.raises(UsageError, match="`overwrite`"):
            train(done)
        assert (done.run / "best.safetensors").read_bytes() == before
    train(replace(done, overwrite=True, seed=1))
    assert (done.run / "best.safetensors").read_bytes() != before


def test_resuming_a_finished_training_answers_its_result(done):
    before = {
        path: path.read_bytes()
        for path in done.run.iterdir()
        if path.suffix != ".json" and path.is_file()
    }
    result = train(replace(done, resume=True))
    assert result.rows == curves(done)
    assert result.best["mpjpe"] == min(row["mpjpe"] for row in result.rows)
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"lr": 2e-3}, "lr"),
        ({"batch": 51}, "batch"),
        ({"loss": "l1"}, "loss"),
        ({"seed": 7}, "seed"),
        ({"ema": 0.5}, "ema"),
        ({"temperature_schedule": "linear"}, "temperature_schedule"),
        ({"select_on": "test"}, "select_on"),
        ({"network": NetworkConfig("gridconv", hidden=16, blocks=1)}, "network"),
    ],
)
def test_resuming_with_other_options_names_them(done, changes, name):
    with pytest.raises(UsageError, match=rf"other values of .*\b{name}\b"):
        train(replace(done, resume=True, **changes))


def test_resuming_with_other_data(done, root, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for file in (root / "gt").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    train(replace(done, resume=True, data=other))  # a moved folder is the same data
    file = other / "train_custom_3d_unnorm.pth.tar"
    data = torch.load(file, weights_only=False)
    next(iter(data.values()))["joint_3d"][0, 5] += 1.0
    torch.save(data, file)
    with pytest.raises(UsageError, match="the data"):
        train(replace(done, resume=True, data=other))


class _Exploit:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def _exploit(file, marker):
    state = torch.load(file, weights_only=True)
    state["meta"]["cfg"] = _Exploit(marker)
    torch.save(state, file)


def _less(key):
    def spoil(file, marker):
        state = torch.load(file, weights_only=True)
        del state[key]
        torch.save(state, file)

    return spoil


def _other_network(file, marker):
    state = torch.load(file, weights_only=True)
    state["state_dict"]["network.w1.branch1_weight"] = torch.zeros(3)
    torch.save(state, file)


SPOILT = {
    "truncated": ("state.pth", lambda file, _: os.truncate(file, file.stat().st_size // 2)),
    "empty": ("state.pth", lambda file, _: os.truncate(file, 0)),
    "text": ("state.pth", lambda file, _: file.write_text("hello")),
    "list": ("state.pth", lambda file, _: torch.save([1, 2], file)),
    "exploit": ("state.pth", _exploit),
    **{key: ("state.pth", _less(key)) for key in ("meta", "state_dict", "optimizer")},
    "other network": ("state.pth", _other_network),
    "config": ("config.json", lambda file, _: os.truncate(file, 50)),
    "config list": ("config.json", lambda file, _: file.write_text("[]")),
    "curves": ("curves.csv", lambda file, _: os.truncate(file, 60)),
    "curves gone": ("curves.csv", lambda file, _: file.unlink()),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_damaged_run_is_told(done, tmp_path, case):
    name, spoil = SPOILT[case]
    marker = tmp_path / "marker"
    spoil(done.run / name, marker)
    with pytest.raises(InputError) as caught:
        train(replace(done, resume=True, epochs=3))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_a_state_with_code_runs_nothing_even_where_torch_would(done, tmp_path, monkeypatch):
    """PyTorch before 2.6 executed pickles unless told otherwise."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    _exploit(done.run / "state.pth", tmp_path / "marker")
    with pytest.raises(InputError, match="refused"):
        train(replace(done, resume=True, epochs=3))
    assert not (tmp_path / "marker").exists()


def test_the_checkpoint_to_start_from_is_not_needed_to_go_on(done, tmp_path):
    start = tmp_path / "start.safetensors"
    start.write_bytes((done.run / "best.safetensors").read_bytes())
    tuned = replace(done, run=tmp_path / "tuned", load=start)
    first = train(tuned).rows[0]
    assert first["mpjpe"] != curves(done)[0]["mpjpe"]
    start.unlink()
    assert len(train(replace(tuned, resume=True, epochs=3)).rows) == 3


# --- What is written


def test_config_is_complete(done):
    config = json.loads((done.run / "config.json").read_text())
    assert set(config["options"]) == set(done.__dataclass_fields__)
    assert config["options"]["network"]["hidden"] == 16
    assert set(config["versions"]) == {"gridpose", "torch", "mmengine", "numpy"}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in config["data"]["sha256"].values())
    training = load_lifter(done.run / "best.safetensors").checkpoint.training
    assert training["data_sha256"] == config["data"]["sha256"]
    assert training["options"]["lr"] == 1e-3


def scalars(options):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = (options.run / "logs").rglob("events.out.tfevents*")
    events = EventAccumulator(str(file))
    events.Reload()
    return {name: [e.value for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_has_the_curves(done):
    found, rows = scalars(done), curves(done)
    for name, column in (("mpjpe", "mpjpe"), ("pa_mpjpe", "pa_mpjpe"), ("mean_loss", "loss")):
        assert found[name] == pytest.approx([row[column] for row in rows], rel=1e-6)


def test_steps_of_a_long_epoch_are_logged(options):
    options = replace(of_kind(options, "gridconv"), batch=1, epochs=2)  # 100 steps an epoch
    train(options)
    assert len(scalars(options)["loss"]) == 4


def test_without_tensorboard(options, monkeypatch):
    for name in ("tensorboard", "torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    assert len(train(options).rows) == 2
    assert not list(options.run.rglob("events*"))


def test_pictures_come_after_the_state(options):
    """An error in drawing must not cost an epoch."""

    def fails(rows, is_best):
        raise RuntimeError("no pen")

    with pytest.raises(RuntimeError, match="no pen"):
        train(options, on_epoch=fails)
    result = train(replace(options, resume=True))
    assert [row["epoch"] for row in result.rows] == [1, 2]
    assert (options.run / "best.safetensors").exists()


def test_the_caller_hears_of_steps_and_epochs(options):
    steps, epochs, starts = [], [], []
    train(
        options,
        on_start=starts.append,
        on_step=lambda *numbers: steps.append(numbers),
        on_epoch=lambda rows, is_best: epochs.append((len(rows), is_best)),
    )
    assert steps == [(0, 1, 2), (0, 2, 2), (1, 1, 2), (1, 2, 2)]
    rows = curves(options)
    assert epochs == [(1, True), (2, rows[1]["mpjpe"] < rows[0]["mpjpe"])]
    assert json.loads((options.run / "config.json").read_text()) == json.loads(
        json.dumps(starts[0])
    )


# --- What a process keeps


def test_the_same_seed_gives_the_same_weights(options, tmp_path):
    counter = count()

    def weights(**changes):
        run = tmp_path / str(next(counter))
        train(replace(options, run=run, **changes))
        return load_file(run / "last.safetensors")

    first = weights()
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    second, other = weights(), weights(seed=1)
    assert all(torch.equal(second[name], value) for name, value in first.items())
    assert not torch.equal(other["w2.branch1_weight"], first["w2.branch1_weight"])


def settings_of_the_process():
    import resource

    import cv2

    return {
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "start": multiprocessing.get_start_method(allow_none=True),
        "opencv": cv2.getNumThreads(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "python": random.getstate(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109
        "stdout": sys.stdout,
        "handlers": list(logging.getLogger().handlers),
        "path": list(sys.path),
    }


def held():
    managed = [kind._instance_dict for kind in (MMLogger, MessageHub, Visualizer)]
    gc.collect()  # what other tests left
    return [len(instances) for instances in managed], len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("fails", [False, True])
def test_training_leaves_the_process_as_it_was(options, tmp_path, fails):
    def once(number):
        changes = {"lr": 1e30} if fails else {}
        try:
            train(replace(options, run=tmp_path / str(number), ema=0.9, **changes))
        except UsageError:
            assert fails

    once(0)  # imports and caches of the first time
    before, kept = settings_of_the_process(), held()
    once(1)
    once(2)
    assert settings_of_the_process() == before
    instances, files = held()
    assert instances == kept[0]
    assert files <= kept[1]  # fewer where something of an earlier test ends meanwhile
