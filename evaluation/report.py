"""One table of several results: scores, differences from the first, and their confidence intervals over questions.

python -m evaluation.report results/stock results/circle --output results/table
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m evaluation.report", file=sys.stderr)
    sys.exit(2)

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from .command_line import Parser, run
from .loading import EvaluationError
from .result_file import Result, TaskResult, read

LEVEL, RESAMPLES, SEED = 0.95, 10_000, 0


@dataclass
class Difference:
    """Of one checkpoint from the first, in percentage points: `value`, and the interval from `low` to `high`.

    `better` and `worse` count the questions on which it scores higher and lower.
    """

    value: float
    low: float
    high: float
    questions: int
    better: int
    worse: int


def compare(first: TaskResult, other: TaskResult) -> Difference:
    """The difference on one task, paired: each question is asked of both.

    Raises:
        EvaluationError: they were not asked the same questions.
    """
    return _difference([_paired(first, other)])


def compare_average(first: list[TaskResult], other: list[TaskResult]) -> Difference:
    """The difference of the averages over tasks, each of which counts alike whatever its number of questions."""
    return _difference([_paired(*pair) for pair in zip(first, other)])


def _paired(first, other):
    if first.asked != other.asked or first.questions.keys() != other.questions.keys():
        raise EvaluationError("they were not asked the same questions: run both on the same data, with one --limit.")
    return np.array([other.questions[name] - share for name, share in first.questions.items()])


def _difference(samples):
    """The mean of the samples' means, with the percentile bootstrap's interval; questions are drawn within each."""
    every = np.concatenate(samples)
    value = 100 * np.mean([sample.mean() for sample in samples])
    counts = {"questions": len(every), "better": int((every > 0).sum()), "worse": int((every < 0).sum())}
    # Where all differences of a task are alike, a resample knows nothing of what other questions would show: by the
    # rule of three, what was not seen in n questions is rarer than 3 / n.
    unseen = 100 * np.mean([min(1, 3 / len(sample)) * (np.ptp(sample) == 0) for sample in samples])
    if all(np.ptp(sample) == 0 for sample in samples):
        low = high = value
    else:
        varied = [sample for sample in samples if len(sample) > 1]
        fixed = sum(sample.mean() for sample in samples if len(sample) == 1)

        def mean_of_means(*drawn, axis):
            return 100 * (sum(part.mean(axis=axis) for part in drawn) + fixed) / len(samples)

        found = bootstrap(
            varied,
            mean_of_means,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method="percentile",
            vectorized=True,
            batch=200,
            rng=np.random.default_rng(SEED),
        )
        low, high = found.confidence_interval
    return Difference(float(value), float(max(low - unseen, -100)), float(min(high + unseen, 100)), **counts)


def check_comparable(results: list[Result], places: list[Path]) -> None:
    """Refuse results that differ in more than the checkpoint.

    Raises:
        EvaluationError: another harness, version, setting or set of tasks; the sentence names both files.
    """
    first = _conditions(results[0])
    for result, place in zip(results[1:], places[1:]):
        this = _conditions(result)
        for what in first | this:
            if first.get(what) != this.get(what):
                raise EvaluationError(
                    f"{place} is of another run than {places[0]}: its {what} is {this.get(what)}, not "
                    f"{first.get(what)}; evaluate both in the same way."
                )


def _conditions(result):
    """All that two results must have in common."""
    conditions = {"harness": result.harness, "list of tasks": sorted(result.tasks), **result.settings}
    for name, task in result.tasks.items():
        conditions |= {f"metric of {name}": task.metric, f"set of questions of {name}": task.asked}
    return conditions


def make_table(results: list[Result], names: list[str]) -> dict:
    """The whole report as JSON has it."""
    tasks, first = list(results[0].tasks), results[0]
    rows = []
    for result, name in zip(results, names):
        row: dict[str, Any] = {
            "name": name,
            "checkpoint": result.checkpoint,
            "class": result.model_class,
            "geometry_per_layer": result.schedule,
            "circle_rope": result.circle_rope,
            "tasks": {},
        }
        for task in tasks:
            found = result.tasks[task]
            row["tasks"][task] = {"score": found.score, "metric": found.metric, "questions": len(found.questions)}
            if result is not first:
                row["tasks"][task]["difference"] = asdict(compare(first.tasks[task], found))
        scores = [result.tasks[task].score for task in tasks]
        row["average"] = {"score": float(np.mean(scores))}
        if result is not first:
            both = ([one.tasks[task] for task in tasks] for one in (first, result))
            row["average"]["difference"] = asdict(compare_average(*both))
        rows.append(row)
    interval = {"level": LEVEL, "method": "percentile bootstrap, paired over questions", "resamples": RESAMPLES}
    return {"harness": first.harness, "settings": first.settings, "interval": interval, "checkpoints": rows}


def to_markdown(table: dict) -> str:
    """The report as a Markdown table, one row a task."""
    first, *others = table["checkpoints"]
    heads = ["task", "questions", first["name"]]
    for row in others:
        heads += [row["name"], "difference", "better / worse"]
    lines = [heads, ["---"] * len(heads)]
    for task, found in first["tasks"].items():
        cells = [f"{task} ({found['metric']})", str(found["questions"]), f"{found['score']:.2f}"]
        lines.append(cells + [cell for row in others for cell in _cells(row["tasks"][task])])
    if len(first["tasks"]) > 1:
        total = sum(found["questions"] for found in first["tasks"].values())
        cells = ["average", str(total), f"{first['average']['score']:.2f}"]
        lines.append(cells + [cell for row in others for cell in _cells(row["average"])])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    settings = ", ".join(f"{key} {value}" for key, value in table["settings"].items() if value not in (None, []))
    layers = "".join(
        f"\n- {row['name']}: {row['class']}, layers {' '.join(row['geometry_per_layer'])}" for row in (first, *others)
    )
    notes = (
        f"{table['harness']}; {settings}. Scores are the harness's, in percent. Differences are means over questions, "
        f"in percentage points, with {LEVEL:.0%} intervals (percentile bootstrap, paired over questions; where all "
        "questions differ alike, the rule of three). One interval in twenty misses, and a table has many.\n" + layers
    )
    return f"{text}\n\n{notes}\n"


def _cells(found):
    difference = found["difference"]
    interval = f"{difference['value']:+.2f} ({difference['low']:+.2f} to {difference['high']:+.2f})"
    return [f"{found['score']:.2f}", interval, f"{difference['better']} / {difference['worse']}"]


def _names(results, places):
    """A short name for every result: the checkpoint's, or where two have the same, the file's place."""
    names = [Path(result.checkpoint).name for result in results]
    return [name if names.count(name) == 1 else str(place) for name, place in zip(names, places)]


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="what the runs wrote, the baseline first")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.md and OUTPUT.json")
    given = parser.parse_args()
    results = [read(place) for place in given.results]
    check_comparable(results, given.results)
    table = make_table(results, _names(results, given.results))
    text = to_markdown(table)
    print(text)
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{given.output}.md").write_text(text, encoding="utf-8")
        Path(f"{given.output}.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run(main))
