#!/bin/sh
# Runs inside of a sandbox or container, before the script: reads the environment, installs packages, starts services
# and waits for them. Nothing of a user's is part of this text: it comes as files below FOLDER and as arguments.
#
#   launch.sh FOLDER [environment] COMMAND [ARGUMENT…]
#
# FOLDER holds: status (written here: started, install, secret, service NAME, ended NAME, running), steps/N and keys/N (argument lists, each ended by NUL),
# services/NAME/{run,ready,environment,pipe}. With the word `environment` the variables come by standard input.

folder=$1
shift
if [ "$1" = environment ]; then
    shift
    eval "$(cat)"
    exec </dev/null
fi
echo started >"$folder/status"

say() { echo "steersman: $1" >&2; }
give_up() {
    echo "$1" >>"$folder/status"
    say "$2"
    exit 1
}

# One that has ended but was not waited for yet is still there for `kill -0`.
alive() {
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return
    case ${stat##*) } in [ZX]*) return 1 ;; esac
}

for step in "$folder"/steps/*; do
    [ -f "$step" ] || continue
    xargs -0 env <"$step" || give_up install "installing what the task asks for has failed"
done

# PGP keys of secrets, into a keyring that is in memory.
for step in "$folder"/keys/*; do
    [ -f "$step" ] || continue
    xargs -0 env <"$step" || give_up secret "importing a PGP key has failed"
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
        echo "ended ${1##*/}" >>"$folder/status"
        while :; do sleep 3600; done
    ) >&5 2>&1 5>&- &
    exec 5>&-
}

ended() {
    while read -r word; do
        [ "$word" = "ended $1" ] && return
    done <"$folder/status"
    return 1
}

# Whole seconds since boot: no clock that is set moves them.
moment() {
    read -r seconds rest </proc/uptime
    seconds=${seconds%.*}
}

# A service is ready when its command has passed, which is asked again and again for a minute in all.
await() {
    moment
    name=${1##*/} until=$((seconds + 60))
    while :; do
        service "$1" ready >"$1/pipe" 2>&1 &
        asked=$!
        while alive $asked; do
            moment
            [ "$seconds" -lt $until ] || give_up "service $name" "the service $name was not ready in 60 seconds"
            sleep 0.05
        done
        wait $asked && return
        ended "$name" && give_up "service $name" "the service $name ended before it was ready"
        moment
        [ "$seconds" -lt $until ] || give_up "service $name" "the service $name was not ready in 60 seconds"
        sleep 0.1
    done
}

for place in "$folder"/services/*; do
    [ -p "$place/pipe" ] || continue
    start "$place"
done
for place in "$folder"/services/*; do
    [ -f "$place/ready" ] && await "$place"
done

echo running >>"$folder/status"
exec "$@"
