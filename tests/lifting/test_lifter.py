import hashlib
import importlib.resources
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from gridpose.core import MIRRORED, InputError, MissingError, UsageError
from gridpose.devices import resolve_device
from gridpose.lifting import Lifter, load_lifter, mpjpe
from gridpose.lifting.body import BONE_LENGTHS
from gridpose.lifting.model.network import Kind, NetworkConfig, build_network
from gridpose.lifting.synthesis.bone_directions import assemble
from gridpose.lifting.synthesis.motion_capture import PoseBank
from gridpose.lifting.weights.checkpoint import Checkpoint, save_checkpoint

torch.set_num_threads(1)  # threads only wait for each other on matrices this small

# Poses of mocap.cs.cmu.edu and DeepMimic clips that the shipped weights have not seen.
MOCAP = Path(__file__).parents[1] / "data" / "mocap_small.npz"
SIZE = (1280, 720)
FOV = 55.0
FOCAL = 640 / math.tan(math.radians(FOV / 2))


def camera_poses() -> np.ndarray:
    """Captured poses with the bones of Human3.6M, each before a camera of its own."""
    bank = PoseBank.from_files([MOCAP], torch.device("cpu"))
    lengths = torch.tensor(BONE_LENGTHS).expand(len(bank), 17)
    world = assemble(bank.directions, lengths).numpy().astype(np.float64)
    poses = np.empty_like(world)
    for index, yaw in enumerate(np.linspace(0, 2 * np.pi, len(world), endpoint=False)):
        turned = world[index] @ np.array(
            ((np.cos(yaw), np.sin(yaw), 0), (-np.sin(yaw), np.cos(yaw), 0), (0, 0, 1))
        )
        # z up, y away -> y down, z away
        poses[index] = np.stack((turned[:, 0], -turned[:, 2], turned[:, 1]), 1)
    return poses


def pinhole(poses: np.ndarray) -> np.ndarray:
    """Poses 3 to 6 m away, spread over the frame, as exact pixels."""
    count = len(poses)
    depth = np.linspace(3, 6, count)
    root = np.stack((np.linspace(-0.3, 0.3, count) * depth, np.zeros(count), depth), 1)
    points = poses + root[:, None]
    return points[..., :2] / points[..., 2:] * FOCAL + np.array(SIZE) / 2


POSES = camera_poses()
PIXELS = pinhole(POSES)


@pytest.fixture(scope="module")
def lifter() -> Lifter:
    return load_lifter()


def test_poses_come_with_the_hip_exactly_at_the_origin(lifter: Lifter) -> None:
    poses = lifter.lift(PIXELS, SIZE)
    assert poses.shape == (len(PIXELS), 17, 3)
    assert poses.dtype == np.float32
    assert (poses[:, 0] == 0).all()
    assert np.isfinite(poses).all()


def test_exact_keypoints_are_lifted_accurately(lifter: Lifter) -> None:
    error = 1000 * mpjpe(lifter.lift(PIXELS, SIZE, FOV), POSES)
    # For scale: answering the mean of these poses is 186 mm wrong.
    assert error.mean() < 80
    assert np.median(error) < 60


def test_lifted_poses_follow_the_camera_axes(lifter: Lifter) -> None:
    poses = lifter.lift(PIXELS, SIZE, FOV)
    for axis in range(3):
        agreement = np.corrcoef(poses[..., axis].ravel(), POSES[..., axis].ravel())[0, 1]
        assert agreement > 0.85, "xyz"[axis]


def test_mirrored_keypoints_give_the_mirrored_pose(lifter: Lifter) -> None:
    mirrored = PIXELS[:, MIRRORED] * (-1, 1) + (SIZE[0], 0)
    straight = lifter.lift(PIXELS, SIZE, FOV)
    back = lifter.lift(mirrored, SIZE, FOV)[:, MIRRORED] * (-1, 1, 1)
    assert 1000 * mpjpe(back, straight).mean() < 60


def test_a_turned_camera_sees_the_same_pose_turned(lifter: Lifter) -> None:
    # Straight ahead, and at the frame's edge after a pan of the camera.
    angle = math.radians(22)
    turn = np.array(
        ((math.cos(angle), 0, -math.sin(angle)), (0, 1, 0), (math.sin(angle), 0, math.cos(angle)))
    )
    points = POSES + (0, 0, 4)
    lifted = []
    for seen in (points, points @ turn):
        pixels = seen[..., :2] / seen[..., 2:] * FOCAL + np.array(SIZE) / 2
        lifted.append(lifter.lift(pixels, SIZE, FOV))
    assert 1000 * mpjpe(lifted[0] @ turn, lifted[1]).mean() < 15
    assert 1000 * mpjpe(lifted[0], lifted[1]).mean() > 60


def test_swapped_sides_are_noticed(lifter: Lifter) -> None:
    right = 1000 * mpjpe(lifter.lift(PIXELS, SIZE, FOV), POSES)
    wrong = 1000 * mpjpe(lifter.lift(PIXELS[:, MIRRORED], SIZE, FOV), POSES)
    assert wrong.mean() > 2 * right.mean()


def test_resolution_does_not_matter(lifter: Lifter) -> None:
    doubled = lifter.lift(2 * PIXELS, (2 * SIZE[0], 2 * SIZE[1]))
    np.testing.assert_allclose(doubled, lifter.lift(PIXELS, SIZE), rtol=0, atol=1e-4)


def test_the_lens_matters_and_is_the_checkpoints_by_default(lifter: Lifter) -> None:
    assumed = lifter.lift(PIXELS, SIZE)
    same = lifter.lift(PIXELS, SIZE, lifter.checkpoint.fov_degrees)
    np.testing.assert_array_equal(same, assumed)
    assert np.abs(lifter.lift(PIXELS, SIZE, 90) - assumed).max() > 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_keypoint_that_is_not_finite_spoils_its_own_pose_only(lifter: Lifter, bad: float) -> None:
    pixels = PIXELS.copy()
    pixels[3, 16, 1] = bad
    poses = lifter.lift(pixels, SIZE)
    assert np.isnan(poses[3]).all()
    others = np.arange(len(pixels)) != 3
    expected = lifter.lift(PIXELS, SIZE)[others]
    np.testing.assert_allclose(poses[others], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, len(PIXELS)])
def test_batches_give_what_single_poses_give(lifter: Lifter, batch_size: int) -> None:
    batched = Lifter(lifter.checkpoint, batch_size=batch_size)
    pixels = PIXELS.copy()
    pixels[5] = np.nan  # a hole must not shift what follows
    singles = np.concatenate([lifter.lift(pose[None], SIZE) for pose in pixels])
    np.testing.assert_allclose(batched.lift(pixels, SIZE), singles, rtol=0, atol=1e-5)


def test_batches_of_normalised_keypoints_give_what_single_poses_give(lifter: Lifter) -> None:
    keypoints = np.random.default_rng(0).normal(size=(9, 17, 2))
    singles = np.concatenate([lifter.lift_normalized(pose[None]) for pose in keypoints])
    batched = Lifter(lifter.checkpoint, batch_size=4).lift_normalized(keypoints)
    np.testing.assert_allclose(batched, singles, rtol=0, atol=1e-5)


def test_one_size_for_all_or_one_for_each(lifter: Lifter) -> None:
    sizes = np.tile(SIZE, (len(PIXELS), 1))
    each = lifter.lift(PIXELS, sizes)
    np.testing.assert_array_equal(each, lifter.lift(PIXELS, SIZE))
    sizes[2] = (2000, 1000)
    other = lifter.lift(PIXELS, sizes)
    assert np.abs(other[2] - each[2]).max() > 0.001
    np.testing.assert_allclose(np.delete(other, 2, 0), np.delete(each, 2, 0), rtol=0, atol=1e-5)


def test_every_pose_keeps_its_own_size_behind_a_hole_and_in_later_batches(lifter: Lifter) -> None:
    pixels, sizes = PIXELS[:7].copy(), np.linspace((1000, 500), (3000, 2000), 7)
    pixels[1] = np.nan
    singles = [lifter.lift(pixels[i : i + 1], sizes[i]) for i in range(7)]
    batched = Lifter(lifter.checkpoint, batch_size=2).lift(pixels, sizes)
    np.testing.assert_allclose(batched, np.concatenate(singles), rtol=0, atol=1e-5)


def test_lists_are_taken_like_arrays(lifter: Lifter) -> None:
    np.testing.assert_array_equal(
        lifter.lift(PIXELS[:2].tolist(), list(SIZE)), lifter.lift(PIXELS[:2], SIZE)
    )


def test_the_input_is_left_alone(lifter: Lifter) -> None:
    pixels = PIXELS.astype(np.float32)
    before = pixels.copy()
    lifter.lift(pixels, SIZE)
    np.testing.assert_array_equal(pixels, before)


def test_no_poses_give_no_poses(lifter: Lifter) -> None:
    nothing = np.empty((0, 17, 2))
    assert lifter.lift(nothing, SIZE).shape == (0, 17, 3)
    assert lifter.lift_normalized(nothing).shape == (0, 17, 3)
    assert np.isnan(lifter.lift(np.full((2, 17, 2), np.nan), SIZE)).all()


@pytest.mark.parametrize("shape", [(17, 2), (3, 16, 2), (3, 17, 3), (3, 34), (1, 3, 17, 2)])
def test_keypoints_of_another_shape_are_refused(lifter: Lifter, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\(N, 17, 2\)"):
        lifter.lift(np.zeros(shape), SIZE)
    with pytest.raises(InputError, match=r"\(N, 17, 2\)"):
        lifter.lift_normalized(np.zeros(shape))


@pytest.mark.parametrize(
    "size", [640, (640,), (640, 480, 3), [(640, 480)] * 2, (0, 480), (640, -1), (math.nan, 480)]
)
def test_impossible_image_sizes_are_refused(lifter: Lifter, size: Any) -> None:
    with pytest.raises(InputError, match="image_size"):
        lifter.lift(PIXELS[:3], size)


@pytest.mark.parametrize("fov", [0, -30, 180, math.nan])
def test_impossible_fields_of_view_are_refused(lifter: Lifter, fov: float) -> None:
    with pytest.raises(UsageError, match="field of view"):
        lifter.lift(PIXELS, SIZE, fov)


def test_the_shipped_weights_are_found_by_name(lifter: Lifter) -> None:
    folder = importlib.resources.files("gridpose.lifting") / "weights"
    frames, temporal = (
        (folder / f"default-{part}.safetensors").read_bytes() for part in ("frame", "temporal")
    )
    assert lifter.name == "default"
    assert lifter.sees_time
    assert lifter.weights_sha256 == hashlib.sha256(frames + temporal).hexdigest()
    assert lifter.device == torch.device("cpu")
    alone = load_lifter("default-frame")
    assert alone.name == "default-frame"
    assert not alone.sees_time
    assert alone.weights_sha256 == hashlib.sha256(frames).hexdigest()
    np.testing.assert_array_equal(alone.lift(PIXELS, SIZE), lifter.lift(PIXELS, SIZE))


def test_the_shipped_weights_are_small() -> None:
    folder = importlib.resources.files("gridpose.lifting") / "weights"
    sizes = [len(file.read_bytes()) for file in folder.iterdir() if file.name.endswith("tensors")]
    assert sum(sizes) <= 10_000_000


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert resolve_device("auto") == torch.device(kind)


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("name", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:7", 2)]
)
def test_a_gpu_that_is_not_there_is_missing(
    monkeypatch: pytest.MonkeyPatch, name: str, count: int
) -> None:
    pretend_gpus(monkeypatch, count)
    with pytest.raises(MissingError, match=f"`device={name}`: this machine has {count}") as caught:
        resolve_device(name)
    assert caught.value.exit_code == 4
    with pytest.raises(MissingError):
        load_lifter(device=name)


def test_a_gpu_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert resolve_device("cuda").type == "cuda"
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["nonsense", "", "gpu", "mps", "meta", "cuda:x", "cuda:-1"])
def test_other_device_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="use auto, cpu, cuda or cuda:N"):
        resolve_device(name)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_refused_on_the_cpu(precision: Any) -> None:
    with pytest.raises(UsageError, match=precision):
        load_lifter(precision=precision)


class FakeGpu:
    """Stands in for CUDA where PyTorch is asked for it; the arithmetic stays on the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pinned = self.moved = 0
        self.models: list[torch.device] = []
        self.autocasts: list[tuple[str, torch.dtype | None]] = []
        move, autocast = torch.Tensor.to, torch.autocast
        pins: set[int] = set()

        def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
            self.pinned += 1
            pins.add(id(tensor))
            return tensor

        def tensor_to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            if args and isinstance(args[0], torch.device) and args[0].type == "cuda":
                assert id(tensor) in pins, "only pinned memory is copied in the background"
                assert kwargs == {"non_blocking": True}
                self.moved += 1
                return tensor
            return move(tensor, *args, **kwargs)

        def module_to(module: torch.nn.Module, device: torch.device) -> torch.nn.Module:
            self.models.append(device)
            return module

        def fake_autocast(
            kind: str, *, dtype: torch.dtype | None = None, enabled: bool = True
        ) -> Any:
            if enabled:  # parts of the network switch it off
                self.autocasts.append((kind, dtype))
            return autocast("cpu", enabled=False)

        pretend_gpus(monkeypatch, 1)
        monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
        monkeypatch.setattr(torch.Tensor, "to", tensor_to)
        monkeypatch.setattr(torch.nn.Module, "to", module_to)
        monkeypatch.setattr(torch, "autocast", fake_autocast)


def test_a_gpu_gets_network_and_keypoints_without_waiting(
    monkeypatch: pytest.MonkeyPatch, lifter: Lifter
) -> None:
    expected = lifter.lift(PIXELS, SIZE)
    gpu = FakeGpu(monkeypatch)
    poses = load_lifter("default-frame", device="cuda").lift(PIXELS, SIZE)
    assert gpu.models == [torch.device("cuda")]
    assert gpu.pinned == gpu.moved == 2  # keypoints and sizes of one batch
    assert not gpu.autocasts
    np.testing.assert_allclose(poses, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_a_gpu_takes_half_precision(
    monkeypatch: pytest.MonkeyPatch, precision: Any, dtype: torch.dtype
) -> None:
    gpu = FakeGpu(monkeypatch)
    poses = load_lifter(device="cuda", precision=precision).lift(PIXELS, SIZE)
    assert gpu.autocasts == [("cuda", dtype)]
    assert poses.dtype == np.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0.001), ("fp16", 0.02)])
def test_gpu_and_cpu_agree(lifter: Lifter, precision: Any, tolerance: float) -> None:
    poses = load_lifter(device="cuda", precision=precision).lift(PIXELS, SIZE)
    np.testing.assert_allclose(poses, lifter.lift(PIXELS, SIZE), rtol=0, atol=tolerance)


def test_the_flip_test_averages_with_the_mirrored_person(lifter) -> None:
    keypoints = np.random.default_rng(3).normal(0, 1, (5, 17, 2)).astype(np.float32)
    mirrored = keypoints[:, MIRRORED] * np.float32((-1, 1))
    plain = lifter.lift_normalized(keypoints)
    other = lifter.lift_normalized(mirrored)[:, MIRRORED] * np.float32((-1, 1, 1))
    flipped = lifter.lift_normalized(keypoints, flip_test=True)
    np.testing.assert_allclose(flipped, (plain + other) / 2, atol=1e-5)
    assert not np.allclose(flipped, plain, atol=1e-3)
    back = lifter.lift_normalized(mirrored, flip_test=True)[:, MIRRORED] * np.float32((-1, 1, 1))
    np.testing.assert_allclose(back, flipped, atol=1e-5)


def test_published_lifters_frame_any_video_as_their_training_data() -> None:
    lifter = load_lifter(Path(__file__).parents[1] / "data/published_gridconv.pth.tar")
    pixels = np.random.default_rng(0).uniform(200, 800, (4, 17, 2))
    wanted = lifter.lift_normalized((pixels - 500) / 500)
    wanted -= wanted[:, :1]
    np.testing.assert_allclose(lifter.lift(pixels, (1000, 1000)), wanted, atol=1e-4)
    wide = pixels * 1.92 + (0, (1080 - 1920) / 2)
    np.testing.assert_allclose(lifter.lift(wide, (1920, 1080)), wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"padding_mode": ("c", "x")}, "padding"),
        ({"padding_mode": ("c",)}, "padding"),
        ({"kind": "gridconv"}, "lifting model is dgridconv"),
        ({"grid_shape": (4, 7)}, r"grid shape is \(5, 5\)"),
    ],
)
def test_what_a_lifter_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_lifter("default", **values)


PUBLISHED = Path(__file__).parents[1] / "data/published_gridconv.pth.tar"


def stored(tmp_path: Path, kind: Any = "dgridconv", name: str = "mine.safetensors") -> Path:
    torch.manual_seed(0)
    config = NetworkConfig(kind, hidden=8, blocks=1, temperature=2.0)
    file = tmp_path / name
    if file.suffix == ".safetensors":
        save_checkpoint(Checkpoint(config, build_network(config).state_dict(), "frame"), file)
    else:
        torch.save({"state_dict": build_network(config).state_dict()}, file)
    return file


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 129])
@pytest.mark.parametrize("batch_size", [1024, 50])
def test_any_number_of_poses_with_any_network(
    tmp_path: Path, kind: Any, count: int, batch_size: int
) -> None:
    lifter = load_lifter(stored(tmp_path, kind), batch_size=batch_size)
    keypoints = np.random.default_rng(count).normal(size=(count, 17, 2)).astype(np.float32)
    with torch.no_grad():
        wanted = lifter.network.lift(torch.from_numpy(keypoints))
    assert wanted.shape == (count, 17, 3)
    for flip_test in (False, True):
        answer = lifter.lift_normalized(keypoints, flip_test=flip_test)
        assert answer.shape == (count, 17, 3)
        assert np.isfinite(answer).all()
    np.testing.assert_allclose(lifter.lift_normalized(keypoints), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 70])
@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_flip_test_of_a_mirrored_person_is_the_mirrored_answer(
    tmp_path: Path, kind: Any, count: int
) -> None:
    lifter = load_lifter(stored(tmp_path, kind))
    pixels = np.random.default_rng(0).uniform(100, 900, (count, 17, 2))
    pixels[count // 2, 3] = np.nan if count > 1 else 500
    mirrored = pixels[:, MIRRORED] * (-1, 1) + (1000, 0)
    answer = lifter.lift(pixels, (1000, 800), flip_test=True)
    back = lifter.lift(mirrored, (1000, 800), flip_test=True)[:, MIRRORED] * (-1, 1, 1)
    np.testing.assert_allclose(back, answer, rtol=0, atol=2e-5)
    assert np.isnan(answer).all((1, 2)).sum() == (count > 1)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_of_nothing_are_refused(batch_size: int) -> None:
    with pytest.raises(UsageError, match="batch size must be at least 1"):
        load_lifter(batch_size=batch_size)


@pytest.mark.parametrize("name", ["mine.safetensors", "mine.pth.tar"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0}, "temperature must be a positive number, not 0"),
        ({"temperature": -1.0}, "temperature must be a positive number"),
        ({"temperature": math.nan}, "temperature must be a positive number, not nan"),
        ({"temperature": math.inf}, "temperature must be a positive number, not inf"),
        ({"padding_mode": ("c", "q")}, "padding modes must be two of c, z and r"),
        ({"padding_mode": ("c",)}, "padding modes must be two"),
        ({"padding_mode": ()}, "padding modes must be two"),
        ({"padding_mode": ("c", "z", "r")}, "padding modes must be two"),
        ({"grid_shape": (0, 5)}, "0x5"),
        ({"grid_shape": (5,)}, "grid of 5 cells"),
        ({"grid_shape": (4, 7)}, "grid"),
        ({"kind": "gridconv"}, "is dgridconv, not gridconv"),
        ({"kind": "dgridconv_autogrids"}, "is dgridconv, not dgridconv_autogrids"),
    ],
    ids=str,
)
def test_wrong_options_are_told_with_the_name_of_the_file(
    tmp_path: Path, name: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_lifter(stored(tmp_path, name=name), **values)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mine.safetensors", "mine.pth.tar"])
@pytest.mark.parametrize("padding_mode", [("r", "c"), ["r", "c"]])
def test_right_options_count(tmp_path: Path, name: str, padding_mode: Any) -> None:
    file = stored(tmp_path, name=name)
    lifter = load_lifter(
        file, kind="dgridconv", padding_mode=padding_mode, temperature=7, grid_shape=(5, 5)
    )
    config = lifter.checkpoint.network
    assert (config.padding_mode, config.temperature) == (("r", "c"), 7)
    assert not lifter.notices, "what was given is not assumed"
    other = load_lifter(file, padding_mode=("c", "z"))
    keypoints = np.random.default_rng(0).normal(size=(3, 17, 2))
    difference = lifter.lift_normalized(keypoints) - other.lift_normalized(keypoints)
    assert np.abs(difference).max() > 1e-4


def test_what_was_assumed_is_told(tmp_path: Path) -> None:
    assert load_lifter().notices == []
    assert load_lifter(stored(tmp_path)).notices == []
    guessed = load_lifter(stored(tmp_path, name="mine.pth.tar"))
    assert len(guessed.notices) == 2
    assert "padding modes c z are a guess" in guessed.notices[0]
    assert "temperature 30" in guessed.notices[1]
    named = load_lifter(stored(tmp_path, name="gt_best.pth.tar"))
    assert named.checkpoint.network.padding_mode == ("c", "r")


def test_networks_on_other_grids_say_that_joints_do_not_fit() -> None:
    lifter = load_lifter(PUBLISHED, grid_shape=(4, 7))
    with pytest.raises(UsageError, match="5x5 grid"):
        lifter.lift_normalized(np.zeros((1, 17, 2)))


def test_lifters_in_several_threads_agree_and_leave_torch_as_it_was(lifter: Lifter) -> None:
    keypoints = np.random.default_rng(0).normal(size=(20, 17, 2))
    wanted = lifter.lift_normalized(keypoints)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: lifter.lift_normalized(keypoints), range(60)))
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    for answer in answers:
        np.testing.assert_allclose(answer, wanted, rtol=0, atol=1e-5)


def test_a_lifter_loaded_in_inference_mode_works_anywhere() -> None:
    with torch.inference_mode():
        lifter = load_lifter(PUBLISHED)
    keypoints = np.random.default_rng(0).normal(size=(3, 17, 2))
    wanted = load_lifter(PUBLISHED).lift_normalized(keypoints)
    np.testing.assert_allclose(lifter.lift_normalized(keypoints), wanted, rtol=0, atol=1e-6)
    loss = lifter.network.train().lift(torch.randn(4, 17, 2)).square().sum()
    loss.backward()
