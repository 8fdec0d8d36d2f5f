"""What the study was made to find out, as differences between arms with their intervals and a verdict.

Whatever there are records of is in the list, whichever way it came out. It was fixed before the runs, but for two
kinds of claims that were added when the first runs were seen: position bias on 6x6, since on smaller boards every arm
knew every answer, and how much is learned of two pictures, where the ring looked further ahead than of one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from evidence.markdown import table

from . import bias
from .arms import BIAS, STRATEGIES
from .experiments import CONTRAST, SCORED
from .found import Found, changed, loss_by_distance, outcomes, slope_over_cells, spread_over_cells
from .statistics import LEVEL, Difference, holm

COMPARED_ON = (
    *((what, SCORED) for what in ("shapes", "pairs", "digits")),
    *((what, "larger") for what in ("shapes", "digits")),
)
PAIRS = (
    ("ring-contiguous", "grid-contiguous"),
    ("grid-interleaved", "grid-contiguous"),
    ("ring-contiguous", "grid-interleaved"),
    ("ring-interleaved", "ring-contiguous"),
    ("ring-interleaved", "grid-interleaved"),
    ("grid-contiguous", "flattened"),
    ("grid-contiguous", "shared"),
    *((f"{each}-{name}", f"ring-{name}") for name in ("contiguous", "interleaved") for each in STRATEGIES),
)
# On boards as trained; all others are in the file of tables alone.
FRONT_PAIRS = {
    "shapes": {PAIRS[0], PAIRS[1], PAIRS[4], *PAIRS[6:]},
    "pairs": {*PAIRS[:3], PAIRS[4]},
    "digits": {PAIRS[2], PAIRS[4]},
}


@dataclass(frozen=True)
class Claim:
    """A difference between two arms.

    Attributes:
        scale, what: where it was measured: the size of the models, and the task that they were trained on.
        sentence: what was subtracted from what.
        unit: of the difference.
        found: the difference.
        named: whether it is the contrast named beforehand, whose p needs no correction.
        front: whether it stands on the front page; all others are in the file of tables.
        p: corrected for the number of claims, but for a named one's; None for a single seed.
    """

    scale: str
    what: str
    sentence: str
    unit: str
    found: Difference
    named: bool = False
    front: bool = False
    p: float | None = None

    @property
    def verdict(self) -> str:
        """Above or below zero if both intervals and the corrected p say so, else open."""
        if self.found.verdict in ("above zero", "below zero") and self.p >= 1 - LEVEL:
            return "open (after correction)"
        return self.found.verdict


def claims(records: dict, scales: dict) -> list[Claim]:
    """All claims that there are records of, the named contrast of each scale first.

    Every p but the named ones' is corrected for the number of all claims (Holm).
    """
    made = [claim for scale in scales for claim in _claims(Found(records, scale, scales)) if claim.found]
    named = [replace(claim, p=claim.found.p) for claim in made if claim.named]
    others = [claim for claim in made if not claim.named]
    corrected = holm([claim.found for claim in others])
    return named + [replace(claim, p=p) for claim, p in zip(others, corrected)]


def _claims(found: Found) -> Iterator[Claim]:
    arm, other, kind = CONTRAST
    contrast = found.compare("shapes", arm, other, lambda record: outcomes(record, kinds=(kind,)))
    yield Claim(found.scale, "shapes", f'{arm} minus {other}, all "{kind}"', "points", contrast, True, True)
    for what, test in COMPARED_ON:
        for arm, other in PAIRS:
            difference = found.compare(what, arm, other, lambda record, test=test: outcomes(record, (test,)))
            front = test == SCORED and (arm, other) in FRONT_PAIRS[what]
            yield Claim(found.scale, what, f"{arm} minus {other}, {test}", "points", difference, front=front)
    measures = {
        **{
            f"spread of accuracy over cells of {board}": (
                "points",
                lambda record, board=board: spread_over_cells(record, board),
            )
            for board in ("3x3", "6x6")
        },
        **{
            f"slope of the margin over cells of {board}, size": (
                "logits",
                lambda record, board=board: abs(slope_over_cells(record, board)),
            )
            for board in ("3x3", "6x6")
        },
        f"loss with the text {bias.DISTANCES[-1]} units away": (
            "points",
            lambda record: loss_by_distance(record, "all axes")[-1],
        ),
    }
    for arm in ("ring-contiguous", "shared", "grid-interleaved"):
        for title, (unit, measure) in measures.items():
            difference = found.compare(BIAS, arm, "grid-contiguous", measure)
            front = arm == "ring-contiguous" and unit == "points" and "3x3" not in title
            sentence = f"{title}, {arm} minus grid-contiguous"
            yield Claim(found.scale, "shapes", sentence, unit, difference, front=front)
    for arm in ("ring-contiguous", "grid-interleaved"):
        difference = found.compare("pairs", arm, "grid-contiguous", changed)
        sentence = f"answers that change with the order, {arm} minus grid-contiguous"
        yield Claim(found.scale, "pairs", sentence, "points", difference, front=arm == "ring-contiguous")


def front_table(found: list[Claim]) -> str:
    """The claims of the front page: claim, number, interval by Student's t over seeds, verdict.

    The page says once that boards are as trained.
    """
    rows = [
        [
            f"{claim.scale}/{claim.what}",
            claim.sentence.removesuffix(f", {SCORED}") + (" (named beforehand)" if claim.named else ""),
            f"{claim.found.mean:+.1f}",
            _ends(claim.found.interval, 1),
            claim.verdict,
        ]
        for claim in found
        if claim.front
    ]
    return table(["scale/task", "claim", "points", "95 % interval", "verdict"], rows)


def claims_table(found: list[Claim]) -> str:
    """All claims with both intervals, number of seeds and p."""
    rows = [
        [
            f"{claim.scale}, {claim.what}: {claim.sentence}" + (" (named beforehand)" if claim.named else ""),
            f"{claim.found.mean:+.2f} {claim.unit}",
            _ends(claim.found.interval, 2),
            _ends(claim.found.bootstrap, 2),
            str(len(claim.found.by_seed)),
            "" if claim.p is None else f"{claim.p:.2g}",
            claim.verdict,
        ]
        for claim in found
    ]
    return table(["claim", "number", "Student's t", "bootstrap", "seeds", "p, corrected", "verdict"], rows)


def _ends(interval, digits):
    return "" if interval is None else f"[{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]"
