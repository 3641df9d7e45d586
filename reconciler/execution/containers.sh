#!/bin/sh
# Runs one script in a container, with its services in containers beside it, to its end. Started by supervisor.sh on the
# host; standard input goes to the script's container. Nothing of a user's is part of this text.
#
#   containers.sh PODMAN RUN NAME ARGUMENT…
#
# ARGUMENTs are those of `podman run` for the script. RUN/containers/NUMBER/{arguments,ready} hold those of `podman run`
# and `podman exec` for a service, each ended by NUL, in the order in which they start; RUN/containers/NUMBER/service is its
# name. Containers are called NAME and NAME-NUMBER.

podman=$1 run=$2 name=$3
shift 3
trap : HUP INT QUIT TERM

tidy() {
    [ -s "$run/containers/names" ] && xargs -a "$run/containers/names" "$podman" rm --force --time 0 --ignore >/dev/null 2>&1
}
give_up() {
    echo "service $1" >>"$run/status"
    echo "steersman: the service $1 $2" >&2
    tidy
    exit 1
}

# Whole seconds since boot: no clock that is set moves them.
moment() {
    read -r seconds rest </proc/uptime
    seconds=${seconds%.*}
}

for place in "$run"/containers/*/; do
    place=${place%/} container=$name-${place##*/}
    [ -f "$place/arguments" ] || continue
    read -r service <"$place/service"
    # The pipe stays open after its end: without a writer the drain would go, and the next to write wait for ever.
    (
        xargs -0 -a "$place/arguments" "$podman" run </dev/null
        : >"$place/ended"
        while :; do sleep 3600; done
    ) >"$run/services/$service/pipe" 2>&1 &
    while [ "$("$podman" container inspect --format '{{.State.Running}}' "$container" 2>/dev/null)" != true ]; do
        [ -f "$place/ended" ] && give_up "$service" "ended before it was ready"
        sleep 0.1
    done
    moment
    until=$((seconds + 60)) # not from before: its image may have had to come first
    [ -f "$place/ready" ] || continue
    echo "waiting $service" >>"$run/status"
    while :; do
        moment
        left=$((until - seconds))
        [ $left -gt 0 ] || give_up "$service" "was not ready in 60 seconds"
        timeout $left xargs -0 -a "$place/ready" "$podman" exec "$container" >"$run/services/$service/pipe" 2>&1 </dev/null && break
        [ -f "$place/ended" ] && give_up "$service" "ended before it was ready"
        sleep 0.1
    done
    echo waiting >>"$run/status"
done

"$podman" run "$@"
code=$?
tidy
exit $code
