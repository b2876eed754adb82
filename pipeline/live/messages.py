"""Poses for other programs as they happen: lines of JSON, datagrams of them, and OSC."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TextIO

import numpy as np

from gridpose.core import JOINT_NAMES, AnyArray, InputError, Person
from gridpose.pipeline.live.options import Target

_AT_ONCE: Final = struct.pack(">Q", 1)
"""The time tag of OSC for now."""


class Listener(Protocol):
    """Takes the people of each frame."""

    def send(self, time: float, people: Sequence[Person]) -> None: ...
    def close(self) -> None: ...


def as_json(time: float, people: Sequence[Person], **more: Any) -> str:
    """One line: ``time`` in s, and of each person ``id``, ``keypoints`` px, ``confidence`` and
    ``pose_world`` (m, z up, floor at 0), joint by joint as in ``gridpose.core.JOINT_NAMES``.
    """
    told = [
        {
            "id": person.track_id,
            "keypoints": _numbers(person.keypoints_2d, 1),
            "confidence": _numbers(person.confidence, 3),
            "pose_world": _numbers(person.pose_world, 4),
        }
        for person in people
    ]
    values = {"time": round(time, 4), **more, "people": told}
    return json.dumps(values, separators=(",", ":"), allow_nan=False)


def _numbers(values: AnyArray, digits: int) -> Any:
    """Nested lists; None for what is no number."""
    rounded: AnyArray = np.round(values.astype(np.float64), digits)
    if not np.isfinite(rounded).all():
        rounded = rounded.astype(object)
        rounded[~np.isfinite(values)] = None
    return rounded.tolist()


class JsonLines:
    """Writes a line for each frame."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def send(self, time: float, people: Sequence[Person]) -> None:
        """Write it at once."""
        print(as_json(time, people), file=self._stream, flush=True)

    def close(self) -> None:
        """The stream is not ours."""


class Datagrams:
    """Sends packets by UDP; nobody need be listening.

    Args:
        target: host and port.
        packed: packets of a frame.

    Raises:
        InputError: no such host.
    """

    def __init__(
        self, target: Target, packed: Callable[[float, Sequence[Person]], Sequence[bytes]]
    ) -> None:
        self._packed = packed
        self._address: Any
        try:
            found = socket.getaddrinfo(*target, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, self._address = found[0]
        except OSError as error:
            raise InputError(f"{target[0]}: no such host ({error.strerror})") from error
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)

    def send(self, time: float, people: Sequence[Person]) -> None:
        """Send the packets; those that the network cannot take are lost, as datagrams may be."""
        for packet in self._packed(time, people):
            try:
                self._socket.sendto(packet, self._address)
            except OSError:
                return

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def json_packets(time: float, people: Sequence[Person]) -> list[bytes]:
    """One packet with the line of :func:`as_json`."""
    return [as_json(time, people).encode()]


def osc_packets(time: float, people: Sequence[Person]) -> list[bytes]:
    """A bundle for each person, of ``/gridpose/person/ID/JOINT x y z`` in m, z up.

    OSC 1.0: https://opensoundcontrol.stanford.edu/spec-1_0.html
    """
    bundles = []
    for person in people:
        messages = [
            _osc_text(f"/gridpose/person/{person.track_id}/{name}")
            + _osc_text(",fff")
            + struct.pack(">3f", *place)
            for name, place in zip(JOINT_NAMES, person.pose_world.tolist(), strict=True)
        ]
        parts = (struct.pack(">i", len(message)) + message for message in messages)
        bundles.append(_osc_text("#bundle") + _AT_ONCE + b"".join(parts))
    return bundles


def _osc_text(text: str) -> bytes:
    """Ended by zeros, up to a multiple of four."""
    data = text.encode("ascii")
    return data + bytes(4 - len(data) % 4)
