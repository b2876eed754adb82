"""A reader of glTF as its standard has it, that owes nothing to how we write it."""

import json

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

KINDS = {5123: np.uint16, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Glb:
    """A binary file: ``tree`` is its JSON."""

    def __init__(self, file):
        raw = file.read_bytes()
        length = int.from_bytes(raw[12:16], "little")
        self.tree, self._blob = json.loads(raw[20 : 20 + length]), raw[28 + length :]
        self.nodes = self.tree["nodes"]
        self.parents = {c: p for p, node in enumerate(self.nodes) for c in node.get("children", ())}

    def values(self, accessor):
        entry = self.tree["accessors"][accessor]
        view = self.tree["bufferViews"][entry["bufferView"]]
        width, start = WIDTHS[entry["type"]], view.get("byteOffset", 0) + entry.get("byteOffset", 0)
        kind = KINDS[entry["componentType"]]
        values = np.frombuffer(self._blob, kind, entry["count"] * width, start)
        return values.reshape(-1, width)

    def channels(self):
        """(name of the node, path, times, values) of each channel of the one animation."""
        (animation,) = self.tree["animations"]
        for channel in animation["channels"]:
            sampler, target = animation["samplers"][channel["sampler"]], channel["target"]
            times, values = (self.values(sampler[name]) for name in ("input", "output"))
            yield target["node"], target["path"], times[:, 0], values

    def matrices(self, time=None):
        """Of all nodes in the scene, (N, 4, 4), at a time of the animation or at rest."""
        turn = {i: n.get("rotation", (0, 0, 0, 1)) for i, n in enumerate(self.nodes)}
        shift = {i: n.get("translation", (0, 0, 0)) for i, n in enumerate(self.nodes)}
        for node, path, times, values in self.channels() if time is not None else ():
            at = np.clip(time, times[0], times[-1])
            if path == "translation":
                shift[node] = [np.interp(at, times, column) for column in values.T]
            else:
                turn[node] = Slerp(times, Rotation.from_quat(values))(at).as_quat()
        found = {}

        def of(node):
            if node not in found:
                own = np.eye(4)
                own[:3, :3] = Rotation.from_quat(turn[node]).as_matrix()
                own[:3, 3] = shift[node]
                found[node] = of(self.parents[node]) @ own if node in self.parents else own
            return found[node]

        return np.array([of(node) for node in range(len(self.nodes))])

    def joints(self, skin, time=None):
        """Matrices (J, 4, 4) of a skin's joints."""
        return self.matrices(time)[self.tree["skins"][skin]["joints"]]

    def names(self, skin):
        return [self.nodes[joint]["name"] for joint in self.tree["skins"][skin]["joints"]]

    def unbinding(self, skin):
        """Inverse bind matrices (J, 4, 4); the file has them column by column."""
        stored = self.values(self.tree["skins"][skin]["inverseBindMatrices"])
        return stored.reshape(-1, 4, 4).swapaxes(1, 2)

    def vertices(self, skin):
        """Positions (V, 3), joints (V, 4) and weights (V, 4) of the mesh with that skin."""
        (mesh,) = (n["mesh"] for n in self.nodes if n.get("skin") == skin)
        parts = [p["attributes"] for p in self.tree["meshes"][mesh]["primitives"]]
        return [
            np.concatenate([self.values(part[name]) for part in parts])
            for name in ("POSITION", "JOINTS_0", "WEIGHTS_0")
        ]

    def skinned(self, skin, time):
        """Vertices (V, 3) where the joints carry them."""
        positions, joints, weights = self.vertices(skin)
        matrices = self.joints(skin, time) @ self.unbinding(skin)
        blended = (matrices[joints] * weights[..., None, None]).sum(1)
        whole = np.concatenate((positions, np.ones((len(positions), 1))), 1)
        return (blended @ whole[..., None])[:, :3, 0]
