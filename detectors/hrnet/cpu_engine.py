"""Top-down networks on the CPU through OpenVINO, in bfloat16 where their keypoints survive it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import filelock

from gridpose.core import InputError, MissingError
from gridpose.detectors.hrnet.bf16_check import Agreement, compare, remember, remembered
from gridpose.detectors.hrnet.network import TopDownNetwork
from gridpose.detectors.hrnet.openvino_conversion import Converted, OpenVINONetwork, converted
from gridpose.detectors.options import EngineName
from gridpose.devices import PrecisionChoice
from gridpose.openvino_engine import (
    INSTALL,
    EnginePrecision,
    import_openvino,
    is_installed,
    processor,
    processor_has_bf16,
)
from gridpose.storage import sha256

_PRECISIONS: Final[tuple[EnginePrecision, EnginePrecision]] = ("fp32", "bf16")


@dataclass(frozen=True)
class Ran:
    """A network and what runs it.

    Attributes:
        network: ready to run.
        how: the engine and its precision, and why: a clause for the user.
        notices: what did not go as it should, a sentence each.
    """

    network: TopDownNetwork
    how: str
    notices: Sequence[str] = ()


def why_torch(wanted: EngineName | None) -> str:
    """Why torch is to run networks on the CPU; empty where OpenVINO is.

    Raises:
        MissingError: OpenVINO is asked for and not installed.
    """
    if wanted == "torch":
        return "asked for"
    if not is_installed():
        if wanted == "openvino":
            raise MissingError(f"`engine_cpu=openvino`: OpenVINO is not installed; {INSTALL}")
        return "OpenVINO is not installed"
    return ""


def on_openvino(network: TopDownNetwork, weights_sha256: str, precision: PrecisionChoice) -> Ran:
    """Let OpenVINO run it, or leave it to torch where OpenVINO cannot.

    Args:
        network: on the CPU.
        weights_sha256: of its weights.
        precision: ``auto`` takes bfloat16 if the processor has it and keypoints stay where they
            are, by :mod:`gridpose.detectors.hrnet.bf16_check`.
    """
    config = network.config
    what = {"weights": weights_sha256, "config": dataclasses.asdict(config)}
    try:
        version = str(import_openvino().__version__).partition("-")[0]
        known = converted(network.whole, config.input_size, what)
        chosen, why = _precision_of(network, known, precision)
        ran = network.run_by(OpenVINONetwork(known, chosen))
    except (InputError, MissingError) as error:
        return Ran(network, "torch", [f"torch runs {config.name}, not OpenVINO: {error}"])
    return Ran(ran, f"OpenVINO {version}, {chosen}{why}")


def _precision_of(
    network: TopDownNetwork, known: Converted, choice: PrecisionChoice
) -> tuple[EnginePrecision, str]:
    """A precision, and why: a clause that begins with a colon, or nothing."""
    if choice == "fp32":
        return "fp32", ""
    if not processor_has_bf16():
        return "fp32", ": the processor has no bf16"
    if choice == "bf16":
        return "bf16", ""
    agreement = _agreement(network, known)
    if agreement is None:
        return "fp32", ": no picture to try bf16 on"
    if not agreement.close:
        return "fp32", f": bf16 has {agreement}"
    return "bf16", f": {agreement}"


def _agreement(network: TopDownNetwork, known: Converted) -> Agreement | None:
    """How well bfloat16 does, which is measured once on each kind of processor."""

    def measured() -> Agreement | None:
        exact, rough = (network.run_by(OpenVINONetwork(known, one)) for one in _PRECISIONS)
        return compare(exact, rough, network.config.input_size, network.config.padding)

    if known.folder is None:
        return measured()
    file = known.folder / f"bf16-{sha256(processor().encode())[:16]}.json"
    if (before := remembered(file)) is not None:
        return before
    try:
        with filelock.FileLock(file.with_suffix(".lock")):
            agreement = remembered(file) or measured()
            if agreement is not None:
                remember(file, agreement)
            return agreement
    except (OSError, MissingError):  # nothing can be kept
        return measured()
