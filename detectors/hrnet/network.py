"""A top-down pose network at work: boxes in, keypoints out, whole batches at once."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gridpose.core import FloatArray, ImageArray, InputError
from gridpose.detectors.hrnet.config import PoseConfig
from gridpose.detectors.hrnet.crops import cut, regions_of, warp_matrices
from gridpose.detectors.hrnet.cuda_graphs import Call, RecordedCalls
from gridpose.detectors.hrnet.evoskeleton import UPSAMPLING
from gridpose.detectors.hrnet.evoskeleton import decode as decode_finer
from gridpose.detectors.hrnet.heatmaps import Decoder, decoder_for, flipped
from gridpose.detectors.hrnet.mmpose_models import import_mmpose
from gridpose.devices import AUTOCAST, Precision

_RECORDED_CROPS = {"fp32": 8, "fp16": 64, "bf16": 64}
"""Up to so many crops at once an H100 waits for launches, not launches for it (docs/gpu.md)."""


class _HeatmapNetwork(nn.Module):
    """Backbone, neck and head as one module: (N, 3, H, W) to heatmaps (N, K, h, w) or the like."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, crops: Tensor) -> Any:
        model: Any = self.model
        maps = model.head.forward(model.extract_feat(crops))
        finer = getattr(model.head, UPSAMPLING, None)
        return maps if finer is None else finer(maps)


class TopDownNetwork:
    """Keypoints of the persons in boxes, equal to mmpose's ``inference_topdown``.

    Args:
        config: how crops are made and what the network yields.
        model: mmpose's network with its weights, in eval mode; it is altered.
        device: where it runs.
        precision: ``fp16`` and ``bf16`` of the network's weights; autocast on the CPU and for
            heads that mmpose decodes.
        flip_test: run mirrored crops too and average: a little better, twice the time.
        batch_size: crops run at once.
        compiled: use ``torch.compile``: slow to start, worth it for long videos.
        recorded: on GPUs, replay small batches as CUDA graphs; not of compiled networks, nor of
            heads that mmpose decodes.
    """

    def __init__(
        self,
        config: PoseConfig,
        model: nn.Module,
        device: torch.device,
        *,
        precision: Precision = "fp32",
        flip_test: bool = False,
        batch_size: int = 8,
        compiled: bool = False,
        recorded: bool = True,
    ) -> None:
        self.config, self.device = config, device
        self._precision, self._flip_test, self._batch_size = precision, flip_test, batch_size
        preprocessor: Any = model.data_preprocessor
        self._mean: Tensor = preprocessor.mean.to(device)
        self._std: Tensor = preprocessor.std.to(device)
        # mmpose's pictures are BGR, ours RGB.
        self._wants_rgb = bool(preprocessor._channel_conversion)
        self._test_cfg: dict[str, Any] = dict(model.test_cfg)  # type: ignore[arg-type]
        if type(model.backbone).__name__ == "HRNet":
            # It folds each convolution with the next normalisation by the order of their names,
            # which is right here and need not be elsewhere.
            model = import_mmpose("mmcv.cnn").fuse_conv_bn(model)
        self._head: Any = model.head
        self._decoder: Decoder | None = decode_finer
        if not config.finer_maps:
            self._decoder = decoder_for(model.head.decoder)  # type: ignore[union-attr]
        self._layout, self._dtype = torch.contiguous_format, torch.float32
        if self._decoder is not None:  # mmpose's own decoding can take neither
            self._layout = torch.channels_last  # faster on both kinds of device
            if device.type == "cuda" and precision != "fp32":
                self._dtype = AUTOCAST[precision]  # autocast would cast weights for every batch
        model.to(device, dtype=self._dtype, memory_format=self._layout)  # type: ignore[call-overload]
        # What mmpose's decoding makes the answer of.
        self._features: Any = model.extract_feat
        self.whole: nn.Module = _HeatmapNetwork(model).eval()
        """Normalised crops (N, 3, H, W) to what the head yields."""
        self._network: Any = torch.compile(self.whole, dynamic=True) if compiled else self.whole
        self._look: Call = self._seen
        if recorded and device.type == "cuda" and self._decoder is not None and not compiled:
            self._look = RecordedCalls(self._seen, _RECORDED_CROPS[precision])

    def run_by(self, engine: Callable[[Tensor], Any]) -> TopDownNetwork:
        """The same with something else in the place of :attr:`whole`, on the CPU.

        Args:
            engine: answers as :attr:`whole` does, in an arithmetic of its own.
        """
        other = copy.copy(self)
        other._network = other._features = engine
        other._look = other._seen
        # mmpose's head makes keypoints of what it yields, and that is there already.
        other._head = copy.copy(self._head)
        other._head.forward = lambda answer: answer
        other._layout, other._precision = torch.contiguous_format, "fp32"
        del other.whole  # torch's weights
        return other

    def keypoints(
        self, frames: Sequence[ImageArray], frame_of_box: Sequence[int], boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Keypoints of one person in each box.

        Args:
            frames: (H, W, 3) RGB.
            frame_of_box: index of the frame that each box is in.
            boxes: (N, 4) xyxy px.

        Returns:
            (N, K, 2) px in the frame, and (N, K) heights of the heatmaps: about 0 to 1, unbounded.
        """
        count = len(self.config.keypoints)
        if not len(boxes):
            return np.zeros((0, count, 2), np.float32), np.zeros((0, count), np.float32)
        regions = regions_of(boxes, self.config.input_size, self.config.padding)
        matrices = warp_matrices(regions, self.config.input_size, self.config.udp)
        answers = []
        # All batches are started before the first answer is waited for: while a GPU is at work
        # the next crops are cut.
        for start in range(0, len(boxes), self._batch_size):
            part = slice(start, start + self._batch_size)
            pixels = self._cut(frames, frame_of_box[part], matrices[part])
            with torch.inference_mode(), self._autocast():
                answers.append(self._look(pixels))
        places = np.concatenate([place.cpu().numpy() for place, _ in answers])
        scores = np.concatenate([score.cpu().numpy() for _, score in answers])
        if scores.shape[1] != count:
            raise InputError(
                f"{self.config.name}: its network yields {scores.shape[1]} keypoints, "
                f"its data have {count}"
            )
        return regions.to_frame(places, self.config.input_size), scores.astype(np.float32)

    def _cut(
        self, frames: Sequence[ImageArray], frame_of_crop: Sequence[int], matrices: Any
    ) -> Tensor:
        """(N, H, W, 3) uint8, cut here and uploaded."""
        width, height = self.config.input_size
        # Pinned memory comes from a pool that waits for copies under way.
        staging = torch.empty(
            (len(matrices), height, width, 3),
            dtype=torch.uint8,
            pin_memory=self.device.type == "cuda",
        )
        cut(frames, frame_of_crop, matrices, staging.numpy())
        return staging.to(self.device, non_blocking=True)

    def _seen(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What is in (N, H, W, 3) uint8 crops: see :meth:`_decoded`."""
        return self._decoded(self._normalised(pixels))

    def _normalised(self, pixels: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB as (N, 3, H, W) normalised, channels last."""
        crops = pixels.permute(0, 3, 1, 2).float()
        if not self._wants_rgb:
            crops = crops.flip(1)
        crops = (crops - self._mean) / self._std
        return crops.to(self._dtype).contiguous(memory_format=self._layout)

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "fp32" or self._dtype != torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, AUTOCAST[self._precision])

    def _decoded(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K, 2) px in the crops, float64, and (N, K) scores."""
        if self._decoder is None:
            with warnings.catch_warnings():
                # mmpose's use of torch.cuda.amp.autocast is nothing that a user can mend.
                warnings.simplefilter("ignore", FutureWarning)
                return self._decoded_by_mmpose(crops)
        maps = _last(self._network(crops)).float()
        if self._flip_test:
            mirrored = _last(self._network(crops.flip(-1))).float()
            # Maps as fine as the crop have nothing to be shifted by.
            shift = bool(self._test_cfg.get("shift_heatmap")) and not self.config.finer_maps
            maps = (maps + flipped(mirrored, list(self.config.counterparts), shift)) * 0.5
        with torch.autocast(self.device.type, enabled=False):
            return self._decoder(maps)

    def _decoded_by_mmpose(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """For heads and codecs other than plain heatmaps, which are mmpose's to decode."""
        structures = import_mmpose("mmpose.structures")
        features = self._features(crops)
        if self._flip_test:
            features = [features, self._features(crops.flip(-1))]
        sample = structures.PoseDataSample(
            metainfo={
                "flip_indices": list(self.config.counterparts),
                "input_size": self.config.input_size,
            }
        )
        settings = {**self._test_cfg, "flip_test": self._flip_test, "output_heatmaps": False}
        people = self._head.predict(features, [sample] * len(crops), settings)
        places = np.concatenate([person.keypoints for person in people]).astype(np.float64)
        scores = np.concatenate([person.keypoint_scores for person in people])
        return torch.from_numpy(places), torch.from_numpy(scores)


def _last(answer: Any) -> Any:
    """The heatmaps of the last stage, where a head (CPM's, the hourglass's) yields all stages'."""
    return answer if isinstance(answer, Tensor) else answer[-1]
