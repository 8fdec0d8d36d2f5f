"""Evaluate a checkpoint with VLMEvalKit, the paper's harness, with the geometry that it was made with.

python -m evaluation.vlmevalkit . --tasks held_out_shapes --min-pixels 12544 --max-pixels 12544 --output-dir out
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m evaluation.vlmevalkit", file=sys.stderr)
    sys.exit(2)

import ast
import functools
import importlib.metadata
from pathlib import Path
from unittest import mock

import torch
from transformers.utils import is_flash_attn_2_available

from . import result_file, shapes_task
from .command_line import announce, check_options, has_openai_key, make_parser, paper_rows, run, task_names
from .loading import Checkpoint, EvaluationError

MODEL = "Qwen2.5-VL-3B-Instruct"  # whose settings the harness gives: pixel limits, prompts, sampling
FAILED = "Failed to obtain answer"
EXACT = ["--judge", "exact_matching"]  # of choices, where no judge can be asked


def main() -> None:
    given, rest = make_parser(__doc__, "VLMEvalKit").parse_known_args()
    tasks = task_names(given.tasks, "vlmevalkit")
    has_judge = has_openai_key() or "--judge-base-url" in rest
    check_options(given, tasks, has_judge)
    checkpoint = announce(given.checkpoint)

    from vlmeval import run as harness

    if shapes_task.NAME in tasks:
        _add_local_task(shapes_task.write(given.output_dir / "data"))
    _check_tasks(tasks)
    entry = harness.supported_VLM[MODEL]
    limits = {"min_pixels": given.min_pixels, "max_pixels": given.max_pixels}
    keywords = entry.keywords | {key: value for key, value in limits.items() if value is not None}
    name = checkpoint.label
    harness.supported_VLM[name] = functools.partial(_load, checkpoint, **keywords)

    if not has_judge and "--judge" not in rest:
        rest += EXACT
    limit = ["--limit", str(given.limit)] if given.limit else []
    folder = given.output_dir / "vlmevalkit"
    sys.argv = ["vlmeval", "--data", *tasks, "--model", name, "--work-dir", str(folder), *limit, *rest]
    harness.run_local_mode(harness.parse_args())
    if harness.RANK:  # another process than the first
        return
    settings = {key: keywords[key] for key in limits} | {"limit": given.limit, "options": rest}
    version = importlib.metadata.version("ms-vlmeval")
    result = result_file.new_result(f"VLMEvalKit (ms-vlmeval {version})", checkpoint, settings)
    for task in tasks:
        result.tasks[task] = _task_result(folder / name, name, task)
    print(f"written: {result_file.write(result, given.output_dir)}")


def _check_tasks(tasks):
    """Refuse a data set that the harness does not have, before anything is loaded."""
    from vlmeval import dataset
    from vlmeval.smp import LMUDataRoot

    known = {name for cls in dataset.DATASET_CLASSES for name in cls.supported_datasets()}
    known |= set(dataset.supported_video_datasets)
    missing = [task for task in tasks if task not in known and not Path(LMUDataRoot(), f"{task}.tsv").is_file()]
    if missing:
        raise EvaluationError(
            f"VLMEvalKit has no data set {missing[0]!r}: `vlmutil dlist all` prints those that it has (for MMMU-Pro, "
            "MMMU_Pro_10c and MMMU_Pro_V)."
        )


def _load(checkpoint: Checkpoint, **keywords):
    """The harness's wrapper around the checkpoint, on whatever device there is."""
    from vlmeval.vlm.qwen2_vl import model as wrapper

    has_gpu = torch.cuda.is_available()
    stand_in = mock.Mock()
    stand_in.from_pretrained = functools.partial(_load_model, checkpoint)
    keywords = {**keywords, "model_path": str(checkpoint.directory)}
    with (
        # By its name: importing the harness makes another module `transformers` of the same submodules.
        mock.patch("transformers.Qwen2_5_VLForConditionalGeneration", stand_in),
        mock.patch.object(wrapper, "get_gpu_memory", wrapper.get_gpu_memory if has_gpu else lambda: [1]),
    ):
        model = wrapper.Qwen2VLChat(**keywords)
    if type(model.model) is not checkpoint.model_class:
        raise EvaluationError(f"{checkpoint.name} was loaded as {type(model.model).__name__} by the harness.")
    if not has_gpu:
        model.processor = _StaysHere(model.processor)
    return model


def _load_model(checkpoint, path, attn_implementation=None, **kwargs):
    """The harness asks for flash attention, which not every machine has."""
    if attn_implementation == "flash_attention_2" and not is_flash_attn_2_available():
        attn_implementation = "sdpa"
    return checkpoint.from_pretrained(path, attn_implementation=attn_implementation, **kwargs)


class _StaysHere:
    """A processor whose batches do not go to a GPU, whatever the harness says."""

    def __init__(self, processor):
        self.processor = processor

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, *args, **kwargs):
        batch = self.processor(*args, **kwargs)
        batch.to = lambda *_: batch
        return batch


def _add_local_task(folder):
    """Give the harness the local task as a data set of its own."""
    from vlmeval import dataset
    from vlmeval.smp import dump, get_intermediate_file_path, load

    class HeldOutShapes(dataset.ImageVQADataset):
        DATASET_URL = {shapes_task.NAME: ""}

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.img_root = str(folder / "images")

        def load_data(self, _):
            return load(str(folder / f"{shapes_task.NAME}.tsv"))

        def build_prompt(self, line):
            return dataset.image_base.ImageBaseDataset.build_prompt(self, line)  # the question and no advice

        def evaluate(self, eval_file, **_):
            table = load(eval_file)
            table["hit"] = [float(str(p).strip() == str(a)) for p, a in zip(table["prediction"], table["answer"])]
            dump(table, get_intermediate_file_path(eval_file, "_result"))
            return {"Overall": table["hit"].mean() * 100}

    dataset.DATASET_CLASSES.append(HeldOutShapes)


def _task_result(folder, model, task):
    """What the harness left on one data set.

    Raises:
        EvaluationError: it failed or skipped the data set, left questions unanswered, or scored none by itself.
    """
    from vlmeval.smp import fetch_aux_files, get_pred_file_path, load
    from vlmeval.smp.status_report import load_run_status

    status = load_run_status(str(folder))["datasets"].get(task, {})
    reason = status.get("error_message") or status.get("skip_reason")
    if reason or status.get("status") != "done":
        reason = str(reason or "it did not finish").rstrip(".")
        raise EvaluationError(f"VLMEvalKit came to no result on {task}: {reason}.")
    predictions = get_pred_file_path(str(folder), model, task)
    table = load(predictions)
    failed = sum(FAILED in str(answer) for answer in table["prediction"])
    if failed:
        raise EvaluationError(f"VLMEvalKit got no answer to {failed} of {len(table)} questions of {task}.")
    for file in sorted(fetch_aux_files(predictions)):
        if not file.endswith((".xlsx", ".tsv", ".json")):
            continue
        scored = load(file)
        scores = _scores(scored, task) if hasattr(scored, "columns") else None
        if scores is not None:
            break
    else:
        raise EvaluationError(f"VLMEvalKit keeps no score of single questions of {task}, which a comparison needs.")
    kept = _of_the_paper(scored, task)
    shares = {str(index): float(score) for index, score, keep in zip(scored["index"], scores, kept) if keep}
    asked = [f"{row['index']} {row.get('question')} {row.get('answer')}" for _, row in scored[kept].iterrows()]
    metric = status.get("primary_metric") or "Overall"
    score = 100 * sum(shares.values()) / len(shares)
    return result_file.TaskResult(str(metric), score, shares, result_file.digest(asked))


def _scores(table, task):
    """The score of every question, by the harness's own rules, or None where the table has none."""
    if "hit" in table:
        return list(table["hit"])
    if "eval_match" in table:
        from vlmeval.dataset.utils.vqa_eval import hit_calculate

        matches = [ast.literal_eval(str(match)) for match in table["eval_match"]]
        return hit_calculate([{"match": match} for match in matches], task)
    if task.startswith("MathVista") and {"res", "log"} <= set(table):
        from vlmeval.dataset.utils.mathvista import post_check

        return [float(bool(post_check(row))) for _, row in table.iterrows()]
    return None


def _of_the_paper(table, task):
    """Which rows count: MMMU_DEV_VAL holds two splits, of which the paper reports one."""
    splits = {name: row.get("split_in_file") for row in paper_rows() for name in row["vlmevalkit"]}
    wanted = splits.get(task)
    if wanted is None or "split" not in table or wanted not in set(table["split"]):
        return [True] * len(table)
    return list(table["split"] == wanted)


if __name__ == "__main__":
    sys.exit(run(main))
