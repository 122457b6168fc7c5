#!/usr/bin/env bash
# Trains every setting of a paper's ablation table, one run after another, and prints
# the table: ours beside the paper's.
#
#   bash launch/ablation.sh TABLE [ARGUMENT OF qface ablation ...]
#
#   bash launch/ablation.sh qgface1                   synthetic faces, a small backbone
#   bash launch/ablation.sh qgface1 --size=paper \
#       --config.data.path="$QFACE_DATA" --config.eval.path="$QFACE_EVAL"
#
# qface ablation --help names the tables. Run again, it goes on where it was stopped.
set -euo pipefail

if [[ $# == 0 || $1 == -h || $1 == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
fi
launch_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$launch_dir/environment.sh" ""

exec qface ablation "$@"
