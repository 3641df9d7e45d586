"""What holds deploys: open approvals, freezes, who has let what through, and when something could start (design 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from reconciler.access import Caller, missing
from reconciler.controllers import approvers
from reconciler.controllers import gate as controller
from reconciler.controllers import requests as judging
from reconciler.controllers.gate import Rules
from reconciler.errors import Refused
from reconciler.installation import Installation
from reconciler.model.execution import Type
from reconciler.model.gate import Blocker, Deploy, deploy_of
from reconciler.model.request import Request, Verdict
from reconciler.model.resource import Resource
from reconciler.passes import gate, wanted
from reconciler.passes.authority import authority_of
from reconciler.passes.executions import deploy_of as deploy_from
from reconciler.queries import subjects
from reconciler.store import approvals as decisions
from reconciler.store import holds, requests
from reconciler.store.approvals import Approval
from reconciler.store.database import Connection
from reconciler.store.holds import Hold

_MOST = 1_000
_FREEZES = frozenset({"Freeze"})


async def open_approvals(
    installation: Installation, caller: Caller, *, all_of_them: bool = False, in_words: bool = True
) -> list[dict[str, Any]]:
    """Requests that wait for people, oldest first; `all_of_them`: also those with a verdict, newest 1,000.

    `in_words`: with what each of those that wait is about, as `subject` (queries.subjects).
    """

    def read(
        connection: Connection,
    ) -> tuple[list[Request], dict[int, list[Any]], dict[str, list[Approval]], list[Hold]]:
        numbers = requests.live(connection)
        found = [request for number in numbers if (request := requests.find(connection, number))]
        if all_of_them:
            known = {request.id: request for request in requests.of_application(connection, None, _MOST, 0)}
            found = list({**known, **{request.id: request for request in found}}.values())
        outcomes = {request.id: requests.outcomes(connection, request.id) for request in found}
        given = {
            subject: decisions.of(connection, subject)
            for request in found
            for rule in judging.rules(request.bindings)
            if rule.type == "manual"
            for subject in [requests.approval_subject(request.id, rule.id)]
        }
        return found, outcomes, given, holds.live(connection)

    found, outcomes, given, held = await installation.database.read(read)
    waiting = {hold.digest: hold for hold in held}
    shown = []
    for request in sorted(found, key=lambda each: each.id):
        if not caller.sees(requests.key_of(request)):
            continue
        judged = {outcome.rule for outcome in outcomes[request.id]}
        rules = [
            _rule(installation, caller, request, rule, given, judged=rule.id in judged)
            for rule in judging.rules(request.bindings)
            if rule.type == "manual"
        ]
        stale = request.subject is not None and request.digest not in waiting
        wants = request.state is Verdict.PENDING and not stale and any(not rule["decided"] for rule in rules)
        if wants or all_of_them:
            hold = waiting.get(request.digest or "")
            shown.append(_request(request, rules, hold, stale=stale and request.state is Verdict.PENDING))
    if in_words:
        pending = {item["job"] for item in shown if item["state"] == Verdict.PENDING}
        some = {hold.job: hold for hold in held if hold.job in pending and caller.sees(hold.key)}
        words = await installation.database.read(
            lambda c: {job: subjects.subject(c, installation.keys, hold) for job, hold in some.items()}
        )
        shown = [item | {"subject": words.get(item["job"])} for item in shown]
    return shown


def _request(
    request: Request, rules: Sequence[Mapping[str, Any]], hold: Hold | None, *, stale: bool
) -> dict[str, Any]:
    subject = request.subject
    return {
        "request": request.id,
        "application": request.application,
        "state": "stale" if stale else request.state.value,
        "key": subject.target if subject is not None else None,
        "version": subject.version if subject is not None else "",
        "digest": request.digest,
        "package": subject.package if subject is not None else None,
        "inputs": subject.inputs if subject is not None else None,
        "scripts": subject.scripts if subject is not None else None,
        "release": request.metadata.get("release"),
        "replaces": request.metadata.get("replaces"),
        "changed": list(request.metadata.get("changed") or ()),
        "asked_by": list(request.authors),
        "job": hold.job if hold is not None else None,
        "created_at": request.created_at.isoformat(),
        "finalized_at": None if request.finalized_at is None else request.finalized_at.isoformat(),
        "rules": list(rules),
    }


def _rule(
    installation: Installation,
    caller: Caller,
    request: Request,
    rule: judging.Rule,
    given: Mapping[str, Sequence[Approval]],
    *,
    judged: bool,
) -> dict[str, Any]:
    made = given.get(requests.approval_subject(request.id, rule.id), ())
    authority = authority_of(installation)
    held = caller.rights.at(approvers.scope(request))
    refusal = approvers.refusal(rule.spec, request, authority, caller.subject, held)
    if refusal is None and any(each.actor == caller.subject for each in made):
        refusal = "you have decided already"
    said = {each.actor: each.decision for each in made}
    return {
        "rule": rule.id,
        "ruleset": rule.binding.ruleset,
        "mode": rule.binding.mode.value,
        "decided": judged,
        "waits": "" if judged else approvers.waits(rule.spec, request, said, authority),
        "you_may": refusal is None and not judged,
        "why_not": refusal,
        "decisions": [decision(each) for each in made],
    }


def decision(approval: Approval) -> dict[str, Any]:
    """One decision."""
    return {
        "by": approval.actor,
        "decision": approval.decision,
        "comment": approval.comment,
        "at": approval.at.isoformat(),
    }


async def freezes(installation: Installation, caller: Caller) -> list[dict[str, Any]]:
    """The Freezes that a caller sees, those that hold now first; one that holds without `until` has no end."""
    known, now = gate.rules_of(installation), installation.now()
    held = await installation.database.read(holds.live)
    shown = []
    for freeze in known.freezes:
        if caller.sees(freeze.key):
            until = controller.active(known, freeze, now)
            shown.append(
                _freeze(known, freeze, until, [h for h in held if _by(known, freeze, h) and until], caller)
            )
    return sorted(shown, key=lambda each: (not each["active"], each["key"]))


def _by(known: Rules, freeze: Resource, hold: Hold) -> bool:
    return freeze in controller.freezes_of(known, deploy_of(hold.subject))


def _freeze(
    known: Rules, freeze: Resource, until: datetime | None, held: Sequence[Hold], caller: Caller
) -> dict[str, Any]:
    spec = freeze.spec or {}
    return {
        "key": freeze.key,
        "reason": spec["reason"],
        "where": freeze.location,
        "active": until is not None,
        "until": None if until in (None, controller.NO_END) else until.isoformat(timespec="seconds"),
        "environments": spec["environments"],
        "applications": spec["applications"],
        "holds": spec["holds"],
        "pass": spec["pass"],
        "held": sorted({hold.key for hold in held if caller.sees(hold.key)}),
    }


async def passes(installation: Installation, caller: Caller) -> list[dict[str, Any]]:
    """Who has let what through a freeze, newest first."""
    made = await installation.database.read(lambda c: decisions.about(c, "Freeze/", _MOST))
    return [
        {
            "freeze": each.subject.rpartition(" job ")[0],
            "job": int(each.subject.rpartition(" job ")[2]),
            "digest": each.digest,
            "until": None if each.until is None else each.until.isoformat(timespec="seconds"),
            **decision(each),
        }
        for each in made
        if caller.sees(each.subject.rpartition(" job ")[0])
    ]


async def when(installation: Installation, caller: Caller, key: str) -> dict[str, Any]:
    """The first time at which a deploy could start, and what stands before it, one after the other (design 8.3).

    `at` None: no time is known. Of what is held, that very execution is asked about; else what is declared, as if it
    were something new.
    """
    resource = installation.snapshot.current.resources.get(key)
    if resource is None or not caller.sees(key):
        raise missing(key)
    if resource.kind != "Deployment" or resource.spec is None:
        raise Refused(
            "NotDeployable", f"{key} is a {resource.kind}; only of Deployments is there a time to wait for"
        )
    deploy, job, since = await _deploy(installation, resource)
    known, now = gate.rules_of(installation), installation.now()
    deploy, judgement, passed = await gate.look_once(installation, deploy, job, since)
    asked = [cause for cause in judgement.causes if _asks(cause)]
    if job is None:  # what was said about others is nothing to something new
        asked = [replace(cause, message=cause.message.partition(";")[0]) for cause in asked]
    steps, at = controller.foreseen(known, deploy, passed, now)
    return {
        "key": key,
        "job": job,
        "now": now.isoformat(timespec="seconds"),
        "at": None if at is None else at.isoformat(timespec="seconds"),
        "before": [
            {"from": begin.isoformat(timespec="seconds"), **cause.to_dict()} for begin, cause in steps
        ],
        "approvals": [cause.to_dict() for cause in asked],
    }


def _asks(cause: Blocker) -> bool:
    """Is it people, or another server, that is waited for?"""
    return cause.reason in ("NeedsApproval", "AwaitsVerdict", "AwaitsApproval", "Rejected")


async def _deploy(installation: Installation, resource: Resource) -> tuple[Deploy, int | None, datetime]:
    held = await installation.database.read(lambda c: holds.of_key(c, resource.key))
    if held:
        return deploy_of(held[-1].subject), held[-1].job, held[-1].since
    seen = await wanted.look(installation, resource)
    smoke = {"run_smoke": bool((resource.spec or {}).get("run_smoke", True))}
    declared = deploy_from(resource, Type.DEPLOY, seen, seen.stages() | smoke)
    return replace(declared, subject=replace(declared.subject, inputs="")), None, installation.now()
