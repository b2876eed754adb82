"""How the command line offers the fields of an options class; the class itself says so once.

A field is ``name: Annotated[type, Option("what it does", PANEL)] = default``. The command line
makes its options of them; see :mod:`gridpose.pipeline.cli.options`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

INPUT: Final = "Input"
DATA: Final = "Data"
DETECTOR: Final = "Detector"
LIFTER: Final = "Lifter"
NETWORK: Final = "Network"
OPTIMISATION: Final = "Optimisation"
MOTION: Final = "Motion"
PICTURE: Final = "Picture"
OUTPUT: Final = "Output"
MACHINE: Final = "Machine"
PANELS: Final = (
    INPUT,
    DATA,
    DETECTOR,
    LIFTER,
    NETWORK,
    OPTIMISATION,
    MOTION,
    PICTURE,
    OUTPUT,
    MACHINE,
)
"""In the order in which ``--help`` has them."""


@dataclass(frozen=True)
class Option:
    """What a field is on the command line.

    Attributes:
        help: one sentence.
        panel: the heading of ``--help`` below which it stands.
        name: the option's, if it is not the field's.
        type: what a user gives, if it is not the field's type.
        default: likewise, what a user would give for the field's default.
        parse: makes the field's value of what a user gives.
        metavar: stands for the value in ``--help``.
        least: smallest number allowed.
        most: largest number allowed.
        only_on: a flag that has no ``--no-`` form.
    """

    help: str
    panel: str
    name: str | None = None
    type: Any = None
    default: Any = None
    parse: Callable[[Any], Any] | None = None
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    only_on: bool = False
