"""Write the report from the study's records: tables, figures, and the front page's tables. Nothing is trained here.

python -m evidence.report
python -m evidence.report --study again.jsonl --output out
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m evidence.report", file=sys.stderr)
    sys.exit(2)

import argparse
import re
from pathlib import Path

from . import figures, geometry
from .study import tables
from .study.arms import PLANS, QUICK, SCALES
from .study.claims import claims, front_table
from .study.converted import SHORT
from .study.records import RESULTS, EvidenceError, read_records, results_of

HERE = Path(__file__).resolve().parent
ROPES = {
    f"{title}, {sections} sections": make(sections)
    for title, make in {
        "Qwen2.5-VL (heads 128 wide, theta 1e6)": lambda sections: geometry.Rope(
            interleaved=sections == "interleaved"
        ),
        "small models (heads 32 wide, theta 1e4)": SCALES["small"].rope,
        "real models (heads 64 wide, theta 1e6)": SCALES["real"].rope,
    }.items()
    for sections in ("contiguous", "interleaved")
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    told = (
        "what evidence.study wrote, beside that of the plans; it may be unfinished, and theirs is shown once complete"
    )
    parser.add_argument("--study", type=Path, default=RESULTS, help=told)
    parser.add_argument("--quick", action="store_true", help="the study's results are those of --quick")
    parser.add_argument(
        "--output", type=Path, default=HERE, help="folder of README.md, results/*.md and figures/: evidence"
    )
    given = parser.parse_args()
    scales = QUICK if given.quick else SCALES
    try:
        records = read_records(given.study, scales)
        if not records:
            raise EvidenceError(f"{given.study} has no runs yet: python -m evidence.study makes them.")
        for plan in PLANS:
            records |= read_records(given.study.with_name(results_of(plan).name), scales)
        study = tables.tables(records, scales)
        front = {"named": front_table(claims(records, scales)), "conversion": study.get(SHORT, "")}
        pages = {
            "results/geometry.md": geometry.page(ROPES),
            "results/study.md": tables.page(study),
            "README.md": fill((HERE / "README.md").read_text("utf-8"), front),
        }
        figures.draw(records, scales, given.output / "figures")
        for name, text in pages.items():
            path = given.output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: {', '.join(pages)} and figures/ in {given.output}")
    return 0


def fill(text: str, tables: dict[str, str]) -> str:
    """The page with every table between its `<!-- table NAME -->` and `<!-- end -->` replaced."""
    return re.sub(
        r"<!-- table (\w+) -->.*?<!-- end -->",
        lambda match: f"<!-- table {match[1]} -->\n\n{tables[match[1]].strip()}\n\n<!-- end -->",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    sys.exit(main())
