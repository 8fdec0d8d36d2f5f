"""Fill the geometry's tables of the report and draw its figures from the results; nothing is measured here.

python -m evidence.report
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m evidence.report", file=sys.stderr)
    sys.exit(2)

import argparse
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from .geometry import figures as geometry_figures
from .geometry import tables as geometry_tables
from .study.records import EvidenceError

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--geometry", type=Path, default=HERE / "results" / "geometry.json", help="what evidence.geometry wrote"
    )
    parser.add_argument("--report", type=Path, default=HERE / "README.md", help="the Markdown file with the tables")
    parser.add_argument("--figures", type=Path, default=HERE / "figures", help="folder of the figures")
    given = parser.parse_args()
    try:
        geometry = geometry_tables.load_results(given.geometry)
        text = given.report.read_text(encoding="utf-8")
        filled = fill(text, geometry_tables.tables(geometry), given.report)
        given.figures.mkdir(parents=True, exist_ok=True)
        geometry_figures.draw(geometry, given.figures)
        given.report.write_text(filled, encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: {given.report} and the figures in {given.figures}")
    return 0


def fill(text: str, tables: dict[str, str], path: Path) -> str:
    """The report with every table between its `<!-- table NAME -->` and `<!-- end -->` replaced.

    Raises:
        EvidenceError: the report asks for a table that nobody makes.
    """

    def replace(match):
        name = match[1]
        if name not in tables:
            raise EvidenceError(f"{path} asks for the table {name!r}, but there are only {', '.join(tables)}.")
        return f"<!-- table {name} -->\n\n{tables[name].strip()}\n\n<!-- end -->"

    return re.sub(r"<!-- table ([^\n]*?) -->.*?<!-- end -->", replace, text, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
