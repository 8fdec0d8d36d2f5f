"""Measure Circle-RoPE and AGE against stock Qwen2.5-VL, in the same process and in turns.

python -m benchmarks                    # everything, about 20 minutes on two cores
python -m benchmarks positions          # one part
python -m benchmarks --device cuda      # the 3B's full depth, on a GPU
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m benchmarks", file=sys.stderr)
    sys.exit(2)

import argparse
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

PARTS = ("positions", "steps", "narrow", "loading", "conversion")
HERE = Path(__file__).resolve().parent


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=9, help="samples of each measurement (default: 9)")
    parser.add_argument("--layers", type=int, help="decoder layers of the 3B's width (default: 4, on cuda all 36)")
    parser.add_argument("--tokens", type=int, help="length of the prompt (default: 256, on cuda 4096)")
    parser.add_argument("--dtypes", nargs="+", choices=("bf16", "fp32"), help="default: both, on cuda bf16")
    parser.add_argument("--attention", default="sdpa", help="sdpa (default), eager or flash_attention_2")
    parser.add_argument("--gigabytes", type=float, default=4, help="size of the checkpoint to convert (default: 4)")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder of the JSON and Markdown files")
    given = parser.parse_args(arguments)
    for part in given.parts:
        if part not in PARTS:
            parser.error(f"{part} cannot be measured: give any of {', '.join(PARTS)}, or none for all.")
    for name in ("repeats", "layers", "tokens", "gigabytes"):
        value = getattr(given, name)
        if value is not None and value <= 0:
            parser.error(f"--{name} {value} is not positive: give a number above 0.")
    on_cuda = given.device == "cuda"
    given.layers = given.layers or (36 if on_cuda else 4)
    given.tokens = given.tokens or (4096 if on_cuda else 256)
    given.dtypes = given.dtypes or (["bf16"] if on_cuda else ["bf16", "fp32"])
    return given


def main() -> int:
    given = parse_arguments()
    from . import files, positions, steps
    from .measure import BenchmarkError, check_device, keep_memory
    from .report import Report

    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning)
    runs: dict[str, Callable] = dict(
        zip(PARTS, (positions.run, steps.run, steps.run_narrow, files.run_loading, files.run_conversion))
    )
    try:
        check_device(given.device)
        keep_memory()
        report = Report(given.output, given.device)
        for part in given.parts or PARTS:
            runs[part](report, **vars(given))
    except (BenchmarkError, RuntimeError, MemoryError, OSError) as error:
        # RuntimeError: torch's own way to say that memory ran out.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"\nwritten to {given.output}/{given.device}.md and .json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
