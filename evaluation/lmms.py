"""Evaluate a checkpoint with lmms-eval, with the geometry that it was made with.

python -m evaluation.lmms . --tasks held_out_shapes --min-pixels 12544 --max-pixels 12544 --output-dir out
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m evaluation.lmms", file=sys.stderr)
    sys.exit(2)

import contextlib
import copy
import importlib.metadata
import inspect
import io
import math
from pathlib import Path

import torch

from . import result_file, shapes_task
from .command_line import announce, check_options, has_openai_key, make_parser, run, task_names
from .loading import EvaluationError

WRAPPER = "qwen2_5_vl"  # the harness chooses prompts by this name, so that every checkpoint is asked in the same words
NO_METRIC = "bypass"  # what the harness reports, as 999, where answers were not scored


def main() -> None:
    parser = make_parser(__doc__, "lmms-eval")
    parser.add_argument("--batch-size", type=int, default=1)
    given, rest = parser.parse_known_args()
    tasks = task_names(given.tasks, "lmms_eval")
    check_options(given, tasks, has_openai_key())
    checkpoint = announce(given.checkpoint)

    from lmms_eval import __main__ as harness
    from lmms_eval.evaluator_utils import TaskOutput
    from lmms_eval.models.simple import qwen2_5_vl as wrapper

    include = shapes_task.write(given.output_dir / "data") if shapes_task.NAME in tasks else None
    _check_tasks(tasks, include)
    wrapper.Qwen2_5_VLForConditionalGeneration = checkpoint
    found = {}
    TaskOutput.calculate_aggregate_metric = _recording(TaskOutput.calculate_aggregate_metric, found)

    model_args = {"pretrained": checkpoint.directory, "min_pixels": given.min_pixels, "max_pixels": given.max_pixels}
    if not torch.cuda.is_available():
        model_args |= {"device": "cpu", "device_map": "cpu"}
    options = {
        "--model": WRAPPER,
        "--model_args": ",".join(f"{key}={value}" for key, value in model_args.items() if value is not None),
        "--tasks": ",".join(tasks),
        "--batch_size": given.batch_size,
        "--output_path": given.output_dir / "lmms_eval",
        "--limit": given.limit,
        "--include_path": include,
    }
    words = [str(word) for pair in options.items() if pair[1] is not None for word in pair]
    sys.argv = ["lmms_eval", *words, "--log_samples", *rest]
    _, arguments = harness.parse_eval_args()
    results, samples = harness.cli_evaluate_single(arguments)
    if results is None:  # another process than the first
        return
    print(harness.make_table(results))
    if not results["results"] or (results.get("usage") or {}).get("budget_exceeded"):
        raise EvaluationError("lmms-eval came to no whole result: what it printed says why.")
    limits = inspect.signature(wrapper.Qwen2_5_VL.__init__).parameters
    settings = {
        "min_pixels": given.min_pixels or limits["min_pixels"].default,
        "max_pixels": given.max_pixels or limits["max_pixels"].default,
        "limit": given.limit,
        "options": rest,
    }
    version = importlib.metadata.version("lmms-eval")
    result = result_file.new_result(f"lmms-eval {version}", checkpoint, settings)
    for name, logged in samples.items():
        result.tasks[name] = _task_result(name, logged, found)
    print(f"written: {result_file.write(result, given.output_dir)}")


def _check_tasks(tasks, include):
    """Refuse a task that the harness does not have, before anything is loaded."""
    from lmms_eval.tasks import TaskManager

    manager = TaskManager("ERROR", include_path=str(include) if include else None, model_name=WRAPPER)
    missing = [task for task in tasks if task not in manager.match_tasks([task]) and not Path(task).is_file()]
    if missing:
        raise EvaluationError(
            f"lmms-eval has no task {missing[0]!r}: `python -m lmms_eval --tasks list` prints those that it has."
        )


def _recording(calculate, found):
    """The harness's method, which keeps besides what every single question would score."""

    def calculate_and_keep(self, *args, **kwargs):
        kept = copy.deepcopy(dict(self.sample_metrics))  # some aggregations change what they are given
        calculate(self, *args, **kwargs)
        metrics = found.setdefault(self.task_name, {})
        for (metric, extraction), items in kept.items():
            score, aggregate = self.agg_metrics.get(f"{metric},{extraction}"), self.task.aggregation().get(metric)
            if metric not in (*metrics, NO_METRIC) and isinstance(score, (int, float)):
                with contextlib.redirect_stdout(io.StringIO()):
                    metrics[metric] = float(score), [_score_alone(item, aggregate, self.task) for item in items]

    return calculate_and_keep


def _score_alone(item, aggregate, task):
    """What the aggregation makes of one question: its own score, whatever form the task keeps it in."""
    if isinstance(item, (bool, int, float)):
        return float(item)
    needs = {"args": task.args} if "args" in inspect.signature(aggregate).parameters else {}
    return float(aggregate([item], **needs) or 0)  # some say None for nothing right


def _task_result(name, logged, found):
    metrics = found.get(name)
    if not metrics:
        raise EvaluationError(f"lmms-eval gave no number for {name}: it is a task whose answers are judged elsewhere.")
    # MMStar names its categories before the average.
    metric = "average" if "average" in metrics else next(iter(metrics))
    score, questions = metrics[metric]
    asked = {sample["doc_id"]: sample["doc_hash"] for sample in logged}  # once, whatever the number of extractions
    if len(questions) != len(asked) or not all(map(math.isfinite, questions)):
        raise EvaluationError(f"lmms-eval scored {len(questions)} of the {len(asked)} questions of {name}.")
    unit = 100 if max(questions) > 1 else 1  # MathVista speaks in percent
    score = result_file.percent(score, [question / unit for question in questions])
    return result_file.TaskResult(
        metric,
        score,
        {str(number): question / unit for number, question in zip(asked, questions)},
        result_file.digest([f"{number} {content}" for number, content in asked.items()]),
    )


if __name__ == "__main__":
    sys.exit(run(main))
