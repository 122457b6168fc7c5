# shellcheck shell=bash
# Sourced by the other scripts: makes the virtual environment and puts it on PATH.
#
#   source launch/environment.sh EXTRAS     EXTRAS: "" or "dev" or "cuda" ...
#
# QFACE_VENV  where it lies; .venv beside pyproject.toml by default
# PYTHON      which Python to use; the first of python3, python3.13, 3.12, 3.11 that fits
#
# What is installed is what requirements/EXTRAS.txt (run.txt for "") locks, each file
# checked against its hash; where there is no such file, as for cuda and tpu, or with
# QFACE_UNLOCKED=1, the newest releases within the ranges of pyproject.toml.

qface_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
qface_venv=${QFACE_VENV:-$qface_root/.venv}

qface_python() {
    local candidate candidates=(python3 python3.13 python3.12 python3.11)
    [[ -z ${PYTHON-} ]] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "qface_jax needs Python 3.11 or newer; found: $(python3 --version 2>&1)." \
        "Install one, or name it: PYTHON=/path/to/python3.12 bash $0" >&2
    return 1
}

qface_pip() {
    "$qface_venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

qface_setup() {
    local extras=$1 python stamp wanted started locked
    stamp=$qface_venv/.qface-installed${extras:+-$extras}
    locked=$qface_root/requirements/${extras:-run}.txt
    [[ -f $locked && ${QFACE_UNLOCKED-} != 1 ]] || locked=
    wanted="$(cat "$qface_root/pyproject.toml" ${locked:+"$locked"} | cksum) $qface_root"
    if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
        return
    fi
    python=$(qface_python) || return 1
    started=$SECONDS
    echo "setting up $qface_venv (about a minute)" >&2
    if ! "$python" -m venv "$qface_venv"; then
        echo "could not make a virtual environment; on Debian and Ubuntu:" \
            "apt-get install python3-venv" >&2
        return 1
    fi
    if [[ -n $locked ]]; then
        qface_pip --require-hashes --no-deps --requirement "$locked" &&
            qface_pip --no-deps --no-build-isolation --editable "$qface_root" ||
            return 1
    else
        qface_pip --editable "$qface_root${extras:+[$extras]}" || return 1
    fi
    # Written last: an interrupted set-up is done again.
    echo "$wanted" >"$stamp"
    echo "set up in $((SECONDS - started)) s" >&2
}

qface_setup "${1-}" || exit 1
export PATH="$qface_venv/bin:$PATH"
