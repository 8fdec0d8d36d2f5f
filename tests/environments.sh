# Sourced by the test commands, in the repo's root: their environments, under .venv-tests/. uv makes one in seconds, and
# links what several have, torch above all, from its cache, so that it is fetched and stored once.
environments=$PWD/.venv-tests
main=$environments/main/bin/python
export environments main
# uv leaves the compiling of packages to their first import, which has to keep what it compiles.
unset PYTHONDONTWRITEBYTECODE
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false UV_PYTHON_DOWNLOADS=never

if ! command -v uv > /dev/null; then
    export PATH=$PATH:$environments/uv/bin
    command -v uv > /dev/null || {
        "${PYTHON:-python3}" -m venv "$environments/uv"
        "$environments/uv/bin/pip" install --quiet --disable-pip-version-check uv
    }
fi

# environment NAME REQUIREMENT...: made, or brought up to date.
environment() {
    [ -x "$environments/$1/bin/python" ] || uv venv --quiet --seed --python "${PYTHON:-python3}" "$environments/$1"
    uv pip install --quiet --upgrade-package transformers --python "$environments/$1/bin/python" "${@:2}"
}
export -f environment
