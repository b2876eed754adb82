import collections
import pickle

import numpy as np
import pytest
import torch
from pose_networks import random_model, save_random, small_config_file

from gridpose.core import InputError, MissingError
from gridpose.detectors.hrnet.config import read_config
from gridpose.detectors.hrnet.mmpose_models import build_model
from gridpose.detectors.hrnet.weights import branch_width, fit, read_pose_weights
from gridpose.storage import file_sha256

pytest.importorskip("mmpose", reason="needs mmpose")


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    return small_config_file(tmp_path_factory.mktemp("config"))


def as_mmpose_0(key):
    return key.replace("head.", "keypoint_head.")


def as_original(key):
    return key.removeprefix("backbone.").removeprefix("head.")


def in_parallel(key):
    return f"module.{key}"


def fitted(file, config_file):
    config = read_config(config_file)
    model = build_model(config.model, config.name)
    fit(read_pose_weights(file), model, config.name)
    return model


@pytest.mark.parametrize(
    "rename",
    [lambda key: key, as_mmpose_0, as_original, in_parallel, lambda k: in_parallel(as_mmpose_0(k))],
    ids=["mmpose 1.x", "mmpose 0.x", "original", "DataParallel", "0.x DataParallel"],
)
def test_every_layout_gives_the_same_network(tmp_path, config_file, rename):
    file = tmp_path / "weights.pth"
    saved = save_random(file, config_file, rename=rename)

    model = fitted(file, config_file)

    for (name, ours), theirs in zip(model.named_parameters(), saved.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    for (name, ours), theirs in zip(model.named_buffers(), saved.buffers(), strict=True):
        assert torch.equal(ours, theirs) or name.endswith("num_batches_tracked"), name


def test_a_bare_state_dict_in_the_legacy_form_without_counters(tmp_path, config_file):
    model = random_model(read_config(config_file))
    state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    file = tmp_path / "old.pth"
    torch.save(state, file, _use_new_zipfile_serialization=False)

    loaded = fitted(file, config_file)

    assert torch.equal(loaded.backbone.conv1.weight, model.backbone.conv1.weight)


def test_what_mmengine_stores_beside_the_weights_does_no_harm(tmp_path, config_file):
    from mmengine.logging import HistoryBuffer

    file = tmp_path / "trained.pth"
    meta = {
        "dataset_meta": {
            "keypoint_id2name": {0: "nose", 1: "left_eye"},
            "sigmas": np.array([0.026, 0.025], np.float32),
        },
        "epoch": 210,
    }
    buffer = HistoryBuffer()
    buffer.update(0.5)
    extra = {"meta": meta, "message_hub": {"log_scalars": {"train/loss": buffer}}}
    save_random(file, config_file, extra=extra)

    weights = read_pose_weights(file)

    assert weights.keypoints == ("nose", "left_eye")
    assert weights.sha256 == file_sha256(file)
    assert branch_width(weights) == 8
    fitted(file, config_file)


def test_the_config_is_known_by_a_published_files_name(tmp_path):
    name = "td-hm_hrnet-w32_dark-8xb64-210e_coco-256x192-0e00bf12_20220914.pth"
    torch.save({"a": torch.zeros(1)}, tmp_path / name)
    torch.save({"a": torch.zeros(1)}, tmp_path / "mine.pth")

    published = read_pose_weights(tmp_path / name).config_in_name

    assert published == "td-hm_hrnet-w32_dark-8xb64-210e_coco-256x192"
    assert read_pose_weights(tmp_path / "mine.pth").config_in_name is None


class Attack:
    def __reduce__(self):
        return (eval, ("open('/tmp/gridpose-was-here', 'w')",))


def test_nothing_in_a_file_is_executed(tmp_path):
    file = tmp_path / "evil.pth"
    file.write_bytes(pickle.dumps({"state_dict": Attack()}))

    with pytest.raises(InputError, match="refused"):
        read_pose_weights(file)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"state_dict": {}}, "no state_dict of tensors"),
        ([1, 2], "no state_dict of tensors"),
        ({"state_dict": {"a": torch.zeros(1), "b": 3}}, "no tensors \\(b\\)"),
        (collections.OrderedDict(epoch=3), "no state_dict of tensors"),
    ],
)
def test_files_without_weights_are_bad_input(tmp_path, content, why):
    file = tmp_path / "odd.pth"
    torch.save(content, file)

    with pytest.raises(InputError, match=why):
        read_pose_weights(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(MissingError, match=r"none\.pth: no such detector weights"):
        read_pose_weights(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda state: state.pop("head.final_layer.bias"), "missing head.final_layer.bias"),
        (lambda state: state.update({"neck.w": torch.zeros(1)}), "unknown neck.w"),
        (
            lambda state: state.update({"head.final_layer.bias": torch.zeros(16)}),
            r"of another shape head.final_layer.bias \(16, not 17\)",
        ),
        (
            lambda state: state["backbone.conv1.weight"].fill_(float("nan")),
            "no numbers backbone.conv1.weight",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, config_file, change, why):
    state = dict(random_model(read_config(config_file)).state_dict())
    change(state)
    torch.save({"state_dict": state}, tmp_path / "w.pth")

    with pytest.raises(InputError, match=why) as caught:
        fitted(tmp_path / "w.pth", config_file)
    assert "`config` names another" in str(caught.value)
