"""The commands of the folders: how they are typed, and what is said where one is typed as a file."""

import re
import subprocess
import sys

import pytest

from tests.models import ROOT

COMMANDS = {
    "benchmarks/run.py": "benchmarks",
    "evaluation/lmms.py": "evaluation.lmms",
    "evaluation/report.py": "evaluation.report",
    "evaluation/shapes_task.py": "evaluation.shapes_task",
    "evaluation/vlmevalkit.py": "evaluation.vlmevalkit",
    "evidence/report.py": "evidence.report",
    "examples/ask.py": "examples.ask",
    "serving/benchmark.py": "serving.benchmark",
    "serving/load.py": "serving.load",
    "serving/transformers_serve.py": "serving.transformers_serve",
    "shapes/evaluate.py": "shapes.evaluate",
    "shapes/train.py": "shapes.train",
    "training/sft.py": "training.sft",
    "training/tests/pictures_set.py": "training.tests.pictures_set",
}


@pytest.mark.parametrize("file", COMMANDS)
def test_a_command_typed_as_a_file_says_how_it_is_typed(file, tmp_path):
    for folder in (ROOT, tmp_path):
        done = subprocess.run([sys.executable, ROOT / file], cwd=folder, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: from the repo's root, this is python -m {COMMANDS[file]}\n"


def test_every_command_that_the_pages_name_is_there():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]
    named = {name for page in pages for name in re.findall(r"(?<= -m )\w+(?:\.\w+)*", page.read_text("utf-8"))}
    own = {name for name in named if (ROOT / name.split(".")[0]).is_dir()}
    assert {"examples.ask", "training.sft", "benchmarks"} <= own
    for name in own:
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name
