"""glTF (binary, ``.glb``): y up, metres, an animated skeleton of octahedral bones a person."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pygltflib as gltf

from gridpose.core import JOINT_NAMES, AnyArray, DoubleArray, unit_vectors
from gridpose.pipeline.exports.rig import NODES, Rig

_LEFT, _RIGHT, _MIDDLE = (0.95, 0.6, 0.1), (0.35, 0.5, 0.95), (0.8, 0.8, 0.8)
_WAIST, _THICKNESS = 0.15, 0.09
"""Where a bone is thickest and how thick it is there, as shares of its length."""


@dataclass(frozen=True)
class Animated:
    """One person: ``times`` (T,) s, ascending."""

    name: str
    rig: Rig
    times: DoubleArray


@dataclass
class _File:
    """A glTF document and its one buffer, while they grow."""

    document: gltf.GLTF2
    data: bytearray = field(default_factory=bytearray)

    def accessor(self, values: AnyArray, kind: str, target: int | None = None) -> int:
        """Store an array; returns the index of its accessor."""
        self.data += b"\0" * (-len(self.data) % 4)
        raw = np.ascontiguousarray(values).tobytes()
        self.document.bufferViews.append(
            gltf.BufferView(buffer=0, byteOffset=len(self.data), byteLength=len(raw), target=target)
        )
        self.data += raw
        whole = values.dtype == np.uint16
        self.document.accessors.append(
            gltf.Accessor(
                bufferView=len(self.document.bufferViews) - 1,
                componentType=gltf.UNSIGNED_SHORT if whole else gltf.FLOAT,
                count=len(values),
                type=kind,
                min=np.atleast_1d(values.min(0)).tolist(),
                max=np.atleast_1d(values.max(0)).tolist(),
            )
        )
        return len(self.document.accessors) - 1


def glb_bytes(people: list[Animated]) -> bytes:
    """The file's content: one animation of everybody, from the first time of all."""
    document = gltf.GLTF2(
        asset=gltf.Asset(version="2.0", generator="gridpose"),
        scene=0,
        scenes=[gltf.Scene(nodes=[])],
    )
    file = _File(document)
    for colour in (_MIDDLE, _LEFT, _RIGHT):
        document.materials.append(
            gltf.Material(
                pbrMetallicRoughness=gltf.PbrMetallicRoughness(
                    baseColorFactor=[*colour, 1.0], metallicFactor=0.0, roughnessFactor=0.8
                )
            )
        )
    animation = gltf.Animation(name="poses")
    start = min(float(person.times[0]) for person in people)
    for person in people:
        _add_person(file, person, start, animation)
    if animation.channels:
        document.animations.append(animation)
    document.buffers.append(gltf.Buffer(byteLength=len(file.data)))
    document.set_binary_blob(bytes(file.data))
    return b"".join(document.save_to_bytes())


def _add_person(file: _File, person: Animated, start: float, animation: gltf.Animation) -> None:
    document, rig = file.document, person.rig
    base = len(document.nodes)
    for index, node in enumerate(NODES):
        aimed = rig.offsets[index]
        document.nodes.append(
            gltf.Node(
                name=f"{person.name}:{node.name}",
                translation=(rig.root[0] if node.parent < 0 else aimed).tolist(),
                rotation=rig.rotations[0, index].tolist(),
                children=[base + k for k, other in enumerate(NODES) if other.parent == index],
            )
        )
    document.scenes[0].nodes.append(base)
    for index, node in enumerate(NODES):
        # A bone is drawn by the node that it turns with: the parent of the node at its end.
        if node.parent >= 0 and np.linalg.norm(rig.offsets[index]) > 0:
            bone = gltf.Node(mesh=_add_bone(file, rig.offsets[index], JOINT_NAMES[node.joint]))
            document.nodes.append(bone)
            document.nodes[base + node.parent].children.append(len(document.nodes) - 1)
    times = file.accessor((person.times - start).astype(np.float32), gltf.SCALAR)

    def animate(node: int, path: str, values: DoubleArray, kind: str) -> None:
        output = file.accessor(values.astype(np.float32), kind)
        animation.samplers.append(
            gltf.AnimationSampler(input=times, output=output, interpolation=gltf.ANIM_LINEAR)
        )
        animation.channels.append(
            gltf.AnimationChannel(
                sampler=len(animation.samplers) - 1,
                target=gltf.AnimationChannelTarget(node=base + node, path=path),
            )
        )

    animate(0, "translation", rig.root, gltf.VEC3)
    for index in range(len(NODES)):
        animate(index, "rotation", rig.rotations[:, index], gltf.VEC4)


def _add_bone(file: _File, offset: DoubleArray, name: str) -> int:
    """A long octahedron from the origin to ``offset``; returns the index of its mesh."""
    length = float(np.linalg.norm(offset))
    along = offset / length
    side = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    side /= np.linalg.norm(side)
    ring = [side, np.cross(along, side), -side, -np.cross(along, side)]
    corners = np.array(
        [np.zeros(3), *(length * (_WAIST * along + _THICKNESS * r) for r in ring), offset]
    )
    faces = [(0, 1 + (k + 1) % 4, 1 + k) for k in range(4)]
    faces += [(5, 1 + k, 1 + (k + 1) % 4) for k in range(4)]
    triangles = corners[np.array(faces)]  # flat shading: corners are not shared
    normals = unit_vectors(
        np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    )
    primitive = gltf.Primitive(
        attributes=gltf.Attributes(
            POSITION=file.accessor(
                triangles.reshape(-1, 3).astype(np.float32), gltf.VEC3, gltf.ARRAY_BUFFER
            ),
            NORMAL=file.accessor(
                normals.repeat(3, 0).astype(np.float32), gltf.VEC3, gltf.ARRAY_BUFFER
            ),
        ),
        material=1 if name.startswith("left") else 2 if name.startswith("right") else 0,
    )
    file.document.meshes.append(gltf.Mesh(name=name, primitives=[primitive]))
    return len(file.document.meshes) - 1
