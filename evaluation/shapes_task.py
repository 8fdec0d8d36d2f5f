"""The local task: generated pictures of held-out scenes with one question each, in a folder that every harness reads.

python -m evaluation.shapes_task FOLDER
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m evaluation.shapes_task", file=sys.stderr)
    sys.exit(2)

import argparse
import base64
import csv
import json
import random
from pathlib import Path

import yaml

from shapes.pictures import draw, make_questions, make_scene

NAME = "held_out_shapes"  # a harness takes the name of a folder in sight for that folder
QUESTIONS, SEED = 200, 2505

# What lmms-eval imports beside the task's YAML file.
FUNCTIONS = '''\
"""Functions of the task, which lmms-eval calls by name."""

from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent


def pictures(doc):
    return [Image.open(HERE / doc["image"]).convert("RGB")]


def question(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def score(doc, results):
    return {"exact_match": float(results[0].strip() == doc["answer"])}
'''


def questions(count: int = QUESTIONS) -> list[tuple]:
    """(picture, question, answer) of the task; pictures are PIL, 112 x 112.

    The same at every call, and fewer are the first of more.

    Args:
        count: how many, from 1.
    """
    rng = random.Random(SEED)
    asked = []
    for _ in range(count):
        scene = make_scene(rng, held_out=True)
        asked.append((draw(scene, rng), *make_questions(scene, rng, 1)[0]))
    return asked


def write(folder: Path, count: int = QUESTIONS) -> Path:
    """Write the task to `folder`, over what is there: for lmms-eval, VLMEvalKit and EvalScope.

    Args:
        folder: the YAML file and its functions are lmms-eval's, the TSV file VLMEvalKit's, and the JSONL file that is
            named like the task EvalScope's `general_vqa`; all three ask the same questions.
        count: how many, from 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pictures").mkdir(exist_ok=True)
    rows = []
    for number, (picture, question, answer) in enumerate(questions(count)):
        name = f"pictures/{number}.png"
        picture.save(folder / name)
        rows.append({"index": number, "image": name, "question": question, "answer": answer})
    _write_lines(folder / "rows.jsonl", rows)
    task = {
        "task": NAME,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str((folder / "rows.jsonl").resolve())}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_target": "answer",
        "generation_kwargs": {"max_new_tokens": 16, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    functions = {"doc_to_visual": "pictures", "doc_to_text": "question", "process_results": "score"}
    lines = [f"{key}: !function shapes_functions.{name}\n" for key, name in functions.items()]
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(task, sort_keys=False) + "".join(lines), encoding="utf-8")
    (folder / "shapes_functions.py").write_text(FUNCTIONS, encoding="utf-8")
    with open(folder / f"{NAME}.tsv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ("index", "image", "question", "answer"), delimiter="\t")
        table.writeheader()
        for row in rows:
            image = base64.b64encode((folder / row["image"]).read_bytes()).decode()
            table.writerow({**row, "image": image})
    _write_lines(folder / f"{NAME}.jsonl", map(_conversation, rows, [folder] * len(rows)))
    return folder


def _conversation(row, folder):
    """A row as EvalScope's `general_vqa` reads it."""
    picture = {"type": "image_url", "image_url": {"url": str((folder / row["image"]).resolve())}}
    content = [picture, {"type": "text", "text": row["question"]}]
    return {"messages": [{"role": "user", "content": content}], "answer": row["answer"]}


def _write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    given = parser.parse_args()
    if given.questions < 1:
        parser.error(f"--questions is {given.questions}, but must be 1 or more")
    write(given.folder, given.questions)
    print(f"written: {given.questions} questions in {given.folder}")


if __name__ == "__main__":
    main()
