"""The report: paired differences, their intervals, and what it refuses to compare."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evaluation.report import compare, compare_average
from evaluation.result_file import NAME, Result, TaskResult, digest, percent, write
from tests.warm_python import executable

from .conftest import assert_refused, run


def task(shares, asked="same"):
    questions = {str(number): float(share) for number, share in enumerate(shares)}
    return TaskResult("accuracy", 100 * sum(shares) / len(shares), questions, asked)


def result(tasks, checkpoint="runs/first", **changes):
    found = Result("harness 1", checkpoint, "Class", ["circle", "mrope"], {"radius": 10}, {"max_pixels": 9}, tasks)
    return replace(found, **changes)


def report(*arguments):
    return run(executable(), "-m", "evaluation.report", *arguments)


def test_a_difference_is_paired():
    """The same two scores differ more surely where the questions agree: 4 of 100 gained and none lost."""
    first, gained = task([1] * 50 + [0] * 50), task([1] * 54 + [0] * 46)
    exchanged = task([0] * 20 + [1] * 54 + [0] * 26)
    paired, mixed = compare(first, gained), compare(first, exchanged)
    assert (paired.value, paired.better, paired.worse) == (pytest.approx(4), 4, 0)
    assert (mixed.value, mixed.better, mixed.worse) == (pytest.approx(4), 24, 20)
    assert 0 < paired.low < 4 < paired.high < 9
    assert mixed.low < -5 and mixed.high > 12


def test_an_interval_holds_the_truth_as_often_as_it_says():
    """100 tables of 100 questions, of which the second checkpoint answers 10 points more."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        first, other = (rng.random(100) < share for share in (0.5, 0.6))
        found = compare(task(first.astype(float)), task(other.astype(float)))
        held += found.low <= 10 <= found.high
    assert 90 <= held <= 99


def test_no_question_that_differs_is_no_proof_of_none():
    found = compare(task([1] * 50), task([1] * 50))
    assert (found.value, found.low, found.high) == (0, -6, 6)


def test_an_average_counts_every_task_alike():
    first = [task([0] * 90 + [1] * 10), task([0] * 10)]
    other = [task([0] * 90 + [1] * 10), task([1] * 5 + [0] * 5)]
    found = compare_average(first, other)
    assert found.value == pytest.approx(25)
    assert 5 < found.low < 25 < found.high < 45


def test_a_score_is_in_percent_whatever_the_harness_says():
    assert percent(0.5, [1, 0]) == percent(50.0, [1, 0]) == 50
    assert percent(0.0, [0, 0]) == 0


def test_the_table_is_markdown_and_json(tmp_path):
    tasks = {"a": task([1, 0, 1, 0] * 5), "b": task([0.5] * 10)}
    better = {"a": task([1, 1, 1, 0] * 5), "b": task([0.5] * 9 + [1])}
    write(result(tasks), tmp_path / "first")
    write(result(better, "runs/second"), tmp_path / "second")
    done = report(tmp_path / "first", tmp_path / "second" / NAME, "--output", tmp_path / "table")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "table.md").read_text()
    assert text.strip() == done.stdout.strip()
    row = next(line for line in text.splitlines() if line.startswith("| a (accuracy) | 20 | 50.00 | 75.00 | +25.00 ("))
    assert row.endswith("| 5 / 0 |")
    assert "layers circle mrope" in text and "max_pixels 9" in text
    table = json.loads((tmp_path / "table.json").read_text())
    second = table["checkpoints"][1]
    assert second["name"] == "second" and second["tasks"]["a"]["difference"]["value"] == 25
    assert second["average"]["score"] == pytest.approx((75 + 55) / 2)
    again = report(tmp_path / "first", tmp_path / "second")
    assert again.stdout == done.stdout  # the interval does not change from call to call


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"harness": "harness 2"}, "its harness is harness 2, not harness 1"),
        ({"settings": {"max_pixels": 10}}, "its max_pixels is 10, not 9"),
        ({"settings": {"max_pixels": 9, "limit": 5}}, "its limit is 5, not None"),
        ({"tasks": {"b": task([1, 0])}}, "its list of tasks is ['b'], not ['a']"),
        ({"tasks": {"a": task([1, 0], "others")}}, "its set of questions of a is others, not same"),
    ],
)
def test_a_result_of_another_run_is_refused(changes, words, tmp_path):
    write(result({"a": task([1, 0])}), tmp_path / "first")
    write(result(**{"tasks": {"a": task([1, 0])}, **changes}), tmp_path / "second")
    done = report(tmp_path / "first", tmp_path / "second", "--output", tmp_path / "table")
    assert_refused(done, "second is of another run than", words)
    assert not (tmp_path / "table.md").exists()


@pytest.mark.parametrize("text", [None, "", "{}", '{"results": {}}', "[1]", '{"format": "circle-rope-evaluation-1"}'])
def test_what_is_no_result_is_refused(text, tmp_path):
    if text is not None:
        (tmp_path / NAME).write_text(text)
    assert_refused(report(tmp_path), "is no result of evaluation.lmms")


def test_a_digest_knows_the_questions_and_not_their_order():
    assert digest(["a", "b"]) == digest(["b", "a"]) != digest(["a", "c"])
