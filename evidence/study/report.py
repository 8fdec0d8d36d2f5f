"""Print what the records say, as far as they go: the claims with number, interval and verdict, then the tables.

python -m evidence.study.report [--results FILE]
"""

import argparse
import sys
from pathlib import Path
from statistics import mean

from . import bias
from .answers import chance, questions_of, share
from .arms import BIAS, QUICK, SCALES, STRATEGIES, TASKS, Run
from .experiments import CONTRAST, RATE_ARMS, SCORED, score
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
from .records import RESULTS, EvidenceError, read_records
from .statistics import Difference, holm, interval

ENOUGH = 0.9
BOARD = "3x3"


def claims(records: dict, scales: dict) -> list[tuple[str, str, Difference]]:
    """What the study was made to find out: sentence, unit and difference, the named contrast of each scale first."""
    named, others = [], []

    def add(to, sentence, unit, found):
        if found:
            to.append((sentence, unit, found))

    for scale in scales:
        found = Found(records, scale, scales)
        arm, other, kind = CONTRAST
        add(
            named,
            f'{scale}: {arm} minus {other} on "{kind}" (the contrast named beforehand)',
            "points",
            found.compare("shapes", arm, other, lambda record: outcomes(record, kinds=(CONTRAST[2],))),
        )
        for arm, other in (
            ("ring-contiguous", "grid-contiguous"),
            ("grid-interleaved", "grid-contiguous"),
            ("ring-interleaved", "ring-contiguous"),
            ("ring-interleaved", "grid-interleaved"),
            ("grid-contiguous", "flattened"),
            ("grid-contiguous", "shared"),
            *((f"{each}-{name}", f"ring-{name}") for name in ("contiguous", "interleaved") for each in STRATEGIES),
        ):
            for test in (SCORED, "larger"):
                for what in ("shapes", "digits"):
                    add(
                        others,
                        f"{scale}, {what}: {arm} minus {other}, {test}",
                        "points",
                        found.compare(what, arm, other, lambda record, test=test: outcomes(record, (test,))),
                    )
        for arm in ("ring-contiguous", "shared", "grid-interleaved"):
            for what, unit, measure in (
                ("spread of accuracy over cells", "points", lambda record: spread_over_cells(record, BOARD)),
                (
                    "slope of the margin over cells, size",
                    "logits",
                    lambda record: abs(slope_over_cells(record, BOARD)),
                ),
                ("loss with the text 256 away", "points", lambda record: loss_by_distance(record, "all axes")[-1]),
            ):
                sentence = f"{scale}: {what}, {arm} minus grid-contiguous"
                add(others, sentence, unit, found.compare(BIAS, arm, "grid-contiguous", measure))
        for arm in ("ring-contiguous", "grid-interleaved"):
            sentence = f"{scale}: answers that change with the order of pictures, {arm} minus grid-contiguous"
            add(others, sentence, "points", found.compare("pairs", arm, "grid-contiguous", changed))
    return named + others


def claims_table(found: list[tuple[str, str, Difference]]) -> str:
    """Claim, number, both intervals, p and verdict; p is corrected by Holm for all claims but the named contrasts."""
    named = [number for number, (sentence, _, _) in enumerate(found) if "named beforehand" in sentence]
    corrected = iter(holm([each for number, (_, _, each) in enumerate(found) if number not in named]))
    rows = []
    for number, (sentence, unit, each) in enumerate(found):
        p = each.p if number in named else next(corrected)
        rows.append(
            [
                sentence,
                f"{each.mean:+.2f} {unit}",
                *(
                    "" if ends is None else f"{ends[0]:+.2f} to {ends[1]:+.2f}"
                    for ends in (each.interval, each.bootstrap)
                ),
                str(len(each.by_seed)),
                "" if p is None else f"{p:.3g}",
                each.verdict,
            ]
        )
    return _table(["claim", "number", "95 %, Student's t", "95 %, bootstrap", "seeds", "p", "verdict"], rows)


def tables(records: dict, scales: dict) -> dict[str, str]:
    """Markdown tables by title, of what there are records of."""
    made = {}
    for scale in scales:
        found = Found(records, scale, scales)
        made[f"{scale}: learning rates, share right on two other seeds"] = _rates(records, scale, scales)
        for what in ("shapes", "digits"):
            for title, table in _tests(found, what, scales).items():
                made[f"{scale}, {what}: {title}"] = table
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
    return {title: table for title, table in made.items() if table}


def _rates(records, scale, scales):
    rates, seeds = scales[scale].rates, scales[scale].rate_seeds
    rows = []
    for arm in RATE_ARMS.values():
        names = [[Run("shapes", scale, arm, seed, rate).name for seed in seeds] for rate in rates]
        rows.append(
            [arm, *(_spread([100 * score(records[name]) for name in each if name in records]) for each in names)]
        )
    return _table(["arm", *(f"{rate:g} times" for rate in rates)], rows)


def _tests(found, what, scales):
    arms = found.arms(what)
    if not arms:
        return {}
    task, scale = TASKS[what], scales[found.scale]
    kinds = {test: questions_of(task, test, 0, scale) for test in task.TESTS}
    by_kind = [(test, kind) for test, asked in kinds.items() for kind in sorted(asked)]
    return {
        "share right, %": _rows(
            found, what, {test: lambda record, test=test: 100 * share(record["tests"][test]) for test in task.TESTS}
        ),
        "share right by kind, %": _rows(
            found,
            what,
            {
                f"{kind}: {test}": lambda record, test=test, kind=kind: outcomes(record, (test,), (kind,)).mean()
                for test, kind in by_kind
            },
            ["chance", *(f"{100 * chance(kinds[test][kind]):.1f}" for test, kind in by_kind)],
        ),
        'impossible answers to "Where is", %': _rows(
            found, what, {test: lambda record, test=test: impossible(record, test) for test in task.TESTS}
        ),
        "learning": _table(
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
    return _table(["arm", *measures], rows + [last] if rows and last else rows)


def _spread(values):
    if not values:
        return ""
    half = interval(values)
    return f"{mean(values):.1f}" + ("" if half is None else f" ± {half:.1f}")


def _table(header, rows):
    if not any(any(row[1:]) for row in rows):
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.study.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"what evidence.study wrote ({RESULTS.name})")
    parser.add_argument("--quick", action="store_true", help="the results are those of evidence.study --quick")
    given = parser.parse_args()
    scales = QUICK if given.quick else SCALES
    try:
        records = read_records(given.results, scales)
        if not records:
            raise EvidenceError(f"{given.results} has no runs yet: python -m evidence.study makes them.")
    except (EvidenceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(records)} runs; means over seeds with half their 95 % intervals\n")
    if found := claims(records, scales):
        print(f"## Claims\n\n{claims_table(found)}\n")
    for title, table in tables(records, scales).items():
        print(f"## {title}\n\n{table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
