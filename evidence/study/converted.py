"""What converting trained M-RoPE weights costs and brings, as `conversion.json` planned it before its runs."""

from dataclasses import replace
from statistics import median

from evidence.markdown import table

from .arms import CONVERSION, CONVERSIONS, PLAN, Run
from .found import right
from .planned import verdicts
from .relations import PLACE_KINDS
from .statistics import difference, shown

SCALE = "converted"


def conversion_runs(records: dict, seeds: int | None = None) -> list[Run]:
    """The runs, seed by seed; all of the plan's seeds if not given."""
    base = [Run(PLAN["task"], SCALE, "grid-contiguous", seed) for seed in PLAN["seeds"][:seeds]]
    return base + [replace(run, what=CONVERSION, arm=arm) for run in base for arm in CONVERSIONS]


def conversion_tables(records: dict) -> dict[str, str]:
    """By title, what every arm kept and learned, and the plan's verdicts; nothing before all runs are there."""
    if any(run.name not in records for run in conversion_runs(records)):
        return {}
    rows = []
    for arm in CONVERSIONS:
        runs = _runs(records, arm)
        rows.append([arm, len(runs), *(shown([get(run) for run in runs.values()]) for get in COLUMNS.values())])
        again = [_steps_again(run, records) for run in runs.values()]
        reached = [steps for steps in again if steps is not None]
        rows[-1].append(f"{len(reached)} of {len(again)}" + (f", step {median(reached):g}" if reached else ""))
    return {
        "Converting trained M-RoPE weights": verdicts(PLAN, lambda arm, other: _difference(records, arm, other)),
        "Converting trained M-RoPE weights: by arm": table(
            ["converted to", "seeds", *COLUMNS, "as before again"], rows
        ),
    }


def _runs(records, arm):
    names = {seed: Run(CONVERSION, SCALE, arm, seed).name for seed in PLAN["seeds"]}
    return {seed: records[name] for seed, name in names.items() if name in records}


def _difference(records, arm, other):
    runs, others = _runs(records, arm), _runs(records, other)
    both = sorted(runs.keys() & others.keys())
    return difference([_place(runs[seed]) - _place(others[seed]) for seed in both]) if both else None


def _place(run, when="tests", test="as trained"):
    return right({"tests": run[when]}, (test,), PLACE_KINDS)


def _steps_again(run, records):
    """The first step at which as many watched place questions are right as before the conversion."""
    base = records.get(Run(PLAN["task"], SCALE, "grid-contiguous", run["seed"]).name)
    before = base["curve"][-1][2] if base else 1
    return next((step for step, _, found in run["curve"] if found >= before), None)


COLUMNS = {
    "places at conversion, %": lambda run: _place(run, "converted"),
    "places at the end, %": _place,
    "places at the end, larger boards, %": lambda run: _place(run, test="larger"),
    "content at conversion, %": lambda run: right({"tests": run["converted"]}, kinds=("What shape",)),
    "content at the end, %": lambda run: right(run, kinds=("What shape",)),
}
