import copy
import functools
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from pose_networks import DOT_CONFIG, DotNetwork, random_model, save_random, small_config_file

from gridpose.core import MissingError
from gridpose.detectors.hrnet import bf16_check
from gridpose.detectors.hrnet import cpu_engine as openvino_topdown
from gridpose.detectors.hrnet import openvino_conversion as openvino_network
from gridpose.detectors.hrnet.config import packaged_config, read_config
from gridpose.detectors.hrnet.cpu_engine import on_openvino
from gridpose.detectors.hrnet.detector import load_hrnet
from gridpose.detectors.hrnet.mmpose_models import build_model
from gridpose.detectors.hrnet.network import TopDownNetwork
from gridpose.detectors.hrnet.openvino_conversion import OpenVINONetwork, converted
from gridpose.detectors.options import HRNetOptions
from gridpose.openvino_engine import processor_has_bf16
from gridpose.storage import file_sha256

pytest.importorskip("mmpose", reason="needs mmpose")
pytest.importorskip("openvino", reason="needs OpenVINO")

torch.set_num_threads(1)  # threads only wait for each other on networks this small

CPU = torch.device("cpu")
BOXES = np.array([[20, 10, 150, 230], [100, 30, 300, 220], [-30, -20, 90, 120]], np.float32)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """A cache folder for networks that take long to convert."""
    return str(tmp_path_factory.mktemp("lasting"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Options for a small network with random weights."""
    folder = tmp_path_factory.mktemp("weights")
    config_file = small_config_file(folder)
    save_random(folder / "small.pth", config_file)

    def options(**more):
        return HRNetOptions(
            weights=folder / "small.pth", config=config_file, person_boxes="full-frame", **more
        )

    return options


@pytest.fixture(scope="module")
def small(weights):
    """The SHA-256 of these weights, and a function that makes a network of them."""
    file, config = weights().weights, read_config(weights().config)
    model = build_model(config.model, config.name)
    model.load_state_dict(torch.load(file)["state_dict"])
    digest = file_sha256(file)
    return digest, lambda **more: TopDownNetwork(config, copy.deepcopy(model), CPU, **more)


@pytest.fixture(scope="module")
def converted_tiny():
    """``converted_tiny(crop size)``: what converting a :class:`Tiny` yields, of each size once."""
    convert, network = openvino_network._convert, tiny()
    return functools.cache(lambda crop_size: convert(network, crop_size))


@pytest.fixture
def conversions(monkeypatch, converted_tiny):
    """How many times a :class:`Tiny` has been converted, as a list's length."""
    seen = []

    def convert(network, crop_size):
        assert isinstance(network, Tiny)
        seen.append(crop_size)
        return converted_tiny(crop_size)

    monkeypatch.setattr(openvino_network, "_convert", convert)
    return seen


class Tiny(torch.nn.Module):
    """Quickly converted."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 5, 3)

    def forward(self, crops):
        return self.layer(crops).relu()


TINY_SIZE = (12, 16)
SMALL_CROP = (24, 32)


def tiny():
    return Tiny().eval()


def dots():
    """Of small crops, which are seen quickly."""
    config = replace(DOT_CONFIG, input_size=SMALL_CROP)
    return TopDownNetwork(config, DotNetwork(SMALL_CROP), CPU)


@pytest.fixture(scope="module")
def dots_at_home(tmp_path_factory):
    """A cache folder with the network of dots, converted."""
    folder = tmp_path_factory.mktemp("dots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDPOSE_HOME", str(folder))
        on_openvino(dots(), "0" * 64, "fp32")
    return folder


def frame(seed=0):
    import cv2

    noise = np.random.default_rng(seed).integers(0, 255, (240, 320, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def both(make, sha256="0" * 64, **more):
    """Keypoints and scores by torch and by OpenVINO."""
    answers = []
    for by_openvino in (False, True):
        network = make(**more)
        if by_openvino:
            ran = on_openvino(network, sha256, "fp32")
            assert ran.how.startswith("OpenVINO")
            network = ran.network
        answers.append(network.keypoints([frame()], [0] * len(BOXES), BOXES))
    return answers


def test_heatmaps_equal_torchs(small, lasting, monkeypatch):
    monkeypatch.setenv("GRIDPOSE_HOME", lasting)
    sha256, make = small
    network = make()
    width, height = network.config.input_size
    crops = torch.randn(5, 3, height, width, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        wanted = network.whole(crops)
    found = on_openvino(network, sha256, "fp32").network._network(crops)

    assert wanted.amax() > 0.3
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("flip_test", [False, True])
def test_keypoints_equal_torchs(small, lasting, monkeypatch, flip_test):
    monkeypatch.setenv("GRIDPOSE_HOME", lasting)
    sha256, make = small

    (keypoints, scores), (ours, our_scores) = both(make, sha256, flip_test=flip_test)

    assert scores.max() > 0.3
    np.testing.assert_allclose(ours, keypoints, atol=0.01)
    np.testing.assert_allclose(our_scores, scores, atol=1e-4)


@pytest.mark.parametrize("flip_test", [False, True])
def test_heads_that_mmpose_decodes_run_too(lasting, monkeypatch, flip_test):
    """RTMPose, whose head yields two tensors."""
    monkeypatch.setenv("GRIDPOSE_HOME", lasting)
    config = read_config(packaged_config("rtmpose-t_8xb256-420e_coco-256x192"))
    model = random_model(config)

    def make(**more):
        return TopDownNetwork(config, copy.deepcopy(model), CPU, **more)

    (keypoints, scores), (ours, our_scores) = both(make, flip_test=flip_test)

    # The bins of a random network are nearly level: rounding may choose another one.
    assert (np.abs(ours - keypoints).max(-1) < 0.01).mean() > 0.9
    np.testing.assert_allclose(our_scores, scores, atol=1e-3)


def test_a_network_is_converted_once(home, conversions):
    first = converted(tiny(), TINY_SIZE, {"weights": 1})
    again = converted(tiny(), TINY_SIZE, {"weights": 1})
    other = converted(tiny(), TINY_SIZE, {"weights": 2})
    converted(tiny(), TINY_SIZE[::-1], {"weights": 1})

    assert len(conversions) == 3
    assert first == again != other
    assert first.folder.parent == home / "openvino"
    files = {"about.json", "network.bin", "network.xml"}
    assert {file.name for file in first.folder.iterdir()} == files


@pytest.mark.parametrize("name", ["network.xml", "network.bin", "about.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_what_is_damaged_is_made_again(conversions, name, damage):
    network = tiny()
    file = converted(network, TINY_SIZE, {}).folder / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-9] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:])

    mended = converted(network, TINY_SIZE, {})
    converted(network, TINY_SIZE, {})

    assert len(conversions) == 2
    assert OpenVINONetwork(mended, "fp32")(torch.zeros(1, 3, 16, 12)).shape == (1, 5, 14, 10)
    kept = [path.name for path in mended.folder.parent.iterdir() if path.is_dir()]
    assert kept == [mended.folder.name]


def test_another_networks_files_are_not_taken(conversions):
    first, second = (converted(tiny(), TINY_SIZE, {"weights": n}) for n in (1, 2))
    for file in first.folder.iterdir():
        (second.folder / file.name).write_bytes(file.read_bytes())

    converted(tiny(), TINY_SIZE, {"weights": 2})

    assert len(conversions) == 3


def test_of_many_at_once_one_converts(conversions):
    network = tiny()

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: converted(network, TINY_SIZE, {}), range(4)))

    assert len(conversions) == 1
    assert all(one == made[0] for one in made)


def test_without_a_place_for_it_a_network_still_runs(home):
    home.write_text("not a folder")

    made = converted(tiny(), TINY_SIZE, {})

    assert made.folder is None
    assert OpenVINONetwork(made, "fp32")(torch.zeros(1, 3, 16, 12)).shape == (1, 5, 14, 10)


class Odd(torch.nn.Module):
    """Answers with something else than tensors."""

    def forward(self, crops):
        return {"maps": crops}


class Changing(torch.nn.Module):
    """Answers otherwise when it is traced."""

    def forward(self, crops):
        return crops * (2.0 if torch.jit.is_tracing() else 1.0)


@pytest.mark.parametrize(
    ("whole", "why"), [(Odd(), "it answers with a dict"), (Changing(), "that answers otherwise")]
)
def test_what_cannot_be_converted_torch_runs(home, whole, why):
    network = dots()
    network.whole = whole

    ran = on_openvino(network, "0" * 64, "auto")

    assert ran.network is network
    assert ran.how == "torch"
    (notice,) = ran.notices
    assert notice.startswith("torch runs dots, not OpenVINO: ")
    assert why in notice
    assert not any(path.is_dir() for path in (home / "openvino").iterdir())


def test_nested_answers_stay_nested():
    class Nested(torch.nn.Module):
        def forward(self, crops):
            return [crops + 1, (crops.mean((2, 3)), [crops[:, :1]])]

    made = converted(Nested().eval(), (4, 6), {})
    crops = torch.rand(3, 3, 6, 4)

    plus, (means, (first,)) = OpenVINONetwork(made, "fp32")(crops)

    torch.testing.assert_close(plus, crops + 1)
    torch.testing.assert_close(means, crops.mean((2, 3)))
    torch.testing.assert_close(first, crops[:, :1])


class TestPrecision:
    @pytest.fixture(autouse=True)
    def converted_before(self, home, dots_at_home):
        shutil.copytree(dots_at_home, home)

    @pytest.fixture
    def measured(self, monkeypatch):
        """What comparing precisions is to yield; and how many times it was done."""
        monkeypatch.setattr(openvino_topdown, "processor_has_bf16", lambda: True)
        asked = []

        def answer(agreement):
            monkeypatch.setattr(
                openvino_topdown, "compare", lambda *_: asked.append(None) or agreement
            )
            return asked

        return answer

    @pytest.mark.parametrize(
        ("agreement", "how"),
        [
            (bf16_check.Agreement(200, 0.09, 0.49), "bf16: keypoints 0.09 px from fp32's, 99th"),
            (bf16_check.Agreement(200, 0.11, 0.2), "fp32: bf16 has keypoints 0.11 px from fp32's"),
            (bf16_check.Agreement(200, 0.0, 0.51), "fp32: bf16 has keypoints 0.00 px from fp32's"),
            (bf16_check.Agreement(99, 0.0, 0.0), "fp32: bf16 has only 99 sure keypoints"),
            (None, "fp32: no picture to try bf16 on"),
        ],
    )
    def test_is_bf16_only_where_keypoints_stay(self, measured, agreement, how):
        measured(agreement)

        ran = on_openvino(dots(), "0" * 64, "auto")

        assert ran.how.partition(", ")[2].startswith(how)
        assert ran.network._network._engine.precision == how[:4]

    def test_is_measured_once(self, home, measured):
        asked = measured(bf16_check.Agreement(150, 0.05, 0.3))
        hows = {on_openvino(dots(), "0" * 64, "auto").how for _ in range(2)}
        assert len(asked) == len(hows) == 1

        (file,) = home.glob("openvino/*/bf16-*.json")
        assert json.loads(file.read_text()) == {"keypoints": 150, "median": 0.05, "p99": 0.3}
        file.write_text("{")
        on_openvino(dots(), "0" * 64, "auto")
        assert len(asked) == 2

    def test_can_be_asked_for(self, measured):
        asked = measured(None)

        assert on_openvino(dots(), "0" * 64, "bf16").how.endswith(", bf16")
        assert on_openvino(dots(), "0" * 64, "fp32").how.endswith(", fp32")
        assert not asked

    @pytest.mark.parametrize("choice", ["auto", "bf16"])
    def test_is_fp32_where_the_processor_has_no_other(self, monkeypatch, choice):
        monkeypatch.setattr(openvino_topdown, "processor_has_bf16", lambda: False)

        how = on_openvino(dots(), "0" * 64, choice).how

        assert how.endswith(", fp32: the processor has no bf16")

    def test_is_compared_on_a_person(self, small, lasting, monkeypatch):
        monkeypatch.setenv("GRIDPOSE_HOME", lasting)
        if not processor_has_bf16():
            pytest.skip("needs a processor with bfloat16")
        sha256, make = small
        exact, rough = (on_openvino(make(), sha256, p).network for p in ("fp32", "bf16"))
        config, variants = exact.config, bf16_check.variants

        def few(picture):
            frames, frame_of_box, boxes = variants(picture)
            return frames, frame_of_box[::5], boxes[::5]

        monkeypatch.setattr(bf16_check, "variants", few)

        same = bf16_check.compare(exact, exact, config.input_size, config.padding)
        other = bf16_check.compare(exact, rough, config.input_size, config.padding)

        assert same.keypoints == other.keypoints > 0
        assert (same.median, same.p99) == (0, 0)
        assert other.p99 > 0

    def test_without_a_picture_nothing_is_compared(self, monkeypatch):
        monkeypatch.setattr(bf16_check, "find_spec", lambda _: None)

        assert bf16_check.compare(None, None, (192, 256), 1.25) is None


def test_distances_are_in_pixels_of_the_crops():
    class Sees:
        def __init__(self, moved):
            self.moved = moved

        def keypoints(self, frames, frame_of_box, boxes):
            # Crops are 192x256; padded boxes taller than 4:3 are as high as the crop.
            places = np.zeros((len(boxes), 5, 2), np.float32)
            places[:, 0, 1] = self.moved * 1.25 * (boxes[:, 3] - boxes[:, 1]) / 256
            return places, np.full((len(boxes), 5), 0.9, np.float32)

    frames, frame_of_box, boxes = bf16_check.variants(np.zeros((800, 400, 3), np.uint8))
    assert len(frame_of_box) == len(boxes) == 27
    assert len(frames) == 3

    agreement = bf16_check.compare(Sees(0.0), Sees(3.0), (192, 256), 1.0)

    assert agreement.keypoints == 135
    assert agreement.median == 0
    assert agreement.p99 > 0


class TestChoice:
    @pytest.fixture(autouse=True)
    def home(self, lasting, monkeypatch):
        monkeypatch.setenv("GRIDPOSE_HOME", lasting)

    def test_openvino_is_taken_where_it_is(self, weights):
        with load_hrnet(weights(), device="cpu", precision="fp32") as detector:
            assert " on cpu (OpenVINO 2" in detector.reason
            assert ", fp32), persons by" in detector.reason
            (people,) = detector.detect([frame()], [0.0])

        with load_hrnet(weights(engine_cpu="torch"), device="cpu") as detector:
            assert " on cpu (torch: asked for), persons by" in detector.reason
            (wanted,) = detector.detect([frame()], [0.0])
        np.testing.assert_allclose(people[0].keypoints, wanted[0].keypoints, atol=0.01)

    def test_without_openvino_torch_is(self, weights, monkeypatch):
        monkeypatch.setitem(sys.modules, "openvino", None)

        with load_hrnet(weights(), device="cpu") as detector:
            assert " on cpu (torch: OpenVINO is not installed), persons" in detector.reason
        with pytest.raises(MissingError, match="pip install openvino"):
            load_hrnet(weights(engine_cpu="openvino"), device="cpu")

    def test_compile_is_torchs(self, weights, monkeypatch):
        asked = []
        monkeypatch.setattr(torch, "compile", lambda network, **_: asked.append(1) or network)

        with load_hrnet(weights(compiled=True), device="cpu", precision="fp32") as detector:
            (notice,) = detector.notices
            assert notice.startswith("`compiled` is for torch")
        assert not asked
        with load_hrnet(weights(compiled=True, engine_cpu="torch"), device="cpu") as detector:
            assert detector.notices == []
        assert asked


def test_nothing_is_printed(capfd):
    on_openvino(dots(), "0" * 64, "auto")

    assert capfd.readouterr() == ("", "")
