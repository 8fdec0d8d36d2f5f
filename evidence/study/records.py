"""The study's results: a file of JSON lines, one for each finished run, which must all be of the study as it is."""

import json
from pathlib import Path

from .arms import Run, make_runs, recipe

RESULTS = Path(__file__).resolve().parents[1] / "results" / "study.jsonl"


class EvidenceError(ValueError):
    """A mistake of the user's, in one sentence."""


def read_records(path: Path, scales: dict) -> dict[str, dict]:
    """The records in a results file by the name of their run; none if there is no file.

    Raises:
        EvidenceError: a line that is cut off or is no record, a run that is twice there or is not of the study, or
            one that was made with another recipe.
    """
    if not path.exists():
        return {}
    known = {run.name: run for run in make_runs(scales)}
    records = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        where = f"line {number} of {path}"
        try:
            record = json.loads(line)
            name, made_with = record["run"], record["recipe"]
            record["curve"], record["tests"]
        except (ValueError, KeyError, TypeError):
            raise EvidenceError(
                f"{where} is not the complete record of a run: delete this line, its run is made anew."
            ) from None
        if name not in known:
            raise EvidenceError(
                f"{where} is of the run {name!r}, which is not in this study: delete it or use another file."
            )
        if name in records:
            raise EvidenceError(f"{where} is the second record of {name}: delete one of them.")
        wanted = recipe(known[name], scales)
        for key in sorted(wanted.keys() | made_with.keys()):
            if wanted.get(key) != made_with.get(key):
                raise EvidenceError(
                    f"{where} was made with {key} {made_with.get(key)}, but the study has {wanted.get(key)} now, and "
                    "results of different recipes are not mixed: use another file with --output."
                )
        records[name] = record
    return records


def missing_runs(records: dict[str, dict], scales: dict) -> list[Run]:
    """The runs that have no record yet, in the order in which they can be made."""
    return [run for run in make_runs(scales) if run.name not in records]
