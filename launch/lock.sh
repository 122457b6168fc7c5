#!/usr/bin/env bash
# Writes requirements/*.txt anew: the newest releases within the ranges of pyproject.toml,
# with the hashes of their files, for every platform and Python that it allows.
#
#   bash launch/lock.sh [ARGUMENT OF uv pip compile ...]
#
# --upgrade takes newer releases of what is locked already; without, only what
# pyproject.toml asks for changes.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
"${PYTHON:-python3}" -m venv "$tool"
"$tool/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

# dev first: the others take the same releases.
for extra in dev docs run tpu-plan; do
    target=requirements/$extra.txt
    wanted=(--constraint requirements/constraints.in)
    [[ $extra == run ]] || wanted+=(--extra "$extra")
    [[ $extra == dev ]] || wanted+=(--constraint requirements/dev.txt)
    # setuptools builds the package itself.
    "$tool/bin/uv" pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --no-header --no-annotate \
        --output-file "$target" "${wanted[@]}" "$@" \
        pyproject.toml requirements/build.in
    echo "$target: $(grep -c == "$target") releases"
done
