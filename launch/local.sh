#!/usr/bin/env bash
# One run by several processes of this machine, over 127.0.0.1.
#
#   bash launch/local.sh N [--restarts=K] [--grace=SECONDS] qface train ...
#
#   bash launch/local.sh 8 --restarts=3 \
#       qface train --config=adaface_r50_webface4m \
#       --config.data.path="$QFACE_DATA" --workdir="$QFACE_RUN"
#
# N           processes; each gets --coordinator, --processes and --process
# --restarts  start all of them again, at most K times, when they were lost (75),
#             preempted (143) or killed by a signal (137, 134 ...); 0 by default
# --grace     seconds the others may take to end once one has failed, then they are
#             killed; 90 by default, keep it above --host-timeout
#
# Devices. GPUs: where nvidia-smi (or CUDA_VISIBLE_DEVICES, if set) lists at least N,
# each process gets one. CPU: JAX_NUM_CPU_DEVICES=D gives each process D virtual ones.
#
# Ctrl-C and SIGTERM are passed on to all processes, which save and end; then nothing
# is started again. SIGKILL takes the processes with it (on Linux).
#
# Exit status: 0 if all ended with 0, else the first of these that occurred: 2 something
# to mend, 1 a fault of the program, 128+N killed by signal N, 75 a process was lost,
# 130 (Ctrl-C) or 143 (SIGTERM) stopped, all saved.
set -euo pipefail

refuse() {
    echo "local.sh: $*; bash launch/local.sh --help says more" >&2
    exit 2
}

read_options() {
    [[ ${1-} =~ ^[1-9][0-9]*$ ]] ||
        refuse "got '${1-}' where the number of processes is expected"
    processes=$1 restarts=0 grace=90
    shift
    while [[ ${1-} == -* ]]; do
        [[ $1 =~ ^--(restarts|grace)=([0-9]+)$ ]] ||
            refuse "got '$1', expected --restarts=K or --grace=SECONDS"
        # The names are those of the variables.
        printf -v "${BASH_REMATCH[1]}" %d "${BASH_REMATCH[2]}"
        shift
    done
    (($#)) || refuse "no command after the number of processes"
    words=("$@")
}

# One device name a line.
list_gpus() {
    if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
        tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES"
    else
        nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null || true
    fi
}

# Below the range from which Linux takes ports for outgoing connections.
find_port() {
    local port try
    for ((try = 0; try < 200; try++)); do
        port=$((20000 + 2 * (RANDOM % 6000)))
        if ! in_use "$port" && ! in_use "$((port + 1))"; then
            echo "$port"
            return
        fi
    done
    echo "local.sh: no two neighbouring free ports within 20000 .. 32000" >&2
    return 1
}

in_use() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

become() {
    local index=$1 port=$2
    if ((${#gpus[@]} >= processes)); then
        export CUDA_VISIBLE_DEVICES=${gpus[index]}
    fi
    exec "${bound[@]}" "${words[@]}" --coordinator="127.0.0.1:$port" \
        --processes="$processes" --process="$index" </dev/null
}

start_all() {
    local index port
    port=$(find_port)
    pids=() codes=() forwarded=0 deadline=""
    # A process group each: Ctrl-C then reaches them once, through this script, and
    # what they leave behind can be found.
    set -m
    for ((index = 0; index < processes; index++)); do
        become "$index" "$port" &
        pids+=("$!")
    done
    set +m
}

running() {
    [[ -z ${codes[$1]-} ]]
}

signal_all() {
    local index
    for index in "${!pids[@]}"; do
        if running "$index"; then
            kill -s "$1" -- "${pids[index]}" 2>/dev/null || true
        fi
    done
}

kill_all() {
    local index
    for index in "${!pids[@]}"; do
        if running "$index"; then
            kill -KILL -- "-${pids[index]}" 2>/dev/null || true
        fi
    done
}

# What starting again can mend: a lost, preempted or killed process.
passing() {
    (($1 == 75 || $1 > 128 && $1 != 130))
}

note_end() {
    local index=$1 code=0
    wait "${pids[index]}" || code=$?
    codes[index]=$code
    kill -KILL -- "-${pids[index]}" 2>/dev/null || true
    ((code)) || return 0
    echo "local.sh: process $index ended with status $code" >&2
    deadline=${deadline:-$((SECONDS + grace))}
    # Nobody waits for the others where starting again mends nothing.
    if ! passing "$code" && ((code != 130)); then
        signal_all TERM
    fi
}

# Returns when all have ended; codes has their exit statuses.
watch_all() {
    local index
    while ((${#codes[@]} < processes)); do
        for index in "${!pids[@]}"; do
            if running "$index" && ! kill -0 "${pids[index]}" 2>/dev/null; then
                note_end "$index"
            fi
        done
        if ((forwarded < ${#signals[@]})); then
            signal_all "${signals[forwarded]}"
            forwarded=$((forwarded + 1))
        fi
        if [[ -n $deadline ]] && ((SECONDS >= deadline)); then
            echo "local.sh: killing what has not ended within $grace s" >&2
            kill_all
            deadline=""
        fi
        sleep 0.2 || true # Ctrl-C ends it too
    done
}

# The cause goes before its consequences: see "Exit status" above.
rank() {
    case $1 in
        0) echo 0 ;;
        143) echo 1 ;;
        130) echo 2 ;;
        75) echo 3 ;;
        2) echo 7 ;;
        *) echo $(($1 > 128 ? 4 : $1 == 1 ? 6 : 5)) ;;
    esac
}

worst_code() {
    local code worst=0
    for code in "${codes[@]}"; do
        if (($(rank "$code") > $(rank "$worst"))); then
            worst=$code
        fi
    done
    echo "$worst"
}

run_all() {
    local code attempt
    for ((attempt = 0; ; attempt++)); do
        start_all
        watch_all
        code=$(worst_code)
        if ((${#signals[@]})) || ! passing "$code" || ((attempt == restarts)); then
            break
        fi
        echo "local.sh: starting all again ($((attempt + 1)) of $restarts)" >&2
    done
    if ((${#signals[@]})) && { passing "$code" || ((code == 130)); }; then
        [[ ${signals[0]} == INT ]] && code=130 || code=143
    fi
    return "$code"
}

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
fi
read_options "$@"
launch_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if ! type -P "${words[0]}" >/dev/null; then
    # shellcheck source=environment.sh
    source "$launch_dir/environment.sh" ""
fi
mapfile -t gpus < <(list_gpus)
bound=()
if setpriv --help 2>/dev/null | grep -q pdeathsig; then
    bound=(setpriv --pdeathsig KILL --)
fi
# Handlers only take notes, so that every signal reaches every process exactly once,
# also those that come while processes are being started.
signals=() pids=() codes=()
trap 'signals+=(INT)' INT
trap 'signals+=(TERM)' TERM HUP
trap kill_all EXIT
run_all
