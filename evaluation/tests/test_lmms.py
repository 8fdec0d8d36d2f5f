"""lmms-eval through evaluation/lmms.py: each checkpoint with its own geometry, and an exit code to be trusted."""

import json

import pytest

from .conftest import ROOT, assert_is_as_without_the_harness, assert_is_stock, assert_refused, evaluate, evaluate_whole

COMMAND = "lmms"


@pytest.mark.parametrize("options", [("--batch-size", 8), ("--force_simple",)], ids=["chat", "simple"])
def test_a_converted_checkpoint_answers_as_it_does_without_the_harness(options, expected, tmp_path):
    printed, result = evaluate_whole(COMMAND, ROOT, tmp_path / "out", *options)
    assert_is_as_without_the_harness(printed, result, expected)
    assert result.harness == "lmms-eval 0.7.3"
    assert result.settings["max_pixels"] == 12544


def test_the_same_weights_as_a_stock_checkpoint_answer_under_m_rope(stock_dir, expected, tmp_path):
    # The harness computes in bfloat16.
    assert_is_stock(*evaluate_whole(COMMAND, stock_dir, tmp_path / "out", "--batch-size", 8), expected)


def test_an_unknown_task_is_refused_before_anything_is_loaded(tmp_path):
    done = evaluate(COMMAND, ROOT, tmp_path / "out", tasks="mmstarr")
    assert_refused(done, "lmms-eval has no task 'mmstarr'")
    assert "Loading weights" not in done.stderr


def test_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert_refused(evaluate(COMMAND, tmp_path, tmp_path / "out"), "is a 'llama' model")
    assert not (tmp_path / "out").exists()


def test_a_task_that_needs_a_judge_is_refused_without_one(tmp_path):
    assert_refused(evaluate(COMMAND, ROOT, tmp_path / "out", tasks="paper"), "mathvista", "OPENAI_API_KEY")


@pytest.mark.parametrize(
    "options, words",
    [
        (("--limit", 0), "--limit is 0"),
        (("--min-pixels", 20000), "--min-pixels 20000 is above --max-pixels 12544"),
        (("--max-pixels", "many"), "many"),
    ],
)
def test_options_out_of_range_are_refused(options, words, tmp_path):
    assert_refused(evaluate(COMMAND, ROOT, tmp_path / "out", *options), words)


def test_a_folder_with_other_results_is_left_alone(tmp_path):
    (tmp_path / "notes").write_text("mine")
    assert_refused(evaluate(COMMAND, ROOT, tmp_path), "is not an empty folder")


@pytest.mark.parametrize(
    "options",
    [("--gen_kwargs", "max_new_tokens=-5"), ("--predict_only",), ("--nothing_such", 1)],
    ids=["fails", "no score", "unknown option"],
)
def test_a_harness_that_failed_is_an_exit_code(options, tmp_path):
    done = evaluate(COMMAND, ROOT, tmp_path / "out", "--limit", 2, *options)
    assert done.returncode != 0
    assert not (tmp_path / "out" / "circle_rope_results.json").exists()
