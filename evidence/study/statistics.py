"""Differences between arms, paired by seed and by question, with two intervals that must agree.

Arms of one seed answer the same questions, so what is compared is the difference question by question. Every seed has
a test set and weights of its own, so the mean differences of seeds vary by both, and Student's t over seeds covers
both; but it takes them for normal. The bootstrap does not: it draws seeds, and within each drawn seed questions, anew,
but with few seeds it is too narrow. A verdict needs both. No mixed model: with equally many questions for each seed
its estimate is the same mean, and its interval (normal, not t) is too narrow in the same way.
"""

from typing import NamedTuple

import numpy
from scipy import stats
from statsmodels.stats.multitest import multipletests

LEVEL = 0.95
DRAWS = 10_000


class Difference(NamedTuple):
    """In the unit of the values, with 95 % intervals (None for a single seed) and the p of the t test."""

    mean: float
    by_seed: tuple[float, ...]
    interval: tuple[float, float] | None
    bootstrap: tuple[float, float] | None
    p: float | None

    @property
    def verdict(self) -> str:
        if self.interval is None:
            return "one seed"
        if min(self.interval[0], self.bootstrap[0]) > 0:
            return "above zero"
        if max(self.interval[1], self.bootstrap[1]) < 0:
            return "below zero"
        return "open"


def difference(values: list[numpy.ndarray]) -> Difference:
    """The mean of the seeds' means.

    Args:
        values: for every seed, the difference of every question `(questions,)`, or a single value `(1,)`.
    """
    means = numpy.array([each.mean() for each in values])
    by_seed = tuple(means.tolist())
    if len(values) < 2:
        return Difference(means.mean(), by_seed, None, None, None)
    if not means.std():
        same = (means[0], means[0])
        return Difference(means[0], by_seed, same, same, float(not means[0]))
    test = stats.ttest_1samp(means, 0)
    drawn = _draw_questions(values)  # (seeds, draws)
    rng, shape = numpy.random.default_rng(1), (len(values), DRAWS)
    # A seed that is drawn twice has its questions drawn twice.
    drawn = drawn[rng.integers(len(values), size=shape), rng.integers(DRAWS, size=shape)].mean(0)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return Difference(
        float(means.mean()),
        by_seed,
        _ends(test.confidence_interval(LEVEL)),
        _ends(numpy.quantile(drawn, tails)),
        float(test.pvalue),
    )


def _ends(interval) -> tuple[float, float]:
    low, high = interval
    return float(low), float(high)


def _draw_questions(values):
    """Means of questions drawn with replacement: `(seeds, DRAWS)`."""
    rng = numpy.random.default_rng(0)
    rows = []
    for each in values:
        # Few values occur, so how often each one is drawn is enough.
        different, counts = numpy.unique(each, return_counts=True)
        rows.append(rng.multinomial(len(each), counts / len(each), size=DRAWS) @ different / len(each))
    return numpy.stack(rows)


def interval(values: list[float]) -> float | None:
    """Half the width of the 95 % interval of the mean, by Student's t; None for a single value."""
    return stats.sem(values) * stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) if len(values) > 1 else None


def holm(differences: list[Difference]) -> list[float | None]:
    """Their p corrected for their number (Holm); None where there is none."""
    known = [each.p for each in differences if each.p is not None]
    corrected = iter(multipletests(known, method="holm")[1].tolist() if known else [])
    return [None if each.p is None else next(corrected) for each in differences]
