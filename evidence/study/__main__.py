"""Train the same small model under every layout and write what each run learned, one JSON line per run.

python -m evidence.study                 # every run that is not in the results yet
python -m evidence.study --output FILE   # every run anew
python -m evidence.study --experiment allocation --scale small --seeds 2 --budget 60

A run is one process. The study may be stopped in any way at any time: finished runs are kept, the others start anew
with the same command.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from .arms import QUICK, SCALES, Run
from .experiments import ORDER, runs_of
from .records import RESULTS, EvidenceError, append, read_records

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".cache" / "evidence"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--experiment",
        choices=["allocation", "bias", "digits", "age"],
        help="this one alone: layout and sections, position bias, handwritten digits, or schedules of layers",
    )
    parser.add_argument("--scale", choices=list(SCALES), help="size of the model (default: small, then real)")
    parser.add_argument("--seeds", type=_positive(int), help="fewer seeds (default: 8 small, 6 real)")
    parser.add_argument("--output", type=Path, default=RESULTS, help=f"results file (default: {RESULTS.name})")
    parser.add_argument(
        "--budget", type=_positive(float), metavar="MINUTES", help="start no run that would not end within this time"
    )
    parser.add_argument(
        "--jobs", type=_positive(int), default=2, help="runs side by side, one thread each (default: 2)"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="folder of weights (default: .cache/evidence)")
    parser.add_argument("--quick", action="store_true", help="runs of few steps, to see that it works")
    given = parser.parse_args(arguments)
    given.scales = QUICK if given.quick else SCALES
    return given


def _positive(kind):
    def parse(text):
        number = kind(text)
        if not number > 0:
            raise argparse.ArgumentTypeError(f"{text} is not possible: give a number above 0.")
        return number

    parse.__name__ = kind.__name__
    return parse


def main() -> int:
    given = parse_arguments()
    try:
        finished = study(given)
    except (EvidenceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, and the same command goes on from there.", file=sys.stderr)
        return 130
    print("all runs are there." if finished else "time is up: the same command goes on from here.", flush=True)
    return 0


def study(given: argparse.Namespace) -> bool:
    """Make the runs that have no record, in the study's order; returns whether all are there now."""
    until = time.monotonic() + 60 * given.budget if given.budget else float("inf")
    if given.experiment:
        order = [(given.experiment, given.scale or "small")]
    else:
        order = [each for each in ORDER if given.scale in (None, each[1])]
    for experiment, scale in order:
        seeds = min(given.seeds or given.scales[scale].seeds, given.scales[scale].seeds)
        while True:
            records = read_records(given.output, given.scales)
            runs = runs_of(experiment, scale, seeds, records, given.scales)
            missing = [run for run in runs if run.name not in records]
            if not missing:
                break
            print(f"{experiment}, {scale}: {len(missing)} of {len(runs)} runs to make", flush=True)
            if not make_all(missing, records, until, given):
                return False
    return True


def make_all(runs: list[Run], records: dict[str, dict], until: float, given: argparse.Namespace) -> bool:
    """Make the runs and append their records as they finish; False if time is up before all are made."""

    def make_in_time(run):
        left = (until - time.monotonic()) / 60
        return make(run, given) if minutes_of(run, records, given.scales) <= left else None

    in_time = True
    with ThreadPoolExecutor(given.jobs) as pool:
        try:
            for future in as_completed([pool.submit(make_in_time, run) for run in runs]):
                if future.result():
                    append(given.output, future.result())
                else:
                    in_time = False
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return in_time


def minutes_of(run: Run, records: dict[str, dict], scales: dict) -> float:
    """How long a run will take: as long as the last one of its kind, for a machine may have other work to do."""
    times = [
        each["seconds"] / 60 for each in records.values() if (each["what"], each["scale"]) == (run.what, run.scale)
    ]
    return times[-1] if times else scales[run.scale].minutes


def make(run: Run, given: argparse.Namespace) -> str:
    """Make one run in a process of its own, which ends with this one, and return its record, a JSON line.

    Raises:
        EvidenceError: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "record.json"
        command = [sys.executable, "-m", "evidence.study.train", json.dumps(asdict(run)), "--end-with-parent"]
        command += ["--work", str(given.work), "--output", str(output), *(["--quick"] if given.quick else [])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as process:
            code = process.wait()
        if code or not output.exists():
            raise EvidenceError(f"the run {run.name} failed with exit code {code}: see what it printed above.")
        return output.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
