#!/usr/bin/env bash
# One run on all hosts of a Cloud TPU slice, from your own machine, with gcloud.
#
#   export TPU_NAME=... ZONE=... QFACE_DATA=... QFACE_RUN=...
#   bash launch/tpu_vm.sh setup              copies the last commit there, installs it
#   bash launch/tpu_vm.sh train [ARGUMENT ...]   starts, or goes on with, the run
#   bash launch/tpu_vm.sh status             last lines of each host's log
#   bash launch/tpu_vm.sh stop               saves and ends the run
#   bash launch/tpu_vm.sh all COMMAND        any command on all hosts
#
# QFACE_DATA and QFACE_RUN are folders that all hosts see (NFS, a mounted bucket).
# The run goes on when this machine is switched off; its log is ~/qface/train.log.
set -euo pipefail

if [[ $# == 0 || $1 == -h || $1 == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
fi
: "${TPU_NAME:?name of the TPU}" "${ZONE:?zone of the TPU}"
tpu=(gcloud compute tpus tpu-vm)

all() {
    "${tpu[@]}" ssh "$TPU_NAME" --zone="$ZONE" --worker=all --command="$1"
}

setup() {
    local root archive
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    archive=$(mktemp --suffix=.tar.gz)
    git -C "$root" archive --format=tar.gz --output="$archive" HEAD
    "${tpu[@]}" scp "$archive" "$TPU_NAME:qface.tar.gz" --zone="$ZONE" --worker=all
    rm -- "$archive"
    all 'mkdir -p ~/qface && tar -xzf qface.tar.gz -C ~/qface &&
        bash -c "source ~/qface/launch/environment.sh tpu"'
}

train() {
    : "${QFACE_DATA:?folder of the training data}" "${QFACE_RUN:?folder of the run}"
    local words=(
        qface train --config=adaface_r50_webface4m \
        --config.data.path="$QFACE_DATA" --workdir="$QFACE_RUN" \
        --cluster=tpu "$@"
    )
    # A session of its own outlives the connection; the process in train.pid is qface.
    all "set -e; cd ~/qface
        if { kill -0 \$(cat train.pid); } 2>/dev/null; then
            echo 'a run is at work here: stop it first' >&2; exit 1; fi
        PATH=~/qface/.venv/bin:\$PATH setsid bash -c 'echo \$\$ >train.pid; exec \"\$@\"' \
            bash $(printf '%q ' "${words[@]}") </dev/null >>train.log 2>&1 &"
}

status() {
    # shellcheck disable=SC2016 # the hosts expand it
    all 'cd ~/qface; host=$(hostname)
        if { kill -0 $(cat train.pid); } 2>/dev/null; then echo "$host: at work"
        else echo "$host: not at work"; fi
        tail -n 3 train.log'
}

stop() {
    # shellcheck disable=SC2016 # the hosts expand it
    all 'kill -TERM $(cat ~/qface/train.pid)'
}

case $1 in
    setup | train | status | stop | all) "$@" ;;
    *)
        echo "tpu_vm.sh: got '$1', expected setup, train, status, stop or all" >&2
        exit 2
        ;;
esac
