#!/bin/sh
# Runs one script to its end, whether or not the daemon still lives. Started by supervisor.py in a new session, once
# for each claim; nothing of a user's is part of this text, all comes as arguments and environment.
#
#   supervisor.sh RUN LIMIT bare|sandboxed end|keep CAT SETSID SLEEP COMMAND [ARGUMENT…]
#
# Leaves in RUN: start (pid, start time, boot id, mode, leftovers, limit; made first, exclusively: whoever makes it owns the claim),
# log, script (group of a bare script), sandbox (what bubblewrap reports), code (status, when the script ended),
# over (the log could take no more), exit (the same status, when all output is in the log; valid with its line end only,
# which one write brings: as good as a rename and a process cheaper).

run=$1 limit=$2 mode=$3 leftovers=$4 cat=$5 setsid=$6 sleep=$7
shift 7

# Handlers and not '': what is ignored here would be ignored in the script as well.
trap : HUP INT QUIT TERM

# Field 22 of stat, counted behind the command's name, which may hold blanks.
field() { shift 19; started=$1; }
read -r stat </proc/$$/stat
read -r boot </proc/sys/kernel/random/boot_id
field ${stat##*) }

set -C
{ echo "$$ $started $boot $mode $leftovers $limit" >"$run/start"; } 2>/dev/null || exit 0
set +C

if [ "$mode" = sandboxed ]; then
    # Standard input is bubblewrap's list of environment settings: never in an argument, never on disk.
    exec 4<&0 </dev/null
fi

script() {
    trap : HUP INT QUIT TERM
    if [ "$mode" = sandboxed ]; then
        "$@" 2>&1 3>"$run/sandbox"
        echo $? >"$run/code"
        return
    fi
    # The inner shell is no group leader, so setsid replaces it and its pid is the script's group.
    (
        read -r group rest </proc/self/stat
        echo "$group" >"$run/script"
        exec "$setsid" "$@"
    ) 2>&1
    echo $? >"$run/code"
    [ "$leftovers" = keep ] && return
    read -r group <"$run/script" && kill -KILL -- "-$group" 2>/dev/null
}

# The limit is the kernel's: a write beyond it ends cat, the pipe breaks, the script ends by SIGPIPE.
drain() {
    trap '' HUP INT QUIT TERM
    umask 077
    ulimit -c 0
    ulimit -f $(((limit + 511) / 512))
    exec "$cat" >>"$run/log" 4<&-
}

if [ "$leftovers" = end ]; then
    script "$@" | drain || : >"$run/over"
else
    # The drain stays with what the script leaves behind, so it is waited for two seconds only.
    { (drain) <"$run/pipe" || : >"$run/over"; } &
    script "$@" >"$run/pipe"
    left=40
    while [ $left -gt 0 ] && kill -0 $! 2>/dev/null; do
        left=$((left - 1))
        "$sleep" 0.05
    done
fi
read -r code <"$run/code" && echo "$code" >"$run/exit"
