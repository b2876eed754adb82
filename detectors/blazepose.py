"""BlazePose's networks through MediaPipe's PoseLandmarker, which work offline everywhere.

The MediaPipe wheel carries the two networks (Apache-2.0) but not the bundle that its task API
reads. The bundle is built once into the cache: both networks get the image-normalisation metadata
that the task API asks for and are zipped uncompressed.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from gridpose.core import FloatArray, GridposeError, ImageArray, MissingError, usable_cores
from gridpose.detectors.native_log import NativeLog
from gridpose.storage import cache_dir, sha256, write_atomically

BUNDLE_NAME = "blazepose-full-0.10.21.task"
BUNDLE_SHA256 = "0da8c039787a1de83d66c1dee1626ca79e81070ea8c7cfd83bbd837936fe90c9"

_MOST_THREADS = 4
_PER_SEARCH = 3
# Low, because whoever asks has better means to tell people from other things.
_MIN_CONFIDENCE = 0.3

Tile = tuple[int, int, int, int]
"""x0, y0, x1, y1 in px of the frame, the last two exclusive."""


class _Part:
    """One network of the bundle: where it lies, its checksum, its input scaling."""

    def __init__(
        self, member: str, file: str, digest: str, mean: float, std: float, outputs: int
    ) -> None:
        self.member, self.file, self.sha256 = member, file, digest
        self.mean, self.std, self.outputs = mean, std, outputs


_PARTS = (
    _Part(
        "pose_detector.tflite",
        "modules/pose_detection/pose_detection.tflite",
        "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        mean=127.5,
        std=127.5,
        outputs=2,
    ),
    _Part(
        "pose_landmarks_detector.tflite",
        "modules/pose_landmark/pose_landmark_full.tflite",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        mean=0.0,
        std=255.0,
        outputs=5,
    ),
)


def _package_folder() -> Path:
    spec = find_spec("mediapipe")
    if spec is None or spec.origin is None:
        raise MissingError("the BlazePose detector needs MediaPipe: pip install mediapipe==0.10.21")
    return Path(spec.origin).parent


def build_bundle() -> bytes:
    """The ``.task`` bundle from the networks inside the installed MediaPipe wheel.

    Raises:
        MissingError: MediaPipe is absent or is a release without these networks.
    """
    folder = _package_folder()
    sources = []
    for part in _PARTS:
        file = folder / part.file
        data = file.read_bytes() if file.is_file() else b""
        if sha256(data) != part.sha256:
            raise MissingError(
                f"{file}: not the BlazePose network of MediaPipe 0.10.21; "
                "pip install mediapipe==0.10.21"
            )
        sources.append(data)

    from mediapipe.tasks.python.metadata.metadata_writers import metadata_writer

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for part, data in zip(_PARTS, sources, strict=True):
            writer = metadata_writer.MetadataWriter.create(bytearray(data))
            writer.add_image_input([part.mean], [part.std])
            for _ in range(part.outputs):
                writer.add_feature_output()
            # A fixed date keeps the bundle, hence its checksum, the same everywhere.
            entry = zipfile.ZipInfo(part.member, date_time=(1980, 1, 1, 0, 0, 0))
            bundle.writestr(entry, bytes(writer.populate()[0]))
    return buffer.getvalue()


def bundle_file() -> Path:
    """The verified bundle in the cache, built when it is missing or damaged.

    Raises:
        MissingError: it cannot be built or written, or does not have the known checksum.
    """
    file = cache_dir() / BUNDLE_NAME
    if file.is_file() and sha256(file.read_bytes()) == BUNDLE_SHA256:
        return file
    data = build_bundle()
    if sha256(data) != BUNDLE_SHA256:
        raise MissingError(
            "the BlazePose bundle built from MediaPipe has an unexpected checksum; "
            "pip install --force-reinstall mediapipe==0.10.21"
        )
    write_atomically(file, data)
    return file


class Landmarker:
    """MediaPipe's PoseLandmarker with NumPy in and out, its native log kept off the terminal.

    Args:
        max_persons: at most this many people are found in an image.
        min_confidence: lowest score at which a person counts as found.

    Raises:
        MissingError: MediaPipe or its networks are missing.
    """

    def __init__(self, max_persons: int, min_confidence: float) -> None:
        bundle = bundle_file()
        self._log = NativeLog()
        try:
            self._mediapipe, self._task = _open(bundle, max_persons, min_confidence)
        except (RuntimeError, ValueError) as error:
            raise GridposeError(f"MediaPipe cannot run its pose network: {error}") from error
        finally:
            if not hasattr(self, "_task"):
                self._log.close()

    def find(self, image: ImageArray) -> list[FloatArray]:
        """People in an (H, W, 3) RGB image: (33, 3) x, y in px and visibility in [0, 1] each."""
        height, width = image.shape[:2]
        picture = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
        )
        found = self._task.detect(picture)
        return [
            np.array(
                [
                    (mark.x * width, mark.y * height, min(max(mark.visibility, 0.0), 1.0))
                    for mark in landmarks
                ],
                np.float32,
            )
            for landmarks in found.pose_landmarks
        ]

    def close(self) -> None:
        """Free the networks."""
        self._task.close()
        self._log.close()


class Landmarkers:
    """Several landmarkers at work side by side: MediaPipe looks for people on one core.

    Raises:
        MissingError: MediaPipe or its networks are missing.
    """

    def __init__(self) -> None:
        self._idle: SimpleQueue[Landmarker] = SimpleQueue()
        threads = min(_MOST_THREADS, usable_cores())
        with ExitStack() as opened:
            for _ in range(threads):
                landmarker = Landmarker(_PER_SEARCH, _MIN_CONFIDENCE)
                opened.callback(landmarker.close)
                self._idle.put(landmarker)
            self._threads = opened.enter_context(ThreadPoolExecutor(threads))
            self._opened = opened.pop_all()

    def search(self, tiles: Sequence[tuple[ImageArray, Tile]]) -> list[list[FloatArray]]:
        """For each tile of a frame those found in it: (33, 3) x, y in px of the frame, visibility.

        Args:
            tiles: (H, W, 3) RGB frames, and where to look in them.
        """
        return list(self._threads.map(self._search_one, tiles))

    def _search_one(self, task: tuple[ImageArray, Tile]) -> list[FloatArray]:
        frame, (x0, y0, x1, y1) = task
        if min(x1 - x0, y1 - y0) < 1:
            return []
        landmarker = self._idle.get()
        try:
            poses = landmarker.find(frame[y0:y1, x0:x1])
        finally:
            self._idle.put(landmarker)
        return [pose + np.array([x0, y0, 0], np.float32) for pose in poses]

    def close(self) -> None:
        """Free the networks."""
        self._opened.close()


def _open(bundle: Path, max_persons: int, min_confidence: float) -> tuple[Any, Any]:
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.PoseLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=bundle.read_bytes()),
        running_mode=vision.RunningMode.IMAGE,
        num_poses=max_persons,
        min_pose_detection_confidence=min_confidence,
        min_pose_presence_confidence=min_confidence,
    )
    return mediapipe, vision.PoseLandmarker.create_from_options(options)
