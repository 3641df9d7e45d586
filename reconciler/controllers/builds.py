"""Which jobs a Build is owed (design 6, 14.4): by a new head, a new specification, a due time, other Builds' passes.

Pure: `decide(view, now)` gives actions and the times at which to look again. `reconciler.passes` observes the view,
`reconciler.apply.builds` carries the actions out. A job is never owed twice: what is there already is part of the
view, and the store checks it again inside the transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from reconciler.controllers.due import is_astray, latest_due
from reconciler.controllers.follows import awaited
from reconciler.model.follow import Follow
from reconciler.model.job import Checkout, Job, State
from reconciler.model.resource import Resource
from reconciler.model.status import Health, Sync
from reconciler.model.timer import Timer
from specs.globs import any_match
from specs.schedule import next_due

# A due time noticed later than this was missed: the daemon was down or asleep.
MISSED_AFTER = timedelta(seconds=60)
LOOK_AGAIN = timedelta(seconds=30)  # for what is due but cannot start now


@dataclass(frozen=True, slots=True)
class Head:
    """A branch or tag of the code repository. `changed` are the paths since the Build's last job there (None: all)."""

    checkout: Checkout
    owed: bool
    changed: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class BuildView:
    """All that is looked at. `heads` None: unknown at the moment, with `trouble` saying why.

    `follows`: by position, what each `build` trigger looks at, as of a `version` of the store. `latest`: the newest job
    of its main branch.
    """

    key: str
    spec: Mapping[str, Any]
    work_digest: str
    heads: Sequence[Head] | None
    timers: Mapping[int, Timer]
    trigger_digests: Mapping[int, str]
    latest: Job | None
    has_job_for_spec: bool
    trouble: tuple[str, str] | None = None
    follows: Mapping[int, Follow] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True, slots=True)
class MakeJob:
    """Make a job; with `timer` move that due time in the same transaction. `once` repeats the owed check there."""

    checkout: Checkout
    trigger: Mapping[str, Any]
    inputs: Mapping[str, str]
    once: str | None = None  # "head" | "spec" | None
    timer: Timer | None = None


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Store a due time."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class BuildDecision:
    """What to do, the status to show, and when to look again."""

    jobs: tuple[MakeJob, ...] = ()
    timers: tuple[SetTimer, ...] = ()
    sync: Sync = Sync.SYNCED
    health: Health = Health.UNKNOWN
    wake_at: datetime | None = None
    trouble: tuple[str, str] | None = field(default=None)


TROUBLE = "RepositoryUnavailable"  # the condition of a Build whose heads are unknown


def looks(resource: Resource | None) -> bool:
    """Does a Build want passes of its own? One that is started by hand only does not."""
    if resource is None or resource.kind != "Build" or resource.spec is None:
        return False
    unsure = resource.health is Health.PROGRESSING or any(c.type == TROUBLE for c in resource.conditions)
    return unsure or bool((resource.spec or {}).get("triggers"))


def decide(view: BuildView, now: datetime) -> BuildDecision:
    """One look at one Build."""
    triggers = list(enumerate(view.spec.get("triggers") or ()))
    if view.spec.get("disabled"):
        return BuildDecision(timers=tuple(_switched_off(view)), health=health(view.latest))
    jobs: list[MakeJob] = []
    timers: list[SetTimer] = []
    wakes: list[datetime] = []
    jobs += _for_heads(view, triggers)
    jobs += _for_change(view, triggers)
    for position, trigger in triggers:
        if trigger["type"] == "schedule":
            timer, job = _schedule(view, position, trigger, now)
            timers += [SetTimer(timer)] if job is None and timer != view.timers.get(position) else []
            jobs += [job] if job else []
            wakes += [timer.next_due if timer.next_due > now else now + LOOK_AGAIN] if timer.next_due else []
        elif trigger["type"] == "build":
            timer, job = _after_builds(view, position, trigger)
            timers += [SetTimer(timer)] if job is None and timer != view.timers.get(position) else []
            jobs += [job] if job else []
            wakes += (
                [now + LOOK_AGAIN]
                if job is None and owed_by_builds(view.follows, view.timers, position)
                else []
            )
        elif trigger["type"] == "poll":
            wakes.append(now + timedelta(seconds=trigger["interval_seconds"]))
    return BuildDecision(
        jobs=tuple(jobs),
        timers=tuple(timers),
        sync=Sync.UNKNOWN if view.trouble else Sync.SYNCED,
        health=health(view.latest),
        wake_at=min(wakes, default=None),
        trouble=view.trouble,
    )


def health(latest: Job | None) -> Health:
    """Design 14.10: of the specification in force, the newest job of the main branch, or of all where there is no
    repository; none is Unknown, one at work Progressing.
    """
    if latest is None or latest.state is State.ABORTED:
        return Health.UNKNOWN
    if not latest.state.finished:
        return Health.PROGRESSING
    return Health.HEALTHY if latest.state is State.PASSED else Health.DEGRADED


def passes_filters(spec: Mapping[str, Any], changed: Sequence[str] | None) -> bool:
    """File filters; unknown changes count as a match."""
    wanted = spec.get("build_on_file_changes") or ()
    ignored = spec.get("ignore_file_changes") or ()
    if changed is None or not (wanted or ignored):
        return True
    left = [path for path in changed if not any_match(ignored, path)]
    return any(any_match(wanted, path) for path in left) if wanted else bool(left)


def of_ref(spec: Mapping[str, Any], checkout: Checkout) -> Checkout | None:
    """Itself, where its branch or tag changes what a job does: tasks are kept to some of them. Else None (14.4)."""
    defaults = spec.get("task_defaults") or {}
    kept = any(part.get(name) for part in (defaults, *spec.get("tasks", ())) for name in ("branches", "tags"))
    return checkout if kept else None


def inputs_of(spec: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """The inputs of a job: what was given over the declared defaults."""
    values = {
        item["id"]: str(item["default"])
        for item in spec.get("inputs") or ()
        if item.get("default") is not None
    }
    return values | dict(given)


def _for_heads(view: BuildView, triggers: Sequence[tuple[int, Mapping[str, Any]]]) -> Iterator[MakeJob]:
    following = [trigger for _, trigger in triggers if trigger["type"] in ("poll", "webhook")]
    if not following or view.heads is None:
        return
    for head in view.heads:
        if head.owed and passes_filters(view.spec, head.changed):
            trigger = {"type": following[0]["type"], "ref": head.checkout.branch or head.checkout.tag}
            yield MakeJob(
                head.checkout, trigger, inputs_of(view.spec, following[0].get("inputs") or {}), once="head"
            )


def _for_change(view: BuildView, triggers: Sequence[tuple[int, Mapping[str, Any]]]) -> Iterator[MakeJob]:
    change = next((trigger for _, trigger in triggers if trigger["type"] == "change"), None)
    checkout = first_checkout(view)
    if change is None or view.has_job_for_spec or checkout is None:
        return
    yield MakeJob(checkout, {"type": "change"}, inputs_of(view.spec, change.get("inputs") or {}), once="spec")


def first_checkout(view: BuildView) -> Checkout | None:
    """What a start without a commit checks out: nothing without `repo`, else the first branch's head."""
    if view.spec.get("repo") is None:
        return Checkout()
    return next((head.checkout for head in view.heads or () if head.checkout.branch), None)


def _schedule(
    view: BuildView, position: int, trigger: Mapping[str, Any], now: datetime
) -> tuple[Timer, MakeJob | None]:
    """The trigger's timer as it should be stored, and a job where a due time has come."""
    digest = view.trigger_digests[position]
    seed = f"{view.key}#{position}"
    stored = view.timers.get(position)
    if stored is None or stored.digest != digest or is_astray(trigger, stored, now, seed):
        return Timer(position, digest, None, next_due(trigger, now, seed)), None
    if stored.next_due is None or stored.next_due > now:
        return stored, None
    due, following = latest_due(trigger, stored.next_due, now, seed)
    moved = Timer(position, digest, due, following)
    if trigger.get("missed") == "skip" and now - due > MISSED_AFTER:
        return moved, None
    checkout = first_checkout(view)
    if checkout is None:
        return stored, None  # the repository cannot be read now: the due time stays owed
    body = {"type": "schedule", "due": due.isoformat(), "position": position}
    return moved, MakeJob(checkout, body, inputs_of(view.spec, trigger.get("inputs") or {}), timer=moved)


def owed_by_builds(follows: Mapping[int, Follow], timers: Mapping[int, Timer], position: int) -> bool:
    """Has each Build that the trigger at this position follows passed since its last start?"""
    since = timers[position].since if position in timers else None
    return position in follows and not awaited(follows[position], since)


def _after_builds(view: BuildView, position: int, trigger: Mapping[str, Any]) -> tuple[Timer, MakeJob | None]:
    """The trigger's timer as it should be stored, and a job where all that it follows have passed.

    What had passed when the trigger was first seen, or came back after `disabled`, does not count.
    """
    digest = view.trigger_digests[position]
    stored = view.timers.get(position)
    if stored is None or stored.digest != digest or stored.since is None:
        return Timer(position, digest, since=view.version + 1), None
    checkout, follow = first_checkout(view), view.follows.get(position)
    if follow is None or checkout is None or not owed_by_builds(view.follows, view.timers, position):
        return stored, None
    passes = {key: follow.passes[key] for key in follow.keys}
    moved = Timer(position, digest, since=max(found.version for found in passes.values()) + 1)
    after = {key: found.number for key, found in passes.items()}
    body = {"type": "build", "position": position, "after": after}
    return moved, MakeJob(checkout, body, inputs_of(view.spec, trigger.get("inputs") or {}), timer=moved)


def _switched_off(view: BuildView) -> Iterator[SetTimer]:
    """A disabled Build's `build` triggers are seen for the first time again when it comes back."""
    for position in view.follows:
        stored = view.timers.get(position)
        if stored is not None and stored.digest:
            yield SetTimer(Timer(position, ""))
