import copy
import io
import itertools
import shutil
import threading
from collections.abc import Callable
from typing import Literal, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.model import ExponentialMovingAverage
from test_network import Modes, Shape, reference_conv
from torch import Tensor, nn

from gridpose.lifting.model.layers import DynamicGridConv, GridConv, StaticGridConv
from gridpose.lifting.model.network import Kind, LiftingNetwork, NetworkConfig, build_network

torch.set_num_threads(1)

KINDS: tuple[Kind, ...] = get_args(Kind)
SHAPES: list[Shape] = [(5, 5), (4, 7), (1, 17), (17, 1), (2, 9), (2, 2), (1, 1)]
MODE_PAIRS: list[Modes] = list(itertools.product("czr", repeat=2))  # type: ignore[arg-type]


def literal(layer: GridConv, x: Tensor, attention: Tensor | None) -> Tensor:
    """The sum of two convolutions, each with its padding."""
    height, width = layer.shape
    image = x.transpose(1, 2).reshape(len(x), x.shape[2], height, width)
    out = reference_conv(image, layer.weights(), None, layer.padding_mode, attention)
    bias = layer.bias()
    cells = out.flatten(2).transpose(1, 2)
    return cells if bias is None else cells + bias


Use = Literal["training", "inference", "fused"]


def answer_of(layer: GridConv, use: Use, x: Tensor, attention: Tensor | None) -> Tensor:
    if use == "fused":
        layer.fuse(x.dtype)
    with torch.set_grad_enabled(use == "training"):
        answer: Tensor = layer(x, attention)
    return answer


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)) | st.sampled_from(SHAPES),
    modes=st.sampled_from(MODE_PAIRS),
    use=st.sampled_from(get_args(Use)),
    channels=st.sampled_from([(2, 3), (3, 2)]),
    kind=st.sampled_from([DynamicGridConv, StaticGridConv]),
    bias=st.booleans(),
    with_attention=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=150, deadline=None)
def test_a_layer_equals_two_convolutions(
    shape: Shape,
    modes: Modes,
    use: Use,
    channels: tuple[int, int],
    kind: Callable[..., GridConv],
    bias: bool,
    with_attention: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layer = kind(*channels, shape, modes, bias=bias).double()
    cells = shape[0] * shape[1]
    x = torch.randn(4, cells, channels[0], dtype=torch.float64)
    attention = torch.rand(4, 9 * cells, dtype=torch.float64) if with_attention else None
    answer = answer_of(layer, use, x, attention)
    torch.testing.assert_close(answer, literal(layer, x, attention), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [DynamicGridConv, StaticGridConv])
def test_a_layer_is_exact_in_its_second_derivatives_too(kind: Callable[..., GridConv]) -> None:
    torch.manual_seed(0)
    layer = kind(1, 1, (2, 3), ("c", "r")).double()
    x = torch.randn(1, 6, 1, dtype=torch.float64, requires_grad=True)
    attention = torch.rand(1, 54, dtype=torch.float64, requires_grad=True)

    def apply(x: Tensor, attention: Tensor) -> Tensor:
        answer: Tensor = layer(x, attention)
        return answer

    assert torch.autograd.gradcheck(apply, (x, attention))
    assert torch.autograd.gradgradcheck(apply, (x, attention))


# Weights that change, fused and not


def layer_in_use() -> tuple[GridConv, Tensor, Callable[[], Tensor]]:
    torch.manual_seed(0)
    layer = DynamicGridConv(8, 8, (5, 5), ("c", "z")).eval()
    x = torch.randn(3, 25, 8)

    def infer() -> Tensor:
        with torch.no_grad():
            answer: Tensor = layer(x)
        return answer

    infer()
    return layer, x, infer


def step(layer: GridConv) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    layer(torch.randn(2, 25, 8)).square().sum().backward()
    optimizer.step()


def new_data(layer: GridConv) -> None:
    for parameter in layer.parameters():
        parameter.data = torch.randn_like(parameter)


def swap_as_averaging_does(layer: GridConv) -> None:
    """The sum of all values stays what it was."""
    for parameter in layer.parameters():
        kept = parameter.data.clone()
        parameter.data.copy_(kept.flatten().flip(0).view_as(kept))


def write_one_value_through_data(layer: GridConv) -> None:
    layer.weights()[0].data[3, 4, 1, 2] += 1


def write_in_inference_mode(layer: GridConv) -> None:
    with torch.inference_mode():
        for weight in layer.weights():
            weight.mul_(1.5)


def write_through_numpy(layer: GridConv) -> None:
    for weight in layer.weights():
        values = weight.detach().numpy()
        values *= 1.5


def average(layer: GridConv) -> None:
    averaged = ExponentialMovingAverage(layer, momentum=0.5)
    averaged.update_parameters(layer)  # the first time it copies
    averaged.update_parameters(DynamicGridConv(8, 8, (5, 5), ("c", "z")))
    layer.load_state_dict(averaged.module.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        step,
        new_data,
        swap_as_averaging_does,
        write_one_value_through_data,
        write_in_inference_mode,
        write_through_numpy,
        average,
    ],
)
def test_changed_weights_of_an_unfused_layer_count_at_once(
    change: Callable[[GridConv], None],
) -> None:
    layer, x, infer = layer_in_use()
    before = infer()
    change(layer)
    with torch.no_grad():
        expected = literal(layer, x, None)
    torch.testing.assert_close(infer(), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, before, atol=1e-4)


def train(layer: GridConv) -> None:
    layer.train()


def load(layer: GridConv) -> None:
    layer.load_state_dict(DynamicGridConv(8, 8, (5, 5), ("c", "z")).state_dict())


def load_from_above(layer: GridConv) -> None:
    outer = nn.Sequential(layer)
    outer.load_state_dict(outer.state_dict())


def cast_and_back(layer: GridConv) -> None:
    layer.double().float()


@pytest.mark.parametrize("change", [train, load, load_from_above, cast_and_back])
def test_a_fused_layer_keeps_its_weights_until_it_is_used_otherwise(
    change: Callable[[GridConv], None],
) -> None:
    layer, x, infer = layer_in_use()
    before = infer()
    layer.fuse()
    new_data(layer)
    layer.eval()
    torch.testing.assert_close(infer(), before)
    change(layer)
    assert layer.fused is None
    with torch.no_grad():
        torch.testing.assert_close(infer(), literal(layer, x, None), rtol=1e-5, atol=1e-5)


def test_a_copy_and_a_stored_layer_answer_with_their_own_weights() -> None:
    layer, x, infer = layer_in_use()
    layer.fuse()
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    twin, stored = copy.deepcopy(layer), torch.load(buffer, weights_only=False)
    before = infer()
    load(layer)
    with torch.no_grad():
        for other in (twin, stored):
            torch.testing.assert_close(other(x), before)
    assert not torch.allclose(infer(), before, atol=1e-3)


def test_another_precision_is_taken_up() -> None:
    layer, x, infer = layer_in_use()
    before = infer()
    with torch.no_grad():
        answer = layer.double()(x.double())
    assert answer.dtype == torch.float64
    torch.testing.assert_close(answer.float(), before, rtol=0, atol=1e-5)


def test_training_works_after_inference_mode() -> None:
    layer, x, _ = layer_in_use()
    with torch.inference_mode():
        layer(x)
    layer.train()(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_a_network_built_in_inference_mode_works_in_it() -> None:
    with torch.inference_mode():
        network = build_network(NetworkConfig(hidden=16, blocks=1)).eval()
        poses = torch.randn(3, 17, 2)
        first = network.lift(poses)
        for parameter in network.parameters():
            parameter.mul_(1.1)
        assert not torch.allclose(network.lift(poses), first)


def test_threads_do_not_disturb_each_other() -> None:
    network = build_network(NetworkConfig(hidden=16)).eval()
    poses = torch.randn(6, 17, 2)
    with torch.no_grad():
        wanted = network.lift(poses)
    answers: list[Tensor] = []

    def work() -> None:
        with torch.no_grad():
            for size in (1, 2, 6, 3):
                answers.append(torch.cat([network.lift(part) for part in poses.split(size)]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 16
    for answer in answers:
        torch.testing.assert_close(answer, wanted, rtol=0, atol=1e-5)


def test_indices_move_with_the_layer_and_are_not_stored() -> None:
    layer = StaticGridConv(2, 2, (5, 5), ("c", "z"))
    assert sorted(layer.state_dict()) == [
        "donut_conv.bias",
        "donut_conv.weight",
        "tablet_conv.bias",
        "tablet_conv.weight",
    ]
    assert {buffer.device.type for buffer in layer.to("meta").buffers()} == {"meta"}


# Networks


def network_of(kind: Kind, **values: object) -> tuple[LiftingNetwork, Callable[[int], Tensor]]:
    torch.manual_seed(0)
    network = build_network(NetworkConfig(kind, hidden=16, blocks=1, **values))  # type: ignore[arg-type]
    shape = (17, 2) if kind == "dgridconv_autogrids" else (2, 5, 5)
    return network, lambda count: torch.randn(count, *shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 63, 64, 65, 129])
def test_any_number_of_poses(kind: Kind, count: int) -> None:
    network, poses = network_of(kind)
    network.eval()
    given = poses(count)
    with torch.no_grad():
        answer = network(given)
    with torch.enable_grad():
        torch.testing.assert_close(answer, network(given).detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_one_can_be_trained_on(kind: Kind) -> None:
    network, poses = network_of(kind)
    network.train()
    network(poses(1)).square().sum().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(
    ("kind", "training"),
    [
        pytest.param(kind, training, marks=() if fast else pytest.mark.slow)
        for kind in KINDS
        for training in (False, True)
        for fast in [kind == KINDS[-1] and training]
    ],
)
def test_compiled_networks_answer_the_same(kind: Kind, training: bool) -> None:
    network, poses = network_of(kind, dropout=0.0)
    network.train(training)
    compiled = torch.compile(copy.deepcopy(network), backend="aot_eager")
    given = poses(6)
    for _ in range(2):
        with torch.set_grad_enabled(training):
            answer, wanted = compiled(given), network(given)
        torch.testing.assert_close(answer, wanted, rtol=0, atol=1e-5)
        if training:
            for output, module in ((answer, compiled), (wanted, network)):
                module.zero_grad()
                output.square().sum().backward()
                torch.optim.SGD(module.parameters(), lr=0.01).step()
        else:
            with torch.no_grad():
                for module in (compiled, network):
                    for parameter in module.parameters():
                        parameter.mul_(1.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 7])
def test_autocast_stays_close(kind: Kind, count: int) -> None:
    network, poses = network_of(kind)
    network.eval()
    given = poses(count)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            exact = network(given)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                rough = network(given).float()
        assert ((rough - exact).norm() / exact.norm()).item() < 0.05


def test_batch_norm_may_be_replaced() -> None:
    """As torch does for several GPUs: the network calls what lies under the name."""
    network, poses = network_of("dgridconv")
    seen: list[str] = []

    class Watching(nn.Module):
        def __init__(self, norm: nn.Module, name: str) -> None:
            super().__init__()
            self.norm, self.name = norm, name

        def forward(self, x: Tensor) -> Tensor:
            seen.append(self.name)
            answer: Tensor = self.norm(x)
            return answer

    norms = [
        n for n, m in network.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    for name in norms:
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, Watching(network.get_submodule(name), name))
    network.train()(poses(3))
    assert sorted(seen) == sorted(norms)


def test_weights_given_for_one_call_count_for_that_call() -> None:
    layer, x, infer = layer_in_use()
    before = infer()
    other = DynamicGridConv(8, 8, (5, 5), ("c", "z"))
    with torch.no_grad():
        answer = torch.func.functional_call(layer, dict(other.named_parameters()), (x,))
        torch.testing.assert_close(answer, other(x))
    torch.testing.assert_close(infer(), before, rtol=0, atol=0)


def test_weights_may_be_computed_from_others() -> None:
    layer, x, infer = layer_in_use()
    nn.utils.parametrizations.weight_norm(layer, "branch1_weight")
    for factor in (1.0, 2.0, 0.5):
        with torch.no_grad():
            layer.parametrizations["branch1_weight"].original0.mul_(factor)
            expected = literal(layer, x, None)
        torch.testing.assert_close(infer(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_built_in_inference_mode_can_be_trained(kind: Kind) -> None:
    with torch.inference_mode():
        network, poses = network_of(kind)
        network.eval()(poses(3))
        given = poses(3)
    network(given.clone())
    network.train()(given.clone()).square().sum().backward()
    torch.optim.Adam(network.parameters()).step()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("poses_at_once", [1, 2, 5, 70])
def test_a_pose_that_is_no_number_spoils_no_other(kind: Kind, poses_at_once: int) -> None:
    network, poses = network_of(kind)
    network.eval()
    given = poses(70)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            wanted = network(given)
            spoilt = given.clone()
            spoilt[4] = torch.nan
            answer = torch.cat([network(part) for part in spoilt.split(poses_at_once)])
        assert answer[4].isnan().all()
        others = torch.arange(70) != 4
        torch.testing.assert_close(answer[others], wanted[others], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_without_memory_have_shapes(kind: Kind) -> None:
    with torch.device("meta"):
        network, poses = network_of(kind)
        given = poses(5)
        assert network(given).is_meta
        with torch.no_grad():
            assert network.eval()(given).shape == ((5, 17, 3) if given.dim() == 3 else (5, 3, 5, 5))
    assert {tensor.device.type for tensor in [*network.parameters(), *network.buffers()]} == {
        "meta"
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_any_precision(kind: Kind, dtype: torch.dtype) -> None:
    network, poses = network_of(kind)
    given = poses(5)
    with torch.no_grad():
        exact = network.eval()(given)
        answer = network.to(dtype)(given.to(dtype))
    assert answer.dtype == dtype
    assert (answer.float() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_networks_built_in_double_precision(kind: Kind) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        network, poses = network_of(kind)
        answer = network(poses(3))
    finally:
        torch.set_default_dtype(torch.float32)
    assert answer.dtype == torch.float64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("training", [False, True])
def test_autocast_is_finite_and_keeps_gradients_whole(
    kind: Kind, dtype: torch.dtype, training: bool
) -> None:
    network, poses = network_of(kind, dropout=0.0)
    network.train(training)
    given = poses(8)
    twin = copy.deepcopy(network)
    exact = twin(given)
    exact.square().sum().backward()
    with torch.autocast("cpu", dtype=dtype):
        rough = network(given)
    assert rough.dtype == torch.float32  # millimetres are not rounded
    rough.float().square().sum().backward()
    assert (rough.float() - exact).norm() < 0.05 * exact.norm()
    for (name, mine), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
        if theirs.grad is None:
            continue
        assert mine.grad is not None
        assert mine.grad.dtype == torch.float32
        assert mine.grad.isfinite().all(), name
    flat = [
        torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
        for module in (network, twin)
    ]
    assert torch.cosine_similarity(*flat, dim=0) > 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_networks_are_one_graph_that_new_weights_leave_alone(kind: Kind) -> None:
    torch._dynamo.reset()
    network, poses = network_of(kind)
    network.eval()
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(network, backend=backend, fullgraph=True)
    given = poses(6)
    with torch.no_grad():
        for factor in (1.0, 1.1, 0.9, 1.2):
            for parameter in network.parameters():
                parameter.mul_(factor)
            torch.testing.assert_close(compiled(given), network(given), rtol=0, atol=1e-5)
    assert len(graphs) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("training", [False, True])
def test_inductor_gives_the_same(training: bool) -> None:
    torch._dynamo.reset()
    network, poses = network_of("dgridconv_autogrids", dropout=0.0)
    twin = copy.deepcopy(network)
    compiled = torch.compile(network.train(training), backend="inductor", fullgraph=True)
    twin.train(training)
    for batch in (poses(6), poses(6)):
        with torch.set_grad_enabled(training):
            answer, wanted = compiled(batch), twin(batch)
        torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-4)
        if training:
            answer.square().sum().backward()
            wanted.square().sum().backward()
    if training:
        for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_configs_from_lists_are_those_from_tuples(kind: Kind) -> None:
    lists = NetworkConfig(kind, grid_shape=[5, 5], padding_mode=["c", "r"])  # type: ignore[arg-type]
    assert lists == NetworkConfig(kind, grid_shape=(5, 5), padding_mode=("c", "r"))
    assert build_network(lists).eval().lift(torch.randn(2, 17, 2)).shape == (2, 17, 3)
