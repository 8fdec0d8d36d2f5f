"""The study's tables, of what there are records of."""

from statistics import mean

from evidence.markdown import table

from . import bias
from .answers import chance, questions_of, share
from .arms import BIAS, TASKS, Run
from .claims import claims, claims_table
from .experiments import RATE_ARMS, score
from .found import (
    Found,
    changed,
    impossible,
    loss_by_distance,
    median_steps,
    outcomes,
    slope_over_cells,
    spread_over_cells,
)
from .statistics import interval

ENOUGH = 0.9
INTRODUCTION = """\
Means over seeds with half their 95 % intervals (Student's t). All arms of a seed answer the same questions. A claim's
p is corrected for the number of claims (Holm), but for the contrast that was named beforehand; its bootstrap draws
seeds, and questions within each. *Chance* is the best guess without a look at the picture."""


def page(records: dict, scales: dict) -> str:
    """All claims and tables as one Markdown page."""
    parts = ["# What each arm of the study learned", "", INTRODUCTION, ""]
    for title, text in tables(records, scales).items():
        parts += [f"## {title}", "", text, ""]
    return "\n".join(parts)


def tables(records: dict, scales: dict) -> dict[str, str]:
    """Markdown tables by title."""
    made = {"Claims": claims_table(claims(records, scales))}
    for scale in scales:
        found = Found(records, scale, scales)
        made[f"{scale}: learning rates, share right on two other seeds"] = _rates(records, scale, scales)
        for what in TASKS:
            for title, text in _tests(found, what, scales).items():
                made[f"{scale}, {what}: {title}"] = text
        made[f"{scale}: position bias by cell"] = _rows(
            found,
            BIAS,
            {
                f"{title}, {board}": lambda record, measure=measure, board=board: measure(record, board)
                for board in bias.MOVED_ON
                for title, measure in (
                    ("spread of accuracy, points", spread_over_cells),
                    ("slope of the margin, logits", slope_over_cells),
                )
            },
        )
        made[f"{scale}: points lost with the text moved away"] = _rows(
            found,
            BIAS,
            {
                f"{axes} {far}": lambda record, axes=axes, number=number: loss_by_distance(record, axes)[number]
                for axes in bias.AXES
                for number, far in enumerate(bias.DISTANCES)
                if far
            },
        )
        made[f"{scale}: answers that change with the order of two pictures, %"] = _rows(
            found,
            "pairs",
            {
                "all": lambda record: changed(record).mean(),
                **{
                    kind: lambda record, kind=kind: changed(record, (kind,)).mean()
                    for kind in ("What shape", "What colour", "Where is", "Which is")
                },
            },
        )
    return {title: text for title, text in made.items() if text}


def _rates(records, scale, scales):
    rates, seeds = scales[scale].rates, scales[scale].rate_seeds
    rows = []
    for arm in RATE_ARMS.values():
        names = [[Run("shapes", scale, arm, seed, rate).name for seed in seeds] for rate in rates]
        rows.append(
            [arm, *(_spread([100 * score(records[name]) for name in each if name in records]) for each in names)]
        )
    return table(["arm", *(f"{rate:g} times" for rate in rates)], rows)


def _tests(found, what, scales):
    arms = found.arms(what)
    if not arms:
        return {}
    task, scale = TASKS[what], scales[found.scale]
    made = {
        "share right, %": _rows(
            found, what, {test: lambda record, test=test: 100 * share(record["tests"][test]) for test in task.TESTS}
        )
    }
    for test in task.TESTS:
        asked = dict(sorted(questions_of(task, test, 0, scale).items()))
        made[f"share right by kind, {test}, %"] = _rows(
            found,
            what,
            {kind: lambda record, test=test, kind=kind: outcomes(record, (test,), (kind,)).mean() for kind in asked},
            ["chance", *(f"{100 * chance(each):.1f}" for each in asked.values())],
        )
    return made | {
        'impossible answers to "Where is", %': _rows(
            found, what, {test: lambda record, test=test: impossible(record, test) for test in task.TESTS}
        ),
        "learning": table(
            [
                "arm",
                "runs",
                "learning rate, times",
                "share right at the end, %",
                f"runs that reach {100 * ENOUGH:.0f} %",
            ],
            [
                [
                    arm,
                    str(len(runs)),
                    f"{next(iter(runs.values()))['rate']:g}",
                    _spread([100 * run["curve"][-1][2] for run in runs.values()]),
                    median_steps(list(runs.values()), ENOUGH),
                ]
                for arm in arms
                for runs in [found.runs(what, arm)]
            ],
        ),
    }


def _rows(found, what, measures, last=None):
    """A table of arms by measures, each the mean over seeds with half its interval."""
    rows = [
        [
            arm,
            *(
                _spread([measure(record) for record in found.runs(what, arm).values()])
                for measure in measures.values()
            ),
        ]
        for arm in found.arms(what)
    ]
    return table(["arm", *measures], rows + [last] if rows and last else rows)


def _spread(values):
    if not values:
        return ""
    half = interval(values)
    return f"{mean(values):.1f}" + ("" if half is None else f" ± {half:.1f}")
