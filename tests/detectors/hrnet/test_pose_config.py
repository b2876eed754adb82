import re

import pytest
from pose_networks import small_config_file

from gridpose.core import JOINT_NAMES, MIRRORED, InputError, MissingError
from gridpose.detectors.conventions import COCO_17, HUMAN36M_17, convention_of
from gridpose.detectors.hrnet.config import DEFAULT_CONFIG, is_known, packaged_config, read_config

pytest.importorskip("mmpose", reason="needs mmpose")


def test_a_packaged_config_by_name():
    config = read_config(DEFAULT_CONFIG)

    assert (config.input_size, config.padding, config.udp) == ((192, 256), 1.25, False)
    assert config.keypoints == COCO_17.keypoints
    assert config.keypoints[config.counterparts[9]] == "right_wrist"  # 9 is the left one


def test_udp_is_known_from_the_pipeline():
    assert read_config("td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192").udp


@pytest.mark.parametrize("width", [32, 48])
def test_human36m_networks_are_as_mmpose_0_trained_them(width):
    config = read_config(f"hrnet-w{width}-h36m-256x256")

    head = config.model["head"]
    assert config.input_size == (256, 256)
    assert head["decoder"] == {
        "type": "MSRAHeatmap",
        "input_size": (256, 256),
        "heatmap_size": (64, 64),
        "sigma": 2,
    }
    assert (head["in_channels"], head["out_channels"]) == (width, 17)
    assert config.counterparts == MIRRORED
    assert convention_of(config.keypoints, config.name) is HUMAN36M_17
    assert config.model["test_cfg"]["shift_heatmap"]


def test_a_users_config_file(tmp_path):
    config = read_config(small_config_file(tmp_path))

    assert config.model["backbone"]["extra"]["stage2"]["num_channels"] == (8, 16)
    assert config.keypoints == COCO_17.keypoints


def test_names_that_lead_nowhere():
    assert not is_known("no-such-config")
    assert is_known("hrnet-w48-h36m-256x256")
    assert packaged_config("../../etc/passwd") is None
    with pytest.raises(MissingError, match="no-such-config: neither a file nor a config"):
        read_config("no-such-config")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("model = dict(", "not an mmpose config"),
        ("raise ValueError('boom')", "boom"),
        ("model = dict(type='TopdownPoseEstimator')", "lacks model or test_dataloader"),
        ("x = 1", "lacks model or test_dataloader"),
        (
            "model = dict(type='BottomupPoseEstimator')\n"
            "test_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=[]))",
            "no TopdownAffine",
        ),
        (
            "model = dict(type='T')\n"
            "test_dataloader = dict(dataset=dict(type='CocoDataset',\n"
            "  metainfo=dict(from_file='nowhere.py'),\n"
            "  pipeline=[dict(type='TopdownAffine', input_size=(192, 256))]))",
            "keypoints cannot be read",
        ),
    ],
)
def test_configs_of_no_use_are_bad_input(tmp_path, text, why):
    file = tmp_path / "mine.py"
    file.write_text(text)

    with pytest.raises(InputError, match=why) as caught:
        read_config(file)
    assert "mine.py" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_conventions_are_known_by_their_names():
    feet = ("left_big_toe", "right_big_toe")

    wider = convention_of((*feet, *COCO_17.keypoints), "halpe")

    assert convention_of(JOINT_NAMES, "own") is HUMAN36M_17
    assert convention_of(COCO_17.keypoints, "coco") is COCO_17
    assert wider.matrix.shape == (17, 19)
    assert (wider.matrix[:, 2:] == COCO_17.matrix).all()
    with pytest.raises(InputError, match=re.escape("mpii.py: its 2 keypoints cannot be turned")):
        convention_of(feet, "mpii.py")
