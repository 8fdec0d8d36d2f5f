"""VLMEvalKit through evaluation/vlmevalkit.py: each checkpoint with its own geometry, and an exit code that holds."""

import json

import pytest

from .conftest import ROOT, assert_is_as_without_the_harness, assert_is_stock, assert_refused, evaluate, evaluate_whole

COMMAND = "vlmevalkit"


def test_a_converted_checkpoint_answers_as_it_does_without_the_harness(expected, tmp_path):
    printed, result = evaluate_whole(COMMAND, ROOT, tmp_path / "out")
    assert_is_as_without_the_harness(printed, result, expected)
    assert "ms-vlmeval 0.0.20" in result.harness


def test_the_same_weights_as_a_stock_checkpoint_answer_under_m_rope(stock_dir, expected, tmp_path):
    # The harness keeps pictures as JPEG.
    assert_is_stock(*evaluate_whole(COMMAND, stock_dir, tmp_path / "out"), expected)


def test_an_unknown_data_set_is_refused_before_anything_is_loaded(tmp_path):
    done = evaluate(COMMAND, ROOT, tmp_path / "out", tasks="MMStarr")
    assert_refused(done, "VLMEvalKit has no data set 'MMStarr'")
    assert "Loading weights" not in done.stderr


def test_the_names_of_the_papers_set_are_known(tmp_path):
    """Each is looked up in the harness before the run; without a download, the first of them fails later."""
    from evaluation.command_line import task_names
    from evaluation.vlmevalkit import _check_tasks

    names = task_names(["paper"], "vlmevalkit")
    assert {"MMMU_DEV_VAL", "MMStar", "AI2D_TEST", "RealWorldQA", "InfoVQA_VAL", "ChartQA_TEST"} < set(names)
    _check_tasks(names)


def test_a_data_set_that_cannot_be_fetched_is_an_exit_code(tmp_path):
    """The harness itself logs a traceback, skips it and exits with 0."""
    done = evaluate(COMMAND, ROOT, tmp_path / "out", "--limit", 2, tasks="MMStar", HTTPS_PROXY="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: VLMEvalKit came to no result on MMStar: Failed to download")
    assert not (tmp_path / "out" / "circle_rope_results.json").exists()


def test_a_task_that_needs_a_judge_is_refused_without_one(tmp_path):
    assert_refused(evaluate(COMMAND, ROOT, tmp_path / "out", tasks="paper"), "MathVista_MINI", "OPENAI_API_KEY")


def test_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert_refused(evaluate(COMMAND, tmp_path, tmp_path / "out"), "is a 'llama' model")


@pytest.mark.parametrize(
    "columns, scores",
    [
        ({"hit": [1, 0]}, [1, 0]),
        ({"eval_match": ["[0.0, 0.9]", "[0.7]"]}, [1, 0]),  # ANLS: the nearest answer counts, below one half nothing
    ],
)
def test_questions_are_scored_by_the_harnesss_own_rules(columns, scores):
    import pandas

    from evaluation.vlmevalkit import _scores

    assert list(_scores(pandas.DataFrame(columns), "InfoVQA_VAL")) == pytest.approx(scores)


def test_of_mmmu_the_split_of_the_paper_counts():
    import pandas

    from evaluation.vlmevalkit import _of_the_paper

    table = pandas.DataFrame({"split": ["dev", "validation", "validation"]})
    assert _of_the_paper(table, "MMMU_DEV_VAL") == [False, True, True]
    assert _of_the_paper(table, "MMStar") == [True, True, True]
