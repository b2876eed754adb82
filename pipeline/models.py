"""The detector and the lifter of a run: loaded once, when they are first needed, and shared."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gridpose.core import SHIPPED_LIFTERS, Precision
from gridpose.machine import may_have_gpu
from gridpose.pipeline.options import VideoOptions

if TYPE_CHECKING:
    from gridpose.detectors import Detector
    from gridpose.lifting import Lifter
    from gridpose.lifting.converted import ConvertedLifter


class Models:
    """Detector and lifter for one video or many; a context manager.

    What it has loaded it closes; detectors and lifters that the options hold stay open. On a CPU
    the default lifter is one that needs no torch, if it was converted before.

    Args:
        options: ``detector``, ``hrnet``, ``lifter``, ``device`` and ``precision`` count.
    """

    def __init__(self, options: VideoOptions) -> None:
        self._options = options
        self._opened = ExitStack()
        self._detector: Detector | None = None
        self._lifter: Lifter | ConvertedLifter | None = None
        self._judge: Lifter | ConvertedLifter | None = None

    @property
    def detector(self) -> Detector:
        """The detector.

        Raises:
            UsageError: options that do not go together.
            MissingError: weights, a package or a device are missing.
            InputError: weights or a config cannot be used.
        """
        if self._detector is None:
            options = self._options
            if isinstance(options.detector, str):
                from gridpose.detectors import load_detector

                loaded = load_detector(
                    options.detector,
                    device=options.device,
                    precision=options.precision,
                    hrnet=options.hrnet,
                )
                self._detector = self._opened.enter_context(loaded)
            else:
                self._detector = options.detector
        return self._detector

    @property
    def lifter(self) -> Lifter | ConvertedLifter:
        """The lifter.

        Raises:
            MissingError: no such file or device.
            InputError: not a lifter.
            UsageError: a precision that the device has not.
        """
        if self._lifter is None:
            chosen = self._options.lifter
            self._lifter = self._load_lifter(chosen) if isinstance(chosen, (str, Path)) else chosen
        return self._lifter

    @property
    def judge(self) -> Lifter | ConvertedLifter:
        """The default lifter: tells sides apart for one of single frames.

        Raises:
            MissingError: no such device.
        """
        if self._judge is None:
            with_default = replace(self._options, lifter=SHIPPED_LIFTERS[0])
            self._judge = Models(with_default).lifter
        return self._judge

    @property
    def lifter_needs_torch(self) -> bool:
        """Whether torch will be imported when the lifter is first asked for."""
        is_loaded = self._lifter is not None or not isinstance(self._options.lifter, (str, Path))
        if is_loaded or not self._is_convertible:
            return not is_loaded
        from gridpose.lifting.converted import is_converted

        return not is_converted()

    @property
    def lifter_is_to_convert(self) -> bool:
        """Whether the lifter can be converted, and was not."""
        if not self._is_convertible:
            return False
        from gridpose.lifting.converted import is_converted
        from gridpose.openvino_engine import is_installed

        return is_installed() and not is_converted()

    def load(self) -> None:
        """Load both now, for many videos; a lifter that can be converted is converted before.

        Raises:
            GridposeError: as :attr:`detector` and :attr:`lifter` do.
        """
        _ = self.detector
        if self.lifter_is_to_convert:
            self.convert_lifter()
        _ = self.lifter

    def convert_lifter(self) -> None:
        """Convert the default lifter for the runs after this one; takes some seconds.

        Nothing happens where the conversion fails or cannot be kept.
        """
        from gridpose.lifting import load_lifter
        from gridpose.lifting.conversion import keep_converted

        keep_converted(load_lifter())

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _load_lifter(self, chosen: str | Path) -> Lifter | ConvertedLifter:
        if self._is_convertible:
            from gridpose.lifting.converted import load_converted

            if (converted := load_converted()) is not None:
                return converted
        from gridpose.lifting import load_lifter

        device = self._options.device
        return load_lifter(chosen, device=device, precision=self._lifter_precision)

    @property
    def _is_convertible(self) -> bool:
        is_default = str(self._options.lifter) == SHIPPED_LIFTERS[0]
        return is_default and self._is_on_cpu and self._lifter_precision == "fp32"

    @property
    def _lifter_precision(self) -> Precision:
        # bf16 on a CPU speeds up the detector; the lifter would lose by it.
        wanted = self._options.precision
        if wanted == "auto" or (wanted == "bf16" and self._is_on_cpu):
            return "fp32"
        return wanted

    @property
    def _is_on_cpu(self) -> bool:
        device = self._options.device
        if device == "cpu" or (device == "auto" and not may_have_gpu()):
            return True
        from gridpose.devices import resolve_device

        return resolve_device(device).type == "cpu"
