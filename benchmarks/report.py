"""Results as a JSON file and a Markdown page, written anew after every row, so that nothing measured is lost."""

import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import torch
import transformers

from measure import Spread


def milliseconds(spread: Spread) -> str:
    return f"{spread.median * 1e3:.3g} ms"


def times(spread: Spread) -> str:
    """How many times faster."""
    return f"{spread.median:.1f}x"


def percent(spread: Spread) -> str:
    """What something costs over stock, with the quartiles."""
    return f"{spread.median - 1:+.1%} ({spread.low - 1:+.1%} to {spread.high - 1:+.1%})"


@dataclass
class Report:
    """Tables of rows; a row is a dictionary from a column's title to a text or a number."""

    path: Path
    device: str
    tables: dict[str, list[dict]] = field(default_factory=dict)
    raw: dict[str, list[dict]] = field(default_factory=dict)

    def add(self, table: str, row: dict, **raw) -> None:
        """Add a row and the numbers behind it; print it, and write both files."""
        rows = self.tables.setdefault(table, [])
        if not rows:
            print(f"\n{table}\n{_line(row)}\n{_line(['---'] * len(row))}")
        rows.append(row)
        print(_line(row.values()), flush=True)
        raw = {key: asdict(value) if isinstance(value, Spread) else value for key, value in raw.items()}
        self.raw.setdefault(table, []).append({**row, **raw})
        self._write()

    def _write(self):
        self.path.mkdir(parents=True, exist_ok=True)
        result = {"machine": machine(self.device), "tables": self.raw}
        (self.path / f"{self.device}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        page = [f"# Measured on {self.device}", "", *(f"- {key}: {value}" for key, value in result["machine"].items())]
        for title, rows in self.tables.items():
            page += ["", f"## {title}", "", _line(rows[0]), _line(["---"] * len(rows[0]))]
            page += [_line(row.values()) for row in rows]
        (self.path / f"{self.device}.md").write_text("\n".join(page) + "\n", encoding="utf-8")


def _line(cells):
    return f"| {' | '.join(map(str, cells))} |"


def machine(device: str) -> dict[str, str]:
    """What the numbers were measured on."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    return {
        "processor": f"{processor}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
