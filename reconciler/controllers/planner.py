"""plan(desired, actual) → ordered actions (design 5.4), and the resources as they will be afterwards.

Pure: reads two values, gives two. `reconciler.apply.resources` carries the outcome out in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.controllers.declared_only import declared_only
from reconciler.controllers.drift import differences
from reconciler.controllers.prune import Verdict, judge
from reconciler.model.plan import Action, Change, Held, Plan, Verb
from reconciler.model.resource import Resource
from reconciler.model.status import Condition, Health, Sync, with_condition, without_condition
from specs.declared import Declared
from specs.tree import Tree

# Containers come before what they hold; removal goes the other way round.
ORDER = (
    "User",
    "Team",
    "ServiceAccount",
    "Executor",
    "ApprovalRuleset",
    "Application",
    "SLA",
    "Product",
    "ProductVersion",
    "ProductRelease",
    "Project",
    "Environment",
    "RoleBinding",
    "Secret",
    "Repository",
    "Freeze",
    "Notification",
    "Build",
    "Deployment",
    "Pipeline",
)
# Kinds whose sync and health are the business of a controller of their own.
CONTROLLED = frozenset({"Build", "Deployment", "Pipeline"})
# Kinds whose health depends on who is there.
OBSERVED = frozenset({"Executor"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """A plan and its result: `upserts` as they are to be stored, `removals` to be dropped from the store."""

    plan: Plan
    upserts: tuple[Resource, ...]
    removals: tuple[str, ...]


def decide(
    desired: Tree,
    actual: Mapping[str, Resource],
    keys: Iterable[str],
    *,
    revision: str,
    now: datetime,
    confirmed: frozenset[str] = frozenset(),
) -> Outcome:
    """What one revision asks for. `keys` are those that may have changed; removals are always sought among all."""
    gone = actual.keys() - desired.declared.keys()

    def after(resource: Resource) -> Iterable[str]:
        new = desired.declared.get(resource.key)
        return resource.references if new is None or new.errors else new.references

    verdict = judge((key for key in gone if actual[key].in_force), actual, desired.opaque, after, confirmed)
    waiting = {key: held for held in verdict.held for key in held.keys}
    actions: list[Action] = []
    upserts: list[Resource] = []
    for key in sorted({key for key in keys if key in desired.declared}, key=rank):
        action, resource = _declared(desired.declared[key], actual.get(key), revision, now)
        actions += [action] if action else []
        upserts += [resource] if resource else []
    for key in sorted(waiting):
        held = _waits(actual[key], _waiting(waiting[key], actual[key], desired, now))
        upserts += [held] if held else []
    removals = sorted(verdict.remove, key=rank, reverse=True)
    actions += [_removal(actual[key]) for key in removals]
    never_good = sorted(
        key for key in gone if not actual[key].in_force and actual[key].path not in desired.opaque
    )
    plan = Plan(tuple(actions), _sorted(verdict), desired.errors)
    return Outcome(plan, tuple(upserts), (*removals, *never_good))


def rank(key: str) -> tuple[int, str]:
    """Sort key of a KEY: by kind in the order above, then by text."""
    kind = key.partition("/")[0]
    return (ORDER.index(kind) if kind in ORDER else len(ORDER), key)


def _sorted(verdict: Verdict) -> tuple[Held, ...]:
    return tuple(sorted(verdict.held, key=lambda held: (held.reason, held.keys)))


def _removal(resource: Resource) -> Action:
    return Action(Verb.DELETE, resource.key, resource.location, differences(resource.spec or {}, {}))


def _declared(
    declared: Declared, actual: Resource | None, revision: str, now: datetime
) -> tuple[Action | None, Resource | None]:
    if declared.errors:
        return None, _invalid(declared, actual, revision, now)
    if actual is None or not actual.in_force:
        return _created(declared, actual, revision, now)
    return _kept_or_updated(declared, actual, revision, now)


def _created(
    declared: Declared, actual: Resource | None, revision: str, now: datetime
) -> tuple[Action, Resource]:
    action = Action(
        Verb.CREATE,
        declared.key,
        f"{declared.path}:{declared.line}",
        differences({}, _whole(declared.labels, declared.spec)),
    )
    blank = actual or _blank(declared, revision)
    return action, _applied(declared, blank, revision, now)


def _kept_or_updated(
    declared: Declared, actual: Resource, revision: str, now: datetime
) -> tuple[Action | None, Resource | None]:
    if declared.digest == actual.digest:
        moved = (declared.path, declared.line) != (actual.path, actual.line)
        troubled = without_condition(actual.conditions, *TRANSIENT) != actual.conditions
        same_texts = tuple(sorted(declared.files)) == actual.files
        if not moved and not troubled and same_texts and _references(declared) == actual.references:
            return None, None
        return None, _applied(declared, actual, actual.revision, now)
    action = Action(Verb.UPDATE, declared.key, f"{declared.path}:{declared.line}", _changes(declared, actual))
    return action, _applied(declared, actual, revision, now)


# Conditions that a good, declared specification ends.
TRANSIENT = ("Invalid", "PruneHeld", "InUse", "RemovalBrake", "Unsettled")


def _changes(declared: Declared, actual: Resource) -> tuple[Change, ...]:
    old = _whole(actual.labels, actual.spec) | (
        {"annotations": dict(actual.annotations)} if actual.annotations else {}
    )
    new = _whole(declared.labels, declared.spec) | (
        {"annotations": dict(declared.annotations)} if declared.annotations else {}
    )
    return differences(old, new)


def _whole(labels: Mapping[str, str], spec: Mapping[str, object] | None) -> dict[str, object]:
    return dict(spec or {}) | ({"labels": dict(labels)} if labels else {})


def _references(declared: Declared) -> tuple[str, ...]:
    return tuple(sorted(declared.references))


def _blank(declared: Declared, revision: str) -> Resource:
    return Resource(
        key=declared.key,
        kind=declared.kind,
        project=declared.project,
        environment=declared.environment,
        name=declared.name,
        labels={},
        annotations={},
        path=declared.path,
        line=declared.line,
        revision=revision,
        digest=None,
        spec=None,
        references=(),
        files=(),
        generation=0,
        observed_generation=0,
        sync=Sync.UNKNOWN,
        health=Health.MISSING,
        conditions=(),
        uuid="",
    )


def _applied(declared: Declared, actual: Resource, revision: str, now: datetime) -> Resource:
    """The resource with the declared specification in force."""
    changed = declared.digest != actual.digest
    generation = actual.generation + 1 if changed else actual.generation
    conditions = without_condition(actual.conditions, *TRANSIENT)
    if declared.warnings:
        conditions = with_condition(
            conditions, Condition("Warning", True, "Warning", "; ".join(declared.warnings), now)
        )
    else:
        conditions = without_condition(conditions, "Warning")
    only = declared_only(declared.kind, declared.spec or {})
    if only:
        conditions = with_condition(conditions, Condition("NotCarriedOut", True, "NotCarriedOut", only, now))
    else:
        conditions = without_condition(conditions, "NotCarriedOut")
    return replace(
        actual,
        labels=dict(declared.labels),
        annotations=dict(declared.annotations),
        path=declared.path,
        line=declared.line,
        revision=revision if changed else actual.revision,
        digest=declared.digest,
        spec=declared.spec,
        references=_references(declared),
        files=tuple(sorted(declared.files)),
        generation=generation,
        observed_generation=generation,
        sync=Sync.SYNCED,
        health=_health(actual, changed=changed),
        conditions=conditions,
    )


def _health(actual: Resource, *, changed: bool) -> Health:
    """With the declared specification in force: passes say it of theirs, and only commits of the others."""
    if actual.kind in CONTROLLED:
        return Health.UNKNOWN if changed else actual.health
    return actual.health if actual.kind in OBSERVED and actual.in_force else Health.HEALTHY


def _invalid(declared: Declared, actual: Resource | None, revision: str, now: datetime) -> Resource | None:
    """The last good specification stays in force; the condition says what is wrong with the new one."""
    message = "; ".join(str(error) for error in declared.errors)
    condition = Condition("Invalid", True, "InvalidSpec", message, now)
    old = actual or _blank(declared, revision)
    new = replace(
        old,
        path=declared.path,
        line=declared.line,
        sync=Sync.OUT_OF_SYNC if old.in_force else Sync.UNKNOWN,
        conditions=with_condition(without_condition(old.conditions, *TRANSIENT), condition),
    )
    if actual is not None and _status(actual) == _status(new):
        return None
    return new


def _waiting(held: Held, actual: Resource, desired: Tree, now: datetime) -> Condition:
    """What a held removal's resource says of itself; of an unreadable file it tells the faults."""
    if held.reason != "Unreadable":
        return Condition(held.reason, True, held.reason, held.message, now)
    faults = "; ".join(str(error) for error in desired.errors if error.path == actual.path)
    return Condition("Invalid", True, "Unreadable", faults or held.message, now)


def _waits(actual: Resource, condition: Condition) -> Resource | None:
    """A removal that waits: still in force, no longer declared."""
    kept = without_condition(actual.conditions, *(set(TRANSIENT) - {condition.type}))
    new = replace(actual, sync=Sync.OUT_OF_SYNC, conditions=with_condition(kept, condition))
    return None if _status(actual) == _status(new) else new


def _status(resource: Resource) -> tuple[object, ...]:
    facts = tuple((c.type, c.status, c.reason, c.message) for c in resource.conditions)
    return (resource.path, resource.line, resource.sync, resource.health, facts)
