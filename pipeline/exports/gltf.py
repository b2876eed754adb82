"""glTF (binary, ``.glb``): y up, metres; for each person an armature that moves a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pygltflib as gltf

from gridpose.core import AnyArray, DoubleArray
from gridpose.pipeline.exports.body import body_of
from gridpose.pipeline.exports.rig import NODES, Rig
from gridpose.pipeline.exports.tubes import Mesh

_COLOURS = {
    "middle": (0.8, 0.8, 0.8),
    "left": (0.95, 0.6, 0.1),
    "right": (0.35, 0.5, 0.95),
}


@dataclass(frozen=True)
class Animated:
    """One person: ``bones`` are names of the rig's nodes; ``times`` (T,) s, ascending."""

    name: str
    bones: Sequence[str]
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


def glb_bytes(people: list[Animated], start: float) -> bytes:
    """The file's content: one animation of everybody, whose second 0 is ``start``.

    The rest pose, in which the mesh is bound, is a T-pose on the floor that faces +z.
    """
    document = gltf.GLTF2(
        asset=gltf.Asset(version="2.0", generator="gridpose"),
        scene=0,
        scenes=[gltf.Scene(nodes=[])],
    )
    file = _File(document)
    for colour in _COLOURS.values():
        document.materials.append(
            gltf.Material(
                pbrMetallicRoughness=gltf.PbrMetallicRoughness(
                    baseColorFactor=[*colour, 1.0], metallicFactor=0.0, roughnessFactor=0.8
                )
            )
        )
    animation = gltf.Animation(name="poses")
    for person in people:
        _add_person(file, person, start, animation)
    if animation.channels:
        document.animations.append(animation)
    document.buffers.append(gltf.Buffer(byteLength=len(file.data)))
    document.set_binary_blob(bytes(file.data))
    return b"".join(document.save_to_bytes())


def _add_person(file: _File, person: Animated, start: float, animation: gltf.Animation) -> None:
    """An armature in the rest pose on the floor, the mesh that it carries, and its movement."""
    document, rig = file.document, person.rig
    meshes = body_of(rig)
    floor = -min(mesh.positions[:, 1].min() for mesh in meshes.values()) * np.eye(3)[1]
    armature = len(document.nodes)
    base = armature + 1
    document.nodes.append(gltf.Node(name=person.name, children=[base]))
    for index, (node, name) in enumerate(zip(NODES, person.bones, strict=True)):
        document.nodes.append(
            gltf.Node(
                name=name,
                translation=(floor if node.parent < 0 else rig.offsets[index]).tolist(),
                children=[base + k for k, other in enumerate(NODES) if other.parent == index],
            )
        )
    unbinding = np.tile(np.eye(4), (len(NODES), 1, 1))
    unbinding[:, :3, 3] = -(rig.rest_places() + floor)
    document.skins.append(
        gltf.Skin(
            name=person.name,
            joints=list(range(base, base + len(NODES))),
            skeleton=armature,
            # Matrices go column by column.
            inverseBindMatrices=file.accessor(
                unbinding.swapaxes(1, 2).reshape(-1, 16).astype(np.float32), gltf.MAT4
            ),
        )
    )
    document.meshes.append(
        gltf.Mesh(
            name=f"{person.name}_body",
            primitives=[
                _primitive(file, meshes[part], floor, material)
                for material, part in enumerate(_COLOURS)
            ],
        )
    )
    document.nodes.append(
        gltf.Node(
            name=f"{person.name}_body",
            mesh=len(document.meshes) - 1,
            skin=len(document.skins) - 1,
        )
    )
    document.scenes[0].nodes += [armature, len(document.nodes) - 1]
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


def _primitive(file: _File, mesh: Mesh, raised: DoubleArray, material: int) -> gltf.Primitive:
    def vertices(values: AnyArray, kind: str) -> int:
        return file.accessor(values, kind, gltf.ARRAY_BUFFER)

    return gltf.Primitive(
        attributes=gltf.Attributes(
            POSITION=vertices((mesh.positions + raised).astype(np.float32), gltf.VEC3),
            NORMAL=vertices(mesh.normals.astype(np.float32), gltf.VEC3),
            JOINTS_0=vertices(mesh.nodes, gltf.VEC4),
            WEIGHTS_0=vertices(mesh.weights.astype(np.float32), gltf.VEC4),
        ),
        indices=file.accessor(mesh.triangles.ravel(), gltf.SCALAR, gltf.ELEMENT_ARRAY_BUFFER),
        material=material,
    )
