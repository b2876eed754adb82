"""What pyproject.toml cannot say: fetching what a wheel carries and the repository does not.

BlazePose's networks come from MediaPipe's packages on PyPI and npm, three.js for the HTML viewer
from npm. All is pinned and verified. Without npm's registry the build goes on without what only npm
has; a checkout that has the files builds offline.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
ATTEMPTS = 4
SECONDS_BETWEEN = 2.0


@dataclass(frozen=True)
class Package:
    """Files of one version of a package.

    ``members`` maps names in ``folder`` to names in the package. ``stamp`` is the file that notes,
    last of all, that they are complete: files of two versions are never taken for one. ``digest``
    is of the archive: npm's sha512 in base64, or the sha256 of a wheel.
    """

    name: str
    version: str
    folder: Path
    members: Mapping[str, str]
    digest: str
    stamp: str = "VERSION"

    def is_complete(self, folder: Path) -> bool:
        stamp = folder / self.stamp
        there = all((folder / name).is_file() for name in self.members)
        return there and stamp.is_file() and stamp.read_text().strip() == self.version


BLAZEPOSE = ROOT / "detectors" / "blazepose" / "vendor"
# 0.170.0 is the last version whose minified module is one file.
THREE = Package(
    "three",
    "0.170.0",
    ROOT / "visualize" / "viewer" / "vendor",
    {
        "three.module.min.js": "package/build/three.module.min.js",
        "OrbitControls.js": "package/examples/jsm/controls/OrbitControls.js",
        "LICENSE": "package/LICENSE",
    },
    "FQK+LEpYc0fBD+J8g6oSEyyNzjp+Q7Ks1C568WWaoMRLW+TkNNWmenWeGgJjV105Gd+p/2ql1ZcjYvNiPZBhuQ==",
)
# 0.10.21 is the last version whose wheel carries networks. Of its wheels it is the one for
# MEDIAPIPE_TAGS, of which only the networks are taken.
MEDIAPIPE = Package(
    "mediapipe",
    "0.10.21",
    BLAZEPOSE,
    {
        "pose_detection.tflite": "mediapipe/modules/pose_detection/pose_detection.tflite",
        "pose_landmark_full.tflite": "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        "LICENSE": "mediapipe-0.10.21.dist-info/LICENSE",
    },
    "956eb1ebc275c629e61b085b2cab89c3a5b9e93bad1bb107348d98dafb5a4bb5",
)
MEDIAPIPE_TAGS = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.12")
POSE = Package(
    "@mediapipe/pose",
    "0.5.1675469404",
    BLAZEPOSE,
    {"pose_landmark_heavy.tflite": "package/pose_landmark_heavy.tflite"},
    "DFZsNWTsSphRIZppnUCuunzBiHP2FdJXR9ehc7mMi4KG+oPaOH0Em3d6kr7Py+TSyTXC1doH88KcF28k2sBxsQ==",
    "VERSION-heavy",
)


class FetchError(Exception):
    """What cannot be had, and why, in one clause."""


def tarball_url(package: Package) -> str:
    """Where a package is: on npm's registry, or the mirror that npm is told to use."""
    # npm sets the one in small letters.
    told = os.environ.get("npm_config_registry")  # noqa: SIM112
    told = told or os.environ.get("NPM_CONFIG_REGISTRY")
    registry = (told or "https://registry.npmjs.org").rstrip("/")
    return f"{registry}/{package.name}/-/{package.name.rpartition('/')[2]}-{package.version}.tgz"


def download(url: str, sha512: str) -> bytes:
    """The file at an address, verified.

    Raises:
        FetchError: it cannot be had.
    """
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(SECONDS_BETWEEN * 2 ** (attempt - 1))
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                content: bytes = answer.read()
        except urllib.error.HTTPError as error:
            problem = f"the registry answers {error.code}"
            if error.code < 500 and error.code != 429:
                break  # asking again will not help
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
            if isinstance(error, ValueError):
                break  # not an address at all
        else:
            if base64.b64encode(hashlib.sha512(content).digest()).decode() == sha512:
                return content
            problem = "what arrives is not that file (its sha512 differs)"
    raise FetchError(f"{url} cannot be fetched: {problem}")


def from_npm(package: Package) -> dict[str, bytes]:
    """The members of a package on npm.

    Raises:
        FetchError: it cannot be had.
    """
    content = download(tarball_url(package), package.digest)
    # The checksum was right, so that all members are there and are files.
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        opened = {name: archive.extractfile(member) for name, member in package.members.items()}
        return {name: stream.read() for name, stream in opened.items() if stream is not None}


def from_pypi(package: Package) -> dict[str, bytes]:
    """The members of MediaPipe's wheel, by pip, which knows the user's index and proxies.

    Raises:
        FetchError: it cannot be had.
    """
    requirement = f"{package.name}=={package.version}"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", folder]
        done = subprocess.run(
            [*command, *MEDIAPIPE_TAGS, requirement], capture_output=True, text=True, check=False
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            why = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
            raise FetchError(f"pip cannot download {requirement}: {why}")
        content = wheels[0].read_bytes()
    if hashlib.sha256(content).hexdigest() != package.digest:
        raise FetchError(f"pip's {requirement} is not that wheel (its sha256 differs)")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(member) for name, member in package.members.items()}


def fetch(
    package: Package,
    source: Callable[[Package], Mapping[str, bytes]],
    folder: Path | None = None,
) -> None:
    """Put a package's files into its folder, or another one, unless they are there already.

    Raises:
        FetchError: they cannot be had.
    """
    folder = folder or package.folder
    if package.is_complete(folder):
        return
    members = source(package)
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / package.stamp
    stamp.unlink(missing_ok=True)
    for name, content in members.items():
        (folder / name).write_bytes(content)
    stamp.write_text(f"{package.version}\n")


class BuildWithVendored(build_py):
    """``build_py``, with what is fetched in place before files are collected."""

    def run(self) -> None:
        try:
            fetch(MEDIAPIPE, from_pypi)
        except FetchError as error:
            raise SystemExit(
                f"error: gridpose's detector needs MediaPipe's networks: {error}"
            ) from error
        for package, without in (
            (POSE, "BlazePose's most accurate network (gridpose models download blazepose-heavy)"),
            (THREE, "HTML pages (gridpose render -o FILE.html)"),
        ):
            try:
                fetch(package, from_npm)
            except FetchError as error:
                print(f"warning: this build will be without {without}: {error}", file=sys.stderr)
        super().run()


FOLDERS = ("detectors", "lifting", "pipeline", "visualize")
"""Installed as ``gridpose.detectors`` and so on; modules beside them as ``gridpose.core`` ..."""

if __name__ == "__main__":  # as builds run it; tests import it
    found = [
        package
        for folder in FOLDERS
        for package in (folder, *(f"{folder}.{below}" for below in find_packages(folder)))
    ]
    setup(
        packages=["gridpose", *(f"gridpose.{package}" for package in found)],
        package_dir={"gridpose": ".", **{f"gridpose.{folder}": folder for folder in FOLDERS}},
        cmdclass={"build_py": BuildWithVendored},
    )
