import copy
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fakes import standing_at
from pose_networks import (
    DOT_CONFIG,
    DotNetwork,
    draw_dots,
    random_model,
    small,
    small_config_file,
)

from gridpose.core import InputError
from gridpose.detectors.hrnet import cuda_graphs as graphs
from gridpose.detectors.hrnet.config import packaged_config, read_config
from gridpose.detectors.hrnet.crops import regions_of
from gridpose.detectors.hrnet.mmpose_models import import_mmpose
from gridpose.detectors.hrnet.network import TopDownNetwork

pytest.importorskip("mmpose", reason="needs mmpose")

torch.set_num_threads(1)  # threads only wait for each other on networks this small

CPU = torch.device("cpu")
HEATMAPS = [
    "td-hm_hrnet-w32_8xb64-210e_coco-256x192",
    "td-hm_hrnet-w32_dark-8xb64-210e_coco-256x192",
    "td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192",
    "td-hm_hrnet-w48_8xb32-210e_coco-384x288",
]
OTHERS = [
    "rtmpose-t_8xb256-420e_coco-256x192",
    "td-hm_hrnet-w32_udp-regress-8xb64-210e_coco-256x192",
]


def blurred_noise(seed, size=(240, 320)):
    import cv2

    noise = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def by_mmpose(model, config, pipeline, frame, boxes, flip_test):
    """mmpose's own ``inference_topdown``: keypoints, scores."""
    from mmengine import Config

    model.cfg = Config({"test_dataloader": {"dataset": {"pipeline": pipeline}}})
    model.dataset_meta = {"flip_indices": list(config.counterparts), "num_keypoints": 17}
    model.test_cfg["flip_test"] = flip_test
    apis = import_mmpose("mmpose.apis")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = apis.inference_topdown(model, frame[..., ::-1].copy(), boxes)
    people = [answer.pred_instances for answer in answers]
    return (
        np.concatenate([person.keypoints for person in people]),
        np.concatenate([person.keypoint_scores for person in people]),
    )


def pipeline_of(config):
    return [
        {"type": "LoadImage"},
        {"type": "GetBBoxCenterScale", "padding": config.padding},
        {"type": "TopdownAffine", "input_size": config.input_size, "use_udp": config.udp},
        {"type": "PackPoseInputs"},
    ]


def compare(config, model, frames, flip_test):
    """How far from what mmpose makes of the same frames and boxes: keypoints, px; scores."""
    generator = np.random.default_rng(5)
    theirs, boxes, frame_of_box = [], [], []
    reference = copy.deepcopy(model)
    for index, frame in enumerate(frames):
        size = np.array(frame.shape[1::-1])
        low = generator.uniform(-0.1, 0.6, (2, 2)) * size
        some = np.concatenate((low, low + generator.uniform(0.15, 0.6, (2, 2)) * size), 1)
        some = some.astype(np.float32)
        boxes.append(some)
        frame_of_box += [index] * 2
        theirs.append(by_mmpose(reference, config, pipeline_of(config), frame, some, flip_test))
    network = TopDownNetwork(config, model, CPU, flip_test=flip_test, batch_size=3)
    keypoints, scores = network.keypoints(frames, frame_of_box, np.concatenate(boxes))
    expected = np.concatenate([k for k, _ in theirs])
    expected_scores = np.concatenate([s for _, s in theirs])
    apart = np.abs(keypoints - expected).max(-1)
    if config.udp or config.model["head"]["decoder"].get("unbiased"):
        # Where a map is flat mmpose leaps to anywhere; we stay on the pixel that is highest.
        stayed = on_a_pixel(config, keypoints, np.concatenate(boxes))
        assert stayed.mean() < 0.85
        apart = apart[~stayed]
    return apart.ravel(), np.abs(scores - expected_scores).ravel()


def on_a_pixel(config, keypoints, boxes):
    """(N, K): whether keypoints in a frame lie on pixels of the heatmaps."""
    regions = regions_of(boxes, config.input_size, config.padding)
    cells = np.array(config.model["head"]["decoder"]["heatmap_size"]) - int(config.udp)
    corner = regions.centers - regions.sizes / 2
    places = (keypoints - corner[:, None]) / regions.sizes[:, None] * cells
    return (np.abs(places - places.round()) < 1e-3).all(-1)


@pytest.mark.parametrize(
    ("name", "flip_test"), [(HEATMAPS[0], False), *((name, True) for name in HEATMAPS)]
)
def test_keypoints_equal_those_of_mmposes_inference(tmp_path, name, flip_test):
    config = read_config(small_config_file(tmp_path, name))
    frames = [blurred_noise(seed) for seed in range(3)]

    px, score = compare(config, random_model(config), frames, flip_test)

    assert px.max() < 0.05
    assert score.max() < 1e-3


def test_of_several_stages_the_last_counts():
    config = read_config(packaged_config("td-hm_cpm_8xb64-210e_coco-256x192"))
    for part in ("backbone", "head"):
        config.model[part]["num_stages"] = 2
    config.model["head"]["decoder"].update(input_size=(96, 128), heatmap_size=(12, 16))
    config = replace(config, input_size=(96, 128))

    px, score = compare(config, random_model(config), [blurred_noise(0)], flip_test=True)

    assert px.max() < 0.05
    assert score.max() < 1e-3


def test_human36m_networks_equal_those_of_mmposes_inference():
    config = small(read_config("hrnet-w32-h36m-256x256"))
    frames = [blurred_noise(seed) for seed in range(2)]

    px, score = compare(config, random_model(config), frames, flip_test=False)

    assert px.max() < 0.05
    assert score.max() < 1e-3


def test_keypoints_in_real_pictures_equal_those_of_mmpose(shared):
    import cv2

    config = small(read_config("td-hm_hrnet-w32_8xb64-210e_coco-256x192"))
    files = sorted((shared / "video").glob("coco_*.jpg"))
    frames = [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]
    assert frames

    px, score = compare(config, random_model(config), frames, flip_test=True)

    assert px.max() < 0.05
    assert score.max() < 1e-3


@pytest.mark.parametrize(("name", "flip_test"), [(OTHERS[0], False), *((n, True) for n in OTHERS)])
@pytest.mark.filterwarnings("error::FutureWarning")
def test_other_heads_are_decoded_by_mmpose(name, flip_test):
    config = read_config(packaged_config(name))
    if "hrnet" in name:
        config = small(config)
    frames = [blurred_noise(seed) for seed in range(2)]

    px, score = compare(config, random_model(config), frames, flip_test)

    # The bins of a random RTMPose are nearly level: rounding may choose another one of them.
    assert (px < 0.05).mean() > 0.9
    assert score.max() < 1e-3


def test_dots_are_found_where_they_were_drawn():
    frames, people = [], []
    for index in range(3):
        person = standing_at(150 + 20 * index, 140, 110)
        frame = np.full((300, 400, 3), 255, np.uint8)
        draw_dots(frame, person)
        frames.append(frame)
        people.append(person)
    boxes = np.stack([np.concatenate((p.min(0) - 15, p.max(0) + 15)) for p in people])
    dots = DotNetwork()

    keypoints, scores = TopDownNetwork(DOT_CONFIG, dots, CPU, batch_size=2).keypoints(
        frames, [0, 1, 2], boxes.astype(np.float32)
    )

    # Hip and shoulder dots overlap neighbours painted later; the others lie free.
    apart = np.linalg.norm(keypoints - np.stack(people), axis=-1)
    assert np.median(apart) < 1.0
    assert (scores > 0.5).all()
    assert dots.crops_seen == 3


def test_batches_do_not_change_the_answer(tmp_path):
    config = read_config(small_config_file(tmp_path))
    model = random_model(config)
    frame = blurred_noise(0)
    boxes = np.array([[10 * i, 5 * i, 100 + 10 * i, 150 + 8 * i] for i in range(7)], np.float32)
    answers = [
        TopDownNetwork(config, copy.deepcopy(model), CPU, batch_size=size).keypoints(
            [frame], [0] * 7, boxes
        )
        for size in (1, 3, 8)
    ]

    for keypoints, scores in answers[1:]:
        np.testing.assert_allclose(keypoints, answers[0][0], atol=0.05)
        np.testing.assert_allclose(scores, answers[0][1], atol=1e-4)


def test_no_boxes_no_keypoints(tmp_path):
    config = read_config(small_config_file(tmp_path))
    network = TopDownNetwork(config, random_model(config), CPU)

    keypoints, scores = network.keypoints([blurred_noise(0)], [], np.zeros((0, 4), np.float32))

    assert keypoints.shape == (0, 17, 2)
    assert scores.shape == (0, 17)


def test_bf16_is_close_to_fp32(tmp_path):
    config = read_config(small_config_file(tmp_path))
    model = random_model(config)
    frame, boxes = blurred_noise(0), np.array([[20, 20, 180, 220]], np.float32)

    answers = [
        TopDownNetwork(config, copy.deepcopy(model), CPU, precision=precision).keypoints(
            [frame], [0], boxes
        )
        for precision in ("fp32", "bf16")
    ]

    (_, exact), (_, rough) = answers
    assert 0 < np.abs(exact - rough).max() < 0.05 * np.abs(exact).max()


def test_a_network_that_wants_bgr_gets_bgr(tmp_path):
    config = read_config(small_config_file(tmp_path))
    model = random_model(config)
    blue = copy.deepcopy(model)
    preprocessor = blue.data_preprocessor
    preprocessor._channel_conversion = False
    preprocessor.mean, preprocessor.std = preprocessor.mean.flip(0), preprocessor.std.flip(0)
    blue.backbone.conv1.weight.data = blue.backbone.conv1.weight.data.flip(1)
    frame, boxes = blurred_noise(0), np.array([[20, 20, 180, 220]], np.float32)

    rgb, bgr = (
        TopDownNetwork(config, which, CPU).keypoints([frame], [0], boxes) for which in (model, blue)
    )

    np.testing.assert_allclose(rgb[0], bgr[0], atol=0.05)


def test_compiled_networks_are_asked_of_torch(tmp_path, monkeypatch):
    asked = []

    def compile_(network, **options):
        asked.append(options)
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    config = read_config(small_config_file(tmp_path))

    network = TopDownNetwork(config, random_model(config), CPU, compiled=True)
    network.keypoints([blurred_noise(0)], [0], np.array([[0, 0, 90, 120]], np.float32))

    assert asked == [{"dynamic": True}]


def test_on_a_gpu_crops_go_through_pinned_memory(monkeypatch):
    """A device that only says it is one: what it is asked for is what a GPU would be."""
    staged, moved = [], []
    empty, to = torch.empty, torch.Tensor.to

    def pinned_empty(*shape, pin_memory=False, **options):
        staged.append(pin_memory)
        return empty(*shape, **options)

    def to_device(tensor, target, *arguments, **options):
        if isinstance(target, SimpleNamespace):
            moved.append(options)
            return tensor
        return to(tensor, target, *arguments, **options)

    monkeypatch.setattr(torch, "empty", pinned_empty)
    monkeypatch.setattr(torch.Tensor, "to", to_device)
    dots = DotNetwork()
    asked = []
    monkeypatch.setattr(dots, "to", lambda *_, **options: asked.append(options["dtype"]) or dots)
    given = []
    see = dots.extract_feat
    monkeypatch.setattr(dots, "extract_feat", lambda crops: given.append(crops.dtype) or see(crops))
    network = TopDownNetwork(
        DOT_CONFIG,
        dots,
        SimpleNamespace(type="cuda"),
        precision="fp16",
    )
    frame = np.full((300, 400, 3), 255, np.uint8)
    draw_dots(frame, standing_at(150, 140, 110))

    network.keypoints([frame], [0], np.array([[80, 40, 220, 260]], np.float32))

    assert staged == [True]
    assert {"non_blocking": True} in moved
    assert asked == given == [torch.float16]  # the weights themselves, not autocast's copies


def test_padded_recordings_give_the_same_keypoints(tmp_path, monkeypatch):
    """With a stand-in for the graph: what batches of other sizes leave behind is not seen."""

    class Recording:
        pool = None

        def __init__(self, call, size, values, pool):
            self._call, self._values = call, values.new_zeros((size, *values.shape[1:]))

        def replay(self, values):
            self._values[: len(values)].copy_(values)
            first, second = self._call(self._values)
            return first[: len(values)].clone(), second[: len(values)].clone()

    monkeypatch.setattr(graphs, "Recording", Recording)
    monkeypatch.setattr(graphs, "WARM_UP", 0)
    config = read_config(small_config_file(tmp_path))
    network = TopDownNetwork(config, random_model(config), CPU, flip_test=True, batch_size=6)
    boxes = np.array([[10 * i, 5 * i, 90 + 10 * i, 150 + 8 * i] for i in range(6)], np.float32)
    index = [n % 2 for n in range(6)]
    frames = [blurred_noise(0), blurred_noise(1)]
    wanted = network.keypoints(frames, index, boxes)
    network._look = graphs.RecordedCalls(network._seen, 8)
    for count in (6, 5, 6):
        found = network.keypoints(frames, index[:count], boxes[:count])
        np.testing.assert_allclose(found[0], wanted[0][:count], atol=0.05)
        np.testing.assert_allclose(found[1], wanted[1][:count], atol=1e-4)


def test_more_keypoints_than_the_data_have_are_an_error(tmp_path):
    config = read_config(small_config_file(tmp_path))
    model = random_model(config)
    model.head.final_layer = torch.nn.Conv2d(8, 19, 1)

    with pytest.raises(InputError, match="yields 19 keypoints"):
        TopDownNetwork(config, model, CPU).keypoints(
            [blurred_noise(0)], [0], np.array([[0, 0, 90, 120]], np.float32)
        )
