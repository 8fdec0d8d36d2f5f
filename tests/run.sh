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

# layer NAME REQUIREMENT...: an environment that has what these ask for, and everything else from the first.
layer() {
    local python=$environments/$1/bin/python
    if [ ! -x "$python" ]; then
        "$main" -m venv "$environments/$1"
        echo "$packages" > "$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth"
    fi
    "$python" -m pip install --disable-pip-version-check "${@:2}"
}

for release in $older; do
    layer "$release" "transformers==$release"
done
# Fine-tuning has packages of its own, on the newest transformers that they accept; the Space has the newest.
layer training -r training/tests/requirements.txt
layer space -r space/tests/requirements.txt
layer evidence -r evidence/requirements.txt
# The Space's page is tested in Chromium, which apt-get installs, as root, where it is missing.
if ! command -v "${CHROMIUM:-chromium}" > /dev/null; then
    apt-get update && apt-get install -y --no-install-recommends chromium fonts-noto-cjk
fi

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
"$environments/training/bin/python" -m pytest -q -n "$workers" --dist loadfile training/tests "$@"

echo "the Space"
"$environments/space/bin/python" -m pytest -q -n "$workers" --dist loadfile space/tests "$@"

echo "evidence"
"$environments/evidence/bin/python" -m pytest -q -n "$workers" --dist loadfile evidence/tests "$@"
