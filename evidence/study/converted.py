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
CONTENT = ("What shape",)


def run(arm: str, seed: int, rate: float) -> Run:
    """The run of an arm."""
    if arm == "before":
        return Run(PLAN["task"], "converted", "grid-contiguous", seed)
    return Run(CONVERSION, "converted", arm, seed, rate)


def places(record: dict, when: str = "tests", tests=("one picture", "two pictures")) -> float:
    """The plan's measure, in percent: place questions that are right on boards as trained, at the end."""
    return right({"tests": record[when]}, tests, PLACE_KINDS)


OTHERS = [arm for arm in CONVERSIONS if arm not in PLAN["contrast"]]
SEEDS = len(PLAN["seeds"])
# The weights that others start from come first: two runs that lack the same ones would each make them.
STAGES = ((["before"], SEEDS), (PLAN["contrast"], SEEDS), (OTHERS, PLAN["other_seeds"]))
CONVERTED = Planned(PLAN, run, places, STAGES)
# Of a record, by title: the part of it that it is of, and what it is.
COLUMNS = {
    "places at conversion": ("converted", lambda record: places(record, "converted")),
    "content at conversion": ("converted", lambda record: right({"tests": record["converted"]}, kinds=CONTENT)),
    "places": ("tests", places),
    "places, two pictures": ("tests", lambda record: places(record, tests=("two pictures",))),
    "places, larger boards": ("tests", lambda record: places(record, tests=("larger",))),
    "content": ("tests", lambda record: right(record, kinds=CONTENT)),
}
AGAIN, SHORT = "as before again, step", "Converting trained M-RoPE weights: right about places, %"


def conversion_tables(records: dict) -> dict[str, str]:
    """By title, the plan's verdicts and what every arm kept and learned; nothing before all runs are there."""
    found, rows = CONVERTED.found(records), {}
    if not found:
        return {}
    before = {seed: each["curve"][-1][2] for seed, each in found["before"].items()}
    for arm, own in found.items():
        rows[arm] = {"rate": f"{CONVERTED.rate(arm, records):g}", "seeds": len(own)} | {
            title: shown([get(each) for each in own.values() if key in each]) for title, (key, get) in COLUMNS.items()
        }
        # The first look at which as many watched place questions are right as at the last one before.
        again = [[step for step, _, known in each["curve"] if known >= before[seed]] for seed, each in own.items()]
        reached = [steps[0] for steps in again if steps]
        few = f"({len(reached)}/{len(own)})" if len(reached) < len(own) else ""
        rows[arm][AGAIN] = f"{median(reached):g} {few}".strip() if reached else few
    rows["before"][AGAIN] = ""
    short = [
        [arm, row["places at conversion"], row["places"], row[AGAIN], rows.get(arm + LORA, {}).get("places", "")]
        for arm, row in rows.items()
        if not arm.endswith(LORA)
    ]
    return {
        "Converting trained M-RoPE weights": CONVERTED.verdicts(found),
        SHORT: table(["converted to", "at conversion", "at the end", AGAIN, "with LoRA"], short).replace(" ± ", "±"),
        "Converting trained M-RoPE weights: right, %": table(
            ["converted to", *rows["before"]], [[arm, *row.values()] for arm, row in rows.items()]
        ),
    }
