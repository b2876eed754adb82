"""``gridpose models convert`` and ``show`` at the command line, and the picture of a grid."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from gridpose.core import JOINT_NAMES
from gridpose.lifting import load_lifter
from gridpose.lifting.model.network import NetworkConfig, build_network
from gridpose.lifting.weights.checkpoint import read_checkpoint
from gridpose.storage import sha256
from gridpose.visualize.grid import draw_grid

torch.set_num_threads(1)  # threads only wait for each other on matrices this small

DATA = Path(__file__).parents[2] / "data"
PUBLISHED = DATA / "published_gridconv.pth.tar"


@pytest.fixture
def published(tmp_path):
    """``published(name, kind, ...)``: a checkpoint as the published code writes it."""

    def make(name="hrnet.pth.tar", kind="dgridconv", change=None, **changes):
        torch.manual_seed(0)
        values = {"hidden": 8, "blocks": 1, "keep_joints": False, **changes}
        state = build_network(NetworkConfig(kind=kind, **values)).state_dict()
        if change is not None:
            change(state)
        torch.save({"epoch": 9, "lr": 1e-3, "error": 50.25, "state_dict": state}, tmp_path / name)
        return tmp_path / name

    return make


# convert


def test_convert_keeps_every_number(invoke, tmp_path):
    output = tmp_path / "lifter.safetensors"
    result = invoke("models", "convert", PUBLISHED, "-o", output)
    assert result.exit_code == 0, result.stderr
    assert "gridconv, 16 channels, 2 blocks, grid 5x5" in result.stdout
    golden = np.load(DATA / "published_gridconv.npz")
    poses = load_lifter(output).lift_normalized(golden["poses_2d"])
    assert np.abs(poses - golden["poses_3d"]).max() < 1e-4


def test_convert_says_what_it_found_and_assumed(invoke, published, tmp_path):
    output = tmp_path / "lifter.safetensors"
    result = invoke("models", "convert", published(), "-o", output, "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["output"] == str(output)
    assert answer["sha256"] == sha256(output.read_bytes())
    assert answer["lifting_model"] == "dgridconv"
    assert (answer["hidden"], answer["blocks"], answer["grid_shape"]) == (8, 1, [5, 5])
    assert (answer["padding_mode"], answer["temperature"]) == (["c", "z"], 30)
    network = build_network(NetworkConfig(hidden=8, blocks=1))
    assert answer["parameters"] == sum(p.numel() for p in network.parameters())
    assert len(answer["notices"]) == 2
    for notice in answer["notices"]:
        assert f"warning: {notice}" in result.stderr
    assert "hrnet*" in result.stderr


@pytest.mark.parametrize("join", ["-", "_"])
def test_convert_takes_options_in_both_spellings(invoke, published, tmp_path, join):
    output = tmp_path / "lifter.safetensors"
    options = {
        "--lifting_model": ["dgridconv_autogrids"],
        "--padding_mode": ["r", "c"],
        "--temperature": [2.5],
        "--grid_shape": [4, 9],
    }
    given = [
        part for name, values in options.items() for part in (name.replace("_", join), *values)
    ]
    file = published(kind="dgridconv_autogrids", grid_shape=(4, 9))
    result = invoke("models", "convert", file, "-o", output, *given)
    assert result.exit_code == 0, result.stderr
    assert "warning" not in result.stderr
    network = read_checkpoint(output).network
    assert network.kind == "dgridconv_autogrids"
    assert network.padding_mode == ("r", "c")
    assert network.temperature == 2.5
    assert network.grid_shape == (4, 9)
    assert not network.keep_joints


def test_convert_to_half_precision(invoke, published, tmp_path):
    sizes, states = [], []
    for precision in ("fp32", "fp16"):
        output = tmp_path / f"{precision}.safetensors"
        file = published(hidden=64)
        result = invoke("models", "convert", file, "-o", output, "--precision", precision)
        assert result.exit_code == 0, result.stderr
        assert precision in result.stdout
        sizes.append(output.stat().st_size)
        states.append(read_checkpoint(output).state)
    assert sizes[1] < 0.6 * sizes[0]
    for name, value in states[0].items():
        assert torch.allclose(states[1][name], value, rtol=1e-3, atol=1e-6), name


def test_numbers_too_large_for_half_precision(invoke, published, tmp_path):
    file = published(change=lambda state: state["batch_norm1.running_var"].fill_(1e6))
    output = tmp_path / "x.safetensors"
    result = invoke("models", "convert", file, "-o", output, "--precision", "fp16")
    assert result.exit_code == 3
    assert "batch_norm1.running_var is too large for fp16; use fp32" in result.stderr
    assert not output.exists()


def one_sentence(result, code):
    """The error that a command ends with."""
    assert result.exit_code == code, (result.stdout, result.stderr)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.stderr
    return lines[0]


def test_convert_refuses_what_it_cannot_use(invoke, published, tmp_path):
    output = tmp_path / "x.safetensors"

    def error(code, source, *options):
        text = one_sentence(invoke("models", "convert", source, "-o", output, *options), code)
        assert not output.exists()
        return text

    assert "nothing.pth.tar" in error(4, tmp_path / "nothing.pth.tar")
    (tmp_path / "text.pth.tar").write_text("hello")
    assert "text.pth.tar: damaged" in error(3, tmp_path / "text.pth.tar")
    shutil.copyfile(PUBLISHED, tmp_path / "cut.pth.tar")
    os.truncate(tmp_path / "cut.pth.tar", 100_000)
    assert "cut.pth.tar: damaged" in error(3, tmp_path / "cut.pth.tar")
    file = published(grid_shape=(4, 7))
    assert "give --grid-shape HEIGHT WIDTH" in error(3, file)
    assert "28 cells, not 5x5" in error(2, file, "--grid-shape", 5, 5)
    file = published()
    assert "its lifting model is dgridconv, not gridconv" in error(
        2, file, "--lifting-model", "gridconv"
    )
    for options in (("--padding-mode", "c", "x"), ("--temperature", 0), ("--temperature", "nan")):
        error(2, file, *options)


def test_convert_refuses_code(invoke, tmp_path):
    class Exploit:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/canary",)

    torch.save({"state_dict": {}, "optimizer": Exploit()}, tmp_path / "evil.pth.tar")
    output = tmp_path / "x.safetensors"
    text = one_sentence(invoke("models", "convert", tmp_path / "evil.pth.tar", "-o", output), 3)
    assert "evil.pth.tar: refused" in text
    assert ".system" in text
    assert not (tmp_path / "canary").exists()
    assert not output.exists()


def test_convert_guards_results(invoke, published, tmp_path):
    output = tmp_path / "x.safetensors"
    output.write_text("precious")
    file = published()
    assert "--overwrite" in one_sentence(invoke("models", "convert", file, "-o", output), 2)
    assert output.read_text() == "precious"
    assert invoke("models", "convert", file, "-o", output, "--overwrite").exit_code == 0
    again = invoke("models", "convert", output, "-o", tmp_path / "y.safetensors")
    assert "is safetensors already" in one_sentence(again, 3)
    named = invoke("models", "convert", file, "-o", tmp_path / "y.pth")
    assert "must end in .safetensors" in one_sentence(named, 2)


# show


def test_show_the_shipped_lifter(invoke):
    result = invoke("models", "show", "default")
    assert result.exit_code == 0, result.stderr
    lifter = load_lifter()
    for text in (lifter.weights_sha256, "dgridconv, 192 channels", "2,713,862", "person"):
        assert text in result.stdout
    lines = result.stdout.splitlines()
    grid = lines[lines.index("handcrafted grid") + 1 :]
    assert [line.split()[::2] for line in grid[:2]] == [["7"] * 5, ["0", "8", "8", "8", "0"]]
    assert "8+9 thorax+nose" in grid[2]
    assert grid[4].split()[0] == "3"


def test_show_as_json(invoke):
    result = invoke("models", "show", "default", "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["lifter"] == "default"
    assert answer["sha256"] == load_lifter().weights_sha256
    assert answer["normalisation"] == "person"
    assert answer["metrics"]["exact_mpjpe"] == 28.83
    assert answer["grid"][2] == [[1], [14], [8, 9], [11], [4]]
    assert answer["joints_without_cell"] == []
    assert answer["picture"] is None


def test_show_a_learned_grid_with_a_lost_joint(invoke, published, tmp_path):
    rows = [[9, 7, 7, 10, 7], [13, 8, 10, 15, 16], [9, 12, 7, 14, 1], [4, 5, 7, 3, 11]]
    rows.append([7, 6, 9, 2, 14])

    def learn(state):
        scores = torch.rand(25, 17)
        scores[range(25), np.ravel(rows).tolist()] += 2
        state["sgt_layer.sgt_trans_mat"] = scores[None]

    file = published(kind="dgridconv_autogrids", change=learn)
    answer = json.loads(invoke("models", "show", file, "--json").stdout)
    assert answer["grid"] == [[[joint] for joint in row] for row in rows]
    assert answer["joints_without_cell"] == [0]
    assert answer["training"] == {
        "source": "hrnet.pth.tar",
        "epoch": 9,
        "lr": 1e-3,
        "error": 50.25,
    }
    result = invoke("models", "show", file, "-o", tmp_path / "grid.png")
    assert "learned grid" in result.stdout
    assert "without a cell: 0 hip" in result.stdout
    assert "note: padding modes c z" in result.stderr
    assert (tmp_path / "grid.png").exists()


def test_show_takes_what_a_published_file_does_not_say(invoke, published):
    options = ("--padding_mode", "c", "r", "--temperature", 3, "--grid_shape", 4, 7)
    result = invoke("models", "show", published(grid_shape=(4, 7)), *options, "--json")
    answer = json.loads(result.stdout)
    assert answer["padding_mode"] == ["c", "r"]
    assert answer["temperature"] == 3
    assert answer["grid"] == []
    assert "note" not in result.stderr


def test_a_grid_without_joints_is_not_drawn(invoke, published, tmp_path):
    file = published(grid_shape=(4, 7))
    result = invoke("models", "show", file, "--grid-shape", 4, 7)
    assert "no joints are laid out" in result.stdout
    picture = tmp_path / "grid.png"
    drawn = invoke("models", "show", file, "--grid-shape", 4, 7, "-o", picture)
    assert "no joints are laid out" in one_sentence(drawn, 2)
    assert not picture.exists()


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_grid_is_drawn(invoke, tmp_path, suffix):
    picture = tmp_path / f"grid{suffix}"
    result = invoke("models", "show", "default", "-o", picture, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["picture"] == str(picture)
    assert picture.stat().st_size > 5000
    assert "--overwrite" in one_sentence(invoke("models", "show", "default", "-o", picture), 2)


def test_show_refuses_what_is_no_lifter(invoke, tmp_path):
    assert "nothing.pth" in one_sentence(invoke("models", "show", tmp_path / "nothing.pth"), 4)
    (tmp_path / "x.pth").write_bytes(b"\x80\x02cos\nsystem\n(X\x01\x00\x00\x00atR.")
    assert "call os.system" in one_sentence(invoke("models", "show", tmp_path / "x.pth"), 3)
    wrong = invoke("models", "show", "default", "-o", tmp_path / "grid.mp4")
    assert ".png, .pdf, .svg" in one_sentence(wrong, 2)


@pytest.mark.parametrize("command", ["convert", "show"])
def test_help_has_examples(invoke, command):
    result = invoke("models", command, "--help")
    assert result.exit_code == 0
    assert f"gridpose models {command} " in result.stdout


# The picture itself


def pixels(cells, tmp_path, **options):
    """(height, width, 3) in [0, 255], and pixels to the inch."""
    figure = draw_grid(cells, **options)
    figure.savefig(tmp_path / "grid.png", dpi=100)
    return (imread(tmp_path / "grid.png")[..., :3] * 255).round(), figure


def centre_of(figure, row, column):
    """Where a cell's place lies in the picture, pixels (x, y) from the top left."""
    x, y = figure.axes[0].transData.transform((column, row))
    return round(x), round(figure.bbox.height - y)


def test_cells_are_coloured_by_limb_and_labelled(tmp_path):
    cells = [[(1,), (4,)], [(7,), (8, 9)]]
    image, figure = pixels(cells, tmp_path)
    for place, colour in (((0, 0), (100, 143, 255)), ((0, 1), (255, 176, 0))):
        x, y = centre_of(figure, place[0] - 0.25, place[1] - 0.3)
        assert np.abs(image[y, x] - colour).max() < 3
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [
        "1", "right hip", "4", "left hip", "7", "spine", "8 + 9", "thorax + nose",
    ]  # fmt: skip


def test_neighbours_are_linked_where_bones_or_joints_are_shared(tmp_path):
    # Above: shared joint, bone, nothing. Below: a bone from (0, 2) along the diagonal to (1, 1).
    image, figure = pixels([[(7,), (7,), (0,)], [(16,), (4,), (13,)]], tmp_path)

    def linked(row, column):
        x, y = centre_of(figure, row, column)
        return image[y, x].max() > 90

    assert linked(0, 0.5)
    assert linked(0, 1.5)
    assert linked(0.5, 1.5)
    assert not linked(0.5, 0)
    assert not linked(0.5, 0.5)
    assert not linked(1, 0.5)
    assert not linked(1, 1.5)


def test_every_joint_of_the_paper_is_in_the_picture(tmp_path):
    figure = draw_grid(load_cells(), "default")
    names = " + ".join(text.get_text() for text in figure.axes[0].texts).split(" + ")
    assert {name.replace(" ", "_") for name in names} >= set(JOINT_NAMES)


def load_cells():
    from gridpose.lifting.model.sgt import sgt_matrices

    to_grid, _ = sgt_matrices(torch.device("cpu"), torch.float32)
    cells = [tuple(row.nonzero().flatten().tolist()) for row in to_grid]
    return [cells[row * 5 : row * 5 + 5] for row in range(5)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (9, 2), (5, 5)])
def test_nothing_leaves_the_picture(shape, tmp_path):
    cells = [[(8, 9)] * shape[1]] * shape[0]
    figure = draw_grid(cells, title="a name of a file that is far too long" * 5, note="note")
    renderer = figure.canvas.get_renderer()
    width, height = figure.bbox.size
    for text in [*figure.texts, *figure.axes[0].texts]:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width, text
        assert box.y1 <= height
    # Names stay inside their cells.
    for text in figure.axes[0].texts:
        cell = figure.axes[0].patches[0].get_window_extent(renderer)
        assert text.get_window_extent(renderer).width < cell.width


@pytest.mark.parametrize("cells", [[], [[]], [[(1,)], []], [[(1,), (2,)], [(3,)]]])
def test_a_grid_has_rows_of_one_length(cells):
    with pytest.raises(ValueError, match="rows of a grid"):
        draw_grid(cells)
