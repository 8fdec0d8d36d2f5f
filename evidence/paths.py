"""Imported for its effect: the modules of the repo's root and of its other folders can be imported."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "shapes"), str(ROOT / "training")]
