"""The benchmarks' command: what it writes, and what it says when something cannot be measured."""

import json
import subprocess
import sys

import pytest

from tests.models import ROOT


def run(*arguments, folder):
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments), "--output", folder]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run whose second part does not fit the memory, and its folder."""
    folder = tmp_path_factory.mktemp("results")
    return run("positions", "steps", "--layers", 9000, "--repeats", 1, folder=folder), folder


def test_a_size_that_does_not_fit_the_memory_is_one_line_and_an_error(interrupted):
    done, _ = interrupted
    assert done.returncode != 0
    assert done.stderr.startswith("error: 9000 layers") and done.stderr.count("\n") == 1


def test_what_was_measured_before_an_error_is_kept(interrupted):
    done, folder = interrupted
    rows = json.loads((folder / "cpu.json").read_text())["tables"]["Positions (get_rope_index)"]
    assert {"one 16x16 image", "64-frame video", "batch of 8, text alone"} <= {row["input"] for row in rows}
    assert all(row["faster"]["AGE"]["low"] <= row["faster"]["AGE"]["median"] for row in rows)
    page = (folder / "cpu.md").read_text()
    assert all(f"| {row['input']} |" in page and f"| {row['input']} |" in done.stdout for row in rows)


def test_a_device_that_is_not_there_is_one_line_and_an_error(tmp_path):
    done = run("positions", "--device", "cuda", folder=tmp_path)
    assert done.returncode != 0
    assert done.stderr == "error: --device cuda was given, but torch sees no CUDA device here: use --device cpu.\n"


def test_a_checkpoint_that_does_not_fit_the_disk_is_one_line_and_an_error(tmp_path):
    done = run("loading", "--layers", 10**6, folder=tmp_path)
    assert done.returncode != 0
    assert "of disk" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("nothing",), ("--repeats", 0), ("--gigabytes", -1)])
def test_what_cannot_be_meant_is_refused_at_once(arguments, tmp_path):
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert str(arguments[-1]) in done.stderr and not list(tmp_path.iterdir())
