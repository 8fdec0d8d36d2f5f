"""Saves a stock Qwen2.5-VL checkpoint as the installed transformers writes it, for other releases to load.

python tests/save_stock.py DIRECTORY
"""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "shapes")]

from models import save_base  # noqa: E402

if __name__ == "__main__":
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    save_base(Path(sys.argv[1]))
