#!/usr/bin/env python
"""Time parts of gridpose against what they replace, or against another installation.

    python scripts/bench.py --help

What is compared takes turns in one process or in one loop, so that other work on the machine slows
all alike. Told are medians; a ratio is the median over the turns.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import typer

from gridpose.core import NUM_JOINTS, AnyArray, FloatArray, ImageArray, Person

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

VideoArgument = Annotated[Path | None, typer.Argument(help="the demo's if not given")]


@dataclass(frozen=True)
class Run:
    """One call: seconds by the clock and of processors, child processes included; its answer."""

    wall: float
    cpu: float
    answer: Any


def timed(call: Callable[[], Any]) -> Run:
    def processor_seconds() -> float:
        usages = (
            resource.getrusage(resource.RUSAGE_SELF),
            resource.getrusage(resource.RUSAGE_CHILDREN),
        )
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    cpu, wall = processor_seconds(), time.perf_counter()
    answer = call()
    return Run(time.perf_counter() - wall, processor_seconds() - cpu, answer)


def in_turns(
    cases: Mapping[str, Callable[[], Any]], *, rounds: int = 3, seconds: float = 0.0
) -> dict[str, list[Run]]:
    """Call all in turn, so many rounds, and more until the time is up."""
    runs: dict[str, list[Run]] = {name: [] for name in cases}
    end = time.perf_counter() + seconds
    while rounds > 0 or time.perf_counter() < end:
        rounds -= 1
        for name, call in cases.items():
            runs[name].append(timed(call))
    return runs


def print_table(title: str, runs: Mapping[str, Sequence[Run]], *, per_call: int = 1) -> None:
    """Milliseconds for each of ``per_call`` units of work, and the first's time over each one's."""
    first = next(iter(runs.values()))
    print(f"{title} ({len(first)} rounds, load {os.getloadavg()[0]:.1f})", flush=True)
    for name, each in runs.items():
        wall, cpu = (
            1000 * statistics.median(values) / per_call
            for values in ([run.wall for run in each], [run.cpu for run in each])
        )
        ratios = [base.wall / run.wall for base, run in zip(first, each, strict=True)]
        print(
            f"  {name:<28} {wall:11.3f} ms  {cpu:11.3f} CPU ms  {statistics.median(ratios):7.2f} "
            f"times as fast ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


@app.command()
def lifter(
    hidden: int = 256,
    padding: Annotated[str, typer.Option(help="two letters of c, z, r")] = "cz",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    seconds: Annotated[float, typer.Option(help="for each row")] = 10.0,
) -> None:
    """The lifting network against the published formulation, with the same weights."""
    import torch
    from literal import literal_network, state_of
    from torch.nn import functional

    from gridpose.lifting.model.network import NetworkConfig, build_network

    torch.manual_seed(0)
    config = NetworkConfig(hidden=hidden, padding_mode=tuple(padding))  # type: ignore[arg-type]
    network = build_network(config).to(device)
    state = state_of(network)
    literal = partial(literal_network, state=state, config=config)

    def finished(call: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: (call(), torch.cuda.synchronize() if device == "cuda" else None)

    def step(optimizer: Any, answer: Callable[[Any], Any], x: Any, y: Any) -> None:
        optimizer.zero_grad()
        functional.mse_loss(answer(x), y).backward()
        optimizer.step()

    network.eval()
    network.fuse()
    with torch.inference_mode():
        for batch in (1, 32, 1000):
            grid = torch.randn(batch, 2, 5, 5, device=device)
            torch.testing.assert_close(network(grid), literal(grid), rtol=0, atol=1e-4)
            cases = {
                "published": finished(partial(literal, grid)),
                "gridpose": finished(partial(network, grid)),
            }
            print_table(f"inference, {batch} poses", in_turns(cases, seconds=seconds))
    network.train()
    x, y = (torch.randn(200, size, 5, 5, device=device) for size in (2, 3))
    theirs = torch.optim.Adam([value for value in state.values() if value.requires_grad])
    ours = torch.optim.Adam(network.parameters())
    cases = {
        "published": finished(partial(step, theirs, partial(literal, training=True), x, y)),
        "gridpose": finished(partial(step, ours, network, x, y)),
    }
    in_turns(cases, rounds=1)
    print_table("training step, 200 poses", in_turns(cases, seconds=2 * seconds))


@app.command()
def data(
    frames: Annotated[int, typer.Option(help="of the made-up data set")] = 200_000,
    batch: Annotated[int, typer.Option(help="poses")] = 200,
    device: Annotated[str, typer.Option(help="where the batches are wanted")] = "cpu",
) -> None:
    """Reading a data set, anew and cached; an epoch of batches against samples made one by one."""
    import torch
    from torch.utils.data import default_collate

    from gridpose.lifting.data.dataset import DeviceBatches, load_dataset, write_dataset

    # Joints of the cells, row by row; the middle of row 2 is between joints 8 and 9.
    cells = (7, 7, 7, 7, 7, 0, 8, 8, 8, 0, 1, 14, -1, 11, 4, 2, 15, 9, 12, 5, 3, 16, 10, 13, 6)
    first = np.array([8 if joint < 0 else joint for joint in cells])
    second = np.array([9 if joint < 0 else joint for joint in cells])
    generator = np.random.default_rng(0)
    data2d, data3d = {}, {}
    for number in range(frames // 400):
        action = f"Action{number % 15}"
        key = (f"S{(1, 5, 6, 7, 8)[number % 5]}", action, f"{action} {number}.54138969")
        joints = generator.normal(0, 150, (400, NUM_JOINTS, 3))
        joints -= joints[:, :1]
        data2d[key] = joints[..., :2] * 0.23 + 500
        camera = {"pelvis": np.tile((0.0, 0.0, 5000.0), (400, 1)), "camera": [1146, 1146, 500, 500]}
        data3d[key] = {"joint_3d": joints, **camera}

    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "gt", Path(name) / "cache"
        write_dataset(folder, "train", data2d, data3d)
        read = partial(load_dataset, folder, "train", exclude_drift=False, cache=cache)

        def read_anew() -> None:
            shutil.rmtree(cache, ignore_errors=True)
            read()

        cases = {"for the first time": read_anew, "from the cache": read}
        print_table(f"reading {frames} frames", in_turns(cases))
        dataset = read()

    batches = DeviceBatches(
        dataset.keypoints_px, dataset.poses, device, grid_inputs=True, grid_targets=True
    )

    def on_grid(pose: AnyArray) -> AnyArray:
        return ((pose[first] + pose[second]) / 2).T.reshape(-1, 5, 5)

    def one_by_one() -> None:
        samples = []
        for row in generator.permutation(len(dataset)):
            pair = (on_grid((dataset.keypoints_px[row] - 500) / 500), on_grid(dataset.poses[row]))
            samples.append(tuple(torch.from_numpy(grid).float() for grid in pair))
            if len(samples) == batch:
                default_collate(samples)
                samples = []

    def epoch() -> None:
        for _ in batches.epoch(batch, torch.Generator().manual_seed(0)):
            pass
        if device == "cuda":
            torch.cuda.synchronize()

    epoch()
    print_table("an epoch", in_turns({"sample by sample": one_by_one, "DeviceBatches": epoch}))


@app.command()
def metrics(poses: int = 20_000, rounds: int = 7) -> None:
    """Both protocols of an evaluation, and its whole report, against a loop over poses."""
    from gridpose.lifting import mpjpe, pa_mpjpe
    from gridpose.lifting.evaluation import report

    generator = np.random.default_rng(0)
    target = generator.normal(0, 0.3, (poses, NUM_JOINTS, 3)).astype(np.float32)
    predicted = (target + generator.normal(0, 0.05, target.shape)).astype(np.float32)
    actions = np.array([f"action {number % 15:2d}" for number in range(poses)])

    def loop() -> list[tuple[float, float]]:
        errors = []
        for pose, wanted in zip(predicted.astype(float), target.astype(float), strict=True):
            a, b = pose - pose.mean(0), wanted - wanted.mean(0)
            u, singular, vt = np.linalg.svd(b.T @ a)
            if np.linalg.det(vt.T @ u.T) < 0:
                vt[-1] *= -1
                singular[-1] *= -1
            fitted = singular.sum() / (a**2).sum() * (a @ vt.T @ u.T)
            plain, aligned = (
                np.linalg.norm(pose - wanted, axis=1),
                np.linalg.norm(fitted - b, axis=1),
            )
            errors.append((plain.mean(), aligned.mean()))
        return errors

    def batched() -> AnyArray:
        return np.stack((mpjpe(predicted, target), pa_mpjpe(predicted, target)), 1)

    np.testing.assert_allclose(batched(), loop(), atol=1e-6)
    cases = {
        "loop": loop,
        "batched": batched,
        "whole report": lambda: report(predicted, target, actions),
    }
    print_table(f"{poses} poses", in_turns(cases, rounds=rounds))


@app.command()
def draw(frames: int = 100) -> None:
    """Drawing a frame of two people, on one core: the scene alone and every layout, with trails."""
    import cv2

    from gridpose.visualize import LAYOUTS, Layout, Look, SceneRenderer

    cv2.setNumThreads(1)
    generator = np.random.default_rng(0)
    base = generator.uniform((-0.5, -0.4, 0.05), (0.5, 0.4, 1.75), (2, NUM_JOINTS, 3))
    confidence = generator.uniform(0.3, 1, NUM_JOINTS).astype(np.float32)

    def people(moment: float) -> list[Person]:
        shown = []
        for index, pose in enumerate(base + 0.1 * np.sin(3 * moment + base[..., ::-1])):
            world = pose.astype(np.float32)
            keypoints = (world[:, [0, 2]] * (200, -200) + (500 + 400 * index, 700)).astype("f4")
            bbox = np.concatenate((keypoints.min(0), keypoints.max(0)))
            shown.append(Person(index + 1, bbox, keypoints, confidence, world - world[0], world))
        return shown

    coarse = generator.integers(0, 255, (62, 110, 3), np.uint8)
    frame = cv2.resize(coarse, (1768, 994), interpolation=cv2.INTER_CUBIC)
    times = [number / 30 for number in range(frames)]
    clip = [(people(time), time) for time in times]
    cases: dict[str, Callable[[], Any]] = {}
    for size in ((720, 720), (1280, 720), (3840, 2160)):
        scene = SceneRenderer(size)
        cases[f"scene {size[0]}x{size[1]}"] = lambda s=scene: [s.draw(p, 1 / 30) for p, _ in clip]
    for size in ((1280, 720), (3840, 2160)):
        for name in LAYOUTS:
            layout = Layout((1768, 994), Look(layout=name, resolution=size, trails=True))
            panel = layout.panel(frame)
            cases[f"{name} {size[0]}x{size[1]}"] = lambda k=layout, s=panel: [
                k.compose(s, *moment) for moment in clip
            ]
    print_table("a frame", in_turns(cases), per_call=frames)


@app.command()
def viewer(
    poses: Annotated[Path, typer.Argument(help="a pose file of at least five seconds")],
    video: Annotated[Path | None, typer.Option(help="its source")] = None,
) -> None:
    """Size of HTML pages; pictures a second that Chromium draws (in software: a lower bound)."""
    from selenium import webdriver

    from gridpose.pipeline import RenderOptions, read_pose_file, render_poses

    screens = {"desktop": (1280, 800, 1), "full HD": (1920, 1080, 1), "phone": (375, 667, 2)}
    os.environ["SE_OFFLINE"] = "true"
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--use-gl=angle",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--autoplay-policy=no-user-gesture-required",
    ):
        options.add_argument(flag)
    tracks = read_pose_file(poses)
    with tempfile.TemporaryDirectory() as folder:
        for source in [None] if video is None else [None, video]:
            page = Path(folder) / f"{'plain' if source is None else 'video'}.html"
            render_poses(tracks, page, RenderOptions(video=source))
            print(f"{page.stem}: {page.stat().st_size / 1e6:.2f} MB")
            for name, (width, height, scale) in screens.items():
                service = webdriver.ChromeService(shutil.which("chromedriver"))
                with webdriver.Chrome(options, service) as driver:
                    screen = {"width": width, "height": height, "deviceScaleFactor": scale}
                    driver.execute_cdp_cmd(
                        "Emulation.setDeviceMetricsOverride", {**screen, "mobile": scale > 1}
                    )
                    begun = time.perf_counter()
                    driver.get(page.as_uri())
                    while not driver.execute_script("return window.gridpose?.ready"):
                        time.sleep(0.01)
                    ready = time.perf_counter() - begun
                    driver.execute_script("gridpose.play()")
                    counts = (
                        "return [gridpose.framesDrawn, gridpose.frame, performance.now() / 1000]"
                    )
                    time.sleep(0.5)
                    before = driver.execute_script(counts)
                    time.sleep(4)
                    drawn, passed, elapsed = np.subtract(driver.execute_script(counts), before)
                print(
                    f"  {name:8} ready after {ready:4.2f} s, {drawn / elapsed:5.1f} pictures and "
                    f"{passed / elapsed:5.1f} pose frames a second"
                )


_BITS = 12
_BLOCK = 20


def numbered(image: ImageArray, number: int) -> ImageArray:
    """A picture with its number along its upper edge, as black and white squares."""
    marked = image.copy()
    for bit in range(_BITS):
        marked[:_BLOCK, bit * _BLOCK : (bit + 1) * _BLOCK] = 255 * (number >> bit & 1)
    return marked


def number_in(image: ImageArray) -> int:
    """The number that :func:`numbered` has put there."""
    middle = image[_BLOCK // 2, _BLOCK // 2 : _BITS * _BLOCK : _BLOCK].mean(-1)
    return sum(1 << bit for bit in range(_BITS) if middle[bit] > 127)


@app.command()
def live(
    source: VideoArgument = None,
    seconds: float = 60.0,
    fps: float = 30.0,
    persons: int = 1,
    detector: str = "auto",
) -> None:
    """`gridpose live` on a 720p MJPEG stream: from a picture's sending to its arrival in the page.

    Each picture carries its number; a client of the page's picture reads it there.
    """
    import urllib.request

    import cv2
    import psutil
    from mjpeg_server import camera, parts

    from gridpose.pipeline.sample import sample_video
    from gridpose.pipeline.video.reader import VideoReader

    with VideoReader(source or sample_video()) as reader:
        jpegs = []
        for number, frame in enumerate(islice(reader, 1 << _BITS)):
            image = cv2.resize(frame.image, (1280, 720), interpolation=cv2.INTER_AREA)
            image = cv2.cvtColor(numbered(image, number), cv2.COLOR_RGB2BGR)
            jpegs.append(cv2.imencode(".jpg", image)[1].tobytes())
    program = str(Path(sys.executable).with_name("gridpose"))
    arguments = ["--serve", "--port", "0", "--max-persons", str(persons), "--detector", detector]
    latencies: list[float] = []
    memory: list[float] = []

    def ours(process: psutil.Process) -> float:
        return sum(sum(each.cpu_times()[:2]) for each in (process, psutil.Process()))

    def busy() -> float:
        times = psutil.cpu_times()
        return sum(times) - times.idle - times.iowait

    with camera(jpegs, fps) as server:
        command = [program, "live", server.address, *arguments, "--duration", str(seconds)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
            assert child.stderr is not None
            said = iter(child.stderr.readline, "")
            page = next(line.split()[1] for line in said if line.startswith("open "))
            process, begun, spent = psutil.Process(child.pid), 0.0, 0.0
            others = 0.0
            with urllib.request.urlopen(f"{page}picture") as stream:
                for jpeg in parts(stream):
                    now = time.monotonic()
                    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                    begun = begun or now
                    if now - begun < min(5.0, seconds / 4):  # the first pictures warm it up
                        spent = sum(process.cpu_times()[:2])
                        others = busy() - ours(process)
                        continue
                    latencies.append(now - server.sent[number_in(image)])
                    memory.append(process.memory_info().rss / 2**20)
                    spent_now, last = sum(process.cpu_times()[:2]), now
                    others_now = busy() - ours(process)
            rest = child.stderr.read()
    elapsed = last - begun - min(5.0, seconds / 4)
    median, late = 1000 * np.percentile(latencies, [50, 95])
    quarters = [f"{np.median(part):.0f}" for part in np.array_split(memory, 4)]
    print(
        f"{os.cpu_count()} cores, of which other programs had {(others_now - others) / elapsed:.2f}"
    )
    print(f"  glass to glass: median {median:.0f} ms, 95 % below {late:.0f} ms")
    print(f"  {len(latencies) / elapsed:.1f} fps, of {fps:g} sent")
    print(f"  {1000 * (spent_now - spent) / len(latencies):.0f} CPU ms a picture")
    print(f"  memory, quarter by quarter: {', '.join(quarters)} MiB")
    print(f"  {rest.strip().splitlines()[-1]}")


def make_clips(folder: Path, count: int, seconds: float) -> None:
    """So many different clips of the demo's video, half a second apart."""
    from gridpose.pipeline.sample import sample_video
    from gridpose.pipeline.video.reader import VideoReader
    from gridpose.pipeline.video.writer import VideoWriter

    for number in range(count):
        start = number * 0.55
        with VideoReader(sample_video(), start, start + seconds) as reader:
            width, height = (side // 2 * 2 for side in reader.size)
            with VideoWriter(folder / f"clip{number}.mp4", (width, height), reader.fps) as writer:
                for frame in reader:
                    writer.write(frame.image[:height, :width], frame.time)


@app.command()
def batch(
    clips: Annotated[
        Path | None, typer.Argument(help="folder; ten made-up ones if left out")
    ] = None,
    workers: Annotated[list[int], typer.Option(help="may be given several times")] = [1, 2],  # noqa: B006
    separate: Annotated[bool, typer.Option(help="also a process for each video")] = False,
    render: Annotated[bool, typer.Option(help="draw videos, not numbers only")] = False,
    rounds: int = 3,
) -> None:
    """A folder of clips by several workers, and by a process for each clip."""
    program = str(Path(sys.executable).with_name("gridpose"))
    drawing = [] if render else ["--no-render"]

    def run(*arguments: str) -> None:
        subprocess.run([program, *arguments], check=True, capture_output=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = clips or Path(scratch) / "clips"
        if clips is None:
            folder.mkdir()
            make_clips(folder, count=10, seconds=2.0)

        def as_batch(count: int) -> None:
            out = tempfile.mkdtemp(dir=scratch)
            run("batch", str(folder), "-o", out, "--workers", str(count), *drawing)

        def one_by_one() -> None:
            out = Path(tempfile.mkdtemp(dir=scratch))
            for clip in sorted(folder.iterdir()):
                file = out / f"{clip.stem}.mp4"
                poses = ["--save-poses", str(file.with_suffix(".npz"))]
                run("video", str(clip), "-o", str(file), *poses)

        cases: dict[str, Callable[[], None]] = {
            f"{count} workers": partial(as_batch, count) for count in workers
        }
        if separate:
            cases["a process each"] = one_by_one
        print_table("all clips", in_turns(cases, rounds=rounds))


# Runs in either installation, so it uses what both have.
VIDEO_PROGRAM = """
import json, sys, time
from gridpose.pipeline import VideoOptions, run_video
source, target, detector, begun = sys.argv[1:]
first = []
result = run_video(
    source, target, VideoOptions(detector=detector, overwrite=True),
    on_progress=lambda _: first or first.append(time.time() - float(begun)),
)
stages = getattr(result, "cpu_seconds_by_stage", {})
print(json.dumps({"first": first[0] if first else 0.0, "stages": stages}))
"""


@app.command()
def video(
    source: Annotated[Path, typer.Argument(metavar="VIDEO", help="a short one")],
    detector: Annotated[list[str], typer.Option(help="may be given several times")] = ["blazepose"],  # noqa: B006
    against: Annotated[str | None, typer.Option(help="python of another installation")] = None,
    its_detector: Annotated[str, typer.Option(help="the other installation's")] = "blazepose",
    rounds: int = 3,
) -> None:
    """`gridpose video` by detector, against ffmpeg's part and against another installation."""
    from gridpose.pipeline.video.ffmpeg import ffmpeg_program

    def whole(python: str, name: str) -> dict[str, Any]:
        command = [python, "-c", VIDEO_PROGRAM, str(source), str(drawn), name, str(time.time())]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def ffmpeg(*arguments: str | Path) -> None:
        subprocess.run([ffmpeg_program(), "-v", "error", "-y", *arguments], check=True)

    with tempfile.TemporaryDirectory() as folder:
        drawn, raw = Path(folder) / "out.mp4", Path(folder) / "drawn.y4m"
        cases: dict[str, Callable[[], Any]] = {}
        if against:
            cases["other"] = partial(whole, against, its_detector)
        cases |= {name: partial(whole, sys.executable, name) for name in detector}
        runs = in_turns(cases, rounds=rounds)
        ffmpeg("-i", drawn, raw)
        encoding = ("-c:v", "libx264", "-preset", "superfast", "-crf", "22")
        ends = {
            "ffmpeg decodes": partial(ffmpeg, "-i", source, "-map", "0:V:0", "-f", "null", "-"),
            "ffmpeg encodes": partial(ffmpeg, "-i", raw, *encoding, Path(folder) / "again.mp4"),
        }
        print_table(source.name, {**runs, **in_turns(ends, rounds=rounds)})
    for name, each in runs.items():
        first = statistics.median(run.answer["first"] for run in each)
        stages = (f"{stage} {cpu:.2f}" for stage, cpu in each[-1].answer["stages"].items())
        print(f"{name}: first frame after {first:.2f} s; CPU s: {', '.join(stages)}")


@app.command()
def hrnet(
    source: VideoArgument = None,
    frames: int = 60,
    group: Annotated[int, typer.Option(help="frames given at once")] = 4,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    compiled: Annotated[bool, typer.Option("--compile", help="torch's network")] = False,
    loop: Annotated[bool, typer.Option(help="mmpose's inference_topdown, too")] = False,
) -> None:
    """HRNet-W32 with random weights by OpenVINO and torch, two boxes a frame."""
    import torch
    from mmengine import Config

    from gridpose.detectors.hrnet.config import DEFAULT_CONFIG, packaged_config, read_config
    from gridpose.detectors.hrnet.mmpose_models import build_model, import_mmpose
    from gridpose.detectors.hrnet.network import TopDownNetwork
    from gridpose.detectors.hrnet.openvino_conversion import OpenVINONetwork, converted
    from gridpose.devices import Precision
    from gridpose.pipeline.sample import sample_video
    from gridpose.pipeline.video.reader import VideoReader

    apis = import_mmpose("mmpose.apis")
    config = read_config(DEFAULT_CONFIG)
    published = Config.fromfile(packaged_config(DEFAULT_CONFIG))
    published.model.test_cfg.flip_test = False
    reference = apis.init_model(published, None, device)

    def network(precision: Precision, compiled: bool = compiled) -> TopDownNetwork:
        model = build_model(config.model, config.name)
        model.load_state_dict(reference.state_dict())
        size = 8 if device == "cpu" else 64
        options = {"precision": precision, "batch_size": size, "compiled": compiled}
        return TopDownNetwork(config, model, torch.device(device), **options)

    networks = {f"torch {precision}": network(precision) for precision in ("fp32", "bf16")}
    if device == "cpu":
        whole = network("fp32", compiled=False)
        with tempfile.TemporaryDirectory() as room, patch.dict(os.environ, GRIDPOSE_HOME=room):
            conversion = timed(lambda: converted(whole.whole, config.input_size, {}))
            for precision in ("fp32", "bf16"):
                openvino = OpenVINONetwork(conversion.answer, precision)
                networks[f"OpenVINO {precision}"] = whole.run_by(openvino)
        print(f"conversion for OpenVINO: {conversion.wall:.1f} s")
    else:
        networks["torch fp16"] = network("fp16")

    with VideoReader(source or sample_video()) as reader:
        images = [frame.image for frame in islice(reader, frames)]
    height, width = images[0].shape[:2]
    shares = np.array([(0.1, 0.1, 0.3, 0.9), (0.5, 0.2, 0.7, 0.9)])
    boxes = (shares * (width, height, width, height)).astype(np.float32)

    def batched(network: TopDownNetwork, some: Sequence[ImageArray]) -> FloatArray:
        index = [i for i in range(len(some)) for _ in boxes]
        return network.keypoints(some, index, np.tile(boxes, (len(some), 1)))[0]

    def one_by_one(some: Sequence[ImageArray]) -> None:
        for image in some:
            apis.inference_topdown(reference, image[..., ::-1], boxes)

    calls: dict[str, Callable[[Sequence[ImageArray]], Any]] = {
        name: partial(batched, network) for name, network in networks.items()
    }
    if loop:
        calls["inference_topdown"] = one_by_one
    runs: dict[str, list[Run]] = {name: [] for name in calls}
    in_turns({name: partial(call, images[:group]) for name, call in calls.items()}, rounds=1)
    for start in range(0, len(images) - group + 1, group):
        some = images[start : start + group]
        turn = in_turns({name: partial(call, some) for name, call in calls.items()}, rounds=1)
        for name in runs:
            runs[name] += turn[name]
    print_table("a frame", runs, per_call=group)


if __name__ == "__main__":
    app()
