import json
import sys

import numpy as np
import pytest
import torch
from fakes import FakeDetector, standing_at
from pose_networks import (
    DOT_CONFIG,
    DotNetwork,
    draw_dots,
    random_model,
    save_random,
    small_config_file,
)

from gridpose.core import MissingError, UsageError
from gridpose.detectors import COCO_17, HUMAN36M_17, load_detector
from gridpose.detectors.boxes import PersonBoxes
from gridpose.detectors.hrnet import evoskeleton
from gridpose.detectors.hrnet.config import read_config
from gridpose.detectors.hrnet.detector import load_hrnet
from gridpose.detectors.hrnet.network import TopDownNetwork
from gridpose.detectors.options import HRNetOptions
from gridpose.detectors.registry import MODELS, weights_file
from gridpose.detectors.topdown import TopDownDetector, WithoutHints
from gridpose.pipeline.poses import file as posefile

pytest.importorskip("mmpose", reason="needs mmpose")

FPS = 30
FRAME = (240, 320, 3)


def frame(index):
    """A black frame that carries its number."""
    image = np.zeros(FRAME, np.uint8)
    image[0, 0, :2] = index // 256, index % 256
    return image


def number_of(image):
    return int(image[0, 0, 0]) * 256 + int(image[0, 0, 1])


class Network:
    """Sees, in each crop, the person of ``everybody(index)`` who is nearest to its middle."""

    def __init__(self, everybody, score=0.9):
        self.everybody, self.score = everybody, score
        self.batches = []

    def keypoints(self, frames, frame_of_box, boxes):
        self.batches.append(len(boxes))
        keypoints = np.zeros((len(boxes), 17, 2), np.float32)
        scores = np.full((len(boxes), 17), 0.03, np.float32)
        for place, (index, box) in enumerate(zip(frame_of_box, boxes, strict=True)):
            middle, half = (box[:2] + box[2:]) / 2, 0.625 * (box[2:] - box[:2]).max()
            people = self.everybody(number_of(frames[index]))
            near = sorted(people, key=lambda p: np.linalg.norm(p.mean(0) - middle))
            if near and (np.abs(near[0] - middle) <= half).mean() > 0.8:
                keypoints[place], scores[place] = near[0], self.score
        return keypoints, scores


class Finder:
    """Finds everybody, at a price that is counted."""

    name = "finder"
    weights_sha256 = ""
    reason = "a test"

    def __init__(self, everybody):
        self.everybody = everybody
        self.searched, self.closed = [], False

    def find(self, frames):
        answers = []
        for image in frames:
            self.searched.append(number_of(image))
            people = self.everybody(self.searched[-1])
            boxes = [np.concatenate((p.min(0) - 8, p.max(0) + 8)) for p in people]
            answers.append(
                PersonBoxes(
                    np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32)
                )
            )
        return answers

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.closed = True


def detector_of(everybody, **options):
    network, finder = Network(everybody), Finder(everybody)
    return (
        TopDownDetector("test", WithoutHints(network), finder, HUMAN36M_17, "0" * 64, **options),
        network,
        finder,
    )


def detect(detector, frames, batch=8):
    found = []
    for start in range(0, frames, batch):
        indices = range(start, min(start + batch, frames))
        found += detector.detect([frame(i) for i in indices], [i / FPS for i in indices])
    return found


@pytest.mark.parametrize("batch", [1, 8, 50])
def test_people_are_followed_with_few_searches(batch):
    """Two people, one of whom runs 4 m/s."""

    def everybody(index):
        return [standing_at(60 + 6 * index, 120, 50), standing_at(250, 120, 60)]

    detector, network, finder = detector_of(everybody)
    found = detect(detector, 30, batch)

    for index, people in enumerate(found):
        seen = sorted((p.keypoints for p in people), key=lambda k: k[0, 0])
        truth = sorted(everybody(index), key=lambda k: k[0, 0])
        np.testing.assert_allclose(np.stack(seen), np.stack(truth), atol=1e-3)
    assert len(finder.searched) <= 3  # at 0 s, 0.5 s
    assert batch == 1 or max(network.batches) >= 8  # crops of several frames at once


def calm(index):
    return [standing_at(60 + 2 * index, 120, 50), standing_at(250, 120, 60)]


def turning(index):
    """Runs, and turns round within a frame."""
    return [standing_at(60 + 7 * min(index, 60 - index), 120, 40)]


@pytest.mark.parametrize("everybody", [calm, turning], ids=["calm", "turning"])
def test_batches_that_reach_far_ahead_answer_the_same(everybody):
    calls, answers = [], []
    for at_once in (0, 64):
        detector, network, finder = detector_of(everybody, crops_at_once=at_once)
        assert detector.frames_at_once == (16 if at_once else 1)
        answers.append(detect(detector, 60, 16))
        calls.append(len(network.batches))
        assert finder.searched[0] == 0
    for index, found in enumerate(zip(*answers, strict=True)):
        truth = everybody(index)
        assert len(found[0]) == len(found[1])
        assert len(found[0]) == len(truth) or (everybody is turning and index in (35, 36))
        for people in found:
            seen = sorted((p.keypoints for p in people), key=lambda k: k[0, 0])
            for person, true in zip(seen, truth, strict=False):
                np.testing.assert_allclose(person, true, atol=1e-3)
    assert calls[1] < (0.7 if everybody is calm else 1) * calls[0]


def test_a_newcomer_is_found_within_the_interval():
    def everybody(index):
        return [standing_at(60, 120, 50)] + ([standing_at(250, 120, 50)] if index >= 20 else [])

    detector, _, _ = detector_of(everybody, search_seconds=0.5)

    counts = [len(people) for people in detect(detector, 45)]

    assert counts[:20] == [1] * 20
    assert counts[20 + 20 :] == [2] * 5


def test_after_a_loss_it_searches_at_once():
    """He jumps across the frame: nobody follows that."""

    def everybody(index):
        return [standing_at(60 if index < 12 else 260, 120, 50)]

    detector, _, finder = detector_of(everybody, search_seconds=1e9)

    counts = [len(people) for people in detect(detector, 40)]

    assert counts[:12] == [1] * 12
    assert counts[24:] == [1] * 16
    assert len(finder.searched) >= 2


def test_nobody_is_looked_for_again_and_again():
    detector, network, finder = detector_of(lambda _: [])

    assert detect(detector, 10) == [[]] * 10
    assert finder.searched == [0, 5, 8]  # runs of 0.15 s, and the next call's frames
    assert sum(network.batches) == 0


def test_who_leaves_is_not_shown_any_more():
    def everybody(index):
        return [standing_at(160, 120, 50)] if index < 10 else []

    detector, _, _ = detector_of(everybody)

    counts = [len(people) for people in detect(detector, 30)]

    assert counts == [1] * 10 + [0] * 20


def test_a_badly_placed_box_is_looked_at_again():
    """The search finds the upper body only."""

    def everybody(_):
        return [standing_at(160, 120, 60)]

    detector, network, finder = detector_of(everybody)
    person = everybody(0)[0]
    upper = person[person[:, 1] < person[0, 1]]
    box = np.concatenate((upper.min(0) - 12, upper.max(0) + 30)).astype(np.float32)
    finder.find = lambda frames: [PersonBoxes(box[None], np.ones(1, np.float32)) for _ in frames]

    (people,) = detect(detector, 1)

    assert network.batches == [1, 1]
    assert (people[0].bbox[:2] <= person.min(0)).all()
    assert (people[0].bbox[2:] >= person.max(0)).all()


def test_a_picture_is_one_frame():
    detector, _, finder = detector_of(lambda _: [standing_at(160, 120, 60)])

    assert len(detect(detector, 1)[0]) == 1
    assert len(finder.searched) == 1


def test_low_frame_rates_are_not_extrapolated():
    """At 2 frames/s everybody may be anywhere by the next frame."""
    detector, _, finder = detector_of(lambda i: [standing_at(60 + 90 * (i % 2), 120, 50)])

    found = detector.detect([frame(i) for i in range(6)], [i / 2 for i in range(6)])

    assert [len(people) for people in found] == [1] * 6
    assert len(finder.searched) == 6


def test_leaving_it_closes_the_finder():
    detector, _, finder = detector_of(lambda _: [])
    with detector:
        assert not finder.closed
    assert finder.closed


def test_dots_are_followed_through_real_crops():
    """From pixels to keypoints with a network that sees colours."""

    def person(index):
        return standing_at(90 + 8 * index, 130, 100)

    frames = []
    for index in range(20):
        image = np.full((300, 400, 3), 255, np.uint8)
        draw_dots(image, person(index))
        frames.append(image)
    finder = Finder(lambda _: [person(0)])
    finder.find = lambda images: Finder.find(finder, [frame(0)] * len(images))
    network = TopDownNetwork(DOT_CONFIG, DotNetwork(), torch.device("cpu"))
    detector = TopDownDetector(
        "test", WithoutHints(network), finder, HUMAN36M_17, "", search_seconds=1e9
    )

    found = detector.detect(frames, [index / FPS for index in range(20)])

    for index, people in enumerate(found):
        (seen,) = people
        apart = np.linalg.norm(seen.keypoints - person(index), axis=-1)
        assert np.median(apart) < 1.0, index
    assert finder.searched == [0]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path / "home"))
    (tmp_path / "home/models").mkdir(parents=True)
    return tmp_path / "home"


W32 = "td-hm_hrnet-w32_8xb64-210e_coco-256x192"


@pytest.fixture(scope="module")
def w32(tmp_path_factory):
    """Random weights of HRNet-W32 in a file whose name says nothing."""
    file = tmp_path_factory.mktemp("w32") / "mine.pth"
    save_random(file, W32)
    return file


@pytest.fixture
def blazepose(monkeypatch):
    """BlazePose is not loaded, only told the reason."""

    def load(size, max_persons, *, precision, reason):
        detector = FakeDetector()
        detector.name, detector.reason = "blazepose", reason
        return detector

    monkeypatch.setattr("gridpose.detectors.blazepose.detector.load_blazepose", load)


def options(**more):
    """By torch, which needs no conversion: test_openvino_topdown.py has OpenVINO."""
    return HRNetOptions(person_boxes="full-frame", engine_cpu="torch", **more)


def test_weights_and_config_of_the_user(tmp_path):
    config_file = small_config_file(tmp_path)
    save_random(tmp_path / "mine.pth", config_file)

    given = options(weights=tmp_path / "mine.pth", config=config_file)
    with load_detector("hrnet", device="cpu", hrnet=given) as detector:
        found = detector.detect([np.zeros(FRAME, np.uint8)], [0.0])

    assert detector.name == "hrnet"
    assert detector.convention is COCO_17
    assert detector.notices == []
    assert "persons by full-frame" in detector.reason
    assert found[0][0].keypoints.shape == (17, 2)
    assert found[0][0].confidence.max() <= 1


def test_what_the_file_does_not_say_is_assumed_aloud(w32):
    with load_hrnet(options(weights=w32), device="cpu") as detector:
        assert detector.network.network.config.input_size == (192, 256)

    (notice,) = detector.notices
    assert f"taken for {W32}; `config` overrides" in notice


def test_human36m_weights_of_mmpose_0_are_known_by_their_name(tmp_path, w32):
    file = tmp_path / "hrnet_w32_h36m_256x256-d3206675_20210621.pth"
    state = torch.load(w32, mmap=True, weights_only=True)["state_dict"]
    torch.save({key.replace("head.", "keypoint_head."): v for key, v in state.items()}, file)

    with load_hrnet(options(weights=file), device="cpu") as detector:
        assert detector.network.network.config.input_size == (256, 256)

    assert detector.convention is HUMAN36M_17
    assert detector.notices == []


def test_evoskeletons_weights_are_known_by_their_layers(tmp_path):
    config = read_config(evoskeleton.CONFIG)
    model = random_model(config)
    evoskeleton.add_upsampling(model)
    state = {
        key.removeprefix("backbone.").removeprefix("head."): value
        for key, value in model.state_dict().items()
    }
    file = tmp_path / "final_state.pth"
    torch.save(state, file, _use_new_zipfile_serialization=False)
    image = np.random.default_rng(0).integers(0, 255, FRAME, np.uint8)

    with load_hrnet(options(weights=file), device="cpu") as detector:
        (people,) = detector.detect([image], [0.0])

    assert detector.notices == []
    joints, _ = detector.convention.to_human36m(people[0].keypoints, people[0].confidence)
    order = (3, 12, 14, 16, 11, 13, 15, 1, 2, 0, 4, 5, 7, 9, 6, 8, 10)
    np.testing.assert_array_equal(joints, people[0].keypoints[list(order)])


def test_evoskeletons_keypoints_are_mean_places():
    maps = torch.full((1, 2, 48, 36), -20.0)
    maps[0, 0, 10, 20] = 5.0
    maps[0, 1, 30, 4] = maps[0, 1, 30, 6] = 5.0

    places, scores = evoskeleton.decode(maps)

    np.testing.assert_allclose(places[0], [[20, 10], [5, 30]], atol=1e-3)
    np.testing.assert_allclose(scores[0], [1, 1], atol=1e-3)


@pytest.mark.parametrize(
    ("given", "kind", "why"),
    [
        ({}, MissingError, "no HRNet weights are in the cache: gridpose models download"),
        ({"weights": "hrnet-w48-coco"}, MissingError, "models download hrnet-w48-coco fetches"),
        ({"weights": "nowhere.pth"}, MissingError, r"nowhere\.pth: no such detector weights"),
        ({"weights": "rtmdet-m-person"}, UsageError, "rtmdet-m-person yields boxes"),
    ],
)
def test_weights_that_are_not_there(home, given, kind, why):
    with pytest.raises(kind, match=why):
        load_hrnet(options(**given), device="cpu")


def test_fp16_needs_a_gpu(tmp_path):
    with pytest.raises(UsageError, match="`precision=fp16` needs a GPU"):
        load_hrnet(options(weights=tmp_path / "x.pth"), device="cpu", precision="fp16")


class TestAuto:
    def test_without_weights_it_is_blazepose(self, home, blazepose):
        with load_detector() as detector:
            assert detector.name == "blazepose"
        assert "no HRNet weights are there; gridpose models download" in detector.reason

    def test_without_mmpose_it_is_blazepose(self, home, blazepose, monkeypatch):
        monkeypatch.setitem(sys.modules, "mmpose", None)
        with load_detector() as detector:
            assert detector.name == "blazepose"
        assert "mmpose is not installed" in detector.reason

    def test_with_weights_it_is_hrnet(self, home, w32):
        weights_file(MODELS["hrnet-w32-coco"]).symlink_to(w32)
        with load_detector(device="cpu", hrnet=options()) as detector:
            assert detector.name == "hrnet"
        assert "mmpose and its weights are there" in detector.reason
        assert f"{W32} on cpu" in detector.reason

    def test_with_broken_weights_it_says_so_and_is_blazepose(self, home, blazepose):
        weights_file(MODELS["hrnet-w48-coco"]).write_bytes(b"half a file")
        with load_detector() as detector:
            assert detector.name == "blazepose"
        assert "HRNet cannot be used: " in detector.reason
        assert "damaged" in detector.reason

    def test_weights_that_were_given_are_not_passed_over(self, tmp_path):
        with pytest.raises(MissingError, match=r"none\.pth"):
            load_detector("auto", hrnet=options(weights=tmp_path / "none.pth"))


def test_hrnet_without_mmpose_says_how_to_get_it(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "mmpose", None)

    with pytest.raises(MissingError, match=r"pip install --no-deps mmpose==1\.3\.2"):
        load_detector("hrnet")


def test_blazepose_takes_no_weights(tmp_path):
    with pytest.raises(UsageError, match="not for blazepose"):
        load_detector("blazepose", hrnet=options(weights=tmp_path / "x.pth"))


def test_a_video_from_end_to_end(sample_video, w32, tmp_path, invoke):
    """With random weights the skeletons are nonsense: what counts is that all of it runs."""
    result = invoke(
        *("video", sample_video, "-o", tmp_path / "out.mp4", "--end", "0.1", "--json"),
        *("--detector", "hrnet", "--detector-weights", w32, "--persons", "everyone"),
        *("--save-poses", tmp_path / "out.npz", "--device", "cpu", "--engine-cpu", "torch"),
    )

    assert result.exit_code == 0, result.stderr
    assert f"detector: hrnet (asked for; {W32}" in result.stderr
    assert " on cpu (torch: asked for), persons by" in result.stderr
    assert "--detector-config overrides" in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["detector"], summary["frames"]) == ("hrnet", 3)
    assert summary["tracks"] >= 1
    tracks = posefile.read_pose_file(tmp_path / "out.npz")
    assert np.isfinite(tracks.poses_3d[tracks.present]).all()
    options = tracks.meta["options"]["hrnet"]
    assert options["weights"].endswith("mine.pth")
    assert options["engine_cpu"] == "torch"
    assert len(tracks.meta["detector"]["sha256"]) == 64


def test_bad_weights_end_a_video_with_one_sentence(make_video, tmp_path, invoke):
    video = make_video(tmp_path / "in.mp4")
    (tmp_path / "bad.pth").write_bytes(b"nothing")

    result = invoke(
        *("video", video, "-o", tmp_path / "out.mp4"),
        *("--detector", "hrnet", "--detector-weights", tmp_path / "bad.pth"),
    )

    assert result.exit_code == 3
    assert result.stderr.strip().count("\n") == 0
    assert "bad.pth" in result.stderr
    assert not (tmp_path / "out.mp4").exists()
