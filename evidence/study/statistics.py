"""Differences between arms, paired by seed: Student's t over seeds, corrected by Holm in each family.

Arms of one seed answer the same questions, and every seed has weights and a test set of its own, so the mean
differences of seeds vary by both, and t over seeds covers both. What it cannot do: it takes the seeds' differences
for normal, which 6 or 8 seeds cannot show. A test that assumes nothing but symmetry (flipping signs) cannot go below
p = 0.0078 with 8 seeds, or 0.031 with 6: where a corrected verdict asks for less, it rests on the tails of t. Nor
does it cover anything but seeds: no other task, learning rate, or number of steps.
"""

from statistics import mean, stdev
from typing import NamedTuple

from scipy import stats
from statsmodels.stats.multitest import multipletests

LEVEL = 0.95


class Difference(NamedTuple):
    """In the unit of the values, with the 95 % interval and the p of the t test (None for a single seed)."""

    mean: float
    by_seed: tuple[float, ...]
    interval: tuple[float, float] | None
    p: float | None


def difference(by_seed: list[float]) -> Difference:
    """The mean of the seeds' differences."""
    found = mean(by_seed)
    if len(by_seed) < 2:
        return Difference(found, tuple(by_seed), None, None)
    if not stdev(by_seed):
        return Difference(found, tuple(by_seed), (found, found), float(not found))
    test = stats.ttest_1samp(by_seed, 0)
    low, high = test.confidence_interval(LEVEL)
    return Difference(found, tuple(by_seed), (float(low), float(high)), float(test.pvalue))


def interval(values: list[float]) -> float | None:
    """Half the width of the 95 % interval of the mean, by Student's t; None for a single value."""
    return stats.sem(values) * stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) if len(values) > 1 else None


def shown(values: list[float]) -> str:
    """Mean and half the interval as text; nothing for no value."""
    if not values:
        return ""
    half = interval(values)
    return f"{mean(values):.1f}" + ("" if half is None else f" ± {half:.1f}")


def holm(values: list[float | None]) -> list[float | None]:
    """The p of one family corrected for their number (Holm); None where there is none."""
    known = [each for each in values if each is not None]
    corrected = iter(multipletests(known, method="holm")[1].tolist() if known else [])
    return [None if each is None else next(corrected) for each in values]
