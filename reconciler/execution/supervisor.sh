#!/bin/sh
# Runs one script to its end, whether or not the daemon still lives. Started by supervisor.py in a new session, once
# for each claim; nothing of a user's is part of this text, all comes as arguments and environment.
#
#   supervisor.sh RUN LIMIT bare|sandboxed|container end|keep GROUPS LEASE FENCE PYTHON CAT SETSID SLEEP COMMAND [ARGUMENT…]
#
# GROUPS are the files (in lines) by which the script enters its control groups. LEASE, unless
# it is empty, is a file that says until which second since boot the script may run; nothing starts after second FENCE.
#
# Leaves in RUN: start (pid, start time, boot id, mode, leftovers, limit; made first, exclusively: whoever makes it owns the claim),
# raw (what it printed), script (group of a bare script), sandbox (what bubblewrap reports), code (status, when the script ended),
# over, services/NAME/over (status of a drain that could write no more: 153 at the limit), services/NAME/raw (what came by the pipe there), expired (the lease was out before the end), exit (the same status, when all output is there; valid with its line end only,
# which one write brings: as good as a rename and a process cheaper).

run=$1 limit=$2 mode=$3 leftovers=$4 groups=$5 lease=$6 fence=$7
shift 7
python=$1 cat=$2 setsid=$3 sleep=$4
shift 4
newline='
'

# Handlers and not '': what is ignored here would be ignored in the script as well.
trap : HUP INT QUIT TERM

# Is the second $1 since boot over?
over() {
    read -r now rest </proc/uptime
    [ "${now%.*}" -ge "$1" ]
}

# Whoever was stopped between the claim and this start comes too late: the trial may be somebody else's by now.
[ -n "$lease" ] && over "$fence" && exit 0

# Field 22 of stat, counted behind the command's name, which may hold blanks.
field() { shift 19; started=$1; }
read -r stat </proc/$$/stat
read -r boot </proc/sys/kernel/random/boot_id
field ${stat##*) }

set -C
{ echo "$$ $started $boot $mode $leftovers $limit" >"$run/start"; } 2>/dev/null || exit 0
set +C

# Standard input is the script's environment, as bubblewrap's settings or a shell's: never in an argument, never on disk,
# and never this shell's own, whose variables would take the place of the script's.
exec 4<&0 </dev/null

# The process that becomes the script enters, and with it all that it starts. What cannot be bounded does not start.
enter() {
    IFS=$newline
    for group in $groups; do
        echo 0 >"$group" || exit 126
    done
    unset IFS
}

# Run in a process of its own, which it becomes.
script() {
    exec 2>&1
    [ -z "$groups" ] || enter
    [ "$mode" = sandboxed ] && exec "$@" 3>"$run/sandbox"
    # This shell is no group leader, so setsid replaces it and its pid is the script's group.
    read -r group rest </proc/self/stat
    echo "$group" >"$run/script"
    [ "$mode" = container ] && exec "$setsid" "$@" <&4
    set -- "$setsid" "$@"
    eval "$("$cat" <&4)"
    exec "$@" 4<&-
}

# The limit is the kernel's: a write beyond it ends cat, the pipe breaks, the script ends by SIGPIPE.
drain() {
    trap '' HUP INT QUIT TERM
    umask 077
    ulimit -c 0
    ulimit -f $(((limit + 511) / 512))
    exec >>"$1/raw" 4<&- # also no writing end of the pipe: it would never be seen to end
    [ "$leftovers" = end ] && exec "$cat"
    "$cat"
    code=$?
    # The script has ended within its limit; what it has left behind prints on, which is not kept and must not end it.
    [ -e "$run/exit" ] && exec "$cat" >/dev/null
    exit $code
}

# Nobody has heard of the worker for so long that the trial is somebody else's soon. It lets go of the pipe first: who calls
# a function with redirections keeps what they replace.
watch() {
    exec </dev/null >/dev/null 2>&1 4<&-
    while "$sleep" 1 && [ ! -e "$run/code" ]; do
        until=0
        read -r until <"$lease"
        over "$until" || continue
        : >"$run/expired"
        exec "$python" -I -m reconciler.execution.expire "$run"
    done
}
if [ -n "$lease" ]; then
    # The signal that ends it may come before it has forgotten our handlers, so that it looks for the end by itself, too.
    watch &
    watch=$!
fi

# Services of the script write into pipes of their own, from inside of its sandbox.
for place in "$run"/services/*; do
    [ -p "$place/pipe" ] || continue
    drain "$place" >/dev/null <"$place/pipe" &
    drains="$drains $!"
done

# Standard output is the pipe; its other end is opened by it, and only the drain keeps that one.
exec 5</proc/self/fd/1
drain "$run" <&5 5<&- &
drain=$!
exec 5<&-
(script "$@")
code=$?
exec >/dev/null
# a script may end before that shell has begun, which would forget any other signal together with the handlers above
[ -z "$lease" ] || kill -KILL $watch 2>/dev/null
echo $code >"$run/code"
trap '' HUP INT QUIT TERM
if [ "$leftovers" = end ]; then
    [ "$mode" != sandboxed ] && read -r group <"$run/script" && kill -KILL -- "-$group" 2>/dev/null
    wait $drain || echo $? >"$run/over"
else
    # The drain stays with what the script leaves behind, so it is waited for two seconds only.
    left=40
    while [ $left -gt 0 ] && kill -0 $drain 2>/dev/null; do
        left=$((left - 1))
        "$sleep" 0.05
    done
    [ $left -gt 0 ] && { wait $drain || echo $? >"$run/over"; }
fi

# Opened for both ways at once, which waits for nobody: a drain that no service has come to is let go.
if [ -n "$drains" ]; then
    for place in "$run"/services/*; do
        : <>"$place/pipe"
    done
    set -- $drains
    for place in "$run"/services/*; do
        [ -p "$place/pipe" ] || continue
        wait "$1" || echo $? >"$place/over"
        shift
    done
fi
echo $code >"$run/exit"
