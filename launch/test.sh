#!/usr/bin/env bash
# Sets up everything and runs the tests.
#
#   bash launch/test.sh [--all] [PYTEST ARGUMENT ...]
#
# --all also runs those marked slow, and compiles all as for users. One process per core,
# four at most, runs the files; -n 0 runs all in this one.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 0
fi
launch_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$launch_dir/environment.sh" dev

# The compiler of TPUs, for Linux alone. Apart from the rest, and for its own tests: where
# it is installed, JAX looks for a TPU.
qface_libtpu() {
    local folder
    folder=$qface_venv/libtpu-$(cksum <requirements/tpu-plan.txt | cut -d" " -f1)
    [[ $(uname -sm) == "Linux x86_64" ]] || return 0
    if [[ ! -d $folder ]]; then
        rm -rf "$qface_venv"/libtpu-*
        qface_pip --no-deps --require-hashes --target "$folder.partial" --requirement \
            <(sed -n '/^libtpu==/,/[^\\]$/p' requirements/tpu-plan.txt)
        mv "$folder.partial" "$folder"
    fi
    export QFACE_LIBTPU=$folder # see tests/planning/test_tpu.py
}

cd "$launch_dir/.."
selection=(-m "not slow")
if [[ ${1-} == --all ]]; then
    selection=()
    shift
    export QFACE_TESTS_COMPILE_FULLY=1 # see tests/conftest.py
    qface_libtpu
fi
ruff check .
ruff format --check .
# A file stays in one process, with what its tests share.
exec python -m pytest -n auto --maxprocesses=4 --dist loadfile --no-loadscope-reorder \
    "${selection[@]}" "$@"
