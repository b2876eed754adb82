import importlib.util
import json
import os
import subprocess
import sys
from types import ModuleType

import pytest
from pose_networks import small_config_file

from gridpose.core import InputError, MissingError
from gridpose.detectors.hrnet import mmpose_models
from gridpose.detectors.hrnet.config import read_config
from gridpose.detectors.hrnet.mmpose_models import STAND_INS, build_model, import_mmpose, stand_ins

needs_mmpose = pytest.mark.skipif(importlib.util.find_spec("mmpose") is None, reason="needs mmpose")

IMPORTED_BY = {
    "mmcv.ops": "mmpose.models.heads.transformer_heads.edpose_head",
    "mmdet.utils": "mmpose.models.heads.hybrid_heads.rtmo_head",
    "xtcocotools.coco": "mmpose.datasets.datasets.base.base_coco_style_dataset",
    "xtcocotools.cocoeval": "mmpose.evaluation.metrics.coco_metric",
    "xtcocotools.mask": "mmpose.datasets.transforms.bottomup_transforms",
    "torchvision.transforms": "mmpose.visualization.simcc_vis",
}

# Every import is tried in a fork of a process that has imported what takes longest.
IMPORTS_WITHOUT_EACH = """
import importlib, importlib.util, json, os, sys, warnings
import cv2, matplotlib.pyplot, mmcv.cnn, mmcv.transforms, mmengine.runner, scipy.optimize, torch
from gridpose.detectors.hrnet.mmpose_models import STAND_INS, import_mmpose, stand_ins
warnings.simplefilter("ignore")

def attempt(left_out, modules):
    with stand_ins(tuple(one for one in STAND_INS if one.module != left_out)):
        try:
            for module in modules:
                importlib.import_module(module)
        except ImportError as error:
            return f"fails: {error.name}"
        return "works"

def remaining():
    import_mmpose("mmpose.apis")
    left = [one.module for one in STAND_INS if one.module in sys.modules]
    return [m for m in left if not importlib.util.find_spec(m.partition(".")[0]) or m == "mmcv.ops"]

def in_fork(label, call):
    if os.fork() == 0:
        print(label, call(), flush=True)
        os._exit(0)
    os.wait()

in_fork("remaining", remaining)
imported_by = json.loads(sys.argv[1])
in_fork("none", lambda: attempt("none", imported_by.values()))
for left_out, module in imported_by.items():
    in_fork(left_out, lambda: attempt(left_out, [module]))
"""


@needs_mmpose
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_each_stand_in_is_needed_by_the_import_it_names_and_none_remains():
    code = [sys.executable, "-c", IMPORTS_WITHOUT_EACH, json.dumps(IMPORTED_BY)]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = {}
    for line in done.stdout.splitlines():
        left_out, outcome = line.split(" ", 1)
        told[left_out] = outcome
    assert told["remaining"] == "[]"
    assert told["none"] == "works"
    for stand_in in STAND_INS:
        package = stand_in.real.partition(".")[0]
        if importlib.util.find_spec(package) is None or "_ext" in stand_in.real:
            assert told[stand_in.module].startswith(f"fails: {package}"), stand_in


def test_packages_that_are_there_are_used(monkeypatch):
    real = ModuleType("mmdet.utils")
    monkeypatch.setitem(sys.modules, "mmdet", ModuleType("mmdet"))
    monkeypatch.setitem(sys.modules, "mmdet.utils", real)

    with stand_ins():
        assert sys.modules["mmdet.utils"] is real
    assert sys.modules["mmdet.utils"] is real


def test_a_stand_in_that_is_used_says_so():
    stand_in = mmpose_models.StandIn("no_such_package.part", "no_such_package", ("Thing",))

    with stand_ins((stand_in,)):
        from no_such_package.part import Thing

    with pytest.raises(ImportError, match="Thing is not installed"):
        Thing()


def test_without_mmpose_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmpose", None)  # what Python does for a module not there

    with pytest.raises(MissingError, match=r"mmpose==1\.3\.2") as caught:
        import_mmpose("mmpose")
    assert caught.value.exit_code == 4


def test_versions_that_do_not_fit_are_a_clear_error(monkeypatch):
    def refuse(name):
        raise AssertionError("MMCV==3.0.0 is used but incompatible.\n Please install mmcv>=2.0")

    monkeypatch.setattr(mmpose_models, "import_module", refuse)

    with pytest.raises(MissingError, match=r"MMCV==3\.0\.0 is used but incompatible\. Please"):
        import_mmpose("mmpose")


@needs_mmpose
def test_networks_are_mmposes_own_and_leave_no_trace_in_the_registries(tmp_path):
    from mmengine.registry import DefaultScope

    before = DefaultScope.get_current_instance()
    config = read_config(small_config_file(tmp_path))

    model = build_model(config.model, config.name)

    assert type(model.backbone).__module__ == "mmpose.models.backbones.hrnet"
    assert not model.training
    assert DefaultScope.get_current_instance() is before


@needs_mmpose
@pytest.mark.parametrize(
    ("model", "why"),
    [
        ({"type": "NoSuchEstimator"}, "NoSuchEstimator"),
        ({"type": "TopdownPoseEstimator", "backbone": {"type": "Nothing"}}, "Nothing"),
        ({"type": "ResNet", "depth": 18}, "ResNet is no top-down pose estimator"),
    ],
)
def test_models_that_mmpose_cannot_build_are_bad_input(model, why):
    with pytest.raises(InputError, match=why):
        build_model(model, "mine.py")
