#!/usr/bin/env bash
# Sets up everything and runs the tests.
#
#   bash launch/test.sh [--all] [PYTEST ARGUMENT ...]
#
# --all also runs those marked slow.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 0
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/environment.sh" dev

cd "$here/.."
selection=(-m "not slow")
if [[ ${1-} == --all ]]; then
    selection=()
    shift
fi
ruff check .
ruff format --check .
exec python -m pytest "${selection[@]}" "$@"
