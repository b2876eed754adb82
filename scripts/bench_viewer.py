#!/usr/bin/env python
"""How large pages of the HTML viewer are and how many pictures a second Chromium draws.

Without a graphics processor Chromium draws in software: figures are lower bounds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from gridpose.pipeline import RenderOptions, read_pose_file, render_poses

FLAGS = (
    *("--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--disable-background-networking"),
    "--autoplay-policy=no-user-gesture-required",
)
SCREENS = {"desktop": (1280, 800, 1), "full HD": (1920, 1080, 1), "phone": (375, 667, 2)}
SECONDS = 4.0


def drawn_per_second(page: Path, width: int, height: int, scale: int) -> tuple[float, float, float]:
    """Seconds until the page is ready; pictures drawn and pose frames passed per second."""
    from selenium import webdriver

    os.environ["SE_OFFLINE"] = "true"
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as driver:
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": scale > 1},
        )
        begun = time.perf_counter()
        driver.get(page.as_uri())
        while not driver.execute_script("return window.gridpose?.ready"):
            time.sleep(0.01)
        ready = time.perf_counter() - begun
        counts = "return [gridpose.framesDrawn, gridpose.frame, performance.now() / 1000]"
        driver.execute_script("gridpose.play()")
        time.sleep(0.5)
        before = driver.execute_script(counts)
        time.sleep(SECONDS)
        after = driver.execute_script(counts)
        elapsed = after[2] - before[2]
        return ready, (after[0] - before[0]) / elapsed, (after[1] - before[1]) / elapsed


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("poses", type=Path, help="a pose file of at least five seconds")
    parser.add_argument("--video", type=Path, help="its source")
    arguments = parser.parse_args()
    tracks = read_pose_file(arguments.poses)
    videos = [None] if arguments.video is None else [None, arguments.video]
    with tempfile.TemporaryDirectory() as folder:
        for video in videos:
            page = Path(folder) / f"{'video' if video else 'plain'}.html"
            render_poses(tracks, page, RenderOptions(video=video))
            for name, screen in SCREENS.items():
                ready, drawn, passed = drawn_per_second(page, *screen)
                print(
                    f"{page.stem:6} {page.stat().st_size / 1e6:5.2f} MB  {name:8} "
                    f"ready {ready:4.2f} s  {drawn:5.1f} drawn/s  {passed:5.1f} frames/s"
                )


if __name__ == "__main__":
    main()
