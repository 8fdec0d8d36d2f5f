"""The study's tables, of what there are records of."""

from evidence.markdown import table

from . import bias
from .answers import chance, questions_of
from .arms import BIAS, TASKS, Run
from .claims import claims, claims_table
from .converted import conversion_tables
from .experiments import RATE_ARMS, SCORED, score
from .found import Found, loss_by_distance, right, slope_over_cells, spread_over_cells
from .statistics import shown
from .two import picture_tables

INTRODUCTION = """\
Means over seeds with half their 95 % intervals (Student's t over seeds). All arms of a seed answer the same questions.
A claim's p is corrected (Holm) within its family, which was fixed after the runs, a plan's before them; its interval
is not. *Seeds* says how many lie on the mean's side of zero. With 8 of them a test by signs alone cannot go below
p = 0.0078, with 6 not below 0.031: smaller p rest on the tails of t. A claim with a dagger (†) was named after a first
look at the runs.
*Chance* is the best guess without a look at the picture."""


def page(made: dict[str, str]) -> str:
    """All tables, by title, as one Markdown page."""
    parts = ["# What each arm of the study learned", "", INTRODUCTION, ""]
    for title, text in made.items():
        parts += [f"## {title}", "", text, ""]
    return "\n".join(parts)


def tables(records: dict, scales: dict) -> dict[str, str]:
    """Markdown tables by title."""
    made = {family: claims_table(own) for family, own in claims(records, scales).items()}
    for scale in scales:
        found = Found(records, scale, scales)
        made[f"{scale}: learning rates, right on two other seeds, %"] = _rates(records, scale, scales)
        for what in TASKS:
            for title, text in _tests(found, what, scales).items():
                made[f"{scale}, {what}: {title}"] = text
        measures = {
            f"{title}, {board}": lambda record, measure=measure, board=board: measure(record, board)
            for board in bias.MOVED_ON
            for title, measure in (
                ("spread of accuracy over cells, points", spread_over_cells),
                ("margin, last cell less first, logits", slope_over_cells),
            )
        }
        lost = {f"lost, text {bias.DISTANCES[-1]} units away, points": loss_by_distance}
        made[f"{scale}: position bias"] = _rows(found, BIAS, {**measures, **lost})
    planned = picture_tables(records) | conversion_tables(records)
    return {title: text for title, text in (made | planned).items() if text}


def _rates(records, scale, scales):
    rates, seeds = scales[scale].rates, scales[scale].rate_seeds

    def known(arm, rate):
        names = [Run("shapes", scale, arm, seed, rate).name for seed in seeds]
        return shown([100 * score(records[name]) for name in names if name in records])

    rows = [[arm, *(known(arm, rate) for rate in rates)] for arm in RATE_ARMS.values()]
    return table(["arm", *(f"{rate:g} times" for rate in rates)], rows)


def _tests(found, what, scales):
    arms = found.arms(what)
    if not arms:
        return {}
    task = TASKS[what]
    by_test = {test: lambda record, test=test: right(record, (test,)) for test in task.TESTS}
    asked = dict(sorted(questions_of(task, SCORED, 0, scales[found.scale]).items()))
    by_kind = {kind: lambda record, kind=kind: right(record, (SCORED,), (kind,)) for kind in asked}
    guessed = ["chance", *(f"{100 * chance(each):.1f}" for each in asked.values())]
    curve = next(iter(found.runs(what, arms[0]).values()))["curve"]
    steps = range(len(curve) - 1, -1, -4)[::-1]
    watched = {f"step {curve[n][0]}": lambda record, n=n: 100 * record["curve"][n][2] for n in steps}
    return {
        "right, %": _rows(found, what, by_test),
        f"right by kind, {SCORED}, %": _rows(found, what, by_kind, guessed),
        "learning curve, right on watched boards as trained, %": _rows(found, what, watched),
    }


def _rows(found, what, measures, last=None):
    """A table of arms by measures, each the mean over seeds with half its interval."""
    rows = [
        [arm, *(shown([get(record) for record in found.runs(what, arm).values()]) for get in measures.values())]
        for arm in found.arms(what)
    ]
    return table(["arm", *measures], rows + [last] if rows and last else rows)
