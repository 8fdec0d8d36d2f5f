"""What the commands of both harnesses share: their options, the named set, and how they end."""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from . import shapes_task
from .loading import Checkpoint, EvaluationError, find

PAPER = Path(__file__).with_name("paper.json")
JUDGED = "MathVista"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message):
        self.exit(2, f"error: {message} (see --help)\n")


def make_parser(description: str, harness: str) -> Parser:
    """The options that both commands have; what is not among them goes to the harness."""
    parser = Parser(
        description=description,
        epilog=f"Other options are handed to {harness} as they are.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("checkpoint", help="directory or hub id: converted, fine-tuned or stock")
    add(
        "--tasks",
        nargs="+",
        required=True,
        help=f"names as in {harness}, the set `paper`, and `{shapes_task.NAME}`, which needs no download",
    )
    add("--output-dir", type=Path, required=True, help="new folder for the results")
    add("--limit", type=int, help="first questions of every task only; for trying out")
    add("--min-pixels", type=int, help=f"smaller pictures are enlarged to it (default: {harness}'s)")
    add("--max-pixels", type=int, help=f"larger pictures are scaled down to it (default: {harness}'s)")
    return parser


def task_names(given: list[str], harness: str) -> list[str]:
    """The tasks that were asked for, each once, with the set `paper` written out.

    Args:
        given: names, several of which a comma may join.
        harness: the key of its names in paper.json.
    """
    sets = {"paper": [name for row in paper_rows() for name in row[harness]]}
    names = [name for part in given for name in part.split(",") if name]
    return list(dict.fromkeys(name for part in names for name in sets.get(part, [part])))


def paper_rows() -> list[dict]:
    """The rows of the paper's table, as paper.json has them."""
    return json.loads(PAPER.read_text(encoding="utf-8"))["benchmarks"]


def check_options(given: argparse.Namespace, tasks: list[str], has_judge: bool) -> None:
    """Refuse what would fail later.

    Raises:
        EvaluationError: an output folder with something in it, a number out of range, a judge that is missing.
    """
    is_first = os.environ.get("RANK", "0") == "0"  # of several processes
    if is_first and given.output_dir.exists() and (not given.output_dir.is_dir() or any(given.output_dir.iterdir())):
        raise EvaluationError(f"--output-dir {given.output_dir} is not an empty folder: give a new one.")
    for option in ("limit", "min_pixels", "max_pixels"):
        value = getattr(given, option)
        if value is not None and value < 1:
            raise EvaluationError(f"--{option.replace('_', '-')} is {value}, but must be 1 or more.")
    if given.min_pixels and given.max_pixels and given.min_pixels > given.max_pixels:
        raise EvaluationError(f"--min-pixels {given.min_pixels} is above --max-pixels {given.max_pixels}: swap them.")
    judged = [name for name in tasks if JUDGED.lower() in name.lower()]
    if judged and not has_judge:
        raise EvaluationError(
            f"{judged[0]} needs a judge model, which reads the answers: set OPENAI_API_KEY (and what the harness says "
            "for another judge), or name the other tasks in --tasks."
        )


def has_openai_key() -> bool:
    """Whether a judge can be asked."""
    return bool(os.environ.get("OPENAI_API_KEY"))


def announce(name: str) -> Checkpoint:
    """Find a checkpoint, and say first of all what runs."""
    checkpoint = find(name)
    print(checkpoint.describe(), flush=True)
    return checkpoint


def run(command: Callable[[], None]) -> int:
    """Run a command; its exit code. Whatever goes wrong is one sentence."""
    try:
        command()
    except EvaluationError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; there is no result", file=sys.stderr)
        return 130
    except SystemExit as error:
        if error.code in (None, 0):  # harnesses leave so after they have failed
            print("error: the harness ended without a result; what it printed says why", file=sys.stderr)
            return 1
        raise
    except Exception as error:
        if os.environ.get("EVALUATION_TRACEBACK"):
            traceback.print_exc()
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(f"error: the harness failed: {text} (EVALUATION_TRACEBACK=1 shows where)", file=sys.stderr)
        return 1
    return 0
