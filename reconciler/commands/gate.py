"""What people say to deploys that wait: approve, reject, let through a freeze; and a freeze at once (design 8.2).

Each decision counts for exactly what was shown: its digest. What has changed since then is named in the refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal

from reconciler.access import Caller, missing
from reconciler.commands import declare
from reconciler.commands import requests as door
from reconciler.commands.declare import Terms, Written
from reconciler.commands.requests import Decision
from reconciler.controllers import approvers
from reconciler.controllers import gate as controller
from reconciler.controllers import requests as judging
from reconciler.errors import Conflict, Forbidden, NotFound, Refused
from reconciler.installation import Installation
from reconciler.model.gate import NAME, Deploy, deploy_of
from reconciler.model.request import Request, Verdict
from reconciler.model.resource import Resource
from reconciler.model.rights import LEVELS
from reconciler.passes import gate
from reconciler.passes.authority import authority_of
from reconciler.store import approvals, holds, requests
from reconciler.store.approvals import Approval
from reconciler.store.database import Connection, Write
from reconciler.store.holds import Hold
from specs.meta import Key
from specs.write import Wish


@dataclass(frozen=True, slots=True)
class Said:
    """A decision about what is held of a Deployment, or about a request; `digest`: what was shown, if that was told."""

    decision: Literal["approved", "rejected"]
    comment: str = ""
    key: str | None = None
    request: int | None = None
    rule: int | None = None
    digest: str | None = None


async def decide(installation: Installation, caller: Caller, said: Said) -> list[Decision]:
    """Approve or reject, in all rules that the caller decides.

    NotFound, Forbidden; Conflict: NotHeld, Changed, AlreadyFinished, DecidedAlready.
    """
    found = await _asked(installation, caller, said)
    made: list[Decision] = []
    refusals: list[str] = []
    for request in found:
        held = caller.rights.at(approvers.scope(request))
        outcomes = await installation.database.read(partial(requests.outcomes, id=request.id))
        judged = {outcome.rule for outcome in outcomes}
        own = await installation.database.read(partial(_decided, caller.subject, request))
        for rule in judging.rules(request.bindings):
            if rule.type != "manual" or rule.id in judged or said.rule not in (None, rule.id):
                continue
            if rule.id in own and said.rule is None:
                continue
            authority = authority_of(installation)
            refusal = approvers.refusal(rule.spec, request, authority, caller.subject, held)
            if refusal is not None:
                refusals.append(f"request {request.id}, {rule.binding.ruleset}: {refusal}")
                continue
            made.append(
                await door.decide(
                    installation, caller, request.id, rule.id, said.decision, said.comment, said.digest
                )
            )
            if said.decision == "rejected":
                break
    if made:
        return made
    if refusals:
        raise Forbidden("NotEligible", "; ".join(refusals))
    raise Conflict(
        "NothingToDecide", "nothing of this waits for people; `steersman approvals` lists what does"
    )


async def _asked(installation: Installation, caller: Caller, said: Said) -> list[Request]:
    """The requests that are meant, none of which is about something else than what is held now."""
    if said.request is not None:
        number = said.request
        request, held = await installation.database.read(lambda c: _request(c, number))
        if request is None or not _sees(caller, request):
            raise NotFound(
                "NoSuchRequest", f"there is no request {number}; `steersman approvals` lists those there are"
            )
        if request.subject is not None:
            if held is None:
                told = f"nothing of {request.subject.target} waits any more"
                raise Conflict("NotHeld", f"{told}, so request {number} decides nothing")
            _refuse_changed(request, deploy_of(held.subject))
        if said.digest is not None and said.digest != request.digest:
            raise Conflict("Changed", f"request {number} is about {request.digest}, not about {said.digest}")
        return [request]
    key = said.key or ""
    if installation.snapshot.current.resources.get(key) is None or not caller.sees(key):
        raise missing(key)
    hold = await _hold(installation, key)
    deploy = deploy_of(hold.subject)
    if said.digest is not None and said.digest != deploy.digest:
        digest = said.digest
        other = await installation.database.read(lambda c: requests.with_digest(c, digest))
        if other is not None:
            _refuse_changed(other, deploy)
        raise Conflict(
            "Changed", f"what waits of {key} is {deploy.digest}, not {said.digest}; look at it again"
        )
    known = gate.rules_of(installation)
    names = [asked.application for asked in controller.asked(known, deploy)]

    def find(connection: Connection) -> list[Request]:
        found = [requests.newest_for(connection, name, deploy.digest) for name in names]
        return [request for request in found if request is not None and request.state is Verdict.PENDING]

    found = await installation.database.read(find)
    if not found:
        told = "; ".join(str(cause["message"]) for cause in hold.causes) or "it is about to start"
        raise Conflict("NothingToDecide", f"{key} does not wait for approval: {told}")
    return found


def _decided(subject: str, request: Request, connection: Connection) -> frozenset[int]:
    """The rules that somebody has decided already, where that leaves others to decide."""
    rules = [rule.id for rule in judging.rules(request.bindings) if rule.type == "manual"]
    own = frozenset(
        rule
        for rule in rules
        for each in approvals.of(connection, requests.approval_subject(request.id, rule))
        if each.actor == subject
    )
    return own if len(own) < len(rules) else frozenset()


def _refuse_changed(request: Request, deploy: Deploy) -> None:
    """An approval is bound to what was approved (design 8.2)."""
    if request.subject is None or request.digest == deploy.digest:
        return
    changed = ", ".join(deploy.subject.changed(request.subject)) or "what is done"
    raise Conflict(
        "Changed",
        f"request {request.id} does not count any more: {changed} changed since; look at what waits now: "
        "`steersman approvals`",
    )


def _request(connection: Connection, number: int) -> tuple[Request | None, Hold | None]:
    request = requests.find(connection, number)
    if request is None or request.subject is None:
        return request, None
    found = holds.of_key(connection, request.subject.target)
    return request, found[-1] if found else None


def _sees(caller: Caller, request: Request) -> bool:
    return caller.sees(requests.key_of(request))


async def _hold(installation: Installation, key: str) -> Hold:
    found = await installation.database.read(lambda c: holds.of_key(c, key))
    if not found:
        raise Conflict("NotHeld", f"nothing of {key} waits; `steersman why {key}` tells how it is")
    return found[-1]


async def let_through(
    installation: Installation, caller: Caller, key: str, comment: str, freeze: str | None, digest: str | None
) -> list[dict[str, Any]]:
    """Let just what is held of a Deployment through the freezes that hold it, or through one of them; recorded.

    NotFound, Forbidden; Conflict: NotHeld, Changed, NoWayThrough, DecidedAlready. Refused without a comment.
    """
    if installation.snapshot.current.resources.get(key) is None or not caller.sees(key):
        raise missing(key)
    if not comment.strip():
        raise Refused("NoComment", "say why: a way through a freeze is recorded with its reason")
    hold = await _hold(installation, key)
    deploy = deploy_of(hold.subject)
    if digest is not None and digest != deploy.digest:
        raise Conflict("Changed", f"what waits of {key} is {deploy.digest}, not {digest}; look at it again")
    known, now = gate.rules_of(installation), installation.now()
    deploy, _, _ = await gate.look_once(installation, deploy, hold.job, hold.since)
    active = [
        (each, until)
        for each in controller.freezes_of(known, deploy)
        if (until := controller.active(known, each, now)) is not None and freeze in (None, each.key)
    ]
    if not active:
        told = f"{freeze} does not hold {key} now" if freeze else f"no freeze holds {key} now"
        raise Conflict("NotFrozen", told)
    own = [(each, until) for each, until in active if _may_pass(installation, caller, each, deploy) is None]
    if not own:
        raise Forbidden("NotEligible", str(_may_pass(installation, caller, active[0][0], deploy)))

    def work(write: Write) -> list[dict[str, Any]]:
        made = []
        for each, until in own:
            subject = gate.pass_subject(each.key, hold.job)
            given = approvals.of(write.connection, subject, deploy.digest)
            if any(approval.actor == caller.subject for approval in given):
                continue
            ends = until if until != controller.NO_END else None
            approvals.add(
                write.connection,
                Approval(subject, deploy.digest, caller.subject, "approved", comment, write.now, ends),
            )
            needed = (each.spec or {})["pass"]["approvals"]
            body = {"freeze": each.key, "digest": deploy.digest, "comment": comment}
            write.record("freeze-passed", key, body)
            made.append({"freeze": each.key, "given": len(given) + 1, "needed": needed})
        if not made:
            raise Conflict("DecidedAlready", f"you have let {key} through already; it takes somebody else")
        write.wake(NAME)
        return made

    return await installation.database.write(work, caller.actor)


def _may_pass(installation: Installation, caller: Caller, freeze: Resource, deploy: Deploy) -> str | None:
    """Why the caller may not let it through, in a sentence; None: it may."""
    way: Mapping[str, Any] | None = (freeze.spec or {})["pass"]
    if caller.running:
        return "a script lets nothing through"
    if way is None:
        return f"{freeze.key} names no way through; change it at {freeze.location}"
    scope = controller.scope_of(deploy)
    held = caller.rights.at(scope)
    if any(held is not None and held >= LEVELS[role] for role in way["roles"]):
        return None
    teams: Sequence[str] = way["teams"]
    authority = authority_of(installation)
    name = caller.subject.partition("/")[2]
    member = caller.subject.startswith("User/") and any(
        name in authority.teams.get(team, ()) for team in teams
    )
    if member and caller.most >= LEVELS["write"] and caller.within.covers(scope):
        return None
    who = " or ".join(
        [*(f"the role {role} on {scope}" for role in way["roles"]), *(f"being in {t}" for t in teams)]
    )
    return f"to let something through {freeze.key} takes {who}"


@dataclass(frozen=True, slots=True)
class NewFreeze:
    """A freeze of one period; no project: everywhere."""

    name: str
    reason: str
    begin: datetime
    until: datetime
    project: str | None = None
    environments: Sequence[str] = ()
    applications: Sequence[str] = ()


async def freeze(
    installation: Installation, caller: Caller, new: NewFreeze, endpoint: str
) -> tuple[str, Written]:
    """Commit a Freeze; its KEY, and what became of the commit. Conflict where there is one of that name."""
    key = Key("Freeze", new.project, None, new.name)
    spec: dict[str, Any] = {
        "reason": new.reason,
        "from": new.begin.isoformat(timespec="seconds"),
        "until": new.until.isoformat(timespec="seconds"),
    }
    spec |= {"environments": list(new.environments)} if new.environments else {}
    spec |= {"applications": list(new.applications)} if new.applications else {}

    def wishes(tree: Any) -> list[Wish]:
        if str(key) in tree.declared:
            raise Conflict("Exists", f"{key} is declared already; choose another name")
        return [Wish(key, spec)]

    return str(key), await declare.write(installation, caller, wishes, Terms(endpoint))
