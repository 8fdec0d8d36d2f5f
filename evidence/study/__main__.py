"""Train the same small model under every geometry and write what each run learned, one JSON line per run.

python -m evidence.study                # all runs that are not in the results yet
python -m evidence.study --output FILE  # all runs anew
python -m evidence.study --list         # what there is to run, and what is done

A run is one process. It can be interrupted at any time: finished runs are kept, the others start anew the next time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from .arms import QUICK, SCALES, Run, make_runs, weights_path
from .records import RESULTS, EvidenceError, read_records

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".cache" / "evidence"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="PART", help="only runs whose name contains one of these, as real/"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each (default: 2)")
    parser.add_argument("--output", type=Path, default=RESULTS, help=f"results file (default: {RESULTS.name})")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of weights (default: .cache/evidence)")
    parser.add_argument("--quick", action="store_true", help="few runs of few steps, to see that it works")
    parser.add_argument("--list", action="store_true", help="print the runs and what is done, and train nothing")
    given = parser.parse_args(arguments)
    if given.jobs < 1:
        parser.error(f"--jobs {given.jobs} is not possible: give 1 or more.")
    given.scales = QUICK if given.quick else SCALES
    return given


def main() -> int:
    given = parse_arguments()
    try:
        records = read_records(given.output, given.scales)
        runs = [run for run in make_runs(given.scales) if any(part in run.name for part in given.only)]
        if not runs:
            raise EvidenceError(f"--only {' '.join(given.only)} fits no run: --list prints their names.")
        if given.list:
            for run in runs:
                print(f"{'done' if run.name in records else 'open'}  {run.name}")
            return 0
        study(runs, records, given)
    except (EvidenceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, and the same command goes on from there.", file=sys.stderr)
        return 130
    return 0


def study(runs: list[Run], records: dict[str, dict], given: argparse.Namespace) -> None:
    """Make the runs that have no record, and append theirs to the results as they finish."""
    given.work.mkdir(parents=True, exist_ok=True)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    open_runs = [run for run in runs if run.name not in records]
    print(
        f"{len(runs) - len(open_runs)} of {len(runs)} runs are in {given.output}: {len(open_runs)} to make", flush=True
    )
    # A switch needs the weights of another run, which are not part of the results.
    needed = {run.starts_from for run in open_runs if run.starts_from} - set(open_runs)
    needed = [run for run in sorted(needed, key=str) if not weights_path(run, given.scales, given.work).exists()]
    from_scratch = [run for run in (*needed, *open_runs) if not run.starts_from]
    for batch in (from_scratch, [run for run in open_runs if run.starts_from]):
        with ThreadPoolExecutor(given.jobs) as pool:
            runs_of = {pool.submit(make, run, given): run for run in batch}
            try:
                for future in as_completed(runs_of):
                    record = future.result()
                    if runs_of[future].name not in records:
                        with given.output.open("a", encoding="utf-8") as results:
                            results.write(record)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def make(run: Run, given: argparse.Namespace) -> str:
    """Make one run in a process of its own and return its record, a JSON line.

    Raises:
        EvidenceError: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "record.json"
        command = [sys.executable, "-m", "evidence.study.train", json.dumps(asdict(run))]
        command += ["--work", str(given.work), "--output", str(output), *(["--quick"] if given.quick else [])]
        done = subprocess.run(command)
        if done.returncode or not output.exists():
            raise EvidenceError(
                f"the run {run.name} failed with exit code {done.returncode}: see what it printed above."
            )
        return output.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
