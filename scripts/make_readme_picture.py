#!/usr/bin/env python
"""Draw README.md's picture from a pose file: keypoints and skeletons on plain ground.

    python scripts/make_readme_picture.py gridpose-demo.npz -o docs/skeletons.png

No pixel of the video goes in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from gridpose.pipeline import read_pose_file
from gridpose.visualize import Layout

GROUND = (74, 82, 94)


def main(
    poses_file: Annotated[Path, typer.Argument(metavar="POSES", help="a pose file")],
    output: Annotated[Path, typer.Option("--output", "-o")],
    frames: Annotated[str, typer.Option(help="frame numbers, comma-separated")] = "62,152",
    width: Annotated[int, typer.Option(help="of the picture, px")] = 1000,
) -> None:
    poses = read_pose_file(poses_file)
    rows = []
    for frame in (int(text) for text in frames.split(",")):
        layout = Layout(poses.image_size)
        ground = np.full((poses.image_size[1], poses.image_size[0], 3), GROUND, np.uint8)
        time = float(poses.frame_time[frame])
        rows.append(layout.compose(layout.panel(ground), poses.people(frame), time))
    sheet = np.concatenate(rows)
    height = round(sheet.shape[0] * width / sheet.shape[1])
    small = cv2.resize(sheet, (width, height), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(output), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    typer.run(main)
