"""A small data set to train on, and trainings in processes that can be killed."""

import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
TRAINING = [(subject, action) for subject in ("S1", "S5") for action in ("Eating", "Sitting 1")]
TRAINING += [("S6", "Walking"), ("S6", "Walking 1")]
TEST = [("S9", "Walking"), ("S9", "Greeting"), ("S11", "Directions"), ("S11", "Eating 1")]
FRAMES = 5

# Metres; x to the person's left, y down, z to the back.
REST = np.array(
    [
        *[(0, 0, 0), (-0.13, 0, 0), (-0.13, 0.45, 0), (-0.13, 0.9, 0)],
        *[(0.13, 0, 0), (0.13, 0.45, 0), (0.13, 0.9, 0), (0, -0.25, 0), (0, -0.5, 0)],
        *[(0, -0.58, -0.05), (0, -0.7, 0), (0.17, -0.48, 0), (0.17, -0.2, 0)],
        *[(0.17, 0.05, 0), (-0.17, -0.48, 0), (-0.17, -0.2, 0), (-0.17, 0.05, 0)],
    ]
)


def write_data(root: Path) -> Path:
    """``root/gt`` and ``root/hrnet``: 120 poses to train on, 80 to test on."""
    from gridpose.lifting.data.dataset import write_dataset

    generator = np.random.default_rng(0)
    for name in ("gt", "hrnet"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for split, performances in (("train", TRAINING), ("test", TEST)):
        data2d, data3d = {}, {}
        for subject, action in performances:
            for camera in CAMERAS:
                key = (subject, action.split()[0], f"{action}.{camera}")
                data2d[key], data3d[key] = _sequence(generator)
        for name in ("gt", "hrnet"):
            write_dataset(root / name, split, data2d, data3d)
    return root


def _sequence(generator):
    angle = generator.uniform(0, 2 * np.pi, FRAMES)
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros(FRAMES), np.ones(FRAMES)
    turn = np.stack((cos, zero, sin, zero, one, zero, -sin, zero, cos), -1).reshape(-1, 3, 3)
    poses = 1000 * (REST + generator.normal(0, 0.06, (FRAMES, 17, 3))) @ turn
    poses -= poses[:, :1]
    pelvis = np.array([0, 0, 5000.0]) + generator.normal(0, 100, (FRAMES, 3))
    seen = poses + pelvis[:, None]
    pixels = seen[..., :2] / seen[..., 2:] * 1145 + 500
    camera = [1145.0, 1145.0, 500.0, 500.0]
    return pixels.reshape(FRAMES, 34), {
        "pelvis": pelvis,
        "joint_3d": poses.reshape(FRAMES, 51),
        "camera": camera,
    }


def arm(kill):
    """Kill this process: ``("step", n)`` in the n-th step, ``("before" or "after", n)`` the n-th
    time that a file comes to its name, ``("size", n)`` let no file grow beyond n bytes any more.
    """
    from gridpose.lifting.training.model import TrainingModel

    what, number = kill
    count = [0]

    def reached():
        count[0] += 1
        return count[0] == number

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    if what == "size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, resource.RLIM_INFINITY))
    elif what == "step":
        parse = TrainingModel.parse_losses

        def parse_losses(self, losses):
            if reached():
                die()
            return parse(self, losses)

        TrainingModel.parse_losses = parse_losses
    else:
        replace = os.replace

        def replace_and_die(source, target):
            now = reached()
            if now and what == "before":
                die()
            replace(source, target)
            if now and what == "after":
                die()

        os.replace = replace_and_die


def _child(options, kill, at_epoch, environment, errors):
    import torch

    from gridpose.core import GridposeError
    from gridpose.lifting.training.trainer import train

    os.environ.update(environment)
    torch.set_num_threads(1)

    def on_epoch(rows, is_best):
        if kill and len(rows) == at_epoch:
            arm(kill)

    if kill and at_epoch == 0:
        arm(kill)
    try:
        train(options, on_epoch=on_epoch)
    except GridposeError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        errors.write_text(str(error))
        sys.exit(error.exit_code)


class Trainings:
    """Runs trainings in processes of their own, which share one that has imported everything."""

    def __init__(self, folder: Path) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["__main__", "pytest", "gridpose.lifting.training.trainer"]
        )
        self._folder, self._count = folder, 0

    def start(self, options, kill=None, at_epoch=0, environment=None):
        self._count += 1
        process = self._context.Process(
            target=_child,
            args=(options, kill, at_epoch, environment or {}, self.errors(self._count)),
        )
        process.start()
        return process

    def errors(self, number):
        return self._folder / f"error{number}.txt"

    def __call__(self, options, kill=None, at_epoch=0):
        """Exit code (negative: the signal) and error of a training that ``kill`` may end."""
        process = self.start(options, kill, at_epoch)
        process.join(60)
        assert process.exitcode is not None, "hangs"
        errors = self.errors(self._count)
        return process.exitcode, errors.read_text() if errors.exists() else ""

    def together(self, options, count, port):
        """Exit codes and errors of several processes that train together."""
        first = self._count + 1
        processes = [
            self.start(
                options,
                environment={
                    **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)},
                    **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
                },
            )
            for rank in range(count)
        ]
        for process in processes:
            process.join(60)
        hanging = [process for process in processes if process.exitcode is None]
        for process in hanging:
            process.kill()
        assert not hanging
        texts = [self.errors(first + rank) for rank in range(count)]
        return (
            [process.exitcode for process in processes],
            [file.read_text() if file.exists() else "" for file in texts],
        )
