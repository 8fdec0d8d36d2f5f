"""What the study was made to find out: differences between arms, in families of one question each.

The contrast that the study is named for was fixed before its runs. The other claims were listed before them, too, but
for three kinds, named after a first look: position bias on 6x6 (on smaller boards every arm knew every answer), what
grid and ring learn of two pictures, and what AGE learns of them. Boards much larger than those of training were in no
claim before all runs were seen. The families, in which p is corrected, were fixed then, too: verdicts sort what was
found, and none but the named contrast's answers to a forecast. Whatever there are records of is listed, whichever way
it came out.
"""

from collections.abc import Iterator
from typing import NamedTuple

from evidence.markdown import table

from . import bias, shapes
from .arms import BIAS, STRATEGIES
from .experiments import CONTRAST, SCORED
from .found import Found, loss_by_distance, right, slope_over_cells, spread_over_cells
from .statistics import LEVEL, Difference, holm

NAMED = "Named beforehand: is the ring's gain its shape (above zero), or that place reaches high frequencies?"
PARTS = "The named contrast's four boards, which it pools (no claims: not corrected)"
TRAINED = "One picture, boards as trained: layout, sections"
LARGER = "One picture, larger boards"
TWO = "Two pictures, after 500 steps, where the grids stand still (see the learning curves)"
AGE = "AGE beside the ring in every layer"
PLACE = "Position bias beside contiguous M-RoPE"

PAIRS = (
    ("ring-contiguous", "grid-contiguous"),
    ("grid-interleaved", "grid-contiguous"),
    ("ring-contiguous", "grid-interleaved"),
    ("ring-interleaved", "ring-contiguous"),
    ("ring-interleaved", "grid-interleaved"),
)
BY_LAYOUT = (("grid-contiguous", "flattened"), ("grid-contiguous", "shared"))
BY_SCHEDULE = tuple(
    (f"{each}-{name}", f"ring-{name}") for name in ("contiguous", "interleaved") for each in STRATEGIES
)


class Claim(NamedTuple):
    """A difference between two arms.

    Attributes:
        family: the question that it answers.
        scale, what: where it was measured: the size of the models, and the task that they were trained on.
        pair: the arm, and the one that was subtracted.
        measure: of what.
        unit: of the difference.
        found: the difference.
        p: corrected for the number of claims in the family; None for a single seed, and for what is no claim.
    """

    family: str
    scale: str
    what: str
    pair: tuple[str, str]
    measure: str
    unit: str
    found: Difference
    p: float | None = None

    @property
    def on(self) -> str:
        """What was measured, with a dagger where the claim was named after a first look at the runs."""
        after = self.what == "pairs" or self.measure == "much larger" or "6x6" in self.measure
        return self.measure + " †" * after

    @property
    def verdict(self) -> str:
        """Above or below zero if the corrected p says so, else open; nothing for what is no claim."""
        if self.family == PARTS:
            return ""
        if self.found.p is None:
            return "one seed"
        if self.p < 1 - LEVEL:
            return "above zero" if self.found.mean > 0 else "below zero"
        return "open" if self.found.p >= 1 - LEVEL else "open (after correction)"


def claims(records: dict, scales: dict) -> dict[str, list[Claim]]:
    """All claims that there are records of, by family, the named contrast's first."""
    made = [claim for scale in scales for claim in _claims(Found(records, scale, scales)) if claim.found]
    families = {}
    for family in (NAMED, PARTS, TRAINED, LARGER, TWO, AGE, PLACE):
        own = [claim for claim in made if claim.family == family]
        if family != PARTS:
            own = [claim._replace(p=p) for claim, p in zip(own, holm([claim.found.p for claim in own]))]
        families[family] = own
    return families


def _claims(found: Found) -> Iterator[Claim]:
    def made(family, what, pair, measure, get, unit="points"):
        return Claim(family, found.scale, what, tuple(pair), measure, unit, found.compare(what, *pair, get))

    def on(family, what, pair, test):
        return made(family, what, pair, test, lambda record: right(record, (test,)))

    *named, kind = CONTRAST
    yield made(NAMED, "shapes", named, f'"{kind}", four boards', lambda record: right(record, kinds=(kind,)))
    for test in shapes.TESTS:
        yield made(PARTS, "shapes", named, f'"{kind}", {test}', lambda record, t=test: right(record, (t,), (kind,)))
    for what in ("shapes", "digits"):
        for pair in PAIRS + BY_LAYOUT:
            for family, test in ((TRAINED, SCORED), (LARGER, "larger"), (LARGER, "much larger")):
                yield on(family, what, pair, test)
    for pair in PAIRS:
        yield on(TWO, "pairs", pair, SCORED)
    for pair in BY_SCHEDULE:
        for what in ("shapes", "digits"):
            for test in (SCORED, "larger", "much larger"):
                yield on(AGE, what, pair, test)
        yield on(AGE, "pairs", pair, SCORED)
    for arm in ("ring-contiguous", "shared", "grid-interleaved"):
        pair = (arm, "grid-contiguous")
        for board in ("3x3", "6x6"):
            for measure, get, unit in (
                ("spread of accuracy over cells", spread_over_cells, "points"),
                ("margin, last cell less first", slope_over_cells, "logits"),
            ):
                yield made(PLACE, BIAS, pair, f"{measure}, {board}", lambda record, g=get, b=board: g(record, b), unit)
        yield made(PLACE, BIAS, pair, f"lost, text {bias.DISTANCES[-1]} units away", loss_by_distance)


def front_table(families: dict[str, list[Claim]]) -> str:
    """For the front page: the named contrast with its boards; bold where it is not open."""
    found = {(claim.scale, claim.measure): claim for claim in families[NAMED] + families[PARTS]}
    scales, boards = (list(dict.fromkeys(each)) for each in zip(*found)) if found else ([], [])
    return table(
        ["models", *(board.split(", ")[1] for board in boards)],
        [[scale, *(_cell(found.get((scale, board))) for board in boards)] for scale in scales],
    )


def _cell(claim):
    if claim is None:
        return ""
    ends = claim.found.interval
    text = f"{claim.found.mean:+.1f}" + (f"±{ends[1] - claim.found.mean:.1f}" if ends else "")
    return f"**{text}**" if "zero" in claim.verdict else text


def claims_table(own: list[Claim]) -> str:
    """A family's claims: interval by Student's t (not corrected), seeds on the mean's side, corrected p, verdict."""
    rows = [
        [
            f"{claim.scale}, {'shapes' if claim.what == BIAS else claim.what}",
            " minus ".join(claim.pair),
            claim.on,
            f"{claim.found.mean:+.2f} {claim.unit}",
            _ends(claim),
            f"{sum(each * claim.found.mean > 0 for each in claim.found.by_seed)} of {len(claim.found.by_seed)}",
            "" if claim.p is None else f"{claim.p:.2g}",
            claim.verdict,
        ]
        for claim in own
    ]
    titles = ["trained on", "difference", "on", "found", "95 %, not corrected", "seeds", "p, corrected", "verdict"]
    return table(titles, rows)


def _ends(claim):
    ends = claim.found.interval
    return "" if ends is None else f"[{ends[0]:+.2f}, {ends[1]:+.2f}]"
