"""Whole bodies as bone directions (N, 17, 3): unit vectors from each joint's parent, row 0 zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gridpose.core import MIRRORED, NUM_JOINTS, PARENTS


@dataclass(frozen=True)
class TiltOptions:
    """How whole bodies are turned away from the upright: shares of poses, and degrees."""

    lying: float = 0.05
    """Share laid down on back, front or side."""
    lying_sigma: float = 15.0
    tumbling: float = 0.03
    """Share turned anyhow, upside down too."""
    tilt_sigma: float = 4.0
    """Of all others."""


def _ancestors() -> Tensor:
    chain = torch.zeros(NUM_JOINTS, NUM_JOINTS)
    for joint in range(1, NUM_JOINTS):
        chain[joint] = chain[PARENTS[joint]]
        chain[joint, joint] = 1
    return chain


CHAIN = _ancestors()
"""(17, 17), 1 where the column's bone lies between the hip and the row's joint."""


def assemble(directions: Tensor, lengths: Tensor) -> Tensor:
    """Joints ``(N, 17, 3)``, hip at the origin, from bone directions and lengths ``(N, 17)``."""
    return CHAIN.to(directions) @ (directions * lengths[..., None])


def mirror(directions: Tensor) -> Tensor:
    """The pose seen in a mirror: sides change places, and x its sign."""
    return directions[:, MIRRORED] * directions.new_tensor((-1.0, 1.0, 1.0))


def tilt(directions: Tensor, options: TiltOptions, generator: torch.Generator) -> Tensor:
    """Turn whole bodies ``(N, 17, 3)`` about a horizontal axis through the hip.

    The camera's own yaw makes the turn a full rotation. Tumbling bodies have their up axis evenly
    over the sphere.
    """
    count, device = len(directions), directions.device
    draws = torch.rand(count, 4, generator=generator, device=device)
    normal = torch.randn(count, 2, generator=generator, device=device)
    kind, heading, cosine = draws[:, 0], 2 * math.pi * draws[:, 1], 2 * draws[:, 2] - 1
    angle = torch.deg2rad(normal[:, 0] * options.tilt_sigma)
    lying = math.pi / 2 + torch.deg2rad(normal[:, 1] * options.lying_sigma)
    angle = torch.where(kind < options.lying + options.tumbling, torch.acos(cosine), angle)
    angle = torch.where(kind < options.lying, lying, angle)[:, None, None]
    axis = torch.stack((heading.cos(), heading.sin(), torch.zeros_like(heading)), -1)[:, None]
    cross = torch.linalg.cross(axis.expand_as(directions), directions)
    along = axis * (axis * directions).sum(-1, keepdim=True)
    turned: Tensor = along + (directions - along) * angle.cos() + cross * angle.sin()
    return turned
