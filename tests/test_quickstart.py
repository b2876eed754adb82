"""The notebook for newcomers runs from top to bottom."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_kept_without_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert NOTEBOOK.stat().st_size < 10_000


def test_it_runs(notebook, sample_video, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    (given,) = [cell for cell in notebook.cells if "seconds = 2.0" in cell.source]
    given.source = given.source.replace("seconds = 2.0", "seconds = 1.0")  # CI is slow
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())
    )
    assert "30 frames, people [1]" in shown
    assert "(1, 30, 17, 3) 30 frames a second" in shown
    assert "(17, 2) (17, 3)" in shown
    kinds = {
        kind
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        for kind in out.get("data", ())
    }
    assert {"image/png", "text/html"} <= kinds
    made = {file.name for file in (tmp_path / "gridpose-quickstart").iterdir()}
    assert made >= {"skeletons.mp4", "poses.npz", "viewer.html", "dance.glb", "angles.csv"}
