"""Runs of pipelines by hand and by code: start, cancel, retry, decide (escape-state, 6.7, 6.8, 10.5, 11.5)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from reconciler.access import Caller, missing, not_to_decide, require
from reconciler.apply import pipelines as apply
from reconciler.apply.pipelines import Order
from reconciler.errors import Conflict, Forbidden, NotFound
from reconciler.installation import Installation
from reconciler.model.event import Actor
from reconciler.model.pipeline import (
    APPROVE,
    CONFIRMATION,
    DISAPPROVE,
    Place,
    Run,
    Status,
    again,
    planned,
    subject,
)
from reconciler.model.resource import Resource
from reconciler.model.rights import INSTALLATION, Level
from reconciler.passes import pipeline_codes
from reconciler.passes.pipeline_starts import identity_of
from reconciler.passes.pipelines import standing
from reconciler.store import approvals
from reconciler.store import pipelines as rows
from reconciler.store.approvals import Approval
from reconciler.store.database import Write
from specs.digest import digest
from specs.meta import Key

_BY_WEBHOOK = "System/webhook"


async def trigger(
    installation: Installation,
    caller: Caller,
    key: Key,
    reason: str = "",
    payload: Any = None,
    *,
    last_good: bool = False,
) -> Run:
    """Start a run; `last_good`: also where the newest specification is invalid. Conflict: Disabled, SpecInvalid."""
    require(installation, caller, "trigger", str(key))
    resource = _startable(installation, key, last_good=last_good)
    told = {"type": "manual", "user": _name(caller.subject), "reason": reason}
    order = _order(installation, caller, resource, told, payload)
    return await installation.database.write(lambda w: apply.create(w, order), caller.actor)


async def by_code(
    installation: Installation, project: str, code: str, payload: Any, address: str | None
) -> Run | None:
    """Start a run from outside; None: nothing is started by this code. Conflict: Disabled, SpecInvalid, NoIdentity."""
    known = installation.snapshot.current.of_kinds(frozenset({"Pipeline"})).values()
    own = [resource for resource in known if resource.project == project]
    found = pipeline_codes.by_code(installation.keys, own, code)
    if found is None:
        return None
    resource, name = found
    _startable(installation, Key("Pipeline", project, None, resource.name))
    spec = resource.spec or {}
    identity = identity_of(installation, spec)
    if identity is None:
        raise Conflict(
            "NoIdentity", f"{resource.key} names no service account, and a webhook is nobody to act as"
        )
    told = {"type": "webhook", "user": "", "trigger": name, "filtered": True}
    order = Order(resource.key, spec, planned(spec), told, _BY_WEBHOOK, identity, payload)
    return await installation.database.write(
        lambda w: apply.create(w, order), Actor(_BY_WEBHOOK, address=address)
    )


async def cancel(installation: Installation, caller: Caller, run: Run, reason: str = "") -> None:
    """Ask a run, and what it started, to end. Conflict: AlreadyFinished."""
    require(installation, caller, "cancel", run.key)
    now = standing(installation, run.key)

    def work(write: Write) -> None:
        if not apply.cancel(write, run.id, reason):
            raise Conflict("AlreadyFinished", f"Execution {run.number} of {run.key} has ended already.")
        apply.advance(write, run.id, now)

    await installation.database.write(work, caller.actor)


async def retry(installation: Installation, caller: Caller, run: Run, *, from_start: bool) -> Run:
    """A new run that goes on from the first phase that failed. Conflict: NotFinished, Disabled, SpecInvalid."""
    require(installation, caller, "retry", run.key)
    if not run.ended:
        raise Conflict("NotFinished", f"Execution {run.number} of {run.key} has not ended yet.")
    resource = _startable(installation, Key("Pipeline", run.project, None, run.name))
    told = {"type": "retry", "user": _name(caller.subject), "reason": "", "of": run.id}
    order = _order(installation, caller, resource, told, run.payload)
    spec = order.spec if from_start else {**run.pipeline, "phases": ()}
    phases = order.phases if from_start else again(run)
    whole = Order(
        order.key, spec, phases, order.trigger, order.actor, order.identity, run.payload, retry_of=run.id
    )
    return await installation.database.write(lambda w: apply.create(w, whole), caller.actor)


async def cancel_all(installation: Installation, caller: Caller, key: Key) -> None:
    """Ask every run of a pipeline to end."""
    for run in await installation.database.read(lambda c: rows.live(c, str(key))):
        with suppress(Conflict):  # it has ended meanwhile
            await cancel(installation, caller, run)


async def live(installation: Installation, key: Key) -> list[Run]:
    """Runs that have not ended."""
    return await installation.database.read(lambda c: rows.live(c, str(key)))


def may_decide(installation: Installation, caller: Caller, run: Run, place: Place) -> None:
    """Let a caller decide a confirmation, or raise Forbidden."""
    if (told := not_to_decide(installation, caller, run, place)) is not None:
        raise Forbidden("Forbidden", f"You may not decide this: {told}.")


async def decide(
    installation: Installation, caller: Caller, asked: Run, place: Place, *, approved: bool, comment: str
) -> Run:
    """Approve or disapprove a confirmation. Forbidden; Conflict: AlreadyDecided, AlreadyFinished."""
    may_decide(installation, caller, asked, place)
    now = standing(installation, asked.key)

    def work(write: Write) -> Run:
        run = rows.load(write.connection, asked.id)
        if run is None:
            raise NotFound("NoSuchRun", "The execution is not there any more.")
        if not _decide(write, caller, run, place, approved=approved, comment=comment):
            return run
        decision = apply.advance(write, run.id, now)
        return decision.run if decision is not None else run

    return await installation.database.write(work, caller.actor)


@dataclass(frozen=True, slots=True)
class Question:
    """Which confirmation is meant: of a `run`'s number, and a `step`, as PHASE/NAME or its name alone."""

    run: int | None = None
    step: str | None = None


async def decide_waiting(
    installation: Installation, caller: Caller, key: str, asked: Question, *, approved: bool, comment: str
) -> tuple[Run, Place]:
    """Decide the confirmation that a pipeline waits for; NotFound, Forbidden; Conflict: NothingToDecide, Ambiguous.

    Which one must be said where its run has several, so that nobody decides the next one by saying the same twice.
    """
    if key not in installation.snapshot.current.resources or not caller.sees(key):
        raise missing(key)
    found = await installation.database.read(lambda c: rows.live(c, key))
    waiting = [
        (run, place)
        for run in found
        for place, step in run.steps()
        if step.waits_for_people
        and asked.run in (None, run.number)
        and asked.step in (None, step.name, run.path_of(place))
    ]
    if not waiting:
        which = f"run {asked.run} of {key}" if asked.run is not None else key
        step = f" at {asked.step}" if asked.step is not None else ""
        raise Conflict("NothingToDecide", f"nothing of {which} waits for people{step}")
    run, place = waiting[0]
    several = sum(step.type == CONFIRMATION for _, step in run.steps()) > 1
    if len(waiting) > 1 or (several and asked.step is None):
        told = "; ".join(f"`--run {r.number} --step {r.path_of(at)}`" for r, at in waiting[:10])
        raise Conflict("Ambiguous", f"{key} asks more than once; say which one is meant: {told}")
    return await decide(installation, caller, run, place, approved=approved, comment=comment), place


def _decide(write: Write, caller: Caller, run: Run, place: Place, *, approved: bool, comment: str) -> bool:
    """Keep the decision with the step's change; False: it was decided like that before."""
    word = APPROVE if approved else DISAPPROVE
    step = run.step(place)
    asked: Mapping[str, Any] = step.confirmation or {}
    if "decision" in asked:
        if asked["decision"] == word:
            return False
        raise Conflict("AlreadyDecided", f"{asked['by']} has decided to {asked['decision']} this already.")
    open_ = step.status is Status.PENDING and not (run.ended or run.ending or run.cancel_requested)
    if not open_ or write.now.isoformat() >= asked["expires_at"]:
        raise Conflict("AlreadyFinished", "Nobody is asked any more: the run, or the time for it, is over.")
    shown = digest({"run": run.id, "phases": [_snapshot(phase) for phase in run.phases]})
    approval = Approval(subject(run, place), shown, caller.subject, word, comment, write.now)
    approvals.add(write.connection, approval)
    decided = {"decision": word, "by": caller.subject, "at": write.now.isoformat(), "comment": comment}
    apply.decide_step(write, run, place, decided, approved=approved)
    return True


def _snapshot(phase: Any) -> dict[str, Any]:
    return {"name": phase.name, "steps": [dict(step.declared) for step in phase.steps]}


def _startable(installation: Installation, key: Key, *, last_good: bool = False) -> Resource:
    resource = installation.snapshot.current.resources.get(str(key))
    if resource is None:
        raise missing(str(key))
    if resource.spec is None or (resource.invalid and not last_good):
        raise Conflict("SpecInvalid", f"What Git declares of {key} is invalid; see {resource.location}.")
    if resource.spec["disabled"]:
        raise Conflict("Disabled", f"{key} says `disabled: true` at {resource.location}.")
    return resource


def _order(
    installation: Installation, caller: Caller, resource: Resource, told: Mapping[str, Any], payload: Any
) -> Order:
    """A run for a caller; without a service account it acts as the caller, with what the token leaves of that."""
    spec = resource.spec or {}
    identity = identity_of(installation, spec)
    narrowed = (caller.most, caller.within) != (Level.OWNER, INSTALLATION)
    if identity is None and narrowed:
        told = {**told, "limits": [caller.most.word, caller.within.project, caller.within.environment]}
    return Order(resource.key, spec, planned(spec), told, caller.subject, identity or caller.subject, payload)


def _name(subject_: str) -> str:
    kind, _, name = subject_.partition("/")
    return name if kind in ("User", "ServiceAccount") else ""
