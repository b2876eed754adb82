"""The predictor: NumPy keypoints in, NumPy poses out, around the lifting networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gridpose.core import MIRRORED, NUM_JOINTS, FloatArray, InputError, UsageError
from gridpose.devices import AUTOCAST, Precision, resolve_device
from gridpose.lifting.body import to_mean_size
from gridpose.lifting.model.forward import FrameLifter, LiftWindows
from gridpose.lifting.model.layers import PaddingModes
from gridpose.lifting.model.network import Kind, NetworkConfig
from gridpose.lifting.normalise import Scheme, normalise
from gridpose.lifting.sequences import lift_keypoints, seen_joints
from gridpose.lifting.unseen import guess_unseen
from gridpose.lifting.weights.checkpoint import Checkpoint, is_safetensors, read_checkpoint
from gridpose.lifting.weights.published import read_published
from gridpose.lifting.weights.shipped import SHIPPED, shipped_sha256, shipped_weights
from gridpose.lifting.weights.temporal_checkpoint import (
    TemporalCheckpoint,
    is_temporal,
    read_temporal,
)
from gridpose.storage import file_sha256

_PARALLEL_BATCH = 256


class Lifter:
    """Lifts 2D keypoints to 3D, of single frames or, with ``temporal``, of sequences.

    Joints are Human3.6M-17 throughout. A lifter is stateless: what it lifts does not influence
    what it lifts later.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        batch_size: int = 1024,
        name: str = "unnamed",
        weights_sha256: str = "",
        notices: Sequence[str] = (),
        temporal: TemporalCheckpoint | None = None,
    ) -> None:
        self.checkpoint, self.temporal = checkpoint, temporal
        self.name, self.weights_sha256 = name, weights_sha256
        self.notices = list(notices)
        self.device = torch.device(device)
        self.precision = precision
        self.batch_size = batch_size
        if batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {batch_size}")
        if precision != "fp32" and self.device.type == "cpu":
            # Emulated half precision is many times slower on most CPUs.
            raise UsageError(f"`precision={precision}` needs a GPU; use fp32 on the CPU")
        products = AUTOCAST.get(precision, torch.float32)
        self.network = checkpoint.build().to(self.device)
        self.network.fuse(products)
        self._windows: LiftWindows | None = None
        if temporal is not None:
            sees_time = temporal.build().to(self.device)
            sees_time.fuse(products)
            frames = FrameLifter(self.network, checkpoint.normalisation, checkpoint.fov_degrees)
            self._windows = LiftWindows(frames, sees_time)

    @property
    def sees_time(self) -> bool:
        """Whether what comes before and after a frame changes how it is lifted."""
        return self._windows is not None

    @property
    def fov_degrees(self) -> float:
        """Horizontal field of view that is assumed where none is given."""
        return self.checkpoint.fov_degrees

    def lift(
        self,
        keypoints_px: ArrayLike,
        image_size: ArrayLike,
        fov_degrees: float | None = None,
        *,
        flip_test: bool = False,
    ) -> FloatArray:
        """Lift pixels to metres.

        Args:
            keypoints_px: (N, 17, 2) pixels of the displayed frame, x right, y down.
            image_size: (2,) or (N, 2) width, height in pixels.
            fov_degrees: horizontal field of view of the lens, if known.
            flip_test: average with the answer to the mirrored person; twice the work.

        Returns:
            (N, 17, 3) float32 metres, hip at the origin, camera axes: x right, y down, z away
            from the camera. Poses with a keypoint that is not finite are NaN. Lifters that take a
            person out of its surroundings (``person`` normalisation) answer in the mean person's
            size.

        Raises:
            InputError: another shape, or a size that is not positive.
            UsageError: no lens has this field of view.
        """
        keypoints = _checked(keypoints_px)
        size = np.asarray(image_size, np.float32)
        if size.shape not in ((2,), (len(keypoints), 2)) or not (size > 0).all():
            raise InputError(
                f"image_size must be (2,) or (N, 2) positive width, height; got {size.shape}"
            )
        sizes = np.broadcast_to(size, (len(keypoints), 2))
        poses = np.full((len(keypoints), NUM_JOINTS, 3), np.nan, np.float32)
        usable = np.flatnonzero(np.isfinite(keypoints).all((1, 2)))
        fov = self.fov_degrees if fov_degrees is None else fov_degrees
        if not 0 < fov < 180:
            raise UsageError(f"the field of view must lie between 0 and 180 degrees, not at {fov}")
        # Human3.6M's constants hold for its 1000 px frames, where both schemes are the same.
        published = self.checkpoint.normalisation == "published"
        scheme: Scheme = "frame" if published else self.checkpoint.normalisation
        answers = []
        for start in range(0, len(usable), self.batch_size):
            index = usable[start : start + self.batch_size]
            pixels, frames = self._tensor(keypoints[index]), self._tensor(sizes[index])
            normalised = normalise(pixels, frames, scheme, fov)
            lifted = normalised.rotate_back(self._network(normalised.keypoints, flip_test))
            lifted = lifted - lifted[:, :1]
            if scheme == "person":
                lifted = to_mean_size(lifted)
            answers.append((index, lifted))
        # Only now, so that a GPU has the next batch before it is asked for the last one's answer.
        for index, lifted in answers:
            poses[index] = lifted.cpu().numpy()
        return poses

    def lift_sequence(
        self,
        keypoints_px: ArrayLike,
        image_size: ArrayLike,
        confidence: ArrayLike | None = None,
        fps: float = 30.0,
        fov_degrees: float | None = None,
    ) -> FloatArray:
        """Lift one person's keypoints over time.

        A lifter that sees time uses about a second before and after each frame, and lifts joints
        that are not seen, too; others lift frame by frame, with guesses of joints that are not
        seen (:mod:`gridpose.lifting.unseen`).

        Args:
            keypoints_px: (T, 17, 2) pixels, as in :meth:`lift`; joints that are not finite are
                unseen.
            image_size: (2,) width, height in pixels.
            confidence: (T, 17) in [0, 1]; 0 is unseen. All 1 if not given.
            fps: frames per second.
            fov_degrees: horizontal field of view of the lens, if known.

        Returns:
            (T, 17, 3) float32 as of :meth:`lift`. Frames without any seen joint are NaN.

        Raises:
            InputError: other shapes, or a size that is not positive.
            UsageError: no lens has this field of view, or a rate that is not positive.
        """
        if not self.sees_time:
            keypoints, rated = seen_joints(keypoints_px, confidence)
            for frame in np.flatnonzero((rated > 0).any(1)):
                shown, guessed = guess_unseen(keypoints[frame, None], rated[frame, None] > 0)
                keypoints[frame] = np.where(
                    ((rated[frame] > 0) | guessed)[:, None], shown[0], np.nan
                )
            keypoints[~(rated > 0).any(1)] = np.nan
            return self.lift(keypoints, image_size, fov_degrees)
        fov = self.horizontal_fov(image_size, fov_degrees)
        return lift_keypoints(self.lift_windows, keypoints_px, image_size, confidence, fps, fov)

    def horizontal_fov(self, image_size: ArrayLike, fov_degrees: float | None) -> float:
        """The lens with which sequences in frames of this size are to be seen.

        Lifters of whole frames know one lens only, that of a frame's longer side.

        Args:
            image_size: (2,) width, height in pixels.
            fov_degrees: the lens's horizontal field of view, if known.
        """
        if self.checkpoint.normalisation == "person":
            return self.fov_degrees if fov_degrees is None else fov_degrees
        width, height = np.asarray(image_size, np.float64)
        reach = math.tan(math.radians(self.fov_degrees) / 2) * width / max(width, height)
        return math.degrees(2 * math.atan(reach))

    @torch.inference_mode()
    def lift_windows(self, flat: FloatArray, confidence: FloatArray) -> FloatArray:
        """What :class:`gridpose.lifting.sequences.SequenceStream` wants of a lifter.

        Raises:
            UsageError: this one sees no time.
        """
        if self._windows is None:
            raise UsageError(f"{self.name}: lifts single frames only")
        with self._arithmetic(flat.shape[0] * flat.shape[1]):
            poses: Tensor = self._windows(self._tensor(flat), self._tensor(confidence))
        return poses.float().cpu().numpy()

    def lift_normalized(self, keypoints: ArrayLike, *, flip_test: bool = False) -> FloatArray:
        """Network and grid transforms alone: ``(N, 17, 2)`` normalised -> ``(N, 17, 3)`` metres.

        Nothing is re-centred; ``flip_test`` as in :meth:`lift`.

        Raises:
            InputError: another shape.
        """
        checked = _checked(keypoints)
        poses = [
            self._network(self._tensor(checked[start : start + self.batch_size]), flip_test)
            .cpu()
            .numpy()
            for start in range(0, len(checked), self.batch_size)
        ]
        return np.concatenate(poses) if poses else np.empty((0, NUM_JOINTS, 3), np.float32)

    def _tensor(self, values: FloatArray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    @torch.inference_mode()
    def _network(self, keypoints: Tensor, flip_test: bool) -> Tensor:
        if flip_test:
            keypoints = torch.cat((keypoints, mirror(keypoints)))
        with self._arithmetic(len(keypoints)):
            poses = self.network.lift(keypoints).float()
        if flip_test:
            seen, mirrored = poses.chunk(2)
            poses = (seen + mirror(mirrored)) / 2
        return poses

    @contextmanager
    def _arithmetic(self, poses: int) -> Iterator[None]:
        """The types and threads to lift so many poses with."""
        with (
            torch.autocast(
                self.device.type,
                dtype=AUTOCAST.get(self.precision),
                enabled=self.precision != "fp32",
            ),
            _threads(1 if poses < _PARALLEL_BATCH else None),
        ):
            yield


def mirror(joints: Tensor) -> Tensor:
    """The mirrored person: x negated, left and right exchanged; ``(N, 17, 2 or 3)``."""
    mirrored = joints.index_select(1, _counterparts(joints.device))
    return torch.cat((-mirrored[..., :1], mirrored[..., 1:]), dim=-1)


@lru_cache(maxsize=8)
def _counterparts(device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept for later callers
        return torch.tensor(MIRRORED, device=device)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch use ``count`` CPU threads.

    On small batches a second thread mostly waits, and its busy waiting slows everything else: the
    lifting of a video took five times as long.
    """
    before = torch.get_num_threads()
    # To restore what another lifter's thread has set meanwhile would make that stay.
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _checked(keypoints: ArrayLike) -> FloatArray:
    array = np.asarray(keypoints, np.float32)
    if array.ndim != 3 or array.shape[1:] != (NUM_JOINTS, 2):
        raise InputError(f"keypoints must be (N, 17, 2), got {array.shape}")
    return array


def load_lifter(
    name_or_file: str | Path = SHIPPED,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    kind: Kind | None = None,
    padding_mode: PaddingModes | None = None,
    temperature: float | None = None,
    grid_shape: tuple[int, int] | None = None,
    batch_size: int = 1024,
) -> Lifter:
    """Load a shipped lifter, a safetensors file or a published ``.pth.tar``.

    ``default`` and files of ``gridpose train --temporal`` see time; ``default-frame`` is the
    former's lifter of single frames.

    Nothing in a file is executed. What a published checkpoint does not say is assumed as the
    specification of the published models has it; ``Lifter.notices`` says what.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp16`` and ``bf16`` need a GPU.
        kind: what the network must be.
        padding_mode: overrides what the checkpoint says.
        temperature: overrides what the checkpoint says.
        grid_shape: what the grid must be; needed where the file leaves it open.
        batch_size: poses lifted at once.

    Raises:
        MissingError: no such file or device.
        InputError: not a lifter checkpoint.
        UsageError: options that do not go together.
    """
    given: dict[str, Any] = {
        "padding_mode": padding_mode,
        "temperature": temperature,
        "grid_shape": grid_shape,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    notices: list[str] = []
    temporal = None
    with shipped_weights(str(name_or_file)) as shipped:
        files = shipped or [Path(name_or_file)]
        file = files[0]
        try:
            NetworkConfig(**overrides)
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from error
        if not (is_safetensors(file) or file.suffix == ".safetensors"):
            checkpoint, notices = read_published(file, kind=kind, **overrides)
        elif is_temporal(file):
            temporal = read_temporal(file)
            if temporal.frames is None:
                raise InputError(f"{file}: sees time, but has no lifter of single frames with it")
            checkpoint = temporal.frames
        else:
            checkpoint = read_checkpoint(file)
        if len(files) > 1:
            temporal = read_temporal(files[1])
        digest = shipped_sha256(str(name_or_file)) if shipped else file_sha256(file)
    found = checkpoint.network
    if kind is not None and kind != found.kind:
        raise UsageError(f"{file}: its lifting model is {found.kind}, not {kind}")
    if grid_shape is not None and grid_shape != found.grid_shape:
        raise UsageError(f"{file}: its grid shape is {found.grid_shape}, not {grid_shape}")
    try:
        return Lifter(
            replace(checkpoint, network=replace(found, **overrides)),
            resolve_device(device),
            precision,
            batch_size,
            str(name_or_file) if shipped else file.name,
            digest,
            notices,
            temporal,
        )
    except ValueError as error:
        raise InputError(f"{file}: weights do not fit the architecture ({error})") from error
