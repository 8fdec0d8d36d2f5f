"""Results as a JSON file and a Markdown page, written anew after every row, so that nothing measured is lost."""

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch
import transformers

from .measure import Spread


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
    """Tables of rows; a row is a dictionary from a column's title to a text or a number.

    Tables that an earlier run wrote to the same folder on the same machine stay, unless they are measured anew.
    """

    path: Path
    device: str

    def __post_init__(self):
        self.machine = machine(self.device)
        self.earlier, self.tables = self._read(), {}

    def _read(self):
        try:
            result = json.loads((self.path / f"{self.device}.json").read_text(encoding="utf-8"))
            return result["tables"] if result["machine"] == self.machine else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def add(self, table: str, row: dict, **raw) -> None:
        """Add a row and the numbers behind it; print it, and write both files."""
        rows = self.tables.setdefault(table, [])
        if not rows:
            print(f"\n{table}\n{_line(row)}\n{_line(['---'] * len(row))}")
        print(_line(row.values()), flush=True)
        raw = {key: asdict(value) if isinstance(value, Spread) else value for key, value in raw.items()}
        rows.append({**row, **raw})
        self._write()

    def _write(self):
        self.path.mkdir(parents=True, exist_ok=True)
        tables = {**self.earlier, **self.tables}
        result = {"machine": self.machine, "tables": tables}
        (self.path / f"{self.device}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        page = [f"# Measured on {self.device}", "", *(f"- {key}: {value}" for key, value in self.machine.items())]
        for title, rows in tables.items():
            # The numbers behind a row are lists and dictionaries; what is shown is not.
            shown = [{key: cell for key, cell in row.items() if isinstance(cell, (str, int))} for row in rows]
            page += ["", f"## {title}", "", _line(shown[0]), _line(["---"] * len(shown[0]))]
            page += [_line(row.values()) for row in shown]
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
