"""Experiments that a file plans before their first run: its commit, their runs, and what they say once all are there.

A plan names its `contrast`, a pair of arms, and beside it a `family` of pairs, each with what it asks about; `seeds`
that were never used; and `rates`, of all arms or by arm, tried on `rate_seeds` by all but those of `rate_of`, which
take another arm's best, or a number.
"""

import subprocess
from collections.abc import Callable
from statistics import mean
from typing import NamedTuple

from evidence.markdown import table

from .arms import PLAN_FILES, Run
from .statistics import difference, holm


def plan_commit(name: str) -> str:
    """The last commit of a plan's file; empty where there is none, or where the file was changed after it."""

    def git(*words):
        command = ["git", *words, "--", PLAN_FILES[name].name]
        return subprocess.run(command, cwd=PLAN_FILES[name].parent, capture_output=True, text=True).stdout.strip()

    return "" if git("status", "--porcelain") else git("log", "-1", "--format=%H")


class Planned(NamedTuple):
    """A planned experiment.

    Attributes:
        plan: what its file says.
        run: of an arm, a seed and a rate, the run.
        measure: of a record, the number that is compared, and by which rates are chosen.
        stages: arms with the number of their seeds, in the order in which they are made.
    """

    plan: dict
    run: Callable[[str, int, float], Run]
    measure: Callable[[dict], float]
    stages: tuple[tuple[list[str], int], ...]

    def runs(self, records: dict, seeds: int | None = None) -> list[Run]:
        """The runs that can be named by now: of every stage the search for rates, and with it done, seed by seed."""
        made = []
        for arms, count in self.stages:
            tuned = [arm for arm in arms if arm not in self.plan["rate_of"]]
            search = [run for arm in tuned for rate in self._rates(arm) for run in self._searched(arm, rate)]
            made += search
            if any(run.name not in records for run in search):
                break
            for seed in self._seeds(count)[:seeds]:
                made += [self.run(arm, seed, self.rate(arm, records)) for arm in arms]
        return made

    def _seeds(self, count):
        return self.plan["seeds"][:count]

    def _rates(self, arm):
        rates = self.plan["rates"]
        return rates[arm] if isinstance(rates, dict) else rates

    def _searched(self, arm, rate):
        return [self.run(arm, seed, rate) for seed in self.plan["rate_seeds"]]

    def rate(self, arm: str, records: dict) -> float:
        """The rate with the highest mean of the measure over the seeds of the search."""
        arm = self.plan["rate_of"].get(arm, arm)
        if not isinstance(arm, str):
            return arm

        def known(rate):
            return mean(self.measure(records[run.name]) for run in self._searched(arm, rate))

        return max(self._rates(arm), key=known)

    def found(self, records: dict) -> dict[str, dict[int, dict]]:
        """By arm and seed, the records; nothing before all runs are there."""
        if any(run.name not in records for run in self.runs(records)):
            return {}
        return {
            arm: {seed: records[self.run(arm, seed, self.rate(arm, records)).name] for seed in self._seeds(count)}
            for arms, count in self.stages
            for arm in arms
        }

    def verdicts(self, found: dict[str, dict[int, dict]]) -> str:
        """The contrast, and beside it its family, whose p are corrected for their number."""

        def compare(arm, other):
            both = sorted(found[arm].keys() & found[other].keys())
            return difference([self.measure(found[arm][seed]) - self.measure(found[other][seed]) for seed in both])

        asked = {"the named contrast": self.plan["contrast"], **self.plan["family"]}
        named, *family = differences = [compare(*pair) for pair in asked.values()]
        corrected = [named.p, *holm([each.p for each in family])]
        rows = [
            [about, " minus ".join(pair), f"{each.mean:+.1f}", "[{:+.1f}, {:+.1f}]".format(*each.interval)]
            + [len(each.by_seed), f"{p:.2g}"]
            for (about, pair), each, p in zip(asked.items(), differences, corrected)
        ]
        return table(["about", "difference", "points", "95 %, not corrected", "seeds", "p, Holm in the family"], rows)
