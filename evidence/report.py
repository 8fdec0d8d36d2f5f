"""Fill the tables of the report and draw its figures from the results; nothing is measured here.

python evidence/report.py
"""

import argparse
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import geometry_report
import study_report
from arms import SCALES
from records import RESULTS, EvidenceError, missing_runs, read_records

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=RESULTS, help="what study.py wrote")
    parser.add_argument(
        "--geometry", type=Path, default=HERE / "results" / "geometry.json", help="what geometry.py wrote"
    )
    parser.add_argument("--report", type=Path, default=HERE / "README.md", help="the Markdown file with the tables")
    parser.add_argument("--figures", type=Path, default=HERE / "figures", help="folder of the figures")
    given = parser.parse_args()
    try:
        records, geometry = read_study(given.study), geometry_report.load_results(given.geometry)
        text = given.report.read_text(encoding="utf-8")
        filled = fill(text, {**geometry_report.tables(geometry), **study_report.tables(records, SCALES)}, given.report)
        given.figures.mkdir(parents=True, exist_ok=True)
        geometry_report.draw(geometry, given.figures)
        study_report.draw(records, SCALES, given.figures)
        given.report.write_text(filled, encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: {given.report} and the figures in {given.figures}")
    return 0


def read_study(path: Path) -> dict[str, dict]:
    """The records of the whole study.

    Raises:
        EvidenceError: there is no file, runs are missing, or a record is not of this study.
    """
    records = read_records(path, SCALES)
    missing = missing_runs(records, SCALES)
    if missing:
        raise EvidenceError(
            f"{path} lacks {len(missing)} of {len(missing) + len(records)} runs, the first of them {missing[0].name}: "
            "finish it with python evidence/study.py."
        )
    return records


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
