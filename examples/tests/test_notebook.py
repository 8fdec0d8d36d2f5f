"""The notebook, executed as it is printed."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.models import ROOT

PATH = ROOT / "examples" / "circle_rope.ipynb"


@pytest.fixture(scope="module")
def texts():
    """What the notebook prints when it is run, cell by cell."""
    notebook = nbformat.read(PATH, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": PATH.parent}}).execute()
    return {
        cell.source: "".join(output.get("text", "") for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def test_it_runs_and_says_what_stands_in_it(texts):
    def said(part):
        return next(text for source, text in texts.items() if part in source)

    assert "2,147,968 parameters, layers: circle mrope" in said("num_parameters")
    assert "Where is the red circle?       top right" in said("What shape is blue?")
    assert "as trained (AGE strategy_4)    40 of 40 right" in said("set_circle_rope")
    assert "is ready: AutoModelForImageTextToText" in said('"--output-dir"')
    first, last = map(float, said("trainer_state.json").split("loss from ")[1].split(" to "))
    assert last < first / 2
    assert "bytes in" in said("--dry-run")


def test_what_is_committed_was_run_and_is_small():
    notebook = nbformat.read(PATH, as_version=4)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)) and PATH.stat().st_size < 1_000_000
