"""The four kinds of training: of a lifter of single frames, or of a network that sees time around
one that is there already; on a data set, or on motion capture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gridpose.core import AnyArray, InputError, UsageError
from gridpose.lifting.data.dataset import (
    PoseDataset,
    Sequence,
    default_exclude_drift,
    describe_left_out,
    load_dataset,
)
from gridpose.lifting.data.device_batches import DeviceBatches
from gridpose.lifting.evaluation import FRAME_SIZE
from gridpose.lifting.lifter import load_lifter
from gridpose.lifting.model.forward import FrameLifter
from gridpose.lifting.model.network import LiftingNetwork, build_network
from gridpose.lifting.model.temporal import WINDOW_FRAMES, TemporalNetwork
from gridpose.lifting.normalise import Scheme
from gridpose.lifting.sequences import WINDOW_FPS
from gridpose.lifting.synthesis.motion_capture import PoseBank, SequenceBank
from gridpose.lifting.synthesis.poses import Synthesiser, SynthesisOptions
from gridpose.lifting.synthesis.windows import SequenceOptions, SequenceSynthesiser
from gridpose.lifting.training.batches import (
    Clock,
    DrawnPoses,
    DrawnWindows,
    drawn_batches,
    training_batches,
)
from gridpose.lifting.training.model import grid_error, joint_error, temperature_of
from gridpose.lifting.training.options import TemporalOptions, TrainOptions
from gridpose.lifting.training.temporal_loss import temporal_error
from gridpose.lifting.training.validation import HeldPoses, HeldSequences, Row, SeenSequence
from gridpose.lifting.training.windows import SequenceWindows
from gridpose.lifting.weights.checkpoint import Checkpoint, save_checkpoint
from gridpose.lifting.weights.temporal_checkpoint import TemporalCheckpoint, save_temporal
from gridpose.storage import file_sha256

HELD_POSES, HELD_WINDOWS, HELD_SEED = 4096, 64, 1_000_000
"""Drawn from motion capture to choose the best epoch on, by another seed than for training."""


@dataclass(frozen=True)
class Task:
    """What differs between kinds of training.

    Attributes:
        network: to be trained, on its device.
        error: its loss, as :class:`TrainingModel` takes it.
        batches: of training.
        held: what an epoch is judged on.
        save: writes a checkpoint of the network, of an epoch's figures and of what is told of the
            training.
        data: what ``config.json`` says of the data.
        notes: what is odd about them but no error.
    """

    network: nn.Module
    error: Callable[..., Tensor]
    batches: DataLoader[Any]
    held: HeldPoses | HeldSequences
    save: Callable[[nn.Module, Row, dict[str, Any], Path], None]
    data: dict[str, Any]
    notes: list[str]


def build_task(options: TrainOptions, clock: Clock, device: torch.device) -> Task:
    """Read the data and make the network.

    Raises:
        UsageError: the checkpoint to start from is of another network.
        MissingError: no data.
        InputError: bad data or a bad checkpoint to start from.
    """
    if options.temporal is None:
        return _frame_task(options, clock, device)
    return _temporal_task(options, options.temporal, clock, device)


def _frame_task(options: TrainOptions, clock: Clock, device: torch.device) -> Task:
    network = _lifting_network(options).to(device)
    if options.mocap:
        bank = PoseBank.from_files(options.mocap, device)

        def drawn(seed: int) -> DrawnPoses:
            return DrawnPoses(Synthesiser(bank, SynthesisOptions(), seed))

        batches = drawn_batches(drawn(options.seed), options.batch, options.steps, clock)
        shown = drawn(options.seed + HELD_SEED)(HELD_POSES)
        actions: AnyArray = np.zeros(HELD_POSES, int)
        error = partial(joint_error, loss=options.loss)
        data, notes = _describe_drawn(options, len(bank), HELD_POSES)
    else:
        training, held = _load_split(options)
        grids = network.sgt_layer is None
        rows = DeviceBatches(
            training.keypoints_px, training.poses, device, grid_inputs=grids, grid_targets=grids
        )
        batches = training_batches(rows, options.batch, options.seed)
        held_rows = DeviceBatches(held.keypoints_px, held.poses, device)
        shown = {"inputs": held_rows.inputs, "targets": held_rows.targets}
        actions = held.actions()
        error = partial(grid_error, loss=options.loss)
        data, notes = _describe_split(options, training, held)

    def save(current: nn.Module, row: Row, history: dict[str, Any], file: Path) -> None:
        config, temperature = network.config, temperature_of(current)
        if temperature is not None:
            config = replace(config, temperature=temperature)
        scheme: Scheme = "person" if options.mocap else "published"
        metrics = {name: row[name] for name in ("mpjpe", "pa_mpjpe")}
        weights = _weights(current)
        save_checkpoint(
            Checkpoint(config, weights, scheme, training=history, metrics=metrics), file
        )

    held_poses = HeldPoses(**shown, actions=actions, batch=options.test_batch)
    return Task(network, error, batches, held_poses, save, data, notes)


def _temporal_task(
    options: TrainOptions, temporal: TemporalOptions, clock: Clock, device: torch.device
) -> Task:
    torch.manual_seed(options.seed)
    network = TemporalNetwork(temporal.network).to(device)
    checkpoint = load_lifter(temporal.frames).checkpoint
    fov = checkpoint.fov_degrees
    frames = FrameLifter(checkpoint.build(), checkpoint.normalisation, fov)
    frames.to(device).requires_grad_(False)
    if options.mocap:
        moving = SequenceBank.from_files(options.mocap, device)
        still = PoseBank.from_files(options.still or options.mocap, device)

        def synthesiser(seed: int) -> SequenceSynthesiser:
            return SequenceSynthesiser(moving, still, SequenceOptions(), seed)

        draw = DrawnWindows(synthesiser(options.seed), fov)
        batches = drawn_batches(draw, options.batch, options.steps, clock)
        held = _held_windows(synthesiser(options.seed + HELD_SEED), frames, fov)
        data, notes = _describe_drawn(options, len(moving.poses), len(held.poses))
    else:
        training, split = _load_split(options)
        windows = SequenceWindows(training, temporal.fps, fov, device)
        batches = training_batches(windows, options.batch, options.seed)
        size = np.array((FRAME_SIZE, FRAME_SIZE))
        sequences = [
            SeenSequence(split.keypoints_px[each.start : each.stop], size)
            for each in split.sequences
        ]
        held = HeldSequences(sequences, split.poses, split.actions(), frames, temporal.fps, fov)
        data, notes = _describe_split(options, training, split)

    def error(current: TemporalNetwork, **windows: Any) -> Tensor:
        return temporal_error(current, frames, **windows)

    def save(current: nn.Module, row: Row, history: dict[str, Any], file: Path) -> None:
        names = ("mpjpe", "pa_mpjpe", "mpjve", "acceleration")
        metrics = {name: row[name] for name in names if name in row}
        made = TemporalCheckpoint(network.config, _weights(current), history, metrics, checkpoint)
        save_temporal(made, file, torch.float32)

    return Task(network, error, batches, held, save, data, notes)


def _lifting_network(options: TrainOptions) -> LiftingNetwork:
    torch.manual_seed(options.seed)
    config = options.network
    network = build_network(config)
    if options.load is not None and not options.resume:
        lifter = load_lifter(
            options.load,
            kind=config.kind,
            padding_mode=config.padding_mode,
            grid_shape=config.grid_shape,
        )
        found = lifter.network.config
        if (found.hidden, found.blocks) != (config.hidden, config.blocks):
            raise UsageError(
                f"{options.load}: has {found.hidden} channels and {found.blocks} blocks; "
                "give `hidden` and `blocks` so"
            )
        network.load_state_dict(lifter.network.state_dict())
    if options.compile:
        network.compile()
    return network


def _load_split(options: TrainOptions) -> tuple[PoseDataset, PoseDataset]:
    """The data set to train on, and what is held back to choose the best epoch on."""
    assert options.data is not None
    data = load_dataset(options.data, "train", exclude_drift=False)
    if options.select_on == "val":
        return split_performances(data, options.val_share)
    drift = default_exclude_drift("test", options.data.name)
    return data, load_dataset(options.data, "test", exclude_drift=drift)


def split_performances(dataset: PoseDataset, share: float) -> tuple[PoseDataset, PoseDataset]:
    """Hold performances out: ``(the rest, about a share of them)``.

    A performance is held out with all its cameras, and they are spread evenly over the sorted list,
    so over subjects and actions.

    Raises:
        UsageError: the share is not between 0 and 1.
        InputError: there are fewer than two performances.
    """
    if not 0 < share < 1:
        raise UsageError(f"the share held out must lie between 0 and 1, not at {share}")

    def performance(sequence: Sequence) -> tuple[str, str]:
        return sequence.subject, sequence.performance

    every = sorted({performance(sequence) for sequence in dataset.sequences})
    if len(every) < 2:
        raise InputError(
            "the training data hold a single performance, so none can be held out to choose the "
            "best epoch; pass `select_on=test`"
        )
    count = min(len(every) - 1, max(1, round(share * len(every))))
    held = {every[int((number + 0.5) * len(every) / count)] for number in range(count)}
    return (
        dataset.filter(lambda sequence: performance(sequence) not in held),
        dataset.filter(lambda sequence: performance(sequence) in held),
    )


def _held_windows(
    synthesiser: SequenceSynthesiser, frames: FrameLifter, fov: float
) -> HeldSequences:
    """Windows drawn from motion capture as sequences: of each the frames that count."""
    drawn = synthesiser.windows(HELD_WINDOWS, WINDOW_FRAMES)
    sequences, poses = [], []
    for index, within in enumerate(drawn.within):
        confidence = drawn.confidence[index] * drawn.valid[index]
        given = (drawn.keypoints_px[index][within], drawn.image_size[index], confidence[within])
        sequences.append(SeenSequence(*(values.cpu().numpy() for values in given)))
        poses.append(drawn.poses[index][within].cpu().numpy())
    truth = np.concatenate(poses)
    return HeldSequences(sequences, truth, np.zeros(len(truth), int), frames, WINDOW_FPS, fov)


def _describe_split(
    options: TrainOptions, training: PoseDataset, held: PoseDataset
) -> tuple[dict[str, Any], list[str]]:
    data = {
        "sha256": {**training.sha256, **held.sha256},
        "training": {"sequences": len(training.sequences), "frames": len(training)},
        "validation": {
            "split": "test" if options.select_on == "test" else "held out of train",
            "sequences": [[s.subject, s.action, s.file_name, len(s)] for s in held.sequences],
            "frames": len(held),
        },
        "left_out": [*dict.fromkeys(describe_left_out(training) + describe_left_out(held))],
    }
    return data, [*dict.fromkeys((*training.notes, *held.notes))]


def _describe_drawn(
    options: TrainOptions, frames: int, held: int
) -> tuple[dict[str, Any], list[str]]:
    files = dict.fromkeys((*options.mocap, *options.still))
    data = {
        "sha256": {file.name: file_sha256(file) for file in files},
        "training": {"frames": frames},
        "validation": {"split": "drawn from the same motion capture", "frames": held},
        "left_out": [],
    }
    return data, []


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}
