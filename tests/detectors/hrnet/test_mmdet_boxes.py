"""mmdet is not installed where tests run: a fake stands in at its two functions."""

import sys
import warnings
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from gridpose.core import GridposeError, InputError, MissingError
from gridpose.detectors.hrnet import mmdet_boxes
from gridpose.detectors.hrnet.mmdet_boxes import MmdetPersons, default_config, default_weights
from gridpose.detectors.hrnet.person_finder import load_person_finder

BOXES = [
    [10, 10, 40, 90],  # a person
    [11, 10, 40, 90],  # the same again
    [60, 20, 130, 95],  # one who leaves the frame
    [70, 10, 90, 30],  # something else
    [5, 5, 9, 9],  # a doubtful person
]
SCORES = [0.9, 0.8, 0.7, 0.95, 0.2]
LABELS = [0, 0, 0, 1, 0]


class FakeMmdet:
    """Remembers what it was asked; answers the same for every image."""

    def __init__(self):
        self.images, self.scopes, self.init = [], [], None
        self.network = torch.nn.Linear(2, 1)

    def current_scope(self):
        scope = DefaultScope.get_current_instance()
        return scope and scope.scope_name

    def init_detector(self, config, checkpoint=None, palette="none", device="cuda:0"):
        self.init = SimpleNamespace(
            config=config, checkpoint=checkpoint, palette=palette, device=device
        )
        self.scopes.append(self.current_scope())
        warnings.simplefilter("once")  # as mmdet does
        warnings.warn("checkpoint is None", stacklevel=1)
        return self.network

    def inference_detector(self, model, images):
        assert model is self.network
        assert isinstance(images, list)
        self.images.append(images)
        warnings.warn("deprecated", FutureWarning, stacklevel=1)
        self.scopes.append(self.current_scope())
        instances = SimpleNamespace(
            bboxes=torch.tensor(BOXES, dtype=torch.float32, requires_grad=True),
            scores=torch.tensor(SCORES),
            labels=torch.tensor(LABELS),
        )
        return [SimpleNamespace(pred_instances=instances) for _ in images]


@pytest.fixture
def mmdet(monkeypatch):
    fake = FakeMmdet()
    package, apis = ModuleType("mmdet"), ModuleType("mmdet.apis")
    package.apis, package.__path__ = apis, []
    apis.init_detector, apis.inference_detector = fake.init_detector, fake.inference_detector
    monkeypatch.setitem(sys.modules, "mmdet", package)
    monkeypatch.setitem(sys.modules, "mmdet.apis", apis)
    return fake


@pytest.fixture
def no_mmdet(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmdet", None)
    monkeypatch.setitem(sys.modules, "mmdet.apis", None)


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "config.py"
    file.write_text("model = dict()\n")
    return file


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "weights.pth"
    state = {"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([5.0])}
    torch.save({"meta": {"epoch": np.int64(3)}, "state_dict": state}, file)
    return file


def test_people_of_each_frame(mmdet, config, weights):
    frames = [np.zeros((100, 120, 3), np.uint8), np.zeros((80, 100, 3), np.uint8)]
    with MmdetPersons(config, weights) as finder:
        large, small = finder.find(frames)
        assert finder.find([]) == []
    # One of the twin boxes, clipped to the frame, the largest first, nothing but sure people.
    np.testing.assert_array_equal(large.boxes, [[60, 20, 120, 95], [10, 10, 40, 90]])
    np.testing.assert_allclose(large.scores, [0.7, 0.9])
    np.testing.assert_array_equal(small.boxes, [[60, 20, 100, 80], [10, 10, 40, 80]])
    assert large.boxes.dtype == large.scores.dtype == np.float32


def test_frames_are_handed_over_as_bgr(mmdet, config, weights):
    frame = np.zeros((4, 5, 3), np.uint8)
    frame[..., 0], frame[..., 2] = 200, 30
    with MmdetPersons(config, weights) as finder:
        finder.find([frame])
    ((image,),) = mmdet.images
    assert image[0, 0].tolist() == [30, 0, 200]
    assert image.flags.c_contiguous
    assert frame[0, 0].tolist() == [200, 0, 30]


def test_warnings_about_mmdets_code_are_kept_from_users(mmdet, config, weights):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with MmdetPersons(config, weights) as finder:
            finder.find([np.zeros((10, 10, 3), np.uint8)])
    assert len(mmdet.images) == 1
    # Files and sockets that earlier tests left open may be found at any time.
    assert [each for each in caught if not issubclass(each.category, ResourceWarning)] == []


def test_many_frames_go_in_batches(mmdet, config, weights):
    with MmdetPersons(config, weights) as finder:
        found = finder.find([np.zeros((100, 120, 3), np.uint8)] * 19)
    assert len(found) == 19
    assert [len(images) for images in mmdet.images] == [8, 8, 3]


def test_how_many_is_the_callers(mmdet, config, weights):
    frame = np.zeros((100, 120, 3), np.uint8)
    with MmdetPersons(config, weights, max_persons=1) as finder:
        np.testing.assert_array_equal(finder.find([frame])[0].boxes, [[60, 20, 120, 95]])


def test_weights_are_read_by_us_and_never_by_mmdet(mmdet, config, weights):
    MmdetPersons(config, weights, device="cuda:1")
    assert mmdet.init == SimpleNamespace(
        config=str(config), checkpoint=None, palette="coco", device="cuda:1"
    )
    assert mmdet.network.weight.tolist() == [[3, 4]]
    assert mmdet.network.bias.tolist() == [5]


def test_the_registry_is_mmdets_only_during_calls(mmdet, config, weights):
    before = mmdet.current_scope()
    with DefaultScope.overwrite_default_scope("mmpose"):
        with MmdetPersons(config, weights) as finder:
            finder.find([np.zeros((100, 120, 3), np.uint8)])
        assert mmdet.current_scope() == "mmpose"
    assert mmdet.scopes == ["mmdet", "mmdet"]
    assert mmdet.current_scope() == before


def test_absent_mmdet_is_reported_with_the_commands(no_mmdet, config, weights):
    with pytest.raises(MissingError, match=r"mim install mmcv==2\.1\.0.*mmdet==3\.3\.0"):
        MmdetPersons(config, weights)


def test_versions_that_do_not_fit_are_reported(monkeypatch, config, weights):
    def refuse(name):
        raise AssertionError("MMCV==2.2.0 is used but incompatible.\nPlease install another")

    monkeypatch.setattr(mmdet_boxes, "import_module", refuse)
    with pytest.raises(MissingError, match=r"MMCV==2\.2\.0 is used but incompatible. Please"):
        MmdetPersons(config, weights)


def test_absent_files_are_reported(mmdet, config, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path))
    with pytest.raises(MissingError, match=r"none\.py"):
        MmdetPersons(tmp_path / "none.py", weights)
    with pytest.raises(MissingError, match=r"none\.pth"):
        MmdetPersons(config, tmp_path / "none.pth")
    with pytest.raises(MissingError, match=r"gridpose models download rtmdet-m-person") as caught:
        MmdetPersons(config)
    assert str(tmp_path) in str(caught.value)


def test_the_config_of_rtmdet_comes_with_mmpose(monkeypatch):
    pytest.importorskip("mmpose", reason="mmpose is not installed", exc_type=ImportError)
    assert "num_classes=1" in default_config().read_text()
    monkeypatch.setattr(mmdet_boxes, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="give a config file"):
        default_config()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"state_dict": {"weight": torch.zeros(3, 3)}}, id="other shapes"),
        pytest.param({"weight": torch.zeros(1, 2)}, id="one is missing"),
        pytest.param({"state_dict": {}}, id="empty"),
        pytest.param([1, 2], id="no network"),
    ],
)
def test_weights_of_something_else_are_refused(mmdet, config, tmp_path, content):
    file = tmp_path / "other.pth"
    torch.save(content, file)
    with pytest.raises(InputError, match=r"other\.pth"):
        MmdetPersons(config, file)


class Harmful:
    def __reduce__(self):
        return (exec, ("raise SystemExit('was run')",))


def test_weights_that_would_run_code_are_refused(mmdet, config, tmp_path):
    file = tmp_path / "harmful.pth"
    torch.save({"state_dict": Harmful()}, file)
    with pytest.raises(InputError, match=r"harmful\.pth"):
        MmdetPersons(config, file)


def test_configs_and_devices_that_mmdet_refuses_are_reported(mmdet, config, weights, monkeypatch):
    def fail_with(error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(sys.modules["mmdet.apis"], "init_detector", fail)

    fail_with(KeyError("no such head"))
    with pytest.raises(InputError, match=r"config\.py.*no such head"):
        MmdetPersons(config, weights)
    fail_with(RuntimeError("shapes"))
    with pytest.raises(InputError, match=r"config\.py.*shapes"):
        MmdetPersons(config, weights)
    fail_with(AssertionError("Torch not compiled with CUDA enabled"))
    with pytest.raises(MissingError, match=r"'cuda:3'.*not compiled with CUDA"):
        MmdetPersons(config, weights, device="cuda:3")


def test_failure_of_the_network_is_reported(mmdet, config, weights, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA out of memory\nmore about it")

    monkeypatch.setattr(sys.modules["mmdet.apis"], "inference_detector", fail)
    with (
        MmdetPersons(config, weights) as finder,
        pytest.raises(GridposeError, match="out of memory"),
    ):
        finder.find([np.zeros((10, 10, 3), np.uint8)])


def test_auto_takes_mmdet_when_it_and_its_weights_are_there(
    mmdet, config, weights, monkeypatch, tmp_path
):
    monkeypatch.setattr(mmdet_boxes, "find_spec", lambda name: object())
    monkeypatch.setattr(mmdet_boxes, "default_config", lambda: config)
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path / "home"))
    default_weights().parent.mkdir(parents=True)
    default_weights().write_bytes(weights.read_bytes())
    for name in ("auto", "mmdet"):
        with load_person_finder(name) as chosen:
            assert chosen.name == "mmdet"
    default_weights().unlink()
    with load_person_finder() as chosen:
        assert chosen.name == "blazepose"


def test_mmdet_by_name_never_becomes_something_else(no_mmdet):
    with pytest.raises(MissingError, match="mmdet"):
        load_person_finder("mmdet")
