"""Filters that make ordinary pictures of interlaced and of high-dynamic-range video."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final

HDR_TRANSFERS: Final = {"arib-std-b67": "HLG", "smpte2084": "PQ"}
"""ffmpeg's names of the transfer functions of ITU-R BT.2100."""
_REFERENCE_WHITE: Final = 203
"""cd/m², of diffuse white in HDR (ITU-R BT.2408)."""
_INTERLACED_HEIGHTS: Final = frozenset({480, 486, 576, 1080, 1088})
_INTERLACED_RATES: Final = (Fraction(25), Fraction(30000, 1001))
IDET_FRAMES: Final = 40
"""Frames in which traces of interlacing are looked for."""
_LEAST_COMBED = 0.4
_FIELDS = re.compile(r"Multi frame detection: TFF: *(\d+) BFF: *(\d+) Progressive: *(\d+)")


def may_be_interlaced(height: int, fps: Fraction) -> bool:
    """Whether video of this size and rate has ever been interlaced, said to be so or not."""
    return height in _INTERLACED_HEIGHTS and fps in _INTERLACED_RATES


def field_order(log: str) -> str | None:
    """Which field comes first, ``tff`` or ``bff``, by what ``idet`` says; None if progressive."""
    found = list(_FIELDS.finditer(log))
    if not found:
        return None
    top, bottom, progressive = (int(count) for count in found[-1].groups())
    combed = max(top, bottom)
    if combed < max(_LEAST_COMBED * IDET_FRAMES, 4 * progressive, 4 * min(top, bottom)):
        return None
    return "tff" if top > bottom else "bff"


def progressive(order: str, time_base: Fraction) -> list[str]:
    """Filters that make one full picture of the two fields of each frame.

    Args:
        order: ``tff``, ``bff``, or ``auto`` where frames say themselves.
        time_base: of the stream, which is kept; bwdif itself counts in halves of it.
    """
    only = "interlaced" if order == "auto" else "all"
    return [
        f"bwdif=mode=send_frame:parity={order}:deint={only}",
        f"settb={time_base.numerator}/{time_base.denominator}",
    ]


def standard_range(program: str, transfer: str) -> list[str] | None:
    """Filters that map BT.2100 light to BT.709, diffuse white to white and only lights beyond
    0.7 of it compressed; none where the transfer is an ordinary one, None where ``program`` has
    not got them.
    """
    if transfer not in HDR_TRANSFERS:
        return []
    if not {"zscale", "tonemap"} <= _filters(program):
        return None
    return [
        # Not every file says which primaries and matrix; with this light they are those of BT.2020.
        f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc",
        f"zscale=transfer=linear:npl={_REFERENCE_WHITE}",
        "format=gbrpf32le",
        "zscale=primaries=bt709",
        "tonemap=mobius:param=0.7:desat=0",
        "zscale=transfer=bt709:matrix=bt709:range=tv",
        "format=yuv420p",
    ]


def lacks_tone_mapping(transfer: str) -> str:
    """What to tell who has no filters for it."""
    return (
        f"high dynamic range ({HDR_TRANSFERS[transfer]}) looks washed out: this ffmpeg has no "
        "zscale filter; one built with libzimg has"
    )


@lru_cache(maxsize=4)
def _filters(program: str) -> frozenset[str]:
    """Names of the filters that an ffmpeg has."""
    asked = subprocess.run(
        [program, "-hide_banner", "-filters"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )
    rows: Sequence[list[str]] = [line.split() for line in asked.stdout.splitlines()]
    return frozenset(row[1] for row in rows if len(row) > 2 and "->" in row[2])
