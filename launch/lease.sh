#!/usr/bin/env bash
# The most of a short lease of a bare GPU machine without a network; launch/README.md says more.
#
#   launch/lease.sh CONFIG WORKDIR OUT [MINUTES] [-- FLAGS OF TRAIN...]
#
# Checks the device, runs the benches, trains or goes on until MINUTES (default 9, fractions allowed)
# are nearly over, and leaves in OUT what must come home: at most MAX_FILES files of at most PART_MIB
# each, MAX_MIB together, the most important first, and MANIFEST.txt, which says what is there and
# what was left out. To go on in the next lease, put the files of OUT into its WORKDIR.
#
# Environment, with defaults: PYTHON (python3); TRAIN ($PYTHON -m artifygan_jax.train); CHECKS (1 for
# a new run, 0 for one that goes on); ARCHIVES ("small best model checkpoint", by importance);
# MAX_FILES 8; PART_MIB 15; MAX_MIB 64; and the seconds kept back at the end, SAVE_S 60 for the last
# checkpoint and COLLECT_S 30 for packing.
#
# Exit: 0 trained to the end, 75 stopped by the clock (run again), 1 the call was wrong, 2 parity or
# training failed and OUT holds what there is.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
usage="launch/lease.sh CONFIG WORKDIR OUT [MINUTES] [-- FLAGS OF TRAIN...]"

die() {
    echo "error: $*" >&2
    exit 1
}

read_arguments() {
    [[ $# -ge 3 ]] || die "needs CONFIG, WORKDIR and OUT: $usage"
    config=$1 workdir=$2 out=$3 minutes=9
    shift 3
    if [[ $# -gt 0 && $1 != -- ]]; then
        minutes=$1
        shift
    fi
    [[ $# -eq 0 || $1 == -- ]] || die "unknown argument '$1': flags of train come after --: $usage"
    train_flags=("${@:2}")
    [[ -f ${config%%:*} ]] || die "no config '$config': give a file such as configs/artifygan.py"
    [[ $minutes =~ ^[0-9]+([.][0-9]+)?$ ]] || die "MINUTES is '$minutes': give a number such as 9"
    mkdir -p "$workdir/lease" "$out" || die "cannot write WORKDIR '$workdir' or OUT '$out'"
    [[ -z $(ls -A "$out") ]] || die "OUT '$out' is not empty: give a new folder"
}

note() { # a line for the screen and for MANIFEST.txt
    echo "$*"
    echo "# $*" >>"$out/MANIFEST.txt"
}

# Unpacks what an earlier lease packed; part of a broken copy must not pass for a checkpoint.
restore() {
    local first name
    for first in "$workdir"/*.tar.part00; do
        [[ -e $first ]] || continue
        if [[ -f $workdir/MANIFEST.txt ]]; then
            (cd "$workdir" && grep -E '^[0-9a-f]{64}  ' MANIFEST.txt | sha256sum --check --quiet) ||
                die "parts in '$workdir' differ from their MANIFEST.txt: copy all files of OUT again"
            rm "$workdir/MANIFEST.txt"
        fi
        name=${first%.part00}
        cat "$name".part* | tar -x -C "$workdir" || die "cannot unpack $name.part*: copy them again"
        rm "$name".part*
        note "restored from the lease before: ${name##*/}"
    done
}

# Runs a command within the time for checks; its end is recorded and decides nothing here.
check() { # check NAME COMMAND...
    local name=$1 status=0 left=$((checks_end - SECONDS))
    if [[ $left -lt 5 ]]; then
        note "check $name: no time was left"
        return 1
    fi
    timeout --foreground --signal=TERM --kill-after=5 "$left" "${@:2}" >"$log/$name.txt" 2>&1 ||
        status=$?
    tail -n 3 "$log/$name.txt"
    note "check $name: exit $status"
    return "$status"
}

checks() {
    local flags=(--dtype=bfloat16 --no_torch)
    check parity "$python" "$root/bench/parity.py" || failed=1
    check infer "$python" "$root/bench/infer.py" --json "$log/infer.json" \
        --size=256,512 --batch=1,32 "${flags[@]}" || true
    check train_step "$python" "$root/bench/train_step.py" --json "$log/train_step.json" \
        --size=256 --batch=16,32 "${flags[@]}" || true
}

# TERM makes train save and exit with 75; KILL follows when even that takes too long. Only train gets
# the signal (--foreground): it needs its data workers until it has saved.
train() {
    local left=$((deadline - SECONDS))
    trained=0
    if [[ $left -lt 1 ]]; then
        note "training: no time was left"
        trained=75
        return
    fi
    timeout --foreground --preserve-status --signal=TERM --kill-after="$save_s" "$left" \
        "${train_command[@]}" --config="$config" --workdir="$workdir" "${train_flags[@]}" \
        >>"$log/train.json" 2>>"$log/train.txt" || trained=$?
    tail -n 3 "$log/train.txt"
    tail -n 1 "$log/train.json"
    note "training: exit $trained after $((SECONDS - began)) s of the lease"
}

paths_of() { # paths_of ARCHIVE: what goes into it, relative to WORKDIR, one path a line
    cd "$workdir"
    case $1 in
    small)
        find . -maxdepth 1 -type f -size -8M ! -name '*.part*' ! -name '.*' | sort
        echo lease
        if [[ -d samples ]]; then find samples -name '*.png' | sort | tail -n 16; fi
        ;;
    checkpoint) # the newest that was finished: the manifest is written last
        if [[ -d checkpoints ]]; then
            find checkpoints -maxdepth 2 -regex '.*/[0-9]+/manifest.json' -printf '%h\n' | sort -V |
                tail -n 1
        fi
        ;;
    *) if [[ -d $1 ]]; then echo "$1"; fi ;;
    esac
}

pack() { # pack ARCHIVE: into parts in OUT, whole or not at all
    local tar=$workdir/.pack.tar paths size parts
    paths=$(paths_of "$1")
    if [[ -z $paths ]]; then
        note "$1: there is none"
        return
    fi
    tar -C "$workdir" -cf "$tar" --files-from=- <<<"$paths"
    size=$(wc -c <"$tar")
    parts=$(((size + part_bytes - 1) / part_bytes))
    if [[ $parts -le $files_left && $size -le $bytes_left ]]; then
        split --bytes="$part_bytes" --numeric-suffixes --suffix-length=2 "$tar" "$out/$1.tar.part"
        files_left=$((files_left - parts)) bytes_left=$((bytes_left - size))
        note "$1.tar: $size bytes in $parts parts"
        (cd "$out" && sha256sum "$1".tar.part*) >>"$out/MANIFEST.txt"
    else
        note "$1.tar: LEFT OUT, $size bytes in $parts parts; there was room for $files_left files" \
            "and $bytes_left bytes (alone: ARCHIVES=$1 and MINUTES 0, while the machine is there)"
    fi
    rm "$tar"
}

collect() {
    local archive
    part_bytes=$((${PART_MIB:-15} * 1048576))
    files_left=$((${MAX_FILES:-8} - 1))
    bytes_left=$((${MAX_MIB:-64} * 1048576 - 65536)) # MANIFEST.txt is a file and has a size, too
    read -r -a archives <<<"${ARCHIVES:-small best model checkpoint}"
    for archive in "${archives[@]}"; do pack "$archive"; done
}

main() {
    read_arguments "$@"
    began=$SECONDS failed=0 trained=0 log=$workdir/lease python=${PYTHON:-python3}
    read -r -a train_command <<<"${TRAIN:-$python -m artifygan_jax.train}"
    save_s=${SAVE_S:-60}
    lease_s=$(awk -v minutes="$minutes" 'BEGIN { print int(60 * minutes) }')
    deadline=$((SECONDS + lease_s - save_s - ${COLLECT_S:-30})) # then training is told to stop
    checks_end=$((SECONDS + (deadline - SECONDS) / 2))
    export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}
    export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$root/.cache/jax}
    export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} # nothing is installed on a bare machine
    export PYTHONUNBUFFERED=1

    note "lease of $minutes minutes from $(date -u +%Y-%m-%dT%H:%M:%SZ): $config ${train_flags[*]}"
    restore
    if [[ $lease_s -gt 0 ]]; then
        check device "$python" -c 'import jax; print("jax", jax.__version__, jax.devices())' || failed=1
        if command -v nvidia-smi >/dev/null; then nvidia-smi -L || true; fi
        local fresh=1
        if [[ -d $workdir/checkpoints ]]; then fresh=0; fi
        if [[ ${CHECKS:-$fresh} == 1 ]]; then checks; fi
        train
    fi
    collect
    ls -l "$out"
    if [[ $trained != 0 && $trained != 75 ]]; then failed=1; fi
    if [[ $failed == 1 ]]; then exit 2; fi
    exit "$trained"
}

main "$@"
