"""What the records say about an arm: its runs by seed, shares of right answers, and measures of position bias."""

import numpy

from .answers import RIGHT
from .arms import ARMS, Run
from .experiments import best_rates, rate_runs
from .statistics import Difference, difference


class Found:
    """The records of one scale at the learning rates that the search found.

    Attributes:
        rates: of each family; None while the search is unfinished, and then there are no runs either.
    """

    def __init__(self, records: dict, scale: str, scales: dict):
        self.records, self.scale = records, scale
        known = all(run.name in records for run in rate_runs(scale, scales))
        self.rates = best_rates(records, scale, scales) if known else None
        self.seeds = range(scales[scale].seeds)

    def runs(self, what: str, arm: str) -> dict[int, dict]:
        """The records of an arm by seed, as many as there are."""
        if self.rates is None:
            return {}
        names = {seed: Run(what, self.scale, arm, seed, self.rates[ARMS[arm].family]).name for seed in self.seeds}
        return {seed: self.records[name] for seed, name in names.items() if name in self.records}

    def arms(self, what: str) -> list[str]:
        """The arms that have a record."""
        return [arm for arm in ARMS if self.runs(what, arm)]

    def compare(self, what: str, arm: str, other: str, measure) -> Difference | None:
        """How far an arm is ahead of another in a measure of a record, on the seeds that both have; None without."""
        runs, others = self.runs(what, arm), self.runs(what, other)
        both = sorted(runs.keys() & others.keys())
        return difference([measure(runs[seed]) - measure(others[seed]) for seed in both]) if both else None


def right(record: dict, tests=None, kinds=None) -> float:
    """Percentage of right answers to the questions of some tests and kinds, all if not given."""
    found = "".join(
        each
        for test, by_kind in record["tests"].items()
        for kind, each in by_kind.items()
        if (tests is None or test in tests) and (kinds is None or kind in kinds)
    )
    return 100 * found.count(RIGHT) / len(found)


def by_cell(record: dict, board: str) -> numpy.ndarray:
    """100 where a scene's thing was known in a cell, else 0: `(cells, scenes)`."""
    return 100.0 * (numpy.array([list(each) for each in record["cells"][board]["outcomes"]]) == RIGHT)


def spread_over_cells(record: dict, board: str) -> float:
    """Standard deviation of the accuracy over cells in percentage points, less what chance alone would make.

    The same scenes are asked about in every cell, so chance is what is left of an outcome without its cell's mean and
    its scene's: the variance component of cells in a two-way analysis of variance.
    """
    outcomes = by_cell(record, board)
    of_cells, scenes = outcomes.mean(1), outcomes.shape[1]
    left = outcomes - of_cells[:, None] - outcomes.mean(0) + outcomes.mean()
    chance = (left**2).sum() / ((len(outcomes) - 1) * (scenes - 1))
    return max(0.0, of_cells.var(ddof=1) - chance / scenes) ** 0.5


def slope_over_cells(record: dict, board: str) -> float:
    """How much the mean margin in logits grows from the first cell to the last, by least squares in reading order."""
    margin = numpy.array(record["cells"][board]["margin"])
    return numpy.polyfit(numpy.linspace(0, 1, len(margin)), margin, 1)[0]


def loss_by_distance(record: dict) -> float:
    """Percentage points that are lost with the text moved away as far as it goes, on all axes."""
    near, *_, far = (share for share, _, _ in record["distance"]["all axes"])
    return 100 * (near - far)
