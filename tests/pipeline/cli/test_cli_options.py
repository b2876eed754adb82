"""The options of every command by name; they are a contract with users."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from gridpose.core import MissingError
from gridpose.detectors.options import HRNetOptions
from gridpose.option import DETECTOR, INPUT, Option
from gridpose.pipeline import BatchOptions, VideoOptions
from gridpose.pipeline.cli.app import COMMANDS, load_command
from gridpose.pipeline.cli.options import InPanels, with_options

VIDEO = (
    "--detector --detector-weights --detector-config --person-boxes --flip-test/--no-flip-test "
    "--compile --engine-cpu --lifter --device --precision --persons --min-height --smoothing "
    "--repair/--no-repair --constant-bones/--no-constant-bones --gravity "
    "--trajectory/--no-trajectory --fov --cuts/--no-cuts --stride --true-fps --batch-size "
    "--layout --view --resolution --theme --trails/--no-trails --hide-unseen/--no-hide-unseen "
    "--inset --audio/--no-audio --crf"
)
COMMON = "--quiet/-q --verbose/-v --json"
EXPECTED = {
    "video": f"IN --output/-o {VIDEO} --select --start --end --fps --save-poses --overwrite "
    f"{COMMON}",
    "batch": f"FOLDER --output/-o {VIDEO} --render/--no-render --workers --include --exclude "
    f"--max-duration --retry-failed --dry-run --timeout --engine --address {COMMON}",
    "app": f"--host --port --auth --max-size --max-duration {COMMON}",
    "demo": f"--output/-o --overwrite {COMMON}",
    "lift": "keypoints --output/-o --image-size --convention --fps --normalized --lifter --device "
    "--precision --persons --smoothing --repair/--no-repair --constant-bones/--no-constant-bones "
    f"--gravity --trajectory/--no-trajectory --fov --overwrite {COMMON}",
    "live": "[SOURCE] --detector --max-persons --lifter --device --fov --smoothing/--no-smoothing "
    "--layout --view --resolution --theme --trails/--no-trails --hide-unseen/--no-hide-unseen "
    "--inset --serve/--no-serve --port --record --save-poses --udp --osc --duration --give-up "
    "--overwrite --quiet/-q --verbose/-v --json",
    "render": "poses --output/-o --video --layout --view --resolution --theme "
    "--trails/--no-trails --hide-unseen/--no-hide-unseen --inset --track --start --end "
    "--pictures --audio/--no-audio --crf --overwrite "
    f"{COMMON}",
    "export": "poses --output/-o --track --foot-lock --fps --trim --skeleton --separate "
    f"--overwrite {COMMON}",
    "angles": f"poses --output/-o --track --overwrite {COMMON}",
    "doctor": "--verbose/-v --json",
    "data convert": f"POSES --output/-o --keypoints/-k --input --overwrite {COMMON}",
    "data build": "MOCAP --output/-o --input --split --views --noise --seed --max-frames "
    f"--overwrite {COMMON}",
    "data info": f"FOLDER {COMMON}",
    "models list": COMMON,
    "models download": f"NAME... {COMMON}",
    "models verify": f"[NAME...] {COMMON}",
    "models convert": "IN --output/-o --lifting-model --padding-mode --temperature --grid-shape "
    f"--precision --overwrite {COMMON}",
    "models show": "FILE --output/-o --padding-mode --temperature --grid-shape --overwrite "
    f"{COMMON}",
}


def parameters(command):
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            yield parameter.metavar or parameter.name
        else:
            yield "/".join((*parameter.opts, *parameter.secondary_opts))


@pytest.mark.parametrize("name", EXPECTED)
def test_no_command_gains_or_loses_an_option_unseen(name):
    first, *rest = name.split()
    command = load_command(first)
    for part in rest:
        command = command.commands[part]
    assert sorted(parameters(command)) == sorted(EXPECTED[name].split())


def test_every_command_is_listed(invoke):
    listed = invoke("--help").stdout.partition("Commands:")[2]
    assert list(COMMANDS) == [line.split()[0] for line in listed.strip().splitlines()]
    assert "..." not in listed
    assert {name.split()[0] for name in EXPECTED} == set(COMMANDS) - {"train", "eval"}


@dataclass(frozen=True)
class Inner:
    mode: Annotated[Literal["calm", "wild"], Option("How.", DETECTOR)] = "calm"
    shown: Annotated[bool, Option("Whether.", DETECTOR, name="show", only_on=True)] = False


@dataclass(frozen=True)
class Outer:
    size: Annotated[
        int | None, Option("How large.", INPUT, type=str, default="auto", parse=len)
    ] = None
    many: Annotated[tuple[int, ...], Option("Which.", INPUT)] = ()
    count: Annotated[int, Option("How many.", INPUT, least=1, most=3)] = 2
    inner: Annotated[Inner, Inner] = field(default_factory=Inner)
    hidden: int = 5


@pytest.fixture
def given():
    """``given(argument, ...)`` -> the options object that a command got, and its output."""

    def run(*arguments):
        got = []

        @with_options(Outer, without=["count"])
        def command(options: Outer, extra: Annotated[int, typer.Option()] = 0) -> None:
            got.append(options)

        small = typer.Typer(rich_markup_mode=None)
        small.command(cls=InPanels)(command)
        result = CliRunner().invoke(small, list(arguments))
        return got[0] if got else None, result.output

    return run


def test_options_become_an_object(given):
    options, _ = given("--size", "four", "--many", "1", "--many", "2", "--mode", "wild", "--show")
    assert options == Outer(size=4, many=(1, 2), inner=Inner("wild", shown=True))
    assert given("--mode", "tame")[0] is None
    assert given("--count", "1")[0] is None
    assert given("--no-show")[0] is None


def test_defaults_are_those_of_the_class(invoke, monkeypatch):
    got = []

    def run(source, output, options, **_):
        got.append(options)
        raise MissingError("as agreed")

    monkeypatch.setattr("gridpose.pipeline.run.run_video", run)
    monkeypatch.setattr("gridpose.pipeline.batch.run_batch", run)
    for command in ("video", "batch"):
        assert "as agreed" in invoke(command, "in.mp4", "-o", "out.mp4").stderr
    video, batch = got
    assert video == VideoOptions(hrnet=HRNetOptions())
    assert batch == BatchOptions(video=video)


def test_help_has_panels(given):
    _, text = given("--help")
    headings = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert headings[1:] == [f"{INPUT}:", f"{DETECTOR}:", "Options:"]
