import subprocess
import sys
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
LINT = "import sys; from importlinter import cli; sys.exit(cli.lint_imports(sys.argv[1]))"


def test_imports_point_one_way_and_never_in_a_circle(tmp_path):
    # In a process of its own, for it writes past what pytest captures.
    done = subprocess.run(
        [sys.executable, "-c", LINT, str(PYPROJECT)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
