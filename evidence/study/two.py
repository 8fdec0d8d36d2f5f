"""Why two pictures: the runs that `pictures.json` plans, and what they say once all are there."""

from statistics import mean

from evidence.markdown import table

from .arms import PLANS, Run
from .found import right
from .planned import verdicts
from .statistics import difference, shown

PLAN = PLANS["pictures"]
OTHERS = list(dict.fromkeys([arm for pair in PLAN["family"].values() for arm in pair] + PLAN["shown_beside"]))


def picture_runs(records: dict, seeds: int | None = None) -> list[Run]:
    """The runs that can be named by now: those of the contrast first, and before either's the search for its rates.

    Args:
        seeds: how many of the plan's; all if not given.
    """
    made = []
    for arms, count in ((PLAN["contrast"], len(PLAN["seeds"])), (OTHERS, PLAN["other_seeds"])):
        tuned = [arm for arm in arms if arm not in PLAN["rate_of"]]
        search = [_run(arm, seed, rate) for seed in PLAN["rate_seeds"] for rate in PLAN["rates"] for arm in tuned]
        made += search
        if any(run.name not in records for run in search):
            break
        made += [_run(arm, seed, best_rate(arm, records)) for seed in PLAN["seeds"][:count][:seeds] for arm in arms]
    return made


def _run(arm, seed, rate):
    scale, _, name = arm.partition("/")
    return Run(PLAN["task"], scale, name, seed, rate)


def best_rate(arm: str, records: dict) -> float:
    """The rate with the highest mean of the measure over the seeds of the search, of the arm or of what it takes."""
    arm = PLAN["rate_of"].get(arm, arm)

    def found(rate):
        return mean(places(records[_run(arm, seed, rate).name]) for seed in PLAN["rate_seeds"])

    return max(PLAN["rates"], key=found)


def places(record: dict, kinds=PLAN["kinds"]) -> float:
    """The plan's measure, in percent."""
    return right(record, ("as trained",), kinds)


def picture_tables(records: dict) -> dict[str, str]:
    """By title, what every arm learned and the plan's verdicts; nothing before all runs are there."""
    runs = picture_runs(records)
    if any(run.name not in records for run in runs):
        return {}
    by_arm = {arm: {} for arm in (*PLAN["contrast"], *OTHERS)}
    for run in runs:
        if run.seed in PLAN["seeds"]:
            by_arm[f"{run.scale}/{run.arm}"][run.seed] = records[run.name]

    def compare(arm, other):
        both = sorted(by_arm[arm].keys() & by_arm[other].keys())
        return difference([places(by_arm[arm][seed]) - places(by_arm[other][seed]) for seed in both])

    def of(found):
        curves = [[100 * share for _, _, share in record["curve"][4::5]] for record in found.values()]
        kinds = [[places(record, kind) for record in found.values()] for kind in [[k] for k in PLAN["kinds"]]]
        return [len(found), *map(shown, kinds), *map(shown, zip(*curves))]

    titles = [
        "scale/arm",
        "rate",
        "seeds",
        *PLAN["kinds"],
        *(f"watched, {n}/4 of the steps" for n in range(1, 5)),
    ]
    rows = [[arm, f"{best_rate(arm, records):g}", *of(found)] for arm, found in by_arm.items()]
    return {"Why two pictures": verdicts(PLAN, compare), "Two pictures: right, %": table(titles, rows)}
