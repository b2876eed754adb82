"""BlazePose through MediaPipe's PoseLandmarker: the detector that works offline everywhere.

The MediaPipe wheel carries the two networks (Apache-2.0) but not the bundle that its task API
reads. The bundle is built once into the cache: both networks get the image-normalisation metadata
that the task API asks for and are zipped uncompressed.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from gridpose.core import FloatArray, GridposeError, ImageArray, MissingError
from gridpose.detectors.base import Detection
from gridpose.detectors.conventions import BLAZEPOSE_33, Convention
from gridpose.detectors.native_log import NativeLog
from gridpose.storage import cache_dir, sha256, write_atomically

BUNDLE_NAME = "blazepose-full-0.10.21.task"
BUNDLE_SHA256 = "0da8c039787a1de83d66c1dee1626ca79e81070ea8c7cfd83bbd837936fe90c9"


# Below this a region is searched anew rather than followed. At MediaPipe's own 0.5 regions drift
# off people and stay off: on the sample video that breaks their tracks twice as often.
_PRESENCE = 0.7


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
        min_presence: lowest score at which the keypoints found there count as a person.
        video: follow people from image to image; otherwise each image stands alone.

    Raises:
        MissingError: MediaPipe or its networks are missing.
    """

    def __init__(
        self, max_persons: int, min_confidence: float, min_presence: float, *, video: bool
    ) -> None:
        bundle = bundle_file()
        self._log = NativeLog()
        try:
            self._mediapipe, self._task = _open(
                bundle, max_persons, min_confidence, min_presence, video
            )
        except (RuntimeError, ValueError) as error:
            raise GridposeError(f"MediaPipe cannot run its pose network: {error}") from error
        finally:
            if not hasattr(self, "_task"):
                self._log.close()

    def find(self, image: ImageArray, milliseconds: int | None = None) -> list[FloatArray]:
        """People in an (H, W, 3) RGB image: (33, 3) x, y in px and visibility in [0, 1] each.

        ``milliseconds``, which must rise from call to call, is for video alone.
        """
        height, width = image.shape[:2]
        picture = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
        )
        if milliseconds is None:
            found = self._task.detect(picture)
        else:
            found = self._task.detect_for_video(picture, milliseconds)
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


class BlazePose:
    """Several people per frame, followed from frame to frame.

    Args:
        max_persons: at most this many people are found in a frame.
        min_confidence: lowest score at which a person counts as found.
        reason: why this detector, for the user.

    Raises:
        MissingError: MediaPipe or its networks are missing.
    """

    name = "blazepose"
    convention: Convention = BLAZEPOSE_33
    weights_sha256 = BUNDLE_SHA256

    notices: Sequence[str] = ()

    def __init__(
        self, max_persons: int = 6, min_confidence: float = 0.5, *, reason: str = "asked for"
    ) -> None:
        self.reason = reason
        self._last_ms = -1
        self._landmarker = Landmarker(max_persons, min_confidence, _PRESENCE, video=True)

    def detect(self, frames: Sequence[ImageArray], times: Sequence[float]) -> list[list[Detection]]:
        """See :class:`gridpose.detectors.Detector`."""
        return [self._detect_one(frame, time) for frame, time in zip(frames, times, strict=True)]

    def _detect_one(self, frame: ImageArray, time: float) -> list[Detection]:
        # MediaPipe wants strictly rising whole milliseconds.
        self._last_ms = max(self._last_ms + 1, round(1000 * time))
        people = []
        for values in self._landmarker.find(frame, self._last_ms):
            keypoints = values[:, :2]
            bbox = np.concatenate((keypoints.min(0), keypoints.max(0)))
            people.append(Detection(bbox, keypoints, values[:, 2]))
        return people

    def __enter__(self) -> BlazePose:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._landmarker.close()


def _open(
    bundle: Path, max_persons: int, min_confidence: float, min_presence: float, video: bool
) -> tuple[Any, Any]:
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.PoseLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=bundle.read_bytes()),
        running_mode=vision.RunningMode.VIDEO if video else vision.RunningMode.IMAGE,
        num_poses=max_persons,
        min_pose_detection_confidence=min_confidence,
        min_pose_presence_confidence=min_presence,
    )
    return mediapipe, vision.PoseLandmarker.create_from_options(options)
