"""Requests for approval by hand: registered, described anew, and decided by people (sqedule, 4.1, 5.1, 7.5).

Anybody who may write anything may ask for approval; who decides, the rules say (`controllers.approvers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from reconciler.access import Caller
from reconciler.apply import requests as apply
from reconciler.controllers import approvers
from reconciler.controllers import requests as controller
from reconciler.controllers.requests import Rule
from reconciler.controllers.rights import Authority
from reconciler.errors import Conflict, Forbidden, NotFound, Refused
from reconciler.installation import Installation
from reconciler.model.gate import NAME as GATE
from reconciler.model.request import PREFIX, Request
from reconciler.model.request import Decision as Decision
from reconciler.model.rights import Level
from reconciler.passes.authority import authority_of
from reconciler.store import approvals, reviews
from reconciler.store import requests as rows
from reconciler.store.approvals import Approval
from reconciler.store.database import Write
from reconciler.store.requests import NewRequest


async def register(
    installation: Installation,
    caller: Caller,
    application: str,
    *,
    source_identity: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    comments: str | None = None,
) -> Request:
    """Ask for approval of a release of an application; it is judged in the background. NotFound, Forbidden."""
    _may_ask(caller)

    def work(write: Write) -> Request:
        bindings = reviews.copies(write.connection, application)
        if bindings is None:
            raise NotFound("NoSuchApplication", f"there is no application {application}")
        new = NewRequest(
            application,
            bindings,
            caller.subject,
            (caller.subject,),
            source_identity=source_identity,
            metadata=metadata or {},
            comments=comments,
        )
        return rows.register(write, new)

    return await installation.database.write(work, caller.actor)


async def patch(
    installation: Installation,
    caller: Caller,
    application: str,
    id: int,
    *,
    source_identity: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    comments: str | None = None,
) -> Request:
    """Replace what is given; what the verdict depends on cannot be changed. NotFound, Forbidden."""

    def work(write: Write) -> Request:
        request = rows.find(write.connection, id)
        if request is None or request.application != application.lower() or not _seen(caller, request):
            raise _absent(id)
        _may_ask(caller)
        if request.subject is not None:
            raise Refused(
                "OfTheGate", f"request {id} is about a deploy that waits, and is told by that alone"
            )
        return rows.patch(write, id, source_identity=source_identity, metadata=metadata, comments=comments)

    return await installation.database.write(work, caller.actor)


async def decide(
    installation: Installation,
    caller: Caller,
    id: int,
    rule: int,
    decision: Literal["approved", "rejected"],
    comment: str | None,
    digest: str | None = None,
) -> Decision:
    """Approve or reject by a manual rule; `digest`: what the caller was shown.

    NotFound (NoSuchRequest, NoSuchRule), Forbidden (NotEligible), Conflict (AlreadyFinished, DecidedAlready, Changed).
    """
    authority = authority_of(installation)

    def work(write: Write) -> Decision:
        request = rows.find(write.connection, id)
        if request is None or not _seen(caller, request):
            raise _absent(id)
        asked = _manual(request, rule)
        _may_decide(caller, request, asked, authority)
        if digest is not None and digest != request.digest:
            raise Conflict("Changed", f"what request {id} is about is not what was shown; look at it again")
        _is_open(write, caller, request, asked)
        about = rows.approval_subject(id, rule)
        given = Approval(about, request.digest or "", caller.subject, decision, comment or "", write.now)
        approvals.add(write.connection, given)
        body = {"request": id, "rule": rule, "ruleset": asked.binding.ruleset, "comment": comment}
        write.record(f"release-rule-{decision}", rows.key_of(request), body | {"digest": request.digest})
        apply.by_people(write, id, authority)
        write.wake(f"{PREFIX}{id}")
        if request.subject is not None:
            write.wake(GATE)  # which tells what is still waited for
        now = rows.find(write.connection, id) or request
        return Decision(rule, decision, comment, caller.subject, write.now, now.state)

    return await installation.database.write(work, caller.actor)


def _may_ask(caller: Caller) -> None:
    if not any(level >= Level.WRITE for level in caller.rights.roles.values()):
        raise Forbidden("Forbidden", "to ask for approval takes the role write on something; you have none")


def _seen(caller: Caller, request: Request) -> bool:
    return caller.sees(rows.key_of(request))


def _absent(id: int) -> NotFound:
    return NotFound("NoSuchRequest", f"there is no request {id}")


def _manual(request: Request, rule: int) -> Rule:
    for found in controller.rules(request.bindings):
        if found.id == rule and found.type == "manual":
            return found
    raise NotFound("NoSuchRule", f"request {request.id} has no manual rule {rule}")


def _may_decide(caller: Caller, request: Request, rule: Rule, authority: Authority) -> None:
    """A script never decides; a token that leaves too little of its owner's rights does not either."""
    scope = approvers.scope(request)
    told = approvers.refusal(rule.spec, request, authority, caller.subject, caller.rights.at(scope))
    if told is None and caller.running:
        told = "a script does not decide"
    if told is None and (caller.most < Level.WRITE or not caller.within.covers(scope)):
        told = f"your token is not good for the role write on {scope}"
    if told is not None:
        raise Forbidden("NotEligible", f"you may not decide this: {told}")


def _is_open(write: Write, caller: Caller, request: Request, rule: Rule) -> None:
    if request.final:
        raise Conflict("AlreadyFinished", f"request {request.id} is {request.state.value} already")
    about = rows.approval_subject(request.id, rule.id)
    given = approvals.of(write.connection, about, request.digest or "")
    if any(each.actor == caller.subject for each in given):
        raise Conflict("DecidedAlready", f"you have decided this rule of request {request.id} already")
    if any(outcome.rule == rule.id for outcome in rows.outcomes(write.connection, request.id)):
        raise Conflict("DecidedAlready", f"this rule of request {request.id} is decided already")
