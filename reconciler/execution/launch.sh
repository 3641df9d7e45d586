#!/bin/sh
# Runs inside of a sandbox or container, before the script: reads the environment, installs packages, starts services
# and waits for them. Nothing of a user's is part of this text: it comes as files below FOLDER and as arguments.
#
#   launch.sh FOLDER [environment] COMMAND [ARGUMENT…]
#
# FOLDER holds: status (written here: started, install, secret, waiting NAME, service NAME, ended NAME, running), steps/N and keys/N (argument lists, each ended by NUL),
# services/NAME/{run,ready,environment,pipe}. With the word `environment` the variables come by standard input. What is
# assigned here is called steersman_…: a variable of the script that had its name would be changed for the script as well.

steersman_folder=$1
shift
if [ "$1" = environment ]; then
    shift
    eval "$(cat)"
    exec </dev/null
fi
echo started >"$steersman_folder/status"

say() { echo "steersman: $1" >&2; }
give_up() {
    echo "$1" >>"$steersman_folder/status"
    say "$2"
    exit 1
}

# One that has ended but was not waited for yet is still there for `kill -0`.
alive() {
    { read -r steersman_stat <"/proc/$1/stat"; } 2>/dev/null || return
    case ${steersman_stat##*) } in [ZX]*) return 1 ;; esac
}

for steersman_step in "$steersman_folder"/steps/*; do
    [ -f "$steersman_step" ] || continue
    xargs -0 env <"$steersman_step" || give_up install "installing what the task asks for has failed"
done

# PGP keys of secrets, into a keyring that is in memory.
for steersman_step in "$steersman_folder"/keys/*; do
    [ -f "$steersman_step" ] || continue
    xargs -0 env <"$steersman_step" || give_up secret "importing a PGP key has failed"
done

service() (
    [ -f "$1/environment" ] && . "$1/environment"
    exec /bin/sh -e "$1/$2"
) </dev/null

# Its pipe is open before anybody else writes to it, and stays open after its end: without a writer the drain would go,
# and the next to write would wait for ever.
start() {
    exec 5>"$1/pipe"
    (
        service "$1" run
        echo "ended ${1##*/}" >>"$steersman_folder/status"
        while :; do sleep 3600; done
    ) >&5 2>&1 5>&- &
    exec 5>&-
}

ended() {
    while read -r steersman_word; do
        [ "$steersman_word" = "ended $1" ] && return
    done <"$steersman_folder/status"
    return 1
}

# Whole seconds since boot: no clock that is set moves them.
moment() {
    read -r steersman_seconds steersman_rest </proc/uptime
    steersman_seconds=${steersman_seconds%.*}
}

# A service is ready when its command has passed, which is asked again and again for a minute in all.
await() {
    echo "waiting ${1##*/}" >>"$steersman_folder/status"
    moment
    steersman_until=$((steersman_seconds + 60))
    while :; do
        service "$1" ready >"$1/pipe" 2>&1 &
        steersman_asked=$!
        while alive $steersman_asked; do
            moment
            [ "$steersman_seconds" -lt $steersman_until ] || late "${1##*/}"
            sleep 0.05
        done
        wait $steersman_asked && return
        ended "${1##*/}" && give_up "service ${1##*/}" "the service ${1##*/} ended before it was ready"
        moment
        [ "$steersman_seconds" -lt $steersman_until ] || late "${1##*/}"
        sleep 0.1
    done
}
late() { give_up "service $1" "the service $1 was not ready in 60 seconds"; }

for steersman_place in "$steersman_folder"/services/*; do
    [ -p "$steersman_place/pipe" ] || continue
    start "$steersman_place"
done
for steersman_place in "$steersman_folder"/services/*; do
    [ -f "$steersman_place/ready" ] && await "$steersman_place"
done

echo running >>"$steersman_folder/status"
exec "$@"
