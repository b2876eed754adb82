"""BVH: y up, centimetres, joint rotations in degrees (Z, X, Y), one person a file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from gridpose.core import AnyArray
from gridpose.pipeline.exports.rig import NODES, Rig

_CM = 100.0


def bvh_text(rig: Rig, fps: float, names: Sequence[str]) -> str:
    """The file's content. The rest pose is a T-pose that faces +z.

    Args:
        rig: the movement at a constant rate.
        fps: that rate.
        names: of the nodes, one word each.
    """
    lines = ["HIERARCHY"]
    _joint(rig, names, 0, "", lines)
    frames = len(rig.root)
    lines += ["MOTION", f"Frames: {frames}", f"Frame Time: {1 / fps:.9f}"]
    with warnings.catch_warnings():
        # In gimbal lock one angle may be chosen freely; the rotation is right.
        warnings.filterwarnings("ignore", "Gimbal lock", UserWarning)
        angles = np.stack(
            [
                np.unwrap(Rotation.from_quat(rig.rotations[:, index]).as_euler("ZXY"), axis=0)
                for index in range(len(NODES))
            ],
            axis=1,
        )
    values = np.concatenate((rig.root * _CM, np.degrees(angles).reshape(frames, -1)), axis=1)
    motion = io.StringIO()
    np.savetxt(motion, values, fmt="%.5f")
    return "\n".join(lines) + "\n" + motion.getvalue()


def _joint(rig: Rig, names: Sequence[str], index: int, indent: str, lines: list[str]) -> None:
    node = NODES[index]
    root = node.parent < 0
    lines += [
        f"{indent}{'ROOT' if root else 'JOINT'} {names[index]}",
        f"{indent}{{",
        f"{indent}  OFFSET {_numbers(rig.offsets[index])}",
        f"{indent}  CHANNELS "
        + ("6 Xposition Yposition Zposition " if root else "3 ")
        + "Zrotation Xrotation Yrotation",
    ]
    children = [place for place, other in enumerate(NODES) if other.parent == index]
    for child in children:
        _joint(rig, names, child, indent + "  ", lines)
    if not children:
        tip = _numbers(rig.tips[node.name])
        lines += [
            f"{indent}  End Site",
            f"{indent}  {{",
            f"{indent}    OFFSET {tip}",
            f"{indent}  }}",
        ]
    lines.append(f"{indent}}}")


def _numbers(metres: AnyArray) -> str:
    return " ".join(f"{value:.5f}" for value in metres * _CM)
