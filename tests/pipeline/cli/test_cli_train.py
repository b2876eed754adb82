"""``gridpose train`` as a user of the published program meets it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from datasets import CAMERAS, in_coco_order, save, seen_by_opencv, tables, walk
from training_data import write_data
from typer.testing import CliRunner

from gridpose.lifting.model.network import NetworkConfig
from gridpose.lifting.training.options import TrainOptions
from gridpose.pipeline.cli import app

SMALL = ("--hidsize", 16, "--num_block", 1, "--epoch", 2, "--batch", 50, "--device", "cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDPOSE_HOME", str(tmp_path_factory.mktemp("home")))
        yield write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(invoke, root, tmp_path):
    """``run(option, ...)``: a small training."""

    def run(*options, root=root):
        base = ("--data_rootdir", root, "--ckpt", tmp_path / "runs")
        return invoke("train", *base, *SMALL, *options)

    return run


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "temporary"


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """What a training prints, and its folder."""
    runs = tmp_path_factory.mktemp("trained")
    options = ("--lifting_model", "dgridconv", "--json", "--data_rootdir", root, "--ckpt", runs)
    words = [str(word) for word in ("train", *options, *SMALL)]
    return CliRunner().invoke(app, words), runs / "temporary"


@pytest.fixture
def done(trained, folder):
    """A training that has ended: the same one for all tests, each of which has a copy."""
    shutil.copytree(trained[1], folder)
    return trained[0]


@pytest.fixture
def asked_for(monkeypatch, invoke, root):
    """``asked_for(option, ...)``: what the command would train, without training it."""
    seen = []

    class SeenError(Exception):
        pass

    def train(options, **_):
        seen.append(options)
        raise SeenError

    monkeypatch.setattr("gridpose.lifting.training.trainer.train", train)

    def asked_for(*options, root=root):
        result = invoke("train", *options, *(("--data_rootdir", root) if root else ()))
        assert seen, result.output
        return seen.pop()

    return asked_for


def test_defaults_are_the_published_ones(asked_for, monkeypatch, tmp_path, root):
    (tmp_path / "data").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    network = NetworkConfig(
        kind="gridconv",
        hidden=256,
        blocks=2,
        grid_shape=(5, 5),
        padding_mode=("c", "r"),
        temperature=30.0,
        dropout=0.25,
        prior="standard",
        keep_joints=True,
    )
    assert asked_for(root=None) == TrainOptions(
        data=Path("data/gt"),
        run=Path("checkpoint/temporary"),
        network=network,
        loss="l2",
        epochs=200,
        batch=200,
        test_batch=1000,
        lr=1e-3,
        lr_decay=10,
        lr_gamma=0.96,
        temperature_schedule="none",
        temperature_epochs=10,
        grid_lr=1.0,
        select_on="val",
        val_share=0.05,
        ema=None,
        seed=0,
        device="auto",
        precision="fp32",
        compile=False,
        load=None,
        resume=False,
        overwrite=False,
    )


SPELLINGS = [
    ("--exp x", lambda o: o.run.name == "x"),
    ("--ckpt there", lambda o: o.run.parent == Path("there")),
    ("--input hrnet", lambda o: o.data.name == "hrnet"),
    ("--lifting_model dgridconv", lambda o: o.network.kind == "dgridconv"),
    ("--lifting_model dgridconv_autogrids", lambda o: o.network.kind == "dgridconv_autogrids"),
    ("--padding_mode c z", lambda o: o.network.padding_mode == ("c", "z")),
    ("--hidsize 32", lambda o: o.network.hidden == 32),
    ("--num_block 3", lambda o: o.network.blocks == 3),
    ("--autosgt_prior learnt_type2", lambda o: o.network.prior == "standard"),
    ("--autosgt_prior random_prob --lifting_model dgridconv_autogrids",
     lambda o: o.network.prior == "random_prob"),
    ("--grid_shape 4 7 --lifting_model dgridconv_autogrids",
     lambda o: o.network.grid_shape == (4, 7)),
    ("--loss sqrtl2", lambda o: o.loss == "sqrtl2"),
    ("--epoch 7", lambda o: o.epochs == 7),
    ("--batch 8", lambda o: o.batch == 8),
    ("--test_batch 9", lambda o: o.test_batch == 9),
    ("--lr 0.5", lambda o: o.lr == 0.5),
    ("--lr_decay 4", lambda o: o.lr_decay == 4),
    ("--lr_gamma 0.5", lambda o: o.lr_gamma == 0.5),
    ("--dropout 0.1", lambda o: o.network.dropout == 0.1),
    ("--max_temp 20", lambda o: o.network.temperature == 20.0),
    ("--temp_epoch 3", lambda o: o.temperature_epochs == 3),
    ("--temperature_schedule linear", lambda o: o.temperature_schedule == "linear"),
    ("--select_on test", lambda o: o.select_on == "test"),
    ("--val_share 0.2", lambda o: o.val_share == 0.2),
    ("--grid_lr 3", lambda o: o.grid_lr == 3.0),
    ("--ema 0.99", lambda o: o.ema == 0.99),
    ("--load f.safetensors", lambda o: o.load == Path("f.safetensors")),
    ("--procrustes --resume", lambda o: o.resume),
]  # fmt: skip


@pytest.mark.parametrize(("line", "holds"), SPELLINGS)
def test_both_spellings(asked_for, line, holds):
    words = line.split()
    if "learnt_type2" in words:  # a grid that is not learned has no prior to speak of
        assert asked_for(*words).network.prior in ("standard", "learnt_type2")
        return
    assert holds(asked_for(*words))
    hyphens = [word.replace("_", "-") if word.startswith("--") else word for word in words]
    assert holds(asked_for(*hyphens))


def test_result(trained):
    result, folder = trained
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert values["epochs"] == 2
    assert values["best"]["mpjpe"] > 0
    assert all(Path(file).stat().st_size > 0 for file in values["files"])
    names = {path.name for path in folder.iterdir()}
    assert names == {Path(file).name for file in values["files"]} | {"logs"}
    assert names >= {"best.safetensors", "last.safetensors", "state.pth", "config.json"}
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "training on 100 poses" in result.stderr
    assert "epoch 2/2: loss " in result.stderr


def test_words(run, folder):
    result = run("--select-on", "test", "--input", "hrnet")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("best epoch ")
    assert str(folder / "best.safetensors") in result.stdout
    assert "left out: S11 Directions" in result.stderr
    assert "Greeting" in result.stderr
    assert "(test)" in result.stderr


@pytest.mark.parametrize("option", ["--quiet", pytest.param("--verbose", marks=pytest.mark.slow)])
def test_streams(root, tmp_path, option):
    """In a process of its own, as libraries may write past Python's streams."""
    command = [sys.executable, "-c", "from gridpose.pipeline.cli import main; main()", "train"]
    command += ["--data_rootdir", root, "--ckpt", tmp_path, *SMALL, option, "--json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 2
    assert done.stdout.count("\n") == 1
    if option == "--quiet":
        assert done.stderr == ""
    else:
        assert "mmengine" in done.stderr


def figures(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("kind", "data"),
    [("gridconv", "gt"), ("dgridconv_autogrids", "hrnet")],
)
def test_eval_gives_the_same_figures(run, invoke, root, folder, kind, data):
    options = ("--lifting_model", kind, "--input", data, "--select-on", "test", "--json")
    best = figures(run(*options, "--temperature-schedule", "linear", "--lr", "0.01"))["best"]
    common = ("--data_rootdir", root, "--input", data, "--json", "--device", "cpu")
    found = figures(invoke("eval", "--load", folder / "best.safetensors", *common))
    assert found["mpjpe"] == pytest.approx(best["mpjpe"], abs=1e-3)
    assert found["pa_mpjpe"] == pytest.approx(best["pa_mpjpe"], abs=1e-3)


def test_resuming_a_finished_training(run, done):
    resume = ("--lifting_model", "dgridconv", "--json", "--resume")
    assert figures(run(*resume))["best"] == figures(done)["best"]
    assert figures(run(*resume, "--epoch", "3"))["epochs"] == 3


def test_a_run_is_not_replaced_unasked(run, done):
    result = run()
    assert result.exit_code == 2
    assert "--resume goes on with it, --overwrite starts anew, --exp NAME takes" in result.stderr
    assert run("--overwrite", "--quiet").exit_code == 0


def test_options_that_differ_are_named(run, done):
    result = run("--lifting_model", "dgridconv", "--resume", "--batch", 51)
    assert result.exit_code == 2
    assert "other values of batch; give the same, or train into another folder (--exp)" in (
        result.stderr
    )


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--resume",), 4, "no training to go on with"),
        (("--input", "nothing"), 4, "no such folder"),
        (("--device", "cuda:9"), 4, "--device cuda:9"),
        (("--device", "quantum"), 2, "--device quantum"),
        (("--precision", "bf16"), 2, "--precision bf16"),
        (("--padding_mode", "c", "x"), 2, "padding modes"),
        (("--autosgt_prior", "x", "--lifting_model", "dgridconv_autogrids"), 2, "prior 'x'"),
        (("--grid-shape", "4", "4", "--lifting_model", "dgridconv_autogrids"), 2, "4x4"),
        (("--grid-shape", "6", "6"), 2, "5x5"),
        (("--load", "/nowhere.pth.tar"), 4, "no such"),
        (("--lr", "-1"), 2, "--lr -1"),
        (("--dropout", "1"), 2, "dropout"),
        (("--lr", "1e30"), 2, "diverged"),
        (("--max_temp", "0"), 2, "temperature"),
    ],
)
def test_errors_are_one_sentence(run, options, code, words):
    result = run(*options, "--quiet", "--json")
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_2d_in_cocos_order_is_named(run, tmp_path):
    for split, subject in (("train", "S1"), ("test", "S9")):
        keys = [(subject, "Walking", f"Walking.{camera}") for camera in CAMERAS]
        data2d, data3d = tables(keys, 40)
        for index, key in enumerate(keys):
            seen, pixels = seen_by_opencv(walk(40, 3), subject, index)
            data2d[key] = in_coco_order(pixels.reshape(-1, 17, 2)).reshape(-1, 34)
            data3d[key]["joint_3d"] = (seen - seen[:, :1]).reshape(-1, 51)
        save(tmp_path / "data" / "gt", split, data2d, data3d)
    options = ("--epoch", 1, "--select-on", "test", "--quiet")
    result = run(*options, root=tmp_path / "data")
    assert result.exit_code == 0, result.output
    assert "the 2D's keypoints look like coco-17, not human3.6m-17" in result.stderr


def test_a_folder_that_cannot_be(run, tmp_path):
    (tmp_path / "runs").write_text("a file")
    result = run("--quiet")
    assert result.exit_code == 4
    assert "cannot be written" in result.stderr


def test_a_truncated_state(run, done, folder):
    state = folder / "state.pth"
    os.truncate(state, state.stat().st_size // 3)
    result = run("--lifting_model", "dgridconv", "--resume", "--quiet", "--epoch", 3)
    assert result.exit_code == 3
    assert str(state) in result.stderr
    assert result.stderr.count("\n") == 1
    assert (folder / "best.safetensors").exists()


def test_help_is_light():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from gridpose.pipeline.cli import app\n"
        "result = CliRunner().invoke(app, ['train', '--help'])\n"
        "assert result.exit_code == 0 and 'torchrun' in result.output\n"
        "print([name for name in ('torch', 'mmengine', 'numpy', 'cv2') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_interrupted_and_resumed(run, root, tmp_path, folder, number, code):
    # Tests that run in the background of a shell would hand on that Ctrl-C is ignored.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from gridpose.pipeline.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "train"]
    command += ["--data_rootdir", root, "--ckpt", tmp_path / "runs", *SMALL, "--epoch", 5000]
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (folder / "curves.png").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == code, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert not list(folder.glob(".*"))
    rows = (folder / "curves.csv").read_text().splitlines()
    result = run("--resume", "--epoch", len(rows) + 1, "--json")
    assert figures(result)["epochs"] == len(rows) + 1
