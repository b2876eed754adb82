"""Interlaced and high-dynamic-range video become ordinary pictures."""

import numpy as np
import pytest
from media import decode

from gridpose.pipeline.video import conversions
from gridpose.pipeline.video.ffmpeg import probe
from gridpose.pipeline.video.reader import VideoReader

BARS = "smptehdbars"
SAYS_BT709 = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
MOVING = "crop=w=1000:h=576:x=t*250:y=0,scale=720:576"
COMBED = ("interlace=scan=tff", "setfield=prog")


def read(file, **options):
    with VideoReader(file, **options) as reader:
        return list(reader), reader.warnings


@pytest.fixture
def high_range(make_video, tmp_path):
    """Colour bars in BT.2020 and HLG or PQ light, as phones write it, and the same in BT.709."""

    def make(transfer):
        to_hdr = f"zscale=transfer={transfer}:matrix=bt2020nc:primaries=bt2020:range=tv:npl=203"
        tags = ["-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc"]
        filters = (
            SAYS_BT709,
            "zscale=transfer=linear",
            "format=gbrpf32le",
            to_hdr,
            "format=yuv420p10le",
        )
        options = {"frames": 2, "size": (320, 180), "source": BARS}
        plain = make_video(tmp_path / "plain.mp4", filters=(SAYS_BT709,), **options)
        return make_video(tmp_path / "high.mp4", filters=filters, args=tags, **options), plain

    return make


@pytest.mark.parametrize("transfer", ["arib-std-b67", "smpte2084"])
def test_high_dynamic_range_looks_as_it_did(high_range, transfer):
    high, plain = high_range(transfer)
    assert probe(high).transfer == transfer
    frames, warnings = read(high)
    expected, _ = read(plain)
    mapped, raw = (
        np.abs(pictures[0].astype(float) - expected[0].image).mean()
        for pictures in ([frames[0].image], decode(high, (320, 180)))
    )
    assert mapped < 8
    assert raw > 3 * mapped
    assert len(frames) == 2
    assert warnings == []


def test_who_cannot_map_it_is_told(high_range, monkeypatch):
    high, _ = high_range("smpte2084")
    monkeypatch.setattr(conversions, "_filters", lambda program: frozenset({"scale"}))
    frames, warnings = read(high)
    assert len(frames) == 2
    assert len(warnings) == 1
    assert "high dynamic range (PQ) looks washed out" in warnings[0]


def combing(image):
    """How much more neighbouring rows differ than every second ones, grey levels."""
    rows = image.astype(float).mean(2)
    near = np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean()
    return near - np.abs(rows[2:] - rows[:-2]).mean() / 2


@pytest.fixture
def interlaced(make_video, tmp_path):
    def make(name="a.mp4", filters=("interlace=scan=tff",), **options):
        return make_video(
            tmp_path / name,
            frames=40,
            fps="50",
            size=(1440, 576),
            filters=(MOVING, *filters),
            **options,
        )

    return make


@pytest.mark.parametrize("says_so", [True, False])
def test_interlaced_video_becomes_whole_pictures(interlaced, says_so):
    if says_so:
        file = interlaced("a.mpg", codec="mpeg2video", args=["-flags", "+ilme+ildct", "-q:v", 2])
    else:
        file = interlaced(filters=COMBED)
    frames, warnings = read(file)
    assert probe(file).fields == ("auto" if says_so else "tff")
    torn = np.mean([combing(image) for image in decode(file, (720, 576))[:-1]])
    assert np.mean([combing(frame.image) for frame in frames]) < 0.2 * torn
    assert warnings == []


def test_interlaced_video_keeps_its_frames_and_times(interlaced):
    file = interlaced(filters=COMBED)
    frames, _ = read(file)
    times = [frame.time for frame in frames]
    np.testing.assert_allclose(times, np.arange(len(times)) / 25, atol=1e-3)
    assert len(frames) == len(decode(file, (720, 576)))
    later, _ = read(file, start=0.4, stride=2)
    np.testing.assert_allclose([frame.time for frame in later], times[10::2], atol=1e-3)
    np.testing.assert_array_equal(later[1].image, frames[12].image)


@pytest.mark.parametrize("filters", [("fps=25",), ("fps=25", "loop=loop=40:size=1")])
def test_progressive_video_of_such_sizes_is_left_alone(interlaced, filters):
    assert probe(interlaced(filters=filters)).fields is None
