import json
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import pytest
from fakes import standing_at
from media import children, is_alive, packets, streams

COMMANDS = ("video", "demo", "live", "lift", "train", "eval", "doctor")
HEAVY = ("torch", "openvino", "matplotlib", "cv2")
MAIN = [sys.executable, "-c", "from gridpose.pipeline.cli import main; main()"]


def in_a_process(*arguments, **options):
    return subprocess.run(
        [*MAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def loaded_after(code):
    """Which heavy packages a fresh Python has loaded after some code."""
    report = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


def examples(text):
    """Lines that can be copied from a help text."""
    _, _, after = text.partition("Example")
    return [line.strip() for line in after.splitlines() if line.strip().startswith("gridpose ")]


def test_help_lists_the_commands(invoke):
    result = invoke("--help")
    assert result.exit_code == 0
    listed = result.stdout.partition("Commands:")[2].split()
    assert set(COMMANDS) <= set(listed)
    assert invoke("-h").stdout == result.stdout


def test_help_has_an_example(invoke):
    assert any(line.startswith("gridpose video ") for line in examples(invoke("--help").stdout))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_examples_to_copy(invoke, command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    found = examples(result.stdout)
    assert found
    assert all(line.startswith(f"gridpose {command}") for line in found)


def test_an_example_is_never_broken_over_lines(invoke):
    """Each has its output, which comes last or nearly so."""
    found = examples(invoke("video", "--help").stdout)
    assert len(found) == 5
    assert all(" -o " in line for line in found)
    assert found[1].endswith("--persons largest")


def test_the_version(invoke):
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout == f"gridpose {version('gridpose')}\n"


def test_without_a_command_it_explains_itself(invoke):
    result = invoke()
    assert result.exit_code == 2
    assert "Commands:" in result.output


@pytest.mark.parametrize("module", ["gridpose", "gridpose.pipeline"])
def test_as_a_module_it_is_the_same_command(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert "Usage: gridpose " in done.stdout


@pytest.mark.parametrize(
    ("source", "said", "code"),
    [
        ("http://example.org/a.mp4", "error: http://example.org/a.mp4: to fetch", 4),
        ("{folder}", "gridpose batch does all videos of one", 3),
    ],
)
def test_sources_that_are_no_files(tmp_path, invoke, monkeypatch, source, said, code):
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    result = invoke("video", source.format(folder=tmp_path), "-o", tmp_path / "out.mp4")
    assert said in result.stderr
    assert result.exit_code == code


def test_help_comes_at_once():
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = in_a_process("--help")
        seconds.append(time.perf_counter() - started)
        assert done.returncode == 0
    assert min(seconds) < 1


@pytest.mark.parametrize(
    "code",
    [
        "import gridpose.pipeline",
        "import gridpose.pipeline.cli",
        "import gridpose.core",
        "from typer.testing import CliRunner; from gridpose.pipeline.cli import app; "
        "assert 'doctor' in CliRunner().invoke(app, ['--help']).stdout",
    ],
)
def test_nothing_heavy_is_loaded_for_help(code):
    assert loaded_after(code) == "[]"


def test_errors_of_an_input_need_no_networks():
    code = (
        "from gridpose.pipeline import run_video\n"
        "try: run_video('nothing.mp4', 'out.mp4')\n"
        "except Exception as error: assert 'no such file' in str(error)"
    )
    assert loaded_after(code) in ("['cv2']", "[]")


def test_the_public_names_are_there():
    import gridpose.pipeline

    for name in gridpose.pipeline.__all__:
        assert getattr(gridpose.pipeline, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        gridpose.pipeline.no_such_name  # noqa: B018


def test_json_is_one_line_on_stdout(make_video, tmp_path):
    """The real thing, in a process of its own."""
    source = make_video(tmp_path / "in.mp4", frames=10, fps="30000/1001", audio=True)
    output = tmp_path / "out.mp4"
    done = in_a_process("video", source, "-o", output, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    assert result["output"] == str(output)
    assert result["files"] == [str(output)]
    assert result["frames"] == 10
    assert result["fps"] == pytest.approx(30000 / 1001)
    assert result["tracks"] == 0
    assert result["detector"] == "blazepose"
    assert result["lifter"] == "default"
    assert set(result["seconds_by_stage"]) == {"decode", "detect", "lift", "render", "encode"}
    assert 0 < result["seconds"] < 100
    assert f"warning: {source}: nobody was found" in done.stderr
    assert "Traceback" not in done.stderr
    # Native libraries are silent: every line is gridpose's.
    assert all(line.startswith(("warning: ", "detector: ")) for line in done.stderr.splitlines()), (
        done.stderr
    )
    assert len(packets(output)[1]) == 10
    assert [line.split()[0] for line in streams(output)] == ["Video:", "Audio:"]


def test_words_for_people(make_video, tmp_path, invoke, fake_detector):
    source = make_video(tmp_path / "in.mp4", frames=8, size=(160, 120))
    fake_detector.script = lambda index: [standing_at(80, 50, 40)]
    output, poses = tmp_path / "out.mp4", tmp_path / "out.npz"
    result = invoke("video", source, "-o", output, "--save-poses", poses)
    assert result.exit_code == 0, result.output
    first, *files = result.stdout.splitlines()
    assert first.startswith("8 frames, 1 people, ")
    assert [line.strip() for line in files] == [str(output), str(poses)]
    assert "detector: fake" in result.stderr
    assert fake_detector.closed


def test_quiet_is_quiet(make_video, tmp_path, invoke, fake_detector):
    source = make_video(tmp_path / "in.mp4", frames=8, size=(160, 120))
    fake_detector.script = lambda index: [standing_at(80, 50, 40)]
    result = invoke("video", source, "-o", tmp_path / "out.mp4", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("persons", "tracks"), [("all", 3), ("everyone", 4), ("largest", 1), ("2", 2)]
)
def test_persons(make_video, tmp_path, invoke, fake_detector, persons, tracks):
    source = make_video(tmp_path / "in.mp4", frames=8, size=(320, 120))
    fake_detector.script = lambda index: [
        standing_at(60, 60, 30),
        standing_at(160, 60, 50),
        standing_at(260, 60, 40),
        standing_at(310, 60, 5),
    ]
    output = tmp_path / "out.mp4"
    result = invoke("video", source, "-o", output, "--json", "--persons", persons)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["tracks"] == tracks
    assert told["left_out"] == (persons == "all")
    keeps = "1 person left out: 1 much smaller than the others; --persons everyone keeps them"
    assert (keeps in told["warnings"]) == (persons == "all")


@pytest.mark.parametrize("persons", ["0", "-1", "some", "1.5", ""])
def test_persons_that_make_no_sense(make_video, tmp_path, invoke, persons):
    source = make_video(tmp_path / "in.mp4", frames=2)
    result = invoke("video", source, "-o", tmp_path / "out.mp4", "--persons", persons)
    assert result.exit_code == 2
    assert "persons" in result.stderr
    assert "defect" not in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--stride", "0"],
        ["--crf", "52"],
        ["--batch-size", "0"],
        ["--detector", "crystal-ball"],
        ["--smoothing", "sandpaper"],
        ["--no-such-option"],
        ["--start", "noon"],
    ],
)
def test_wrong_usage(make_video, tmp_path, invoke, options):
    source = make_video(tmp_path / "in.mp4", frames=2)
    result = invoke("video", source, "-o", tmp_path / "out.mp4", *options)
    assert result.exit_code == 2
    assert options[0] in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out.mp4").exists()


def test_a_missing_output_option(invoke, tmp_path):
    result = invoke("video", tmp_path / "in.mp4")
    assert result.exit_code == 2
    assert "--output" in result.stderr


def test_options_reach_the_run(make_video, tmp_path, invoke, fake_detector):
    import numpy as np

    source = make_video(tmp_path / "in.mp4", frames=50, audio=True)
    output, poses = tmp_path / "out.mp4", tmp_path / "out.npz"
    result = invoke(
        *("video", source, "-o", output, "--save-poses", poses, "--start", "0.4", "--end", "1.2"),
        *("--stride", "2", "--no-audio", "--smoothing", "none", "--crf", "30", "--json"),
        *("--batch-size", "3", "--fov", "60"),
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["frames"] == 10
    assert json.loads(result.stdout)["fps"] == 12.5
    assert len(streams(output)) == 1
    with np.load(poses) as data:
        np.testing.assert_allclose(data["frame_time"], 0.4 + np.arange(10) * 0.08, atol=1e-3)
        options = json.loads(str(data["meta"]))["options"]
    given = {"start": 0.4, "end": 1.2, "stride": 2, "audio": False, "smoothing": "none"}
    given |= {"crf": 30, "batch_size": 3, "fov": 60.0}
    assert options.items() >= given.items()


def test_verbose_errors_show_where_and_end_with_the_same_code(tmp_path, invoke):
    arguments = ["video", tmp_path / "nothing.mp4", "-o", tmp_path / "out.mp4"]
    result = invoke(*arguments, "--verbose")
    assert result.exit_code == invoke(*arguments).exit_code == 3
    assert "Traceback" in result.stderr
    assert "nothing.mp4: no such file" in result.stderr


def test_a_defect_is_told_as_such_without_a_traceback(make_video, tmp_path, invoke, fake_detector):
    source = make_video(tmp_path / "in.mp4", frames=2)
    fake_detector.script = lambda index: 1 / 0
    result = invoke("video", source, "-o", tmp_path / "out.mp4", "--quiet")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "ZeroDivisionError" in line
    assert "--verbose" in line
    assert not (tmp_path / "out.mp4").exists()


def test_demo_runs_on_the_sample(make_video, tmp_path, invoke, fake_detector, monkeypatch):
    sample = make_video(tmp_path / "sample.mp4", frames=6)
    monkeypatch.setattr("gridpose.pipeline.sample.sample_video", lambda: sample)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = invoke("demo", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"] == ["gridpose-demo.mp4", "gridpose-demo.npz"]
    assert sorted(file.name for file in (tmp_path / "here").iterdir()) == [
        "gridpose-demo.mp4",
        "gridpose-demo.npz",
    ]
    again = invoke("demo")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert invoke("demo", "--overwrite").exit_code == 0


def test_doctor_finds_this_installation_in_order(invoke):
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    for name in ("python", "torch", "ffmpeg", "blazepose", "lifter", "cache", "mmpose"):
        assert name in result.stdout
    assert "MISSING" not in result.stdout


def test_doctor_in_json_with_a_cure_for_every_lack(invoke, monkeypatch, tmp_path, fake_detector):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path / "file" / "home"))
    result = invoke("doctor", "--json")
    assert result.exit_code == 4
    report = json.loads(result.stdout)
    assert report["ok"] is False
    findings = {finding["name"]: finding for finding in report["findings"]}
    assert findings["cache"]["ok"] is False
    assert "mmpose" in findings
    for finding in findings.values():
        assert finding["ok"] or finding["mend"], finding


def test_doctor_tells_what_is_missing(invoke, monkeypatch, fake_detector):
    from gridpose.core import MissingError

    def no_ffmpeg():
        raise MissingError("no ffmpeg program found")

    monkeypatch.setattr("gridpose.pipeline.video.ffmpeg.ffmpeg_program", no_ffmpeg)
    result = invoke("doctor")
    assert result.exit_code == 4
    assert "MISSING ffmpeg: no ffmpeg program found" in result.stdout
    assert "mend: pip install imageio-ffmpeg" in result.stdout


def doctors_findings(invoke):
    report = json.loads(invoke("doctor", "--json").stdout)
    return {finding["name"]: finding for finding in report["findings"]}


def test_doctor_knows_which_detector_auto_takes(invoke, monkeypatch, tmp_path, fake_detector):
    from gridpose.detectors.registry import MODELS, weights_file

    monkeypatch.setenv("GRIDPOSE_HOME", str(tmp_path))
    before = doctors_findings(invoke)
    damaged = weights_file(MODELS["hrnet-w32-coco"])
    damaged.parent.mkdir()
    damaged.write_bytes(b"half")
    after = doctors_findings(invoke)

    assert before["hrnet weights"]["mend"] == "gridpose models download hrnet-w48-coco"
    assert before["detector auto"]["detail"].startswith("takes blazepose: no HRNet weights")
    assert "damaged" in after["hrnet weights"]["detail"]
    assert after["hrnet weights"]["mend"] == "gridpose models download hrnet-w32-coco"
    assert after["detector auto"]["detail"] == "takes hrnet"


def test_doctor_knows_what_runs_hrnet_on_the_cpu(invoke, monkeypatch, fake_detector):
    pytest.importorskip("openvino", reason="needs OpenVINO")
    with_it = doctors_findings(invoke)["hrnet on the CPU"]
    monkeypatch.setitem(sys.modules, "openvino", None)
    without = doctors_findings(invoke)["hrnet on the CPU"]

    assert with_it["ok"]
    assert with_it["detail"].startswith("OpenVINO 2")
    assert (without["ok"], without["needed"]) == (False, False)
    assert without["detail"].startswith("torch, several times slower")
    assert without["mend"] == "pip install openvino"


def test_doctor_says_what_the_page_in_the_browser_needs(invoke, monkeypatch, fake_detector):
    from gridpose.pipeline import doctor

    def installed(package):
        if package == "gradio":
            raise doctor.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(doctor, "version", installed)
    findings = doctors_findings(invoke)
    assert findings["app (gradio)"]["mend"] == "pip install 'gridpose[app]'"
    assert not findings["app (gradio)"]["needed"]
    assert findings["batch --engine ray"]["ok"]


def test_doctor_says_how_to_install_mmpose(invoke, monkeypatch, fake_detector):
    for module in ("mmpose", "mmpose.models"):
        monkeypatch.setitem(sys.modules, module, None)

    finding = doctors_findings(invoke)["mmpose"]

    assert not finding["ok"]
    assert "pip install --no-deps mmpose==1.3.2 mmcv-lite==2.1.0" in finding["mend"]


@pytest.fixture(scope="module")
def long_video(make_video, tmp_path_factory):
    return make_video(
        tmp_path_factory.mktemp("long") / "long.mp4",
        frames=1200,
        fps="30",
        size=(160, 120),
        args=["-preset", "ultrafast"],
    )


def wait_until(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="child processes are looked up in /proc")
@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        ("while loading", signal.SIGTERM, 143),
        ("at work", signal.SIGINT, 130),
        pytest.param("while loading", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("at work", signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_interrupted_it_ends_soon_and_cleans_up(long_video, tmp_path, moment, number, code):
    process = subprocess.Popen(
        [*MAIN, "video", str(long_video), "-o", str(tmp_path / "out.mp4")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if moment == "while loading":  # the encoder is there, the networks are not
            wait_until(lambda: any("pipe:0" in line for _, line in children(process.pid)), process)
        else:  # the encoder has got frames
            wait_until(lambda: any(f.stat().st_size for f in tmp_path.iterdir()), process)
        programs = [number for number, _ in children(process.pid)]
        assert programs
        begin = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        seconds = time.monotonic() - begin
    finally:
        process.kill()
    assert process.returncode == code, err
    assert seconds < 3
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    end = time.monotonic() + 5  # they are killed by now; a busy machine takes a moment to notice
    while any(is_alive(program) for program in programs):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_reader_that_has_gone_away_is_no_defect(make_video, tmp_path):
    source = make_video(tmp_path / "in.mp4", frames=2)
    process = subprocess.Popen(
        [*MAIN, "video", str(source), "-o", str(tmp_path / "out.mp4"), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "defect" not in err
