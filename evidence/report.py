"""Write the report from the results: tables beside them, figures, and the front page's table of claims.

python -m evidence.report                                 # nothing is measured here
python -m evidence.report --study again.jsonl --output out
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m evidence.report", file=sys.stderr)
    sys.exit(2)

import argparse
import re
from pathlib import Path

from .geometry import figures as geometry_figures
from .geometry import tables as geometry_tables
from .geometry.__main__ import write
from .study import figures as study_figures
from .study import tables as study_tables
from .study.arms import QUICK, SCALES
from .study.claims import claims, front_table
from .study.records import RESULTS, EvidenceError, read_records

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--geometry", type=Path, default=HERE / "results" / "geometry.json", help="what evidence.geometry wrote"
    )
    parser.add_argument("--study", type=Path, default=RESULTS, help="what evidence.study wrote; it may be unfinished")
    parser.add_argument("--quick", action="store_true", help="the study's results are those of --quick")
    parser.add_argument(
        "--output", type=Path, default=HERE, help="folder of README.md, results/*.md and figures/: evidence"
    )
    given = parser.parse_args()
    scales = QUICK if given.quick else SCALES
    try:
        geometry = geometry_tables.load_results(given.geometry)
        records = read_records(given.study, scales)
        if not records:
            raise EvidenceError(f"{given.study} has no runs yet: python -m evidence.study makes them.")
        front = fill(
            (HERE / "README.md").read_text(encoding="utf-8"), {"claims": front_table(claims(records, scales))}
        )
        write(given.output / "results" / "geometry.md", geometry_tables.page(geometry))
        write(given.output / "results" / "study.md", study_tables.page(records, scales))
        geometry_figures.draw(geometry, given.output / "figures")
        study_figures.draw(records, scales, given.output / "figures")
        write(given.output / "README.md", front)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: README.md, results/geometry.md, results/study.md and figures/ in {given.output}")
    return 0


def fill(text: str, tables: dict[str, str]) -> str:
    """The page with every table between its `<!-- table NAME -->` and `<!-- end -->` replaced.

    Raises:
        EvidenceError: the page asks for a table that nobody makes.
    """

    def replace(match):
        name = match[1]
        if name not in tables:
            raise EvidenceError(f"the page asks for the table {name!r}, but there are only {', '.join(tables)}.")
        return f"<!-- table {name} -->\n\n{tables[name].strip()}\n\n<!-- end -->"

    return re.sub(r"<!-- table ([^\n]*?) -->.*?<!-- end -->", replace, text, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
