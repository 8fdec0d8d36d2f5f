"""Train the same small model under every layout and write what each run learned, one JSON line per run.

python -m evidence.study                           # every run that is not in the results yet
python -m evidence.study --output again.jsonl      # every run anew; .jsonl.xz is compressed
python -m evidence.study --experiment allocation --scale small --seeds 2
python -m evidence.study --experiment pictures conversion --jobs 1   # what plans name, one after the other

A run is one process. The study may be stopped in any way at any time: finished runs are kept, the others start anew
with the same command.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from .arms import PLAN_FILES, QUICK, SCALES, Run
from .converted import CONVERTED
from .experiments import ORDER, runs_of
from .planned import plan_commit
from .records import RESULTS, EvidenceError, append, read_records, results_of
from .two import PICTURES

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".cache" / "evidence"
PLANNED = {"pictures": PICTURES, "conversion": CONVERTED}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--experiment",
        nargs="+",
        choices=["allocation", "bias", "digits", "age", *PLANNED],
        help="these alone: layout and sections, position bias, handwritten digits, schedules of layers; or, made in "
        "no other way, what a plan names: why two pictures, what converting trained M-RoPE weights costs and brings",
    )
    add("--scale", choices=["small", "real"], help="size of the model (default: small, then real)")
    add("--seeds", type=_count, help="fewer seeds (default: 8 small, 6 real)")
    add("--output", type=Path, help=f"results file (default: {RESULTS.name}, of a plan that of its name)")
    add("--jobs", type=_count, default=2, help="runs side by side, one thread each (default: 2)")
    add("--work", type=Path, default=WORK, help="folder of weights (default: .cache/evidence)")
    add("--quick", action="store_true", help="runs of few steps, to see that it works")
    given = parser.parse_args()
    if given.scale and PLANNED.keys() & (given.experiment or ()):
        parser.error(f"--scale {given.scale} is not possible: a plan has sizes of its own, leave --scale out.")
    return given


def _count(text):
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not possible: give a whole number above 0.")
    return int(text)


def main() -> int:
    given = parse_arguments()
    try:
        study(given, QUICK if given.quick else SCALES)
    except (EvidenceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, and the same command goes on from there.", file=sys.stderr)
        return 130
    print("all runs are there.", flush=True)
    return 0


def study(given: argparse.Namespace, scales: dict) -> None:
    """Make the runs that have no record, in the study's order."""
    order = [each for each in ORDER if given.scale in (None, each[1])]
    if given.experiment:
        order = [(each, None if each in PLANNED else given.scale or "small") for each in given.experiment]
    for experiment, scale in order:
        output, planned = given.output or results_of(experiment), PLANNED.get(experiment)
        seeds = min(given.seeds or scales[scale].seeds, scales[scale].seeds) if scale else given.seeds
        if planned and not (given.quick or plan_commit(experiment)):
            raise EvidenceError(
                f"{PLAN_FILES[experiment].name} is not committed as it is: commit it before a run that it plans."
            )
        while True:
            records = read_records(output, scales)
            runs = planned.runs(records, seeds) if planned else runs_of(experiment, scale, seeds, records, scales)
            missing = [run for run in runs if run.name not in records]
            if not missing:
                break
            title = f"{experiment}, {scale}" if scale else experiment
            print(f"{title}: {len(missing)} of {len(runs)} runs to make", flush=True)
            with ThreadPoolExecutor(given.jobs) as pool:
                try:
                    for future in as_completed([pool.submit(make, run, given) for run in missing]):
                        append(output, future.result())
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise


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
