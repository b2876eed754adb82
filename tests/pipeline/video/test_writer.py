import shutil
from fractions import Fraction

import numpy as np
import pytest
from media import atoms, decode, ffmpeg, packets, streams

from gridpose.core import GridposeError
from gridpose.pipeline.video.ffmpeg import probe
from gridpose.pipeline.video.writer import VideoWriter

SIZE = (64, 48)


def grey(level, size=SIZE):
    return np.full((size[1], size[0], 3), level, np.uint8)


def write(file, levels_and_times, fps=Fraction(25), **options):
    with VideoWriter(file, SIZE, Fraction(fps), **options) as writer:
        for level, time in levels_and_times:
            writer.write(grey(level), time)
    return writer


def write_and_fail(file, error):
    with VideoWriter(file, SIZE, Fraction(25)) as writer:
        for level, time in steady(50):
            writer.write(grey(level), time)
        raise error


def steady(count, fps=Fraction(25)):
    return [(10 * n % 250, float(n / fps)) for n in range(count)]


def levels(file):
    return decode(file, SIZE).mean((1, 2, 3))


def test_plays_everywhere(tmp_path):
    file = tmp_path / "a.mp4"
    write(file, steady(10))
    (video,) = streams(file)
    assert video.startswith("Video: h264")
    assert "yuv420p(tv" in video
    assert "64x48" in video
    names = atoms(file)
    assert names.index("moov") < names.index("mdat")


@pytest.mark.parametrize("fps", ["30000/1001", "24000/1001", "25", "60", "25/3", "1"])
def test_exact_rate_and_every_frame(tmp_path, fps):
    fps = Fraction(fps)
    file = tmp_path / "a.mp4"
    writer = write(file, steady(20, fps), fps)
    base, packet_times = packets(file)
    assert writer.frames_written == len(packet_times) == 20
    assert {duration * base for _, duration in packet_times} == {1 / fps}
    assert [start * base for start, _ in packet_times] == [n / fps for n in range(20)]


def test_colours_survive(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32], image[:24, 32:], image[24:, :32] = (220, 30, 30), (30, 200, 30), (30, 30, 220)
    file = tmp_path / "a.mp4"
    with VideoWriter(file, SIZE, Fraction(25), crf=1) as writer:
        writer.write(image, 0)
    shown = decode(file, SIZE)[0].astype(int)
    for row, column in ((8, 8), (8, 50), (40, 8), (40, 50)):
        assert np.abs(shown[row, column] - image[row, column]).max() < 12


def test_a_lower_crf_is_closer_to_the_source(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    errors = []
    for crf in (1, 45):
        file = tmp_path / f"{crf}.mp4"
        with VideoWriter(file, SIZE, Fraction(25), crf=crf) as writer:
            writer.write(noise, 0)
        errors.append(np.abs(decode(file, SIZE)[0].astype(int).mean(2) - noise.mean(2)).mean())
    assert errors[0] < errors[1]


def test_times_need_not_start_at_zero(tmp_path):
    file = tmp_path / "a.mp4"
    write(file, [(level, 7.3 + time) for level, time in steady(10)])
    np.testing.assert_allclose(levels(file), [level for level, _ in steady(10)], atol=3)
    assert packets(file)[1][0][0] == 0


def test_a_frame_is_shown_until_the_next_ones_time(tmp_path):
    file = tmp_path / "a.mp4"
    writer = write(file, [(50, 0), (100, 0.04), (150, 0.2), (200, 0.28)])
    np.testing.assert_allclose(levels(file), [50, *[100] * 4, 150, 150, 200], atol=3)
    assert writer.frames_written == 8


def test_frames_nearer_than_the_rate_allows_keep_the_pace(tmp_path):
    file = tmp_path / "a.mp4"
    write(file, [(10 * n % 250, n / 100) for n in range(100)])  # 100 a second into 25 a second
    base, packet_times = packets(file)
    assert len(packet_times) == pytest.approx(25, abs=1)
    assert base * sum(duration for _, duration in packet_times) == pytest.approx(1, abs=0.05)


def test_rounded_times_neither_drop_nor_repeat(tmp_path):
    """Matroska rounds to milliseconds."""
    fps = Fraction(30000, 1001)
    file = tmp_path / "a.mp4"
    frames = [(n * 7 % 250, round(float(n / fps), 3)) for n in range(60)]
    write(file, frames, fps)
    np.testing.assert_allclose(levels(file), [level for level, _ in frames], atol=3)


def test_a_broken_time_does_not_make_hours_of_one_frame(tmp_path):
    writer = write(tmp_path / "a.mp4", [(0, 0), (50, 0.04), (100, 1e6), (150, 1e6 + 0.04)])
    assert 4 <= writer.frames_written <= 10 * 25 + 4


@pytest.mark.parametrize(
    ("suffix", "encoder", "source_codec", "result_codec"),
    [
        (".mp4", "aac", "aac", "aac"),
        (".ts", "aac", "aac", "aac"),
        (".mkv", "libopus", "opus", "opus"),
        (".mkv", "ac3", "ac3", "ac3"),
        (".mkv", "libvorbis", "vorbis", "aac"),
        (".mkv", "flac", "flac", "aac"),
        (".mov", "pcm_s16le", "pcm_s16le", "aac"),
        (".avi", "libmp3lame", "mp3", "aac"),
    ],
)
def test_sound_is_taken_over(make_video, tmp_path, suffix, encoder, source_codec, result_codec):
    source = make_video(
        tmp_path / f"in{suffix}", frames=25, audio=True, args=["-c:a", encoder, "-g", "25"]
    )
    assert probe(source).audio_codec == source_codec
    file = tmp_path / "out.mp4"
    write(file, steady(25), audio_from=source, audio_codec=source_codec)
    video, audio = streams(file)
    assert video.startswith("Video: h264")
    assert audio.startswith(f"Audio: {result_codec}")
    base, packet_times = packets(file, "a:0")
    assert base * sum(duration for _, duration in packet_times) == pytest.approx(1, abs=0.1)


def test_sound_that_may_be_copied_is_not_encoded_again(make_video, tmp_path):
    source = make_video(tmp_path / "in.mp4", frames=25, audio=True)
    file = tmp_path / "out.mp4"
    write(file, steady(25), audio_from=source, audio_codec="aac")

    def data(of):
        return ffmpeg("-i", of, "-map", "0:a", "-c", "copy", "-f", "adts", "-")[0]

    assert data(file) == data(source) != b""


@pytest.mark.parametrize("rate", [8000, 11025])
def test_mp3_of_rates_that_mp4_does_not_know(make_video, tmp_path, rate):
    source = make_video(
        tmp_path / "in.mkv",
        frames=25,
        audio=True,
        audio_source=f"sine=sample_rate={rate}",
        args=["-c:a", "libmp3lame"],
    )
    file = tmp_path / "out.mp4"
    write(file, steady(25), audio_from=source, audio_codec="mp3")
    assert len(streams(file)) == 2


def test_no_sound_unless_asked_for(make_video, tmp_path):
    source = make_video(tmp_path / "in.mp4", audio=True)
    write(tmp_path / "a.mp4", steady(5), audio_from=None, audio_codec="aac")
    write(tmp_path / "b.mp4", steady(5), audio_from=source, audio_codec=None)
    assert len(streams(tmp_path / "a.mp4")) == len(streams(tmp_path / "b.mp4")) == 1


def tone_and_length(file):
    """Second at which the sound of a file sets in, and at which it ends, as players play it."""
    raw, _ = ffmpeg(
        *("-i", file, "-map", "0:a", "-af", "aresample=async=1:first_pts=0", "-f", "f32le"),
        *("-ac", "1", "-ar", "8000", "-"),
    )
    samples = np.frombuffer(raw, np.float32)
    return np.argmax(np.abs(samples) > 0.1) / 8000, len(samples) / 8000


SOUND_FROM_2 = "aevalsrc='gte(t,2)*sin(2*PI*800*t)':sample_rate=44100"


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
def test_a_part_of_the_sound_goes_with_a_part_of_the_video(make_video, tmp_path, suffix):
    source = make_video(tmp_path / f"in{suffix}", frames=100, audio=True, audio_source=SOUND_FROM_2)
    assert tone_and_length(source) == pytest.approx((2, 4), abs=0.05)
    file = tmp_path / "out.mp4"
    part = [(level, 1.3 + time) for level, time in steady(50)]
    write(
        file,
        part,
        audio_from=source,
        audio_codec=probe(source).audio_codec,
        audio_start=1.3,
        audio_end=3.3,
    )
    assert tone_and_length(file) == pytest.approx((0.7, 2), abs=0.05)


def test_pictures_that_begin_after_their_sound_stay_with_it(make_video, tmp_path):
    source = make_video(tmp_path / "in.mp4", frames=50, audio=True)
    file = tmp_path / "out.mp4"
    late = [(100, 0.52), (200, 0.56), (250, 0.6)]
    write(file, late, audio_from=source, audio_codec="aac")
    np.testing.assert_allclose(levels(file), [*[100] * 14, 200, 250], atol=3)


def test_a_hair_of_sound_before_the_first_picture_costs_no_frame(make_video, tmp_path):
    source = make_video(tmp_path / "in.mp4", frames=25, audio=True)
    writer = write(
        tmp_path / "out.mp4",
        [(level, time + 0.023) for level, time in steady(10)],
        audio_from=source,
        audio_codec="aac",
    )
    assert writer.frames_written == 10


@pytest.mark.parametrize("size", [(63, 48), (64, 47)])
def test_odd_sizes_are_refused(tmp_path, size):
    with pytest.raises(ValueError, match="even"):
        VideoWriter(tmp_path / "a.mp4", size, Fraction(25))
    assert list(tmp_path.iterdir()) == []


def test_a_frame_of_another_size_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match=r"must be \(48, 64, 3\)"),
        VideoWriter(tmp_path / "a.mp4", SIZE, Fraction(25)) as writer,
    ):
        writer.write(grey(0, (48, 64)), 0)
    assert list(tmp_path.iterdir()) == []


def test_the_name_appears_only_when_the_file_is_complete(tmp_path):
    file = tmp_path / "a.mp4"
    with VideoWriter(file, SIZE, Fraction(25)) as writer:
        for level, time in steady(200):
            writer.write(grey(level), time)
        assert not file.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_an_older_result_stays_until_the_new_one_is_complete(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_bytes(b"older")
    with VideoWriter(file, SIZE, Fraction(25)) as writer:
        writer.write(grey(0), 0)
        assert file.read_bytes() == b"older"
    assert len(levels(file)) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_no_file(tmp_path, error):
    file = tmp_path / "a.mp4"
    with pytest.raises(error):
        write_and_fail(file, error)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_keeps_an_older_result(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_bytes(b"older")
    with pytest.raises(RuntimeError):
        write_and_fail(file, RuntimeError)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]
    assert file.read_bytes() == b"older"


def test_ffmpegs_own_words_are_in_the_error(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    shutil.rmtree(folder)
    with pytest.raises(GridposeError, match=r"out\.mp4: ffmpeg .*No such file or directory"):
        write(folder / "out.mp4", steady(200))


def test_sound_that_cannot_be_encoded_is_told_with_the_way_out(make_video, tmp_path):
    source = make_video(
        tmp_path / "in.mov",
        audio=True,
        audio_source="aevalsrc='" + "|".join(["0"] * 16) + "'",
        args=["-c:a", "pcm_s16le"],
    )
    (tmp_path / "out").mkdir()
    with pytest.raises(GridposeError, match=r"channel.*`audio=False`"):
        write(tmp_path / "out" / "a.mp4", steady(200), audio_from=source, audio_codec="pcm_s16le")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_name_that_was_taken_meanwhile_by_a_folder(tmp_path):
    file = tmp_path / "a.mp4"
    writer = VideoWriter(file, SIZE, Fraction(25))
    writer.write(grey(0), 0)
    file.mkdir()
    with pytest.raises(GridposeError, match=r"a\.mp4: cannot be written"):
        writer.__exit__(None, None, None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("name", ["a b.mp4", "-y.mp4", "at 10:30.mp4", "100%d.mp4", "日本.mp4"])
def test_strange_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    file = type(tmp_path)(name)
    write(file, steady(3))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
