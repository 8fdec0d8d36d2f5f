"""What each geometry does to attention: per-token distance and logit spread, as JSON, tables and figures.

pip install -r evidence/requirements.txt
python -m evidence.geometry                                  # everything, with the tiny checkpoint's q and k
python -m evidence.geometry --checkpoint USER/MODEL --output out
python -m evidence.geometry --redraw                         # tables and figures anew from the JSON
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

from .grids import parse_grid

HERE = Path(__file__).resolve().parents[1]
SQUARES = ("2x2", "3x3", "4x4", "6x6", "8x8", "12x12", "16x16", "24x24", "36x36", "48x48", "64x64")
OBLONGS = ("8x32", "32x8", "4x64", "18x72")
CHECKPOINT_GRIDS = ((16, 16),)
CHECKPOINT_DISTANCES = (0, 64, 1024)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.geometry", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", default=str(HERE.parent / "tiny"), metavar="DIR_OR_ID", help="whose q and k to take: tiny")
    add("--output", type=Path, default=HERE / "results", help="folder of geometry.json and geometry.md")
    add("--figures", type=Path, help="folder of the figures: evidence/figures, or OUTPUT/figures for another output")
    add("--grids", nargs="+", default=[*SQUARES, *OBLONGS], metavar="HxW", help="merged grids, rows first")
    add("--draws", type=int, default=1024, help="random pairs of q and k: 1024")
    add("--pictures", type=int, default=8, help="how many the checkpoint reads: 8")
    add("--seed", type=int, default=0, help="of the random pairs and of the pictures: 0")
    add("--redraw", action="store_true", help="make the tables and figures anew from geometry.json")
    given = parser.parse_args()
    if given.figures is None:
        is_default = given.output.resolve() == HERE / "results"
        given.figures = HERE / "figures" if is_default else given.output / "figures"
    return given


def main():
    given = parse_arguments()
    path = given.output / "geometry.json"
    try:
        from . import figures, tables
    except ImportError as error:
        raise SystemExit(f"error: {error}: pip install -r evidence/requirements.txt") from None
    try:
        if given.redraw:
            results = tables.load_results(path)
        else:
            results = measure_all(given)
            write(path, json.dumps(results, indent=1, allow_nan=False) + "\n")
        write(given.output / "geometry.md", tables.page(results))
        figures.draw(results, given.figures)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None
    print(f"tables in {given.output}/geometry.md, numbers in geometry.json, figures in {given.figures}/")


def measure_all(given: argparse.Namespace) -> dict:
    """Everything, as `tables` reads it.

    Raises:
        ValueError: a grid, number or checkpoint that is not allowed.
        OSError: a folder that cannot be written to.
    """
    for name in ("draws", "pictures"):
        if getattr(given, name) < 1:
            raise ValueError(f"--{name} {getattr(given, name)} is not positive: give a number above 0.")
    grids = list(dict.fromkeys(parse_grid(text) for text in given.grids))
    for folder in (given.output, given.figures):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()

    import torch
    import transformers

    from . import measurements, tables, trained

    started = time.process_time()
    torch.set_num_threads(1)  # the same sums on any number of cores; small tensors gain nothing from more
    print(f"queries and keys of {given.checkpoint}", flush=True)
    checkpoint = trained.measure(given.checkpoint, CHECKPOINT_GRIDS, CHECKPOINT_DISTANCES, given.pictures, given.seed)
    rows = []
    for series in measurements.all_series(grids, given.draws, given.seed):
        rows += series
        print(f"{series[0]['series']}: {len(series)} rows, {time.process_time() - started:.0f} s", flush=True)
    is_own = Path(given.checkpoint).resolve() == HERE.parent / "tiny"
    about = {
        "seed": given.seed,
        "draws": given.draws,
        "text_tokens": measurements.TEXT_TOKENS,
        "checkpoint": "tiny" if is_own else given.checkpoint,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "seconds": round(time.process_time() - started),
    }
    return _rounded({"format": tables.FORMAT, "about": about, "rows": rows, "checkpoint": checkpoint})


def _rounded(value):
    """Floats with 5 digits: no more is known, and the last bits differ between machines."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


if __name__ == "__main__":
    main()
