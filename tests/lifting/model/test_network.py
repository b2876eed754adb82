import itertools
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gridpose.lifting.lifter import Lifter
from gridpose.lifting.model.layers import DynamicGridConv, GridAttention, PaddingMode
from gridpose.lifting.model.network import LiftingNetwork, NetworkConfig, build_network
from gridpose.lifting.weights.checkpoint import Checkpoint

torch.set_num_threads(1)  # threads only wait for each other on matrices this small

DATA = Path(__file__).parents[2] / "data"
GOLDEN = dict(np.load(DATA / "golden_dgridconv_cz.npz"))
STATE = {
    key.removeprefix("state/"): torch.from_numpy(value)
    for key, value in GOLDEN.items()
    if key.startswith("state/")
}
TORCH_NAME = {"c": "circular", "z": "constant", "r": "replicate"}
MODE_PAIRS = list(itertools.product("czr", repeat=2))
SHAPES = [(5, 5), (4, 7), (3, 6)]

Modes = tuple[PaddingMode, PaddingMode]
Shape = tuple[int, int]


def reference_conv(
    x: Tensor,
    weights: tuple[Tensor, Tensor],
    biases: tuple[Tensor, Tensor] | None,
    modes: Modes,
    attention: Tensor | None,
) -> Tensor:
    """The layer as the design page words it, on ``(B, C, H, W)``: two separate convolutions."""
    batch, channels, height, width = x.shape
    cells = height * width
    out = x.new_zeros(batch, len(weights[0]), cells)
    for branch in (0, 1):
        padded = F.pad(x, (1, 1, 1, 1), mode=TORCH_NAME[modes[branch]])
        taps = F.unfold(padded, 3).reshape(batch, channels, 9, cells)
        if attention is not None:
            taps = taps * attention.reshape(batch, 1, 9, cells)
        kernel = weights[branch].reshape(-1, channels * 9)
        out = out + kernel @ taps.reshape(batch, channels * 9, cells)
        if biases is not None:
            out = out + biases[branch][:, None]
    return out.reshape(batch, -1, height, width)


def reference_attention(x: Tensor, state: dict[str, Tensor], temperature: float) -> Tensor:
    """``(B, C, H, W)`` -> ``(B, 9, H, W)``; BatchNorm with its running statistics."""
    batch, _, height, width = x.shape
    pooled = F.adaptive_avg_pool2d(x, 1)
    hidden = F.conv2d(pooled, state["fc.weight"])
    hidden = F.batch_norm(
        hidden,
        state["bn.running_mean"],
        state["bn.running_var"],
        state["bn.weight"],
        state["bn.bias"],
    )
    logits = F.conv2d(F.relu(hidden), state["position_fc.weight"], state["position_fc.bias"])
    return torch.sigmoid(logits / temperature).reshape(batch, 9, height, width)


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def reference_network(grid: Tensor, state: dict[str, Tensor], config: NetworkConfig) -> Tensor:
    """The whole network in eval mode, with ordinary image tensors."""

    def layer(x: Tensor, prefix: str, number: int) -> Tensor:
        conv = part(state, f"{prefix}w{number}.")
        biases = (conv["branch1_bias"], conv["branch2_bias"]) if "branch1_bias" in conv else None
        attention = reference_attention(
            x, part(state, f"{prefix}atten_conv{number}."), config.temperature
        )
        weights = (conv["branch1_weight"], conv["branch2_weight"])
        return reference_conv(x, weights, biases, config.padding_mode, attention)

    def activate(x: Tensor, prefix: str, number: int) -> Tensor:
        norm = part(state, f"{prefix}batch_norm{number}.")
        return F.relu(
            F.batch_norm(x, norm["running_mean"], norm["running_var"], norm["weight"], norm["bias"])
        )

    x = activate(layer(grid, "", 1), "", 1)
    for block in range(config.blocks):
        prefix = f"linear_stages.{block}."
        y = activate(layer(x, prefix, 1), prefix, 1)
        x = x + activate(layer(y, prefix, 2), prefix, 2)
    return layer(x, "", 2)


def as_cells(image: Tensor) -> Tensor:
    return image.flatten(2).transpose(1, 2)


def golden_network(temperature: float = 1.0, dropout: float = 0.25) -> LiftingNetwork:
    network = build_network(NetworkConfig(hidden=16, temperature=temperature, dropout=dropout))
    network.load_state_dict(STATE)
    return network.eval()


def scrambled_network(config: NetworkConfig, seed: int = 0) -> LiftingNetwork:
    """Every parameter and running statistic is random, so that none can be left out."""
    generator = torch.Generator().manual_seed(seed)
    network = build_network(config)
    state = {}
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            state[name] = value
        elif name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(value.shape, generator=generator)
        else:
            state[name] = 0.3 * torch.randn(value.shape, generator=generator)
    network.load_state_dict(state)
    return network.eval()


@pytest.mark.parametrize(("temperature", "suffix"), [(1.0, ""), (30.0, "_T30")])
def test_network_answers_as_the_published_code(temperature: float, suffix: str) -> None:
    with torch.no_grad():
        out = golden_network(temperature)(torch.from_numpy(GOLDEN["grid_in"]))
    np.testing.assert_allclose(out, GOLDEN[f"grid_out{suffix}"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("temperature", "suffix"), [(1.0, ""), (30.0, "_T30")])
def test_lifter_answers_as_the_published_code(temperature: float, suffix: str) -> None:
    config = NetworkConfig(hidden=16, temperature=temperature)
    lifter = Lifter(Checkpoint(config, STATE, "published"), batch_size=10)
    poses = lifter.lift_normalized(GOLDEN["poses_2d"])
    np.testing.assert_allclose(poses, GOLDEN[f"poses_3d{suffix}"], rtol=0, atol=1e-4)


def test_a_training_step_is_that_of_the_published_code() -> None:
    golden = np.load(DATA / "golden_train_step.npz")
    network = golden_network(dropout=0.0).train()
    out = network(torch.from_numpy(GOLDEN["grid_in"]))
    loss = F.mse_loss(out, torch.from_numpy(golden["target"]))
    loss.backward()

    np.testing.assert_allclose(out.detach(), golden["output"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(loss.item(), golden["loss"], rtol=1e-5)
    gradients = {name: value.grad for name, value in network.named_parameters()}
    buffers = dict(network.named_buffers())
    compared = 0
    for key in golden:
        kind, _, name = key.partition("/")
        if kind == "grad":
            scale = np.abs(golden[key]).max()
            np.testing.assert_allclose(gradients[name], golden[key], rtol=0, atol=1e-4 * scale)
        elif kind == "after":
            np.testing.assert_allclose(buffers[name], golden[key], rtol=1e-5, atol=1e-5)
        compared += kind in ("grad", "after")
    assert compared > 50


@pytest.mark.parametrize("with_attention", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("modes", MODE_PAIRS, ids="".join)
def test_layer_and_its_gradients_equal_the_literal_one(
    modes: Modes, shape: Shape, with_attention: bool
) -> None:
    generator = torch.Generator().manual_seed(1)

    def random(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    layer = DynamicGridConv(3, 4, shape, modes).double()
    image = random(2, 3, *shape).requires_grad_()
    attention = random(2, 9 * shape[0] * shape[1]).sigmoid().requires_grad_()
    used = attention if with_attention else None
    leaves = [image, *layer.parameters()] + ([attention] if with_attention else [])
    towards = random(2, 4, *shape)

    out = layer(as_cells(image), used).transpose(1, 2).reshape(2, 4, *shape)
    assert layer.branch1_bias is not None
    assert layer.branch2_bias is not None
    expected = reference_conv(
        image,
        (layer.branch1_weight, layer.branch2_weight),
        (layer.branch1_bias, layer.branch2_bias),
        modes,
        used,
    )
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    gradients = torch.autograd.grad((out * towards).sum(), leaves)
    expected_gradients = torch.autograd.grad((expected * towards).sum(), leaves)
    torch.testing.assert_close(gradients, expected_gradients, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("modes", "shape"), [(("c", "z"), (3, 3)), (("r", "c"), (3, 4)), (("z", "z"), (3, 3))]
)
def test_layer_passes_gradcheck(modes: Modes, shape: Shape) -> None:
    torch.manual_seed(0)
    layer = DynamicGridConv(2, 1, shape, modes).double()
    cells = shape[0] * shape[1]
    x = torch.randn(1, cells, 2, dtype=torch.float64, requires_grad=True)
    attention = torch.rand(1, 9 * cells, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def apply(x: Tensor, attention: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, given, (x, attention))

    assert torch.autograd.gradcheck(apply, (x, attention, *layer.parameters()))


@pytest.mark.parametrize("modes", MODE_PAIRS, ids="".join)
def test_static_layer_is_the_sum_of_two_ordinary_convolutions(modes: Modes) -> None:
    torch.manual_seed(0)
    layer = DynamicGridConv(2, 3, (5, 5), modes).double()
    names = {"c": "circular", "z": "zeros", "r": "replicate"}
    image = torch.randn(4, 2, 5, 5, dtype=torch.float64)
    expected = torch.zeros(4, 3, 5, 5, dtype=torch.float64)
    parameters = dict(layer.named_parameters())
    for branch, mode in enumerate(modes, start=1):
        conv = torch.nn.Conv2d(2, 3, 3, padding=1, padding_mode=names[mode]).double()
        conv.load_state_dict(
            {kind: parameters[f"branch{branch}_{kind}"] for kind in ("weight", "bias")}
        )
        expected = expected + conv(image)
    torch.testing.assert_close(layer(as_cells(image)), as_cells(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("channels", "hidden"), [(2, 16), (256, 16), (512, 32)])
def test_attention_is_a_sixteenth_as_wide_but_not_below_sixteen(channels: int, hidden: int) -> None:
    attention = GridAttention(channels, (5, 5), 1.0)
    assert attention.fc.weight.shape == (hidden, channels, 1, 1)
    assert attention.position_fc.weight.shape == (225, hidden, 1, 1)


def test_attention_of_one_everywhere_is_a_static_layer() -> None:
    layer = DynamicGridConv(2, 3, (4, 7), ("c", "r"))
    x = torch.randn(2, 28, 2)
    torch.testing.assert_close(layer(x, torch.ones(2, 9 * 28)), layer(x))


@pytest.mark.parametrize("temperature", [1.0, 30.0])
def test_attention_equals_the_literal_one(temperature: float) -> None:
    torch.manual_seed(0)
    attention = GridAttention(40, (4, 7), temperature).double().eval()
    for buffer in (attention.bn.running_mean, attention.bn.running_var):
        assert buffer is not None
        buffer.uniform_(0.5, 2)
    torch.nn.init.normal_(attention.position_fc.bias)
    image = torch.randn(3, 40, 4, 7, dtype=torch.float64)
    expected = reference_attention(image, dict(attention.state_dict()), temperature)
    actual = attention(as_cells(image))
    torch.testing.assert_close(actual, expected.flatten(1), rtol=0, atol=1e-12)
    assert ((actual > 0) & (actual < 1)).all()


@pytest.mark.parametrize(
    ("modes", "shape", "blocks", "temperature"),
    [
        (("c", "z"), (5, 5), 2, 1.0),
        (("c", "r"), (5, 5), 1, 30.0),
        (("z", "c"), (4, 7), 1, 2.0),
        (("r", "z"), (3, 6), 3, 1.0),
    ],
)
def test_network_equals_the_literal_one(
    modes: Modes, shape: Shape, blocks: int, temperature: float
) -> None:
    config = NetworkConfig("dgridconv", 16, blocks, shape, modes, temperature)
    network = scrambled_network(config).double()
    grid = torch.randn(3, 2, *shape, dtype=torch.float64)
    with torch.no_grad():
        expected = reference_network(grid, network.state_dict(), config)
        torch.testing.assert_close(network(grid), expected, rtol=1e-9, atol=1e-9)


def test_state_has_the_keys_and_shapes_of_published_checkpoints() -> None:
    lines = (DATA / "state_dict_keys_dgridconv.txt").read_text().splitlines()
    published = {}
    for line in lines:
        name, _, rest = line.strip().partition(" ")
        shape, _, dtype = rest.rpartition(" ")
        published[name] = (shape, dtype)
    state = build_network(NetworkConfig(hidden=256, blocks=2)).state_dict()
    assert {k: (str(tuple(v.shape)), str(v.dtype)) for k, v in state.items()} == published


def test_parameters_are_as_many_as_published() -> None:
    network = build_network(NetworkConfig(hidden=256, blocks=2))
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_790_406


def test_one_pose_alone_gets_the_same_answer_as_in_a_batch() -> None:
    network = golden_network()
    grid = torch.from_numpy(GOLDEN["grid_in"])
    with torch.no_grad():
        torch.testing.assert_close(network(grid[7:8]), network(grid)[7:8], rtol=0, atol=1e-5)


def test_new_weights_are_seen_at_once() -> None:
    config = NetworkConfig(hidden=16, blocks=1)
    network = scrambled_network(config, seed=1)
    other = scrambled_network(config, seed=2)
    grid = torch.randn(2, 2, 5, 5)
    with torch.no_grad():
        before = network(grid)
        for parameter in network.parameters():
            parameter.mul_(1.5)
        expected = reference_network(grid, network.state_dict(), config)
        torch.testing.assert_close(network(grid), expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(network(grid), before, atol=1e-3)
        network.load_state_dict(other.state_dict())
        torch.testing.assert_close(network(grid), other(grid))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = golden_network(dropout=0.5)
    grid = torch.from_numpy(GOLDEN["grid_in"])
    with torch.no_grad():
        torch.testing.assert_close(network(grid), network(grid), rtol=0, atol=0)
        network.train()
        assert not torch.allclose(network(grid), network(grid), atol=1e-2)


def test_autocast_to_bfloat16_stays_close() -> None:
    network = golden_network()
    grid = torch.from_numpy(GOLDEN["grid_in"])
    with torch.no_grad():
        exact = network(grid)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(grid).float()
    assert not torch.equal(rough, exact)
    error = (rough - exact).norm() / exact.norm()
    assert error < 0.03


def test_config_survives_a_trip_through_a_dict() -> None:
    config = NetworkConfig("dgridconv", 24, 3, (4, 7), ("r", "c"), 7.5, 0.1)
    values = {**asdict(config), "grid_shape": [4, 7], "padding_mode": ["r", "c"]}
    assert NetworkConfig(**values) == config
    with pytest.raises(TypeError):
        NetworkConfig(**values, unknown=1)


def test_a_network_can_be_trained_after_inference_in_the_same_process() -> None:
    config = NetworkConfig(hidden=16, blocks=0, grid_shape=(3, 7))  # a shape nobody else uses
    network = build_network(config).eval()
    with torch.inference_mode():
        network(torch.randn(2, 2, 3, 7))
    network(torch.randn(2, 2, 3, 7)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
