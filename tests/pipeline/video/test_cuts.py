"""Shots are told apart by what is seen, however it flickers, shakes or moves."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.pipeline.video.cuts import numbered_shots
from gridpose.pipeline.video.reader import VideoReader
from gridpose.pipeline.video.stillness import small_grey

WIDTH, HEIGHT = 320, 180


def scene(seed):
    """A picture of blobs of all sizes, larger than a frame."""
    random = np.random.default_rng(seed)
    picture = np.zeros((HEIGHT * 2, WIDTH * 2, 3), np.float32)
    for sigma, share in ((60, 0.4), (20, 1.0), (6, 0.5)):
        for channel in range(3):
            noise = random.normal(0, 1, picture.shape[:2]).astype(np.float32)
            blobs = cv2.GaussianBlur(noise, (0, 0), sigma)
            picture[..., channel] += share * blobs / blobs.std()
    return (128 + 40 * picture).clip(0, 255)


def filmed(picture, frames, random, *, pan=0.0, shake=0.0, flicker=0.0, noise=0.0):
    """A shot of a scene: (H, W, 3) uint8 frames."""
    x, y = WIDTH / 2, HEIGHT / 2
    for _ in range(frames):
        x = min(max(x + pan, 10), WIDTH - 10)
        left, top = np.round((x, y) + shake * random.normal(0, 1, 2).clip(-2, 2)).astype(int)
        seen = picture[top : top + HEIGHT, left : left + WIDTH]
        light = 1 + flicker * random.uniform(-1, 1)
        yield (light * seen + random.normal(0, noise, seen.shape)).clip(0, 255).astype(np.uint8)


def cuts_of(frames):
    shots = [shot for shot, _ in numbered_shots(frames, small_grey)]
    assert shots[0] == 1
    assert all(0 <= after - before <= 1 for before, after in pairwise(shots))
    return [index for index in range(1, len(shots)) if shots[index] != shots[index - 1]]


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.integers(4, 12), min_size=1, max_size=4),
    pan=st.floats(-4, 4),
    shake=st.floats(0, 8),
    flicker=st.floats(0, 0.4),
    noise=st.floats(0, 6),
)
def test_cuts_are_where_scenes_change(seed, lengths, pan, shake, flicker, noise):
    random = np.random.default_rng(seed)
    frames = []
    for index, length in enumerate(lengths):
        disturbed = {"pan": pan, "shake": shake, "flicker": flicker, "noise": noise}
        frames += filmed(scene(seed + index), length, random, **disturbed)
    assert cuts_of(frames) == np.cumsum(lengths)[:-1].tolist()


def test_every_frame_comes_out_in_order():
    for count in (1, 2, 3, 7):
        frames = list(range(count))
        pictures = [np.full((36, 64), 9, np.uint8)] * count
        numbered = list(numbered_shots(frames, pictures.__getitem__))
        assert numbered == [(1, frame) for frame in frames]
    assert list(numbered_shots([], small_grey)) == []


def test_a_flash_is_no_cut_and_black_is_a_shot():
    random = np.random.default_rng(0)
    frames = list(filmed(scene(1), 20, random))
    frames[10] = np.full_like(frames[10], 255)
    assert cuts_of(frames) == []
    black = [random.integers(0, 4, frames[0].shape).astype(np.uint8) for _ in range(8)]
    assert cuts_of([*frames[:9], *black, *frames[:9]]) == [9, 17]


@pytest.mark.slow
def test_cuts_between_real_clips_and_none_within(sample_video, shared):
    """Shots are moving crops of seven sources: the sample, two clips and four pictures."""
    with VideoReader(sample_video) as reader:
        sample = [_small(frame.image) for frame in reader]
    sources = [sample]
    for file in sorted((shared / "video").glob("*.mp4")):
        with VideoReader(file) as reader:
            sources.append([_small(frame.image) for frame in reader])
    for file in sorted((shared / "video").glob("*.jpg")):
        sources.append([_small(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB))])
    assert len(sources) == 7

    random = np.random.default_rng(0)
    assert cuts_of(sample) == []
    flickering = [(frame * random.uniform(0.4, 1.5)).clip(0, 255) for frame in sample]
    assert cuts_of([frame.astype(np.uint8) for frame in flickering]) == []
    for shake in (3, 10):
        moves = random.normal(0, shake, (len(sample), 2))
        assert (
            cuts_of([_cropped(f, *move, 1.0) for f, move in zip(sample, moves, strict=True)]) == []
        )

    found = missed = false = 0
    for _ in range(60):
        frames, cuts, last = [], [], None
        for length in random.integers(8, 45, random.integers(2, 5)):
            last = random.choice([k for k in range(len(sources)) if k != last])
            if frames:
                cuts.append(len(frames))
            frames += _crop_of(sources[last], length, random)
        seen = set(cuts_of(frames))
        found, missed = found + len(seen & set(cuts)), missed + len(set(cuts) - seen)
        false += len(seen - set(cuts))
    print(f"\ncuts found {found}, missed {missed}, false {false}")
    assert found >= 0.95 * (found + missed)
    assert false == 0


def _small(image):
    return cv2.resize(image, (442, 248), interpolation=cv2.INTER_AREA)


def _crop_of(source, length, random):
    """A shot: a crop that pans, shakes and flickers."""
    start, width = random.integers(len(source)), random.uniform(0.55, 0.95)
    pan, shake = random.normal(0, 1.2, 2), random.uniform(0, 4)
    flicker, noise = random.uniform(0, 0.25), random.uniform(0, 4)
    slow = 1 if len(source) > 10 else 6
    for step in range(length):
        frame = source[min(start + step // slow, len(source) - 1)]
        move = pan * step + random.normal(0, shake, 2)
        seen = _cropped(frame, *move, width) * (1 + flicker * random.normal())
        yield (seen + random.normal(0, noise, seen.shape)).clip(0, 255).astype(np.uint8)


def _cropped(frame, x, y, width):
    height, whole = frame.shape[:2]
    matrix = np.array(((width, 0, x + whole * (1 - width) / 2), (0, width, y)), np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        frame, matrix, (whole, height), flags=flags, borderMode=cv2.BORDER_REFLECT
    )
