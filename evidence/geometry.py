"""The command is `python -m evidence.geometry`; this says so to whoever types the path."""

import sys

print("error: from the repo's root, this is python -m evidence.geometry", file=sys.stderr)
sys.exit(2)
