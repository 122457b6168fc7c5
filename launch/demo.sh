#!/usr/bin/env bash
# From a machine with only python3 and bash to a trained model and its report:
# draws synthetic faces, trains on them, judges the model at every resolution.
#
#   bash launch/demo.sh [FOLDER]      FOLDER: where it all goes; runs by default
#
# Run again, it goes on where it was stopped.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 0
fi
launch_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$launch_dir/environment.sh" ""

folder=${1:-runs}
qface data import 300x30 "$folder/demo-faces" --source=synthetic
qface train --config=demo --workdir="$folder/demo" \
    --config.data.source=array_record --config.data.path="$folder/demo-faces"
