"""``gridpose eval`` as a user of the published program meets it."""

import contextlib
import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gridpose.lifting.data.dataset import load_dataset, write_dataset
from gridpose.lifting.evaluation import evaluate
from gridpose.lifting.lifter import load_lifter
from gridpose.lifting.model.network import NetworkConfig
from gridpose.lifting.weights.checkpoint import Checkpoint, save_checkpoint

NETWORK = dict(np.load(Path(__file__).parents[2] / "data" / "golden_dgridconv_cz.npz"))
POINTS = NETWORK["poses_2d"] * 500 + 500
KEYS = [
    ("S9", "Walking", "Walking 1.54138969"),
    ("S9", "Greeting", "Greeting.54138969"),  # drifts: out with detected 2D
    ("S11", "Directions", "Directions.60457274"),  # always out
    ("S11", "Eating", "Eating.60457274"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    state = {
        key.removeprefix("state/"): torch.from_numpy(value)
        for key, value in NETWORK.items()
        if key.startswith("state/")
    }
    file = tmp_path_factory.mktemp("run") / "best.safetensors"
    config = NetworkConfig(hidden=16, padding_mode=("c", "z"), temperature=30.0)
    save_checkpoint(Checkpoint(config, state, "published"), file)
    return file


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """The same frames as ``gt`` and as ``hrnet``; both halves."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    data2d, data3d = {}, {}
    for number, key in enumerate(KEYS):
        part = slice(8 * number, 8 * number + 8)
        data2d[key] = POINTS[part].reshape(8, 34)
        joints = NETWORK["poses_3d_T30"][part] * 1000 + generator.normal(0, 100, (8, 17, 3))
        data3d[key] = {
            "pelvis": np.tile((0.0, 0.0, 5000.0), (8, 1)),
            "joint_3d": (joints - joints[:, :1]).reshape(8, 51),
            "camera": [1145.0, 1145.0, 512.0, 512.0],
        }
    for name in ("gt", "hrnet"):
        write_dataset(root / name, "test", data2d, data3d)
    train2d, train3d = (
        {("S1", *key[1:]): value for key, value in data.items()} for data in (data2d, data3d)
    )
    write_dataset(root / "gt", "train", train2d, train3d)
    return root


@pytest.fixture
def run(invoke, checkpoint, data_root):
    """``run(option, ...)``: ``gridpose eval`` of the checkpoint on gt."""

    def run(*options, load=checkpoint, root=data_root):
        return invoke("eval", "--load", load, "--data_rootdir", root, *options)

    return run


def values(result):
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def test_json_is_what_the_api_says(run, checkpoint, data_root):
    found = values(run("--json"))
    dataset = load_dataset(data_root / "gt", "test", exclude_drift=False)
    expected = evaluate(load_lifter(checkpoint), dataset)
    assert found["mpjpe"] == pytest.approx(expected.mpjpe, rel=1e-6)
    assert found["pa_mpjpe"] == pytest.approx(expected.pa_mpjpe, rel=1e-6)
    assert set(found["per_action"]) == {"Walking", "Greeting", "Eating"}
    assert found["per_action"]["Eating"]["samples"] == 8
    assert found["samples"] == 24
    assert [entry["file_name"] for entry in found["left_out"]] == ["Directions.60457274"]
    assert found["temperature"] == 30
    assert found["padding"] == ["c", "z"]
    assert (found["input"], found["split"]) == ("gt", "test")
    assert found["lifting_model"] == "dgridconv"
    assert found["lifter"] == "best.safetensors"
    assert len(found["lifter_sha256"]) == 64
    assert len(found["data_sha256"]) == 2


def test_detected_2d_is_another_protocol(run):
    found = values(run("--input", "hrnet", "--json"))
    assert found["samples"] == 16
    assert found["frames_left_out"] == 16
    assert {entry["subject"] for entry in found["left_out"]} == {"S9", "S11"}
    assert "hrnet" in found["protocol"]
    assert found["protocol"] != values(run("--json"))["protocol"]


def test_the_other_half(run):
    found = values(run("--split", "train", "--json"))
    assert (found["samples"], found["left_out"]) == (32, [])


PUBLISHED = [
    *("--input", "gt", "--lifting_model", "dgridconv", "--padding_mode", "c", "z", "--eval"),
    *("--grid_shape", "5", "5", "--hidsize", "16", "--num_block", "2", "--test_batch", "7"),
    *("--procrustes", "--exp", "name", "--ckpt", "checkpoint", "--lr", "1e-3", "--lr_decay", "10"),
    *("--lr_gamma", "0.96", "--epoch", "100", "--dropout", "0.25", "--batch", "200"),
    *("--loss", "l2", "--max_temp", "30", "--temp_epoch", "10", "--autosgt_prior", "standard"),
]


@pytest.mark.parametrize("spelling", ["_", "-"])
def test_every_published_option_is_taken_in_both_spellings(run, spelling):
    options = [re.sub("(?<=[a-z])_", spelling, o) if o[:2] == "--" else o for o in PUBLISHED]
    result = run(*options, "--json")
    assert values(result)["mpjpe"] == pytest.approx(values(run("--json"))["mpjpe"], rel=1e-5)
    (notice,) = (line for line in result.stderr.splitlines() if "no effect" in line)
    unused = notice.partition(": ")[2].split(", ")
    training = "exp ckpt lr lr_decay lr_gamma epoch dropout batch loss max_temp temp_epoch"
    assert sorted(unused) == sorted(f"--{name}" for name in [*training.split(), "autosgt_prior"])


def test_what_training_alone_uses_is_not_in_the_help(invoke):
    text = invoke("eval", "--help").stdout
    assert "--max-temp" not in text
    assert "--lr" not in text
    for option in ("--load", "--data-rootdir", "--padding-mode", "--procrustes", "--test-batch"):
        assert option in text
    assert "--data_rootdir" in text  # in an example
    assert text.count("gridpose eval ") >= 3


def test_without_published_extras_there_is_no_notice(run):
    assert "no effect" not in run().stderr


def test_words_for_people(run):
    result = run("--input", "hrnet")
    assert result.exit_code == 0, result.output
    headline, head, *lines = result.stdout.splitlines()
    found = values(run("--input", "hrnet", "--json"))
    assert headline == (
        f"MPJPE {found['mpjpe']:.3f} mm, PA-MPJPE {found['pa_mpjpe']:.3f} mm over 16 poses"
    )
    assert head.split()[:4] == ["action", "poses", "MPJPE", "PA-MPJPE"]
    rows = {line[: head.index("poses") - 2].strip(): line.split() for line in lines[:4]}
    assert list(rows) == ["Eating", "Walking", "mean of actions", "mean of poses"]
    eating = found["per_action"]["Eating"]
    assert rows["Eating"][1:4] == ["8", f"{eating['mpjpe']:.2f}", f"{eating['pa_mpjpe']:.2f}"]
    assert rows["Eating"][7] == f"{100 * eating['pck150']:.1f}"
    assert len({len(line) for line in [head, *lines[:4]]}) == 1  # columns are aligned
    rest = "\n".join(lines[4:])
    assert f"MPJVE {found['mpjve']:.3f} mm per frame" in rest
    assert f"protocol: {found['protocol']}" in rest
    assert "left out: S11 Directions (1 sequence, 8 frames)" in rest
    assert "left out: S9 Greeting (1 sequence, 8 frames)" in rest
    assert "temperature 30, padding c z, flip test off" in rest


def test_procrustes_chooses_what_comes_first_and_nothing_else(run):
    plain, aligned = run(), run("--procrustes")
    assert aligned.stdout.startswith("PA-MPJPE ")
    assert aligned.stdout.splitlines()[1].split()[2:4] == ["PA-MPJPE", "MPJPE"]
    numbers = [sorted(re.findall(r"[\d.]+", r.stdout.splitlines()[2])) for r in (plain, aligned)]
    assert numbers[0] == numbers[1]
    assert values(run("--procrustes", "--json")) == values(run("--json"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_narrow_terminal_gets_a_table_with_every_number(checkpoint, data_root):
    import pty

    main, terminal = pty.openpty()
    command = [sys.executable, "-c", "from gridpose.pipeline.cli import main; main()", "eval"]
    options = ["--load", str(checkpoint), "--data-rootdir", str(data_root)]
    done = subprocess.run(
        [*command, *options],
        stdout=terminal,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "40", "TERM": "xterm"},
        check=False,
    )
    os.close(terminal)
    assert done.returncode == 0, done.stderr
    shown = b""
    with contextlib.suppress(OSError):  # how a pseudo-terminal ends
        while part := os.read(main, 65536):
            shown += part
    os.close(main)
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    assert "\x1b[1m" in shown.decode()
    assert "─────" in text
    assert "…" not in text
    (eating,) = (line.split() for line in text.splitlines() if line.startswith(" Eating"))
    assert len(eating) == 9


def test_temperature_overrides(run):
    found = values(run("--temperature", "1", "--json"))
    assert found["temperature"] == 1
    assert found["mpjpe"] != pytest.approx(values(run("--json"))["mpjpe"], abs=1)


def test_padding_overrides(run):
    found = values(run("--padding_mode", "c", "r", "--json"))
    assert found["padding"] == ["c", "r"]
    assert found["mpjpe"] != pytest.approx(values(run("--json"))["mpjpe"], abs=1)


def test_flip_test(run):
    found = values(run("--flip-test", "--json"))
    assert found["flip_test"]
    assert found["mpjpe"] != pytest.approx(values(run("--json"))["mpjpe"], abs=1e-3)
    assert "flip test on" in run("--flip-test").stdout


def test_the_shipped_lifter_and_its_lens(run):
    narrow, wide = (values(run("--fov", fov, "--json", load="default")) for fov in (40, 70))
    assert narrow["lifter"] == "default"
    assert narrow["mpjpe"] != pytest.approx(wide["mpjpe"], abs=0.1)
    assert "no effect on this evaluation: --fov" in run("--fov", "40").stderr


def test_csv_and_plot(run, tmp_path):
    table, plot = tmp_path / "table.csv", tmp_path / "errors.png"
    found = values(run("--csv", table, "--plot", plot, "--json"))
    assert found["files"] == [str(table), str(plot)]
    with table.open(newline="") as stream:
        rows = {row["action"]: row for row in csv.DictReader(stream)}
    assert list(rows) == ["Eating", "Greeting", "Walking", "total"]
    assert float(rows["total"]["mpjpe_mm"]) == pytest.approx(found["mpjpe"], abs=1e-4)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["errors.png", "table.csv"]
    again = run("--csv", table)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert run("--csv", table, "--plot", plot, "--overwrite").exit_code == 0


def test_quiet_is_quiet(run):
    result = run("--quiet", "--lr", "1")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--lifting_model", "gridconv"], "dgridconv"),
        (["--hidsize", "256"], "--hidsize 16, not 256"),
        (["--num_block", "3"], "--num_block 2, not 3"),
        (["--grid_shape", "4", "7"], "(5, 5)"),
        (["--padding_mode", "c", "q"], "c, z and r"),
        (["--padding_mode", "c"], "--padding"),
        (["--temperature", "0"], "temperature"),
        (["--lifting_model", "mlp"], "mlp"),
        (["--test_batch", "0"], "test"),
        (["--plot", "errors.txt"], "errors.txt"),
        (["--csv", "same.png", "--plot", "same.png"], "different"),
        (["--no_such_option"], "no-such-option"),
    ],
)
def test_wrong_usage(run, options, words):
    result = run(*options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_load_is_needed(invoke):
    result = invoke("eval", "--input", "gt")
    assert result.exit_code == 2
    assert "--load" in result.stderr


def test_a_missing_checkpoint(run, tmp_path):
    result = run(load=tmp_path / "nothing.pth.tar")
    assert result.exit_code == 4
    (line,) = result.stderr.splitlines()
    assert "nothing.pth.tar: no such checkpoint" in line
    assert ".safetensors" in line


def test_a_missing_data_folder(run, data_root):
    result = run("--input", "cpn")
    assert result.exit_code == 4
    (line,) = result.stderr.splitlines()
    assert str(data_root / "cpn") in line
    assert "test_custom_2d_unnorm.pth.tar" in line


def test_a_missing_data_file(run):
    result = run("--input", "hrnet", "--split", "train")
    assert result.exit_code == 4
    assert "train_custom_2d_unnorm.pth.tar: no such file" in result.stderr


def test_a_missing_output_folder_is_found_before_the_work(run, tmp_path):
    result = run("--csv", tmp_path / "nowhere" / "table.csv", load=tmp_path / "nothing")
    assert result.exit_code == 4
    assert "nowhere" in result.stderr


def test_data_that_is_none(run, tmp_path):
    (tmp_path / "gt").mkdir()
    for kind in ("2d", "3d"):
        (tmp_path / "gt" / f"test_custom_{kind}_unnorm.pth.tar").write_bytes(b"nothing")
    result = run(root=tmp_path)
    assert result.exit_code == 3
    assert "test_custom_2d_unnorm.pth.tar" in result.stderr


def test_the_whole_published_run(invoke, shared, tmp_path):
    (tmp_path / "hrnet").symlink_to(shared / "golden" / "e2e_data")
    options = [
        *("--load", shared / "golden" / "e2e_official_py27_h16_dgridconv_cz.pth.tar", "--eval"),
        *("--data_rootdir", tmp_path, "--input", "hrnet", "--padding_mode", "c", "z", "--json"),
    ]
    found = values(invoke("eval", *options))
    assert found["mpjpe"] == pytest.approx(140.170, abs=1e-3)
    assert found["per_axis"] == pytest.approx({"x": 49.883, "y": 52.071, "z": 100.273}, abs=1e-3)
    assert (found["samples"], found["frames_left_out"], found["temperature"]) == (448, 32, 30)
    found = values(invoke("eval", *options, "--temperature", "1"))
    assert found["mpjpe"] == pytest.approx(348.565, abs=1e-3)
