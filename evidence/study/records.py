"""The study's results: JSON lines, one for each finished run, which must all be of the study as it is.

A file whose name ends in .xz is compressed: `lzma.open(path, "rt")`, `pandas.read_json(path, lines=True)` and `xzcat`
read it, whatever was added to it.
"""

import json
import lzma
import os
from pathlib import Path

from .arms import ARMS, BIAS, CONVERSION, CONVERSIONS, PLANS, TASKS, Run, recipe
from .boards import METRIC

RESULTS = Path(__file__).resolve().parents[1] / "results" / "runs.jsonl.xz"
INCOMPLETE = " is not the complete record of a run: delete this line, its run is made anew."


def results_of(experiment: str) -> Path:
    """Where records are kept: those of a plan in a file of its name, apart from all others."""
    return RESULTS.with_name(f"{experiment}.jsonl.xz") if experiment in PLANS else RESULTS


class EvidenceError(ValueError):
    """A mistake of the user's, in one sentence."""


def read_records(path: Path, scales: dict) -> dict[str, dict]:
    """The records in a results file by the name of their run; none if there is no file.

    Raises:
        EvidenceError: a line that is cut off or is no record, one of another metric, a run that is twice there or is
            not of the study, or one that was made with another recipe.
    """
    if not path.exists():
        return {}
    records = {}
    for number, line in enumerate(_read(path).splitlines(), start=1):
        where = f"line {number} of {path}"
        try:
            record = json.loads(line)
            name, made_with, metric = record["run"], record["recipe"], record.get("metric")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise EvidenceError(where + INCOMPLETE) from None
        if metric != METRIC:
            raise EvidenceError(
                f"{where} was made with another metric than {METRIC!r}, under which the same words mean other places "
                "on larger boards, and results of two metrics cannot stand side by side: use another file."
            )
        run = parse_name(name)
        if not run or run.scale not in scales:
            raise EvidenceError(f"{where} is of the run {name!r}, which is not in this study: delete it.")
        if name in records:
            raise EvidenceError(f"{where} is the second record of {name}: delete one of them.")
        wanted = json.loads(json.dumps(recipe(run, scales)))
        for key in sorted(wanted.keys() | made_with.keys()):
            if wanted.get(key) != made_with.get(key):
                raise EvidenceError(
                    f"{where} was made with {key} {made_with.get(key)}, but the study has {wanted.get(key)} now, and "
                    "results of different recipes are not mixed: use another file with --output."
                )
        if run.what != BIAS and record.get("tests", {}).keys() != wanted["tests"].keys():
            raise EvidenceError(where + INCOMPLETE)
        records[name] = record
    return records


def _read(path):
    try:
        return (lzma.open if path.suffix == ".xz" else open)(path, "rb").read().decode()
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise EvidenceError(f"{path} is broken or cut off ({error}): take an earlier copy, or another file.") from None


def parse_name(name: str) -> Run | None:
    """The run of that name, or None if there can be none."""
    try:
        what, scale, arm, rate, seed = name.split("/")
        run = Run(what, scale, arm, int(seed), float(rate.removeprefix("x")))
    except (ValueError, AttributeError):
        return None
    arms = CONVERSIONS if what == CONVERSION else ARMS
    return run if run.name == name and arm in arms and what in (*TASKS, BIAS, CONVERSION) else None


def append(path: Path, line: str) -> None:
    """Add a record in one piece, so that whoever stops the study leaves no half of one."""
    data = lzma.compress(line.encode()) if path.suffix == ".xz" else line.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, data)
        os.fsync(file)
    finally:
        os.close(file)
