"""Experiments that a file plans before their first run: its commit, and what it names once all runs are there.

A plan names its `contrast`, a pair of arms, the `measure` that is compared, and beside it a `family` of pairs, each
with the explanation that it asks about.
"""

import subprocess

from evidence.markdown import table

from .arms import PLAN_FILES
from .statistics import Difference, holm


def plan_commit(name: str) -> str:
    """The last commit of a plan's file; empty where there is none, or where the file was changed after it."""

    def git(*words):
        command = ["git", *words, "--", PLAN_FILES[name].name]
        return subprocess.run(command, cwd=PLAN_FILES[name].parent, capture_output=True, text=True).stdout.strip()

    return "" if git("status", "--porcelain") else git("log", "-1", "--format=%H")


def verdicts(plan: dict, compare) -> str:
    """The contrast, and beside it its family, whose p are corrected for their number.

    Args:
        compare: of an arm and another, how far the first is ahead on the seeds that both have.
    """
    named, family = compare(*plan["contrast"]), [compare(*pair) for pair in plan["family"].values()]
    rows = [["the named contrast", plan["contrast"], named, named.p]]
    rows += map(list, zip(plan["family"], plan["family"].values(), family, holm([each.p for each in family])))
    titles = ["asks about", "difference", "points", "95 %, not corrected", "seeds", "p, Holm in the family"]
    return table(titles, [[asks, " minus ".join(pair), *_shown(found, p)] for asks, pair, found, p in rows])


def _shown(found: Difference, p):
    ends = "" if found.interval is None else "[{:+.1f}, {:+.1f}]".format(*found.interval)
    return f"{found.mean:+.1f}", ends, len(found.by_seed), "" if p is None else f"{p:.2g}"
