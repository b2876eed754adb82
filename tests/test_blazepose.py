import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from gridpose.core import GridposeError, MissingError, UsageError
from gridpose.detectors import BLAZEPOSE_33, blazepose, load_detector
from gridpose.detectors.blazepose import BUNDLE_SHA256, bundle_file

PICTURE = Path(__file__).parents[2] / "shared" / "video" / "coco_000000000785.jpg"
NETWORKS = (
    "modules/pose_detection/pose_detection.tflite",
    "modules/pose_landmark/pose_landmark_full.tflite",
)

needs_picture = pytest.mark.skipif(
    not PICTURE.is_file(), reason="the shared folder with real pictures is not beside this clone"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder in which the bundle is built once for this file."""
    folder = tmp_path_factory.mktemp("gridpose")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDPOSE_HOME", str(folder))
        bundle_file()
        yield folder


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "new" / "cache"
    monkeypatch.setenv("GRIDPOSE_HOME", str(folder))
    return folder


@pytest.fixture
def built_from_memory(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Building takes a second; hand out what was built before. Counts how often it is asked."""
    data, asked = bundle_file().read_bytes(), []

    def build() -> bytes:
        asked.append(1)
        return data

    monkeypatch.setattr(blazepose, "build_bundle", build)
    return asked


def skier() -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(PICTURE)), cv2.COLOR_BGR2RGB)


def test_the_bundle_is_built_in_the_folder_of_the_environment(empty_cache: Path) -> None:
    file = bundle_file()
    assert file.parent == empty_cache
    assert hashlib.sha256(file.read_bytes()).hexdigest() == BUNDLE_SHA256
    assert list(empty_cache.iterdir()) == [file]


def test_a_good_bundle_is_used_as_it_is(cache: Path, built_from_memory: list[int]) -> None:
    before = bundle_file().stat()
    after = bundle_file().stat()
    assert built_from_memory == []
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_bundle_is_replaced(
    built_from_memory: list[int], empty_cache: Path, damage: str
) -> None:
    file = bundle_file()
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    file.write_bytes({"truncated": good[:1000], "flipped": bytes(flipped), "empty": b""}[damage])
    assert bundle_file().read_bytes() == good
    assert len(built_from_memory) == 2
    assert list(empty_cache.iterdir()) == [file]


def test_a_bundle_appears_all_at_once(
    built_from_memory: list[int], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = []
    replace = os.replace

    def watched(source: str, target: Path) -> None:
        assert not Path(target).exists()
        disks = {Path(path).stat().st_dev for path in (source, Path(target).parent)}
        assert len(disks) == 1, "a rename across disks is a copy"
        data = Path(source).read_bytes()
        assert hashlib.sha256(data).hexdigest() == BUNDLE_SHA256
        replaced.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    assert [bundle_file()] == replaced


def test_a_failed_write_leaves_nothing_behind(
    built_from_memory: list[int], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(MissingError, match="No space left on device") as caught:
        bundle_file()
    assert caught.value.exit_code == 4
    assert "GRIDPOSE_HOME" in str(caught.value)
    assert list(empty_cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(MissingError, match="set GRIDPOSE_HOME"):
        bundle_file()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="no folder is read-only for root"
)
def test_a_read_only_cache_is_reported(built_from_memory: list[int], empty_cache: Path) -> None:
    empty_cache.mkdir(parents=True)
    empty_cache.chmod(0o500)
    with pytest.raises(MissingError, match="GRIDPOSE_HOME"):
        bundle_file()


def test_without_the_variable_the_users_cache_folder_is_used(
    built_from_memory: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRIDPOSE_HOME")
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    file = bundle_file()
    assert file.is_relative_to(tmp_path)
    assert file.parent.name == "gridpose"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the networks in the installed MediaPipe that may be damaged."""
    original, folder = blazepose._package_folder(), tmp_path / "mediapipe"
    for network in NETWORKS:
        (folder / network).parent.mkdir(parents=True)
        shutil.copyfile(original / network, folder / network)
    monkeypatch.setattr(blazepose, "_package_folder", lambda: folder)
    return folder


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_damaged_networks_are_never_used(
    empty_cache: Path, package: Path, network: str, damage: str
) -> None:
    file = package / network
    data = bytearray(file.read_bytes())
    file.unlink()
    if damage == "truncated":
        file.write_bytes(data[:-1])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    with pytest.raises(MissingError, match=r"mediapipe==0\.10\.21") as caught:
        bundle_file()
    assert file.name in str(caught.value)
    assert not any(empty_cache.iterdir())


def test_a_bundle_of_another_content_is_never_used(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blazepose, "build_bundle", lambda: b"something else")
    with pytest.raises(MissingError, match="checksum"):
        bundle_file()
    assert not any(empty_cache.iterdir())


def test_absent_mediapipe_is_reported(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blazepose, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"pip install mediapipe==0\.10\.21"):
        bundle_file()


@pytest.mark.parametrize("name", ["auto", "blazepose"])
def test_the_detector_is_found_by_name(cache: Path, name: str) -> None:
    with load_detector(name) as detector:
        assert detector.name == "blazepose"
        assert detector.convention is BLAZEPOSE_33
        assert detector.weights_sha256 == hashlib.sha256(bundle_file().read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["", "nonsense", "BlazePose"])
def test_unknown_detectors_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="known are auto") as caught:
        load_detector(name)
    assert repr(name) in str(caught.value)


def test_nobody_is_found_in_black_frames(cache: Path) -> None:
    frames = [np.zeros((240, 320, 3), np.uint8)] * 3
    with load_detector() as detector:
        assert detector.detect(frames, [0.0, 0.04, 0.08]) == [[], [], []]
        assert detector.detect([], []) == []


def test_every_frame_needs_a_time(cache: Path) -> None:
    with load_detector() as detector, pytest.raises(ValueError, match="1 frames and 0 times"):
        detector.detect([np.zeros((240, 320, 3), np.uint8)], [])


@needs_picture
def test_a_person_is_found_where_they_are(cache: Path) -> None:
    image = skier()
    with load_detector() as detector:
        frames = detector.detect([image, image], [0.0, 0.1])
    assert len(frames) == 2
    for (person,) in frames:
        assert person.keypoints.shape == (33, 2)
        assert person.confidence.shape == (33,)
        assert person.keypoints.dtype == person.confidence.dtype == person.bbox.dtype == np.float32
        assert ((person.confidence >= 0) & (person.confidence <= 1)).all()
        np.testing.assert_array_equal(person.bbox[:2], person.keypoints.min(0))
        np.testing.assert_array_equal(person.bbox[2:], person.keypoints.max(0))
        # Where COCO's annotators saw her nose.
        nose = person.keypoints[BLAZEPOSE_33.keypoints.index("nose")]
        np.testing.assert_allclose(nose, (367, 81), atol=12)


@needs_picture
def test_pixels_are_those_of_the_given_frame(cache: Path) -> None:
    image = skier()
    small = cv2.resize(image, None, fx=0.5, fy=0.5)
    keypoints = []
    for frame in (image, small, np.asfortranarray(image)):
        with load_detector() as detector:
            ((person,),) = detector.detect([frame], [0.0])
            keypoints.append(person.keypoints)
    assert np.linalg.norm(keypoints[1] / 0.5 - keypoints[0], axis=1).mean() < 8
    np.testing.assert_array_equal(keypoints[2], keypoints[0])


@needs_picture
def test_everybody_in_a_picture_is_found_not_only_the_nearest(cache: Path) -> None:
    file = PICTURE.with_name("coco_000000197388.jpg")  # five skiers
    image = np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])
    with load_detector("blazepose") as detector:
        (people,) = detector.detect([image], [0.0])
    assert len(people) >= 4
    middles = sorted(float(person.bbox[[0, 2]].mean()) for person in people)
    assert min(np.diff(middles)) > 20


def test_people_of_the_sample_video_keep_their_sides_and_places(
    cache: Path, sample_video: Path
) -> None:
    """MediaPipe's own following jitters by 48 px in one of ten cases, this by 20."""
    from itertools import islice

    from gridpose.pipeline.reader import VideoReader

    reader = VideoReader(sample_video)
    frames = list(islice(reader, 40))
    reader.close()
    with load_detector("blazepose") as detector:
        found = detector.detect([f.image for f in frames], [f.time for f in frames])
    # The man on the roof; the woman comes later.
    man = np.stack([min(people, key=lambda p: p.bbox[1]).keypoints for people in found])
    names = BLAZEPOSE_33.keypoints
    left, right = (man[:, names.index(f"{side}_hip"), 0] for side in ("left", "right"))
    assert (np.sign(left - right) == np.sign(np.median(left - right))).mean() > 0.9
    shaking = np.linalg.norm(np.diff(man, 2, axis=0), axis=-1)
    assert np.percentile(shaking, 90) < 30


@needs_picture
def test_no_more_people_than_asked_for(cache: Path) -> None:
    half = skier()[:, 200:560]
    twins = np.hstack((half, half))
    found = []
    for most in (1, 2):
        with load_detector(max_persons=most) as detector:
            (people,) = detector.detect([twins], [0.0])
            found.append(len(people))
    assert found == [1, 2]


@needs_picture
def test_repeated_and_very_close_times_are_accepted(cache: Path) -> None:
    image = skier()
    with load_detector() as detector:
        times = [1.0, 1.0, 1.0001, 0.5, 2.0]
        assert [len(people) for people in detector.detect([image] * 5, times)] == [1] * 5


def standard_error() -> tuple[int, int]:
    status = os.fstat(2)
    return status.st_dev, status.st_ino


def test_leaving_the_detector_gives_standard_error_back(cache: Path) -> None:
    before = standard_error()
    with load_detector():
        assert standard_error() != before
    assert standard_error() == before


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_a_detector_that_cannot_start_says_so_and_gives_standard_error_back(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error("no such operator")

    monkeypatch.setattr(blazepose, "_open", fail)
    before = standard_error()
    with pytest.raises(GridposeError, match="no such operator"):
        load_detector()
    assert standard_error() == before


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


DETECT = """
import sys
import numpy as np
from gridpose.detectors import load_detector
if sys.argv[1:]:
    import cv2
    image = cv2.imread(sys.argv[1])[..., ::-1]
else:
    image = np.zeros((240, 320, 3), np.uint8)
with load_detector() as detector:
    print(len(detector.detect([image], [0.0])[0]))
"""


def test_nothing_of_mediapipe_reaches_the_terminal(empty_cache: Path) -> None:
    # Also while the bundle is built. On a real picture both networks run.
    pictures = [str(PICTURE)] if PICTURE.is_file() else []
    done = run(DETECT, *pictures)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(len(pictures))
    assert done.stderr == ""


def test_python_still_writes_to_standard_error_while_native_code_does_not() -> None:
    done = run(
        """
import os, sys
from gridpose.detectors.native_log import NativeLog
original = sys.stderr
print("before", file=sys.stderr)
outer = NativeLog()
os.write(2, b"native 1\\n")
print("during", file=sys.stderr)
inner = NativeLog()
os.write(2, b"native 2\\n")
inner.close()
inner.close()  # once more does no harm
os.write(2, b"native 3\\n")
print("still", file=sys.stderr)
outer.close()
assert sys.stderr is original
os.write(2, b"after\\n")
NativeLog().close()
os.write(2, b"again\\n")
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["before", "during", "still", "after", "again"]


def test_closing_in_the_order_of_opening_works_too() -> None:
    done = run(
        """
import os
from gridpose.detectors.native_log import NativeLog
first, second = NativeLog(), NativeLog()
first.close()
os.write(2, b"native\\n")
second.close()
os.write(2, b"after\\n")
"""
    )
    assert done.stderr == "after\n"


def test_a_replaced_stderr_is_left_alone() -> None:
    done = run(
        """
import io, sys
from gridpose.detectors.native_log import NativeLog
mine = sys.stderr = io.StringIO()
log = NativeLog()
assert sys.stderr is mine
log.close()
assert sys.stderr is mine
"""
    )
    assert done.returncode == 0, done.stderr


def test_no_descriptors_are_leaked() -> None:
    done = run(
        """
import os
from gridpose.detectors.native_log import NativeLog
def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
before = [descriptor for descriptor in range(100) if is_open(descriptor)]
for _ in range(3):
    NativeLog().close()
assert [descriptor for descriptor in range(100) if is_open(descriptor)] == before
"""
    )
    assert done.returncode == 0, done.stderr


def test_a_process_without_standard_error_can_detect(cache: Path) -> None:
    # As under a daemon that closed descriptor 2.
    done = run("import os\nos.close(2)\n" + DETECT)
    assert (done.returncode, done.stdout.strip()) == (0, "0")
