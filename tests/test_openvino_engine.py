import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gridpose import openvino_engine
from gridpose.core import InputError, MissingError
from gridpose.openvino_engine import Engine, Pixels, import_openvino, processor_has_bf16

openvino = pytest.importorskip("openvino", reason="needs OpenVINO")
SHAPE = (6, 5, 3)


def network(batch=1, channels_first=False):
    """Two outputs: sums over a picture, and the picture times its column's number."""
    opset = import_openvino().opset13
    shape = [batch, 3, 6, 5] if channels_first else [batch, *SHAPE]
    picture = opset.parameter(shape, np.float32, name="picture")
    sums = opset.reduce_sum(picture, opset.constant(np.array([1, 2, 3])), keep_dims=False)
    columns = np.arange(5, dtype=np.float32)[:, None]
    weighted = opset.multiply(picture, opset.constant(columns.T if channels_first else columns))
    for node, name in ((sums, "sums"), (weighted, "weighted")):
        node.output(0).get_tensor().set_names({name})
    return import_openvino().Model([sums, weighted], [picture])


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, -1, 4])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_batches_of_any_size_are_answered_in_order(batch, threads):
    engine = Engine(network(batch), threads=threads)

    for count in (1, 2, 7, 3):
        given = pictures(count, seed=count)
        sums, weighted = engine(given)
        np.testing.assert_allclose(sums, given.sum((1, 2, 3)), rtol=1e-5)
        np.testing.assert_array_equal(weighted, given * np.arange(5)[:, None])
    assert engine.input_shape == SHAPE


def test_answers_are_not_overwritten_by_the_next_batch():
    engine = Engine(network())
    (first, _), kept = engine(pictures(3, 1)), pictures(3, 1).sum((1, 2, 3))

    engine(pictures(3, 2))

    np.testing.assert_allclose(first, kept, rtol=1e-5)


@pytest.mark.parametrize("kind", ["read-only", "strided", "of doubles"])
def test_any_array_will_do(kind):
    given = pictures(6)
    batch = {"strided": given[::2], "of doubles": given.astype(np.float64)}.get(kind, given)
    batch.setflags(write=kind != "read-only")

    sums, _ = Engine(network())(batch)

    np.testing.assert_allclose(sums, batch.sum((1, 2, 3)), rtol=1e-5)


def test_outputs_are_chosen_by_name_or_number():
    given = pictures(2)

    (by_name,) = Engine(network(), outputs=["weighted"])(given)
    (by_number,) = Engine(network(), outputs=[1])(given)

    np.testing.assert_array_equal(by_name, given * np.arange(5)[:, None])
    np.testing.assert_array_equal(by_number, by_name)


@pytest.mark.parametrize("channels_first", [False, True])
def test_pixels_are_normalised_and_turned_by_the_network(channels_first):
    pixels = Pixels((10.0, 20.0, 30.0), (2.0, 4.0, 8.0), channels_first)
    given = pictures(3).astype(np.uint8)

    sums, weighted = Engine(network(channels_first=channels_first), pixels=pixels)(given)

    wanted = (given - np.array(pixels.mean)) / np.array(pixels.std)
    np.testing.assert_allclose(sums, wanted.sum((1, 2, 3)), rtol=1e-4)
    if channels_first:
        weighted = weighted.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(weighted, wanted * np.arange(5)[:, None], rtol=1e-5)


def test_the_model_given_is_left_as_it_is():
    model = network(-1)

    Engine(model, outputs=["sums"], pixels=Pixels((0.0,) * 3, (1.0,) * 3, False))

    assert len(model.outputs) == 2
    assert model.input(0).partial_shape[0].is_dynamic


def test_batches_of_another_shape_are_refused():
    engine = Engine(network())

    for wrong in (np.zeros((2, 5, 6, 3), np.float32), np.zeros((0, *SHAPE), np.float32)):
        with pytest.raises(ValueError, match="not \\(N, "):
            engine(wrong)


def test_files_that_are_no_networks(tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"nothing of the kind")

    with pytest.raises(InputError, match=r"bad\.tflite: OpenVINO cannot run it"):
        Engine(tmp_path / "bad.tflite")
    with pytest.raises(MissingError, match=r"none\.xml: no such network"):
        Engine(tmp_path / "none.xml")


def test_bf16_is_rougher_than_fp32_where_the_processor_has_it():
    if not processor_has_bf16():
        pytest.skip("needs a processor with bfloat16")
    opset = import_openvino().opset13
    generator = np.random.default_rng(0)
    given = opset.parameter([-1, 64], np.float32)
    matrix = generator.standard_normal((64, 64)).astype(np.float32)
    product = opset.matmul(given, opset.constant(matrix), False, False)
    model = import_openvino().Model([product], [given])
    batch = generator.standard_normal((5, 64)).astype(np.float32)

    exact, rough = (Engine(model, precision=p)(batch)[0] for p in ("fp32", "bf16"))

    np.testing.assert_allclose(exact, batch @ matrix, atol=1e-4)
    assert rough.dtype == np.float32
    assert 1e-4 < np.abs(rough - exact).max() < 0.3


@pytest.mark.parametrize(
    ("said", "allowed"), [("1", 1), ("2,1", 2), ("64", 6), ("", 6), ("none", 6), ("0", 6)]
)
def test_threads_are_as_many_as_cores_or_as_workers_may_use(monkeypatch, said, allowed):
    monkeypatch.setattr(openvino_engine, "usable_cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", said)

    assert openvino_engine.threads_allowed() == allowed


def test_without_openvino_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(MissingError, match="pip install openvino"):
        import_openvino()


def test_it_tells_nobody_and_prints_nothing(tmp_path):
    """OpenVINO's own telemetry would leave an identity in the home folder and open a socket."""
    program = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise SystemExit('a connection')\n"
        "socket.socket.connect = refuse\n"
        "from gridpose.openvino_engine import import_openvino\n"
        "import_openvino()\n"
        "assert not any(m.startswith('openvino_telemetry') for m in sys.modules)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_what_was_compiled_is_kept_and_used_again(tmp_path, monkeypatch):
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path / "home"))
    file = tmp_path / "network.xml"
    import_openvino().save_model(network(), file)
    batch = pictures(3)
    expected = Engine(file)(batch)
    assert not (tmp_path / "home").exists()

    def check(count):
        found = Engine(file, keep=True)(batch)
        for values, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(values, wanted)
        kept = sorted((tmp_path / "home" / "openvino").iterdir())
        assert len(kept) == count
        return kept

    (kept,) = check(1)
    written = kept.read_bytes()

    class NotNeeded:
        def __getattr__(self, name):
            assert name not in {"read_model", "compile_model"}
            return getattr(core, name)

    core = openvino_engine.openvino_core()
    monkeypatch.setattr(openvino_engine, "openvino_core", NotNeeded)
    check(1)
    monkeypatch.setattr(openvino_engine, "openvino_core", lambda: core)

    for damaged in (written[:-100], written[:200] + bytes([written[200] ^ 1]) + written[201:], b""):
        kept.write_bytes(damaged)
        check(1)
        assert kept.stat().st_size == len(written)
    # Other outputs are another network.
    assert len(Engine(file, keep=True, outputs=[1])(batch)) == 1
    check(2)


def test_nothing_can_be_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("GRIDPOSE_HOME", "/dev/null/nowhere")
    file = tmp_path / "network.xml"
    import_openvino().save_model(network(), file)
    assert len(Engine(file, keep=True)(pictures(2))) == 2


def test_an_interrupt_after_networks_have_gone_is_no_crash(tmp_path):
    program = (
        "import gc, signal\n"
        "import numpy as np\n"
        "from gridpose.openvino_engine import Engine, processor, processor_has_bf16\n"
        "from test_openvino_engine import network\n"
        "processor_has_bf16(), processor()\n"
        "engines = [Engine(network()) for _ in range(3)]\n"
        "while engines:\n"
        "    engines.pop(0)\n"
        "    gc.collect()\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert (run.returncode, run.stdout) == (0, "interrupted\n"), run.stderr
