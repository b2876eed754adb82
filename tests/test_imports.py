from pathlib import Path

from importlinter import cli

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_imports_point_one_way_and_never_in_a_circle(capsys):
    broken = cli.lint_imports(config_filenames=(str(PYPROJECT),), no_cache=True)
    assert not broken, capsys.readouterr().out
