"""Why two pictures: the runs that `pictures.json` plans, and what they say once all are there."""

from evidence.markdown import table

from .arms import PLANS, Run
from .found import right
from .planned import Planned
from .statistics import shown

PLAN = PLANS["pictures"]
OTHERS = list(dict.fromkeys([arm for pair in PLAN["family"].values() for arm in pair] + PLAN["shown_beside"]))


def run(arm: str, seed: int, rate: float) -> Run:
    """The run of an arm, which the plan calls scale/arm."""
    scale, _, name = arm.partition("/")
    return Run(PLAN["task"], scale, name, seed, rate)


def places(record: dict, kinds=tuple(PLAN["kinds"])) -> float:
    """The plan's measure, in percent."""
    return right(record, ("as trained",), kinds)


PICTURES = Planned(PLAN, run, places, ((PLAN["contrast"], len(PLAN["seeds"])), (OTHERS, PLAN["other_seeds"])))


def picture_tables(records: dict) -> dict[str, str]:
    """By title, the plan's verdicts and what every arm learned; nothing before all runs are there."""
    found = PICTURES.found(records)
    if not found:
        return {}

    def of(own):
        kinds = [[places(record, (kind,)) for record in own] for kind in PLAN["kinds"]]
        curves = [[100 * share for _, _, share in record["curve"][4::5]] for record in own]
        return [len(own), *map(shown, kinds), *map(shown, zip(*curves))]

    watched = [f"watched, {n}/4 of the steps" for n in range(1, 5)]
    rows = [[arm, f"{PICTURES.rate(arm, records):g}", *of(own.values())] for arm, own in found.items()]
    return {
        "Why two pictures": PICTURES.verdicts(found),
        "Two pictures: right, %": table(["scale/arm", "rate", "seeds", *PLAN["kinds"], *watched], rows),
    }
