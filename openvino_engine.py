"""Networks on the CPU by OpenVINO: arrays in, arrays out, no word on the terminal or the network.

Samples of a batch are spread over as many streams as there are threads, each of one thread where
the processor is small. Measured on two cores against one stream and a free batch dimension: 2 %
(HRNet) to 16 % (BlazePose) fewer CPU seconds, as fast from two samples on, and memory that no
sequence of batch sizes lets grow. It also runs networks whose batch is fixed to 1, as those in
most ``.tflite`` files are, and no sample's answer depends on its neighbours. One sample alone uses
one stream.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from gridpose.core import AnyArray, GridposeError, InputError, MissingError
from gridpose.machine import usable_cores
from gridpose.storage import cache_dir, file_sha256, sha256, write_atomically

if TYPE_CHECKING:
    from types import ModuleType

EnginePrecision = Literal["fp32", "bf16"]

INSTALL: Final = "pip install openvino"
_HINTS: Final = {"fp32": "f32", "bf16": "bf16"}
_MOST_STREAMS: Final = 8
_TELEMETRY: Final = "openvino_telemetry"
OPENVINO_FOLDER: Final = "openvino"
"""In the cache folder: what OpenVINO made of networks."""
_DIGEST: Final = 64
"""Characters at the beginning of a kept network: the SHA-256 of the rest."""


@dataclass(frozen=True)
class Pixels:
    """Makes a network take (N, H, W, 3) uint8: it subtracts, divides and transposes by itself.

    Attributes:
        mean: of each channel, in the order in which they are given.
        std: what each is divided by afterwards.
        channels_first: whether the network wants (N, 3, H, W).
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels_first: bool


def is_installed() -> bool:
    """Whether OpenVINO can be imported, as far as one can see without doing so."""
    try:
        return find_spec("openvino") is not None
    except (ValueError, ModuleNotFoundError):
        return False


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """OpenVINO tells its makers of each import and conversion, unless a package is missing."""
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


def import_openvino() -> ModuleType:
    """OpenVINO; takes a quarter of a second at first.

    Raises:
        MissingError: it is not installed or cannot be loaded.
    """
    try:
        with _no_telemetry():
            return import_module("openvino")
    except (ImportError, OSError) as error:
        raise MissingError(f"OpenVINO cannot be imported ({error}); {INSTALL}") from error


@lru_cache(maxsize=1)
def openvino_core() -> Any:
    """OpenVINO's ``Core``, the same one for the life of the process.

    Each brings a stack for signal handlers along and, when it goes, puts back the one before it:
    after two of them that is memory no longer there, and Ctrl-C ends in a segmentation fault.

    Raises:
        MissingError: OpenVINO is not installed or cannot be loaded.
    """
    return import_openvino().Core()


@lru_cache(maxsize=1)
def processor_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 (AMX-BF16, AVX512-BF16 or the like).

    Raises:
        MissingError: OpenVINO is not installed.
    """
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def processor() -> str:
    """Its name and what it can do, as far as OpenVINO's arithmetic depends on it.

    Raises:
        MissingError: OpenVINO is not installed.
    """
    core = openvino_core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return f"{core.get_property('CPU', 'FULL_DEVICE_NAME')}: {' '.join(sorted(capabilities))}"


def threads_allowed() -> int:
    """The cores of this process, or fewer where ``OMP_NUM_THREADS`` says so, as in workers."""
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    cores = usable_cores()
    return min(cores, int(said)) if said.isdecimal() and int(said) > 0 else cores


def _kept_at(network: Path, how: object) -> Path | None:
    """Where a network compiled like this is kept; None where nothing can be."""
    with suppress(GridposeError, OSError):
        key = [version("openvino"), processor(), file_sha256(network), how]
        folder = cache_dir() / OPENVINO_FOLDER
        folder.mkdir(exist_ok=True)
        return folder / f"{sha256(json.dumps(key).encode())[:32]}.blob"
    return None


def _kept(file: Path | None, options: dict[str, Any]) -> Any:
    """The compiled network in a file, if it is there and as it was written."""
    with suppress(OSError, RuntimeError):
        if file is not None and file.is_file():
            content = file.read_bytes()
            blob = content[_DIGEST:]
            if sha256(blob).encode() == content[:_DIGEST]:
                return openvino_core().import_model(blob, "CPU", options)
    return None


def _keep(compiled: Any, file: Path) -> None:
    with suppress(GridposeError, RuntimeError):
        blob = compiled.export_model().getvalue()
        write_atomically(file, sha256(blob).encode() + blob)


class Engine:
    """A network of one input, ready to run; for one caller at a time.

    Args:
        model: a file (``.tflite``, or ``.xml`` with its ``.bin``), or an ``openvino.Model``, which
            is left as it is. The first dimension of its input is the batch, of 1 or any size.
        precision: of products; answers are float32 in any case. A processor without bfloat16
            takes fp32.
        threads: how many the network may use; None for :func:`threads_allowed`.
        outputs: names or numbers of the outputs wanted; None for all. What others alone need is
            not computed.
        pixels: the input is to be uint8 pixels.
        keep: of a file, keep what OpenVINO makes of it in the cache folder. That loads in a fifth
            of the time.

    Raises:
        MissingError: OpenVINO is not installed, or there is no such file.
        InputError: it is no network that OpenVINO can read and compile.
    """

    def __init__(
        self,
        model: Path | Any,
        *,
        precision: EnginePrecision = "fp32",
        threads: int | None = None,
        outputs: Sequence[str | int] | None = None,
        pixels: Pixels | None = None,
        keep: bool = False,
    ) -> None:
        self._openvino: Any = import_openvino()
        self.precision = precision
        name = str(model) if isinstance(model, Path) else "this network"
        if isinstance(model, Path) and not model.is_file():
            raise MissingError(f"{model}: no such network")
        threads = threads or threads_allowed()
        streams = min(threads, _MOST_STREAMS)
        core = openvino_core()
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            # Several processes, and other threads of this one, would wait for one core.
            "ENABLE_CPU_PINNING": False,
        }
        kept = None
        if keep and isinstance(model, Path):
            kept = _kept_at(model, [outputs, astuple(pixels) if pixels else None, options])
        compiled = _kept(kept, options)
        try:
            if compiled is None:
                network = core.read_model(model) if isinstance(model, Path) else model.clone()
                network = self._prepared(network, outputs, pixels)
                compiled = core.compile_model(network, "CPU", options)
                if kept is not None:
                    _keep(compiled, kept)
        except RuntimeError as error:
            why = (str(error).strip().splitlines() or [""])[-1]
            raise InputError(f"{name}: OpenVINO cannot run it ({why})") from error
        self.input_shape: tuple[int, ...] = tuple(compiled.input(0).shape)[1:]
        self._type = np.dtype(np.uint8 if pixels else np.float32)
        self._requests = [compiled.create_infer_request() for _ in range(streams)]

    def _prepared(
        self, network: Any, outputs: Sequence[str | int] | None, pixels: Pixels | None
    ) -> Any:
        """The network for one sample, with what is wanted of it."""
        ov = self._openvino
        if outputs is not None:
            wanted = [network.output(which) for which in outputs]
            network = ov.Model(wanted, network.get_parameters())
        shape = network.input(0).partial_shape
        if shape.rank.is_dynamic or shape[0] != 1:
            shape[0] = 1
            network.reshape(shape)
        if pixels is not None:
            steps = ov.preprocess.PrePostProcessor(network)
            steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
            order = "NCHW" if pixels.channels_first else "NHWC"
            steps.input().model().set_layout(ov.Layout(order))
            operations = steps.input().preprocess().convert_element_type(ov.Type.f32)
            operations.mean(list(pixels.mean)).scale(list(pixels.std))
            network = steps.build()
        return network

    def __call__(self, batch: AnyArray) -> list[AnyArray]:
        """Run a batch of any size but 0.

        Args:
            batch: (N, ...) float32, or uint8 where the input is pixels.

        Returns:
            Each output, (N, ...).

        Raises:
            ValueError: a batch of another shape.
        """
        if batch.shape[1:] != self.input_shape or not len(batch):
            raise ValueError(f"a batch of {batch.shape}, not (N, {self.input_shape})")
        samples = np.require(batch, self._type, ("C", "W"))  # which OpenVINO reads where it lies
        answers: list[AnyArray] = []
        busy = len(self._requests)
        for index in range(len(samples) + busy):
            request = self._requests[index % busy]
            if 0 <= index - busy < len(samples):
                request.wait()
                self._take(request, index - busy, len(samples), answers)
            if index < len(samples):
                sample = samples[index : index + 1]
                request.set_input_tensor(self._openvino.Tensor(sample, shared_memory=True))
                request.start_async()
        return answers

    def _take(self, request: Any, index: int, count: int, answers: list[AnyArray]) -> None:
        """Copy one sample's answers to their places, which are made for the first."""
        # Copied, for the request's own memory is written to again.
        found = [tensor.data for tensor in request.output_tensors]
        if not answers:
            answers += [np.empty((count, *_of_one(data).shape), data.dtype) for data in found]
        for place, data in zip(answers, found, strict=True):
            place[index] = _of_one(data)


def _of_one(data: AnyArray) -> AnyArray:
    """A sample's answer without a batch dimension of 1, if it has one."""
    return data[0] if data.ndim and data.shape[0] == 1 else data
