#!/usr/bin/env bash
# Sets up everything and builds the documentation as HTML; warnings are errors.
#
#   bash launch/docs.sh [ARGUMENT OF sphinx-build ...]
#
# The first page is build/docs/index.html.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
fi
launch_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$launch_dir/environment.sh" docs

cd "$launch_dir/.."
python -m sphinx --builder=html --fail-on-warning --keep-going "$@" docs build/docs
echo "documentation: $PWD/build/docs/index.html"
