#!/usr/bin/env bash
# Lint and every test, on each supported line of transformers: the newest release in full, and older ones in small
# environments layered over the first, so that torch is installed once.
set -euo pipefail
cd "$(dirname "$0")/.."

environments=$PWD/.venv-tests
older="4.57.6 5.0.0 5.19.0" # the last of 4, the first of 5, the newest that ms-swift 4.6 accepts
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export STOCK_CHECKPOINTS=$environments/checkpoints

main=$environments/main/bin/python
[ -x "$main" ] || "${PYTHON:-python3}" -m venv "$environments/main"
"$main" -m pip install --disable-pip-version-check -r tests/requirements.txt
packages=$("$main" -c "import sysconfig; print(sysconfig.get_path('purelib'))")

for release in $older; do
    python=$environments/$release/bin/python
    if [ ! -x "$python" ]; then
        "$main" -m venv "$environments/$release"
        echo "$packages" > "$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth"
    fi
    "$python" -m pip install --disable-pip-version-check "transformers==$release"
done

# Fine-tuning has packages of its own, on the newest transformers that they accept.
training=$environments/training/bin/python
if [ ! -x "$training" ]; then
    "$main" -m venv "$environments/training"
    echo "$packages" > "$("$training" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth"
fi
"$training" -m pip install --disable-pip-version-check -r training/tests/requirements.txt

"$main" -m ruff check .
"$main" -m ruff format --check .

# Each release saves a stock checkpoint, and every release loads all of them.
for release in main $older; do
    "$environments/$release/bin/python" tests/save_stock.py "$STOCK_CHECKPOINTS/$release"
done

workers=${WORKERS:-2}
"$main" -m pytest -q -n "$workers" tests "$@"
for release in $older; do
    echo "transformers $release"
    "$environments/$release/bin/python" -m pytest -q -n "$workers" tests --ignore tests/test_geometry.py \
        --ignore tests/test_benchmarks.py --ignore tests/test_published_files.py --ignore tests/test_publishing.py "$@"
done

# Publishing depends on huggingface_hub: 2 is beside the newest release, 0.36 beside 4.57.6, 1 beside 5.0.0.
"$environments/4.57.6/bin/python" -m pytest -q -n "$workers" tests/test_publishing.py "$@"
"$environments/5.0.0/bin/python" -m pytest -q -n "$workers" tests/test_publishing.py -k "wire or interrupted" "$@"

echo "fine-tuning"
"$training" -m pytest -q -n "$workers" --dist loadfile training/tests "$@"

# The Space: its own packages over the first environment.
space=$environments/space/bin/python
if [ ! -x "$space" ]; then
    "$main" -m venv "$environments/space"
    echo "$packages" > "$("$space" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth"
fi
"$space" -m pip install --disable-pip-version-check -r space/tests/requirements.txt
# The tests of the page in a browser are not stable yet beside one another on two cores: `pytest space/tests` runs them.
"$space" -m pytest -q -n "$workers" --dist loadfile space/tests --ignore space/tests/test_page.py \
    --ignore space/tests/test_looks.py "$@"
