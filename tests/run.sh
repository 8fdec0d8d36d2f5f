#!/usr/bin/env bash
# Lint and every test: in full on the newest transformers, the first and last of the lines before it and the newest that
# ms-swift accepts, and the contract on every minor in between. Environments are layered, so that torch is installed once.
set -euo pipefail
cd "$(dirname "$0")/.."

environments=$PWD/.venv-tests
workers=${WORKERS:-2}
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false PIP_DISABLE_PIP_VERSION_CHECK=1
export STOCK_CHECKPOINTS=$environments/checkpoints

main=$environments/main/bin/python
[ -x "$main" ] || "${PYTHON:-python3}" -m venv "$environments/main"
"$main" -m pip install --upgrade -r tests/requirements.txt
packages=$("$main" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
export environments main packages

# layer NAME REQUIREMENT...: an environment that has what these ask for, and everything else from the first.
layer() {
    local python=$environments/$1/bin/python
    if [ ! -x "$python" ]; then
        "$main" -m venv "$environments/$1"
        echo "$packages" > "$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth"
    fi
    "$python" -m pip install "${@:2}"
}

# prepare RELEASE: its environment, and a stock checkpoint as it saves it, which every other release loads.
prepare() {
    [ "$1" = main ] || layer "$1" --quiet "transformers==$1"
    "$environments/$1/bin/python" -m tests.save_stock "$STOCK_CHECKPOINTS/$1"
}

# contract RELEASE: what must hold on every release.
contract() {
    local log=$environments/contract-$1.log
    if "$environments/$1/bin/python" -m pytest -q -p no:cacheprovider tests/test_contract.py > "$log" 2>&1; then
        echo "transformers $1: $(tail -n 1 "$log")"
    else
        cat "$log"
        echo "transformers $1: the contract does not hold"
        return 1
    fi
}
export -f layer prepare contract

# on_each COMMAND RELEASE...: as many at once as there are workers.
on_each() {
    printf '%s\n' "${@:2}" | xargs -P "$workers" -I {} bash -euo pipefail -c "$1 {}"
}

# What the tools need is fetched while the tests of the releases run.
tools() {
    # TRL goes beyond the newest transformers that ms-swift accepts.
    layer trl -r training/tests/requirements_trl.txt
    layer trl-4.57.6 "transformers==4.57.6" -r training/tests/requirements_trl.txt
    layer space -r space/tests/requirements.txt
    layer evidence -r evidence/requirements.txt
    # Each harness has packages that the others cannot have beside them.
    layer evaluation -r evaluation/requirements.txt
    layer evaluation-vlmevalkit -r evaluation/requirements_vlmevalkit.txt
    layer evaluation-evalscope -r evaluation/requirements_evalscope.txt
    layer transformers-serve fastapi uvicorn openai python-multipart rich

    # vLLM has a torch of its own. The CPU wheel brings builds for CUDA beside it: two are not needed, and torchvision
    # describes operators that it lacks.
    [ -x "$serving" ] || "$main" -m venv "$environments/serving"
    "$serving" -m pip install -r serving/tests/requirements.txt
    "$serving" -m pip uninstall -y torchaudio torchcodec
    sed -i '/^    _meta_registrations,$/d' "$environments"/serving/lib/python3*/site-packages/torchvision/__init__.py
    "$serving" -m pip install --no-deps --force-reinstall ./serving

    # The Space's page is tested in Chromium, which apt-get installs, as root, where it is missing.
    if ! command -v "${CHROMIUM:-chromium}" > /dev/null; then
        apt-get update && apt-get install -y --no-install-recommends chromium fonts-noto-cjk
    fi
}
serving=$environments/serving/bin/python
tools > "$environments/tools.log" 2>&1 &
tools=$!
trap 'kill "$tools" 2> /dev/null || true' EXIT

# Fine-tuning with ms-swift has the newest transformers that it accepts.
layer training -r training/tests/requirements.txt

"$main" -m ruff check .
"$main" -m ruff format --check .
"$main" -m mypy

release_of() { "$environments/$1/bin/python" -c "import transformers; print(transformers.__version__)"; }
newest=$(release_of main)
in_full="$(echo 4.57.6 5.0.0 "$(release_of training)" | tr ' ' '\n' | grep -vx "$newest")"
in_between=$("$main" tests/releases.py | tr ' ' '\n' | grep -vxF -e "$newest" -e "$in_full")
rm -rf "$STOCK_CHECKPOINTS"
# shellcheck disable=SC2086
on_each prepare main $in_full $in_between

echo "transformers $newest"
"$main" -m pytest -q -n "$workers" tests "$@"
# Geometry, benchmarks, commands and the shapes' data know no release; odd checkpoints and compiling are tried on both ends.
for release in $in_full; do
    echo "transformers $release"
    left_out='geometry|benchmarks|commands|shapes|published_files|publishing'
    [ "$release" = 4.57.6 ] || left_out="$left_out|odd_checkpoints|compile"
    # shellcheck disable=SC2046
    "$environments/$release/bin/python" -m pytest -q -n "$workers" \
        $(printf '%s\n' tests/test_*.py | grep -vE "test_($left_out)\.py") "$@"
done
# shellcheck disable=SC2086
on_each contract $in_between

# Publishing depends on huggingface_hub: 2 is beside the newest release, 0.36 beside 4.57.6, 1 beside 5.0.0.
"$environments/4.57.6/bin/python" -m pytest -q -n "$workers" tests/test_publishing.py "$@"
"$environments/5.0.0/bin/python" -m pytest -q -n "$workers" tests/test_publishing.py -k "wire or interrupted" "$@"

if ! wait "$tools"; then
    cat "$environments/tools.log"
    exit 1
fi

echo "fine-tuning"
# What needs no ms-swift is tried on both ends of the releases.
both_ends=(training/tests/test_{sft,trl_reference,grpo,card,quantised,folders}.py)
# shellcheck disable=SC2046
"$environments/training/bin/python" -m pytest -q -n "$workers" --dist loadfile \
    $(printf '%s\n' training/tests/test_*.py | grep -vxF "$(printf '%s\n' "${both_ends[@]}")") "$@"
for environment in trl trl-4.57.6; do
    "$environments/$environment/bin/python" -m pytest -q -n "$workers" --dist loadfile "${both_ends[@]}" "$@"
done

echo "serving"
"$serving" -m pytest -q -n "$workers" --dist loadfile serving/tests --ignore serving/tests/test_transformers_serve.py \
    --ignore serving/tests/test_modes.py "$@"
"$environments/transformers-serve/bin/python" -m pytest -q serving/tests/test_transformers_serve.py "$@"

echo "the Space"
"$environments/space/bin/python" -m pytest -q -n "$workers" --dist loadfile space/tests "$@"

echo "evidence"
"$environments/evidence/bin/python" -m pytest -q -n "$workers" --dist loadfile evidence/tests "$@"

echo "evaluation"
"$environments/evaluation/bin/python" -m pytest -q -n "$workers" --dist loadfile evaluation/tests \
    --ignore evaluation/tests/test_vlmevalkit.py --ignore evaluation/tests/test_evalscope.py "$@"
for harness in vlmevalkit evalscope; do
    "$environments/evaluation-$harness/bin/python" -m pytest -q "evaluation/tests/test_$harness.py" "$@"
done
