"""The modules of `evidence/` are imported by their names; nothing is fetched from a hub."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
EVIDENCE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(EVIDENCE))

import paths  # noqa: E402, F401
