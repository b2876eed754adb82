"""What GPUs run, as far as it runs without one, and the check that needs one."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gridpose.lifting.model.network import NetworkConfig, build_network
from gridpose.lifting.training import graph
from gridpose.lifting.training.graph import Recorder

ROOT = Path(__file__).parents[1]
KINDS = ("gridconv", "dgridconv", "dgridconv_autogrids")


def used_network(kind, **options):
    """With statistics like nobody's at the start."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(kind, hidden=32, **options)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.normal_()
            module.bias.data.normal_()
    return network


@pytest.mark.parametrize("padding", [("c", "z"), ("c", "r"), ("z", "z")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fused_network_answers_the_same(kind, padding):
    network = used_network(kind, padding_mode=padding)
    keypoints = torch.randn(70, 17, 2)
    with torch.inference_mode():
        wanted = network.lift(keypoints)
        network.fuse(torch.float32)
        for size in (1, 2, 70):
            answer = torch.cat([network.lift(part) for part in keypoints.split(size)])
            torch.testing.assert_close(answer, wanted, rtol=0, atol=2e-5)
        network.fuse(torch.bfloat16)
        rough = network.lift(keypoints)
    assert rough.dtype == torch.float32
    assert 0 < (rough - wanted).norm() / wanted.norm() < 0.02


@pytest.mark.parametrize("how", ["load", "train", "copy"])
def test_fused_weights_go_when_weights_may_change(how):
    network, other = used_network("dgridconv"), build_network(NetworkConfig(hidden=32)).eval()
    keypoints = torch.randn(5, 17, 2)
    network.fuse(torch.float32)
    if how == "load":
        network.load_state_dict(other.state_dict())
    elif how == "train":
        network.train().eval()
        with torch.no_grad():
            for mine, its in zip(network.parameters(), other.parameters(), strict=True):
                mine.copy_(its)
            for mine, its in zip(network.buffers(), other.buffers(), strict=True):
                mine.copy_(its)
    else:
        network = copy.deepcopy(network)
        network.load_state_dict(other.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(network.lift(keypoints), other.lift(keypoints))


def test_gradients_do_not_see_a_fused_layer():
    network, keypoints = used_network("dgridconv"), torch.randn(5, 17, 2)
    wanted = network.lift(keypoints).detach()
    network.fuse(torch.bfloat16)
    answer = network.lift(keypoints)
    torch.testing.assert_close(answer.detach(), wanted, rtol=0, atol=2e-5)
    answer.sum().backward()
    assert network.linear_stages[0].w1.branch1_weight.grad.abs().sum() > 0


class Side:
    def wait_stream(self, other):
        pass


def test_steps_are_recorded_when_they_repeat(monkeypatch):
    """With a stand-in for the recording: when one is made, replayed and left aside."""
    made, ran = [], []

    class Recording:
        def __init__(self, passes, parameters, tensors, stream):
            made.append(len(tensors[0]))

        def replay(self, inputs, targets):
            ran.append(("replay", len(inputs)))
            return inputs.sum()

    monkeypatch.setattr(graph, "Recording", Recording)
    monkeypatch.setattr(torch.cuda, "Stream", Side)
    monkeypatch.setattr(torch.cuda, "current_stream", Side)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: torch.no_grad())

    def passes(inputs, targets):
        ran.append(("passes", len(inputs)))
        return inputs.sum()

    recorder = Recorder()
    for size in (4, 2, 4, 4, 4, 4, 4, 2, 4):
        inputs = torch.ones(size)
        assert recorder.run(size, passes, [], inputs, inputs) == size
    assert made == [4]
    assert ran == [("passes", n) for n in (4, 2, 4, 4, 4)] + [
        ("replay", 4),
        ("replay", 4),
        ("passes", 2),
        ("replay", 4),
    ]


def test_a_python_without_pytorch_is_told_at_once(tmp_path):
    done = subprocess.run(
        [sys.executable, "-S", "-I", ROOT / "scripts" / "gpu_check", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "has no PyTorch" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_check_without_a_gpu(tmp_path):
    pytest.importorskip("mmpose", reason="needs mmpose")
    command = [ROOT / "scripts" / "gpu_check", "--device", "cpu", "--small"]
    done = subprocess.run(
        [sys.executable, *command, "--out", tmp_path, "--seconds", "900"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu_check.json").read_text())
    assert {"golden", "lifter", "training", "hrnet", "video", "memory"} == set(report["parts"])
    for name, part in report["parts"].items():
        assert part["problem"] == "", name
        for key, value in part["results"].items():
            assert not (isinstance(value, dict) and "error" in value), (name, key, value)
    golden = report["parts"]["golden"]["results"]
    for kind in KINDS:
        assert golden[f"answers {kind}"]["fp32"] < 1e-4
        assert golden[f"answers {kind}"]["fp32 fused"] < 1e-4
        assert golden[f"gradients {kind}"]["fp32"] < 1e-3
    assert [row["epoch"] for row in report["parts"]["training"]["results"]["resume"]["rows"]] == [
        1,
        2,
    ]
    assert report["parts"]["video"]["results"]["drawn"]["people"] == 2
    assert "## golden" in (tmp_path / "gpu_check.md").read_text()
