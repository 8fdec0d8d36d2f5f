"""What converting trained M-RoPE weights costs and brings: the runs that `conversion.json` plans, and what they say.

The arm `before` are the weights that all other arms of a seed start from.
"""

from statistics import median

from evidence.markdown import table

from .arms import CONVERSION, CONVERSIONS, LORA, PLANS, Run
from .found import right
from .planned import Planned
from .relations import PLACE_KINDS
from .statistics import shown

PLAN = PLANS["conversion"]
FULL = [arm for arm in CONVERSIONS if not arm.endswith(LORA)]


def run(arm: str, seed: int, rate: float) -> Run:
    """The run of an arm."""
    if arm == "before":
        return Run(PLAN["task"], "converted", "grid-contiguous", seed)
    return Run(CONVERSION, "converted", arm, seed, rate)


def places(record: dict, when: str = "tests", test: str = "as trained") -> float:
    """The plan's measure, in percent: place questions that are right on boards as trained, at the end."""
    return right({"tests": record[when]}, (test,), PLACE_KINDS)


CONVERTED = Planned(
    "conversion",
    run,
    places,
    (
        (["before", *FULL], len(PLAN["seeds"])),
        ([arm for arm in CONVERSIONS if arm.endswith(LORA)], PLAN["other_seeds"]),
    ),
)


def conversion_tables(records: dict) -> dict[str, str]:
    """By title, the plan's verdicts and what every arm kept and learned; nothing before all runs are there."""
    found = CONVERTED.found(records)
    rows = []
    for arm, own in found.items():
        shown_of = [shown([get(each) for each in own.values() if key in each]) for key, get in COLUMNS.values()]
        rows.append([arm, f"{CONVERTED.rate(arm, records):g}", len(own), *shown_of, ""])
        if arm != "before":
            again = [_steps_again(each["curve"], found["before"][seed]["curve"]) for seed, each in own.items()]
            reached = [steps for steps in again if steps is not None]
            rows[-1][-1] = f"{len(reached)} of {len(again)}" + (f", step {median(reached):g}" if reached else "")
    if not rows:
        return {}
    titles = ["converted to", "rate", "seeds", *COLUMNS, "as before again"]
    return {
        "Converting trained M-RoPE weights": CONVERTED.verdicts(found),
        "Converting trained M-RoPE weights: right, %": table(titles, rows),
    }


def _steps_again(curve, before):
    """The first step at which as many watched place questions are right as before the conversion."""
    return next((step for step, _, known in curve if known >= before[-1][2]), None)


def _content(tests):
    return right({"tests": tests}, kinds=("What shape",))


# Title: the part of a record that it is of, and what it is.
COLUMNS = {
    "places at conversion": ("converted", lambda record: places(record, "converted")),
    "content at conversion": ("converted", lambda record: _content(record["converted"])),
    "places": ("tests", places),
    "places, larger boards": ("tests", lambda record: places(record, test="larger")),
    "content": ("tests", lambda record: _content(record["tests"])),
}
