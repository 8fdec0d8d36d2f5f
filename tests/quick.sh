#!/usr/bin/env bash
# About a minute, for while one works: lint, types, geometry, positions, decoding and one conversion, on the newest transformers.
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

python=$PWD/.venv-tests/main/bin/python
if [ ! -x "$python" ]; then
    "${PYTHON:-python3}" -m venv "$PWD/.venv-tests/main"
    "$python" -m pip install -r tests/requirements.txt
fi
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
"$python" -m pytest -q -x tests/test_geometry.py tests/test_positions.py
"$python" -m pytest -q -x tests/test_decoding.py tests/test_conversion.py \
    -k "loop_by_hand or turn_goes_on or converted_checkpoint_is_complete"
