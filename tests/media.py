"""Making small videos for tests, and looking at results without the code under test."""

import re
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np

from gridpose.pipeline.video.ffmpeg import ffmpeg_program


def ffmpeg(*arguments, check=True):
    """Run ffmpeg; its output as bytes, its log as text."""
    done = subprocess.run(
        [ffmpeg_program(), "-hide_banner", "-nostdin", "-y", *map(str, arguments)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    log = done.stderr.decode(errors="replace")
    assert done.returncode == 0 or not check, log
    return done.stdout, log


def address(file):
    """A file name that ffmpeg cannot take for an option or a protocol."""
    return f"file:{Path(file).absolute()}"


def make_video(
    file,
    *,
    frames=10,
    fps="25",
    size=(64, 48),
    source="testsrc2",
    filters=(),
    audio=False,
    audio_source="sine=frequency=440:sample_rate=44100",
    pix_fmt="yuv420p",
    codec=None,
    args=(),
):
    """A small video; ``filters`` follow the source, ``args`` go before the output's name."""
    width, height = size
    seconds = float(frames / Fraction(fps))
    arguments = [
        "-f",
        "lavfi",
        "-i",
        f"{source}=size={width + width % 2}x{height + height % 2}:rate={fps}",
    ]
    if audio:
        arguments += ["-f", "lavfi", "-t", f"{seconds:.4f}", "-i", audio_source]
    if width % 2 or height % 2:  # the sources make even sizes only
        filters = (f"crop={width}:{height}:0:0:exact=1", *filters)
        pix_fmt = "yuv444p"
    arguments += ["-vf", ",".join((f"format={pix_fmt}", *filters)), "-frames:v", frames]
    if codec is not None:
        arguments += ["-c:v", codec]
    ffmpeg(*arguments, *args, address(file))
    return Path(file)


def streams(file):
    """What ffmpeg prints of the streams of a file."""
    _, log = ffmpeg("-i", address(file), check=False)
    return re.findall(r"Stream #\d+:\d+.*?: (.*)", log)


def packets(file, stream="v:0"):
    """Time base, and (start, duration) in its ticks of every packet in presentation order."""
    out, _ = ffmpeg("-i", address(file), "-map", f"0:{stream}", "-c", "copy", "-f", "framecrc", "-")
    text = out.decode()
    base = re.search(r"#tb 0: (\d+)/(\d+)", text)
    rows = [line.split(",") for line in text.splitlines() if line and line[0] != "#"]
    return Fraction(int(base[1]), int(base[2])), sorted((int(r[2]), int(r[3])) for r in rows)


def decode(file, size):
    """All frames as one (T, H, W, 3) array."""
    out, _ = ffmpeg(
        *("-i", address(file), "-map", "0:v:0", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-fps_mode", "passthrough", "-"),
    )
    return np.frombuffer(out, np.uint8).reshape(-1, size[1], size[0], 3)


def atoms(file):
    """Names of the top-level atoms of an mp4."""
    data, names, at = Path(file).read_bytes(), [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        names.append(data[at + 4 : at + 8].decode("latin-1"))
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        at += length or len(data)
    return names


def children(of):
    """(process id, command line) of the programs that a process has started, on Linux."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if re.search(rf"^PPid:\s+{of}$", status, re.M) and not re.search(
            r"^State:\s+Z", status, re.M
        ):
            found.append((int(folder.name), line))
    return found


def is_alive(process):
    """Whether a process runs, on Linux."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    return re.search(r"^State:\s+Z", status, re.M) is None
