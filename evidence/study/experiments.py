"""The experiments: which runs each one has, given what is known so far.

The contrast that the study is made for, named before any of its runs: ring-contiguous minus grid-interleaved on
"Which is", over all questions of that kind in the tests. If the ring's gain is its shape, it is above zero; if it is
that place reaches high frequencies, it is not.
"""

from statistics import mean

from .answers import share
from .arms import ARMS, BIAS, STRATEGIES, Run
from .records import EvidenceError

CONTRAST = ("ring-contiguous", "grid-interleaved", "Which is")
# Two pictures were added after a first look, the last arm when the ring was seen ahead of both grids.
PAIR_ARMS = ("grid-contiguous", "grid-interleaved", "ring-contiguous", "ring-interleaved")
RATE_ARMS = {"grid": "grid-contiguous", "ring": "ring-contiguous"}
SCORED = "as trained"
# What is made without options, in this order: what matters most comes first.
ORDER = (("allocation", "small"), ("bias", "small"), ("digits", "small"), ("allocation", "real"), ("age", "small"))


def runs_of(experiment: str, scale: str, seeds: int, records: dict, scales: dict) -> list[Run]:
    """The runs of `allocation`, `bias`, `digits` or `age` that can be named by now; then there may be more.

    Seed by seed, so that a study that is cut short has all arms of fewer seeds.

    Raises:
        EvidenceError: it takes up what another experiment has not found out yet.
    """
    first = allocation_runs(scale, seeds, records, scales)
    if experiment == "allocation":
        return first
    missing = [run for run in first if run.name not in records]
    if missing:
        raise EvidenceError(
            f"{experiment} takes up what allocation finds at the {scale} scale, which lacks runs such as "
            f"{missing[0].name}: finish that first with --experiment allocation --scale {scale}."
        )
    rates = best_rates(records, scale, scales)

    def runs(tasks, arms):
        each = [(task, arm, rates[ARMS[arm].family]) for task in tasks for arm in arms]
        return [Run(task, scale, arm, seed, rate) for seed in range(seeds) for task, arm, rate in each]

    if experiment == "bias":
        return runs([BIAS], scales[scale].arms) + runs(["pairs"], PAIR_ARMS)
    if experiment == "digits":
        return runs(["digits"], list(mean_scores(records, scale, seeds, scales))[:3])
    winner = best_sections(records, scale, seeds, scales)
    strategies = [f"{strategy}-{winner}" for strategy in STRATEGIES]
    trained = runs(["shapes"], strategies)
    if any(run.name not in records for run in trained):
        return trained
    measured = runs([BIAS], strategies) + runs(["digits"], [f"ring-{winner}", *strategies])
    return trained + measured + runs(["pairs"], strategies)


def rate_runs(scale: str, scales: dict) -> list[Run]:
    """The search for learning rates, on seeds that are not used afterwards."""
    each = [(rate, arm) for rate in scales[scale].rates for arm in RATE_ARMS.values()]
    return [Run("shapes", scale, arm, seed, rate) for seed in scales[scale].rate_seeds for rate, arm in each]


def allocation_runs(scale: str, seeds: int, records: dict, scales: dict) -> list[Run]:
    """First the search for learning rates alone, then with all arms, each at its family's best rate."""
    search = rate_runs(scale, scales)
    if any(run.name not in records for run in search):
        return search
    rates = best_rates(records, scale, scales)
    return search + [_run(scale, arm, seed, rates) for seed in range(seeds) for arm in scales[scale].arms]


def _run(scale, arm, seed, rates):
    return Run("shapes", scale, arm, seed, rates[ARMS[arm].family])


def score(record: dict) -> float:
    """Share of right answers on boards as trained."""
    return share(record["tests"][SCORED])


def best_rates(records: dict, scale: str, scales: dict) -> dict[str, float]:
    """For each family, the rate with the highest mean score over the seeds of the search."""
    what = scales[scale]

    def found(arm, rate):
        return mean(score(records[Run("shapes", scale, arm, seed, rate).name]) for seed in what.rate_seeds)

    return {family: max(what.rates, key=lambda rate: found(arm, rate)) for family, arm in RATE_ARMS.items()}


def mean_scores(records: dict, scale: str, seeds: int, scales: dict) -> dict[str, float]:
    """The mean score of every arm of the scale over the seeds, best first."""
    rates = best_rates(records, scale, scales)
    runs = {arm: [_run(scale, arm, seed, rates) for seed in range(seeds)] for arm in scales[scale].arms}
    scores = {arm: mean(score(records[run.name]) for run in own) for arm, own in runs.items()}
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def best_sections(records: dict, scale: str, seeds: int, scales: dict) -> str:
    """The sections, contiguous or interleaved, under which grid and ring have the higher mean score together."""
    scores = mean_scores(records, scale, seeds, scales)
    return max(("contiguous", "interleaved"), key=lambda each: scores[f"grid-{each}"] + scores[f"ring-{each}"])
