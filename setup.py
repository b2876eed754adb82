"""The one build step that pyproject.toml cannot say: fetching three.js for the HTML viewer.

It is pinned, verified and taken from the npm registry with the standard library alone, so that
isolated builds need nothing but setuptools. A checkout that has the files builds offline.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import io
import os
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

VERSION = "0.170.0"
"""The last version whose minified module is one file."""
SHA512 = "FQK+LEpYc0fBD+J8g6oSEyyNzjp+Q7Ks1C568WWaoMRLW+TkNNWmenWeGgJjV105Gd+p/2ql1ZcjYvNiPZBhuQ=="
"""Of the tarball, in base64 as npm writes it."""
MEMBERS = {
    "three.module.min.js": "package/build/three.module.min.js",
    "OrbitControls.js": "package/examples/jsm/controls/OrbitControls.js",
    "LICENSE": "package/LICENSE",
}
VENDOR = Path(__file__).resolve().parent / "visualize" / "viewer" / "vendor"
STAMP = "VERSION"
ATTEMPTS = 4
SECONDS_BETWEEN = 2.0


def tarball_url() -> str:
    """Where three.js is: on npm's registry, or the mirror that npm is told to use."""
    names = ("npm_config_registry", "NPM_CONFIG_REGISTRY")
    told = [os.environ[name] for name in names if os.environ.get(name)]
    registry = (told or ["https://registry.npmjs.org"])[0].rstrip("/")
    return f"{registry}/three/-/three-{VERSION}.tgz"


def download(url: str) -> bytes:
    """The tarball, verified.

    Raises:
        SystemExit: it cannot be had, in one sentence.
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
            if base64.b64encode(hashlib.sha512(content).digest()).decode() == SHA512:
                return content
            problem = "what arrives is not that file (its sha512 differs)"
    raise SystemExit(
        f"error: gridpose's HTML viewer needs three.js, and {url} cannot be fetched: {problem}"
    )


def write(file: Path, content: bytes) -> None:
    """Write ``file`` so that it is complete as soon as it exists."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".fetching-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def fetch_three(folder: Path = VENDOR) -> None:
    """Put three.js into ``folder``, unless this version is there already."""
    stamp = folder / STAMP
    complete = stamp.is_file() and all((folder / name).is_file() for name in MEMBERS)
    if complete and stamp.read_text().strip() == VERSION:
        return
    content = download(tarball_url())
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for name, member in MEMBERS.items():
            stream = archive.extractfile(member)
            if stream is None:
                raise SystemExit(f"error: three.js {VERSION} has no file {member}")
            write(folder / name, stream.read())
    # Last, so that files of two versions are never taken for one.
    write(stamp, f"{VERSION}\n".encode())


class BuildWithViewer(build_py):
    """``build_py``, with the viewer's library in place before files are collected."""

    def run(self) -> None:
        fetch_three()
        super().run()


if __name__ == "__main__":  # as builds run it; tests import it
    setup(cmdclass={"build_py": BuildWithViewer})
