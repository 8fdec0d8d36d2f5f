#!/usr/bin/env bash
# About a minute, for while one works: lint, types, geometry, positions, decoding and one conversion, on the newest transformers.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/environments.sh

[ -x "$main" ] || environment main -r tests/requirements.txt
"$main" -m ruff check .
"$main" -m ruff format --check .
"$main" -m mypy
"$main" -m pytest -q -x tests/test_geometry.py tests/test_positions.py
"$main" -m pytest -q -x tests/test_decoding.py tests/test_conversion.py \
    -k "loop_by_hand or turn_goes_on or converted_checkpoint_is_complete"
