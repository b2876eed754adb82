#!/usr/bin/env python
"""Make lifting/weights/unseen-joints.safetensors of benchmarks of sequences of training clips.

python ../shared/mocap/make_temporal_bench.py ../shared/mocap/temporal_train.npz train.npz
python scripts/draw_unseen_joints.py train.npz ...
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from gridpose.lifting.temporal_benchmark import read_sequences

TARGET = Path(__file__).parents[1] / "lifting" / "weights" / "unseen-joints.safetensors"
COUNT = 2000


def main(sources: list[str]) -> None:
    found = [each for source in sources for each in read_sequences(Path(source))[0]]
    points = np.concatenate([each.keypoints_px for each in found])
    points = points[np.linspace(0, len(points) - 1, COUNT).astype(int)]
    centred = points - points.mean(1, keepdims=True)
    size = np.sqrt(np.square(centred).sum(-1).mean(-1))
    save_file({"poses": (centred / size[:, None, None]).astype(np.float16)}, TARGET)


if __name__ == "__main__":
    main(sys.argv[1:])
