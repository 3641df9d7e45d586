"""Holds carried out: what waits is let go, what had begun to wait too late is held again (design 8.2).

Called inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reconciler.apply import executions
from reconciler.apply import jobs as apply
from reconciler.apply import requests as request_apply
from reconciler.controllers.gate import OWNERS, Asked
from reconciler.model import deployment as state_of
from reconciler.model.gate import Deploy, deploy_of
from reconciler.model.job import Job, Reason, State
from reconciler.model.request import RECORDED, Copied, Mode, Request
from reconciler.store import deployments, holds, jobs, reviews
from reconciler.store.database import Write
from reconciler.store.holds import Hold
from reconciler.store.requests import NewRequest

BUSY = "Busy"
"""Why one waits that may go: another execution is at its deployment."""


def hold(write: Write, made: Hold) -> None:
    """A job that was just made, or is about to start, waits."""
    holds.add(write, made)
    reasons = [cause["reason"] for cause in made.causes]
    write.record("deploy-held", made.key, {"number": made.job, "causes": reasons, "digest": made.digest})
    write.wake("gate")
    write.wake(made.key)


def hold_again(write: Write, job: Job, made: Hold) -> None:
    """What was let go, and finds the gate shut before it began."""
    if jobs.hold_again(write.connection, job.number, Reason.HELD, write.version):
        deployments.release_hold(write, state_of.of(job.key), job.number)
        hold(write, made)


def let_go(write: Write, hold: Hold) -> bool:
    """It may go, if nothing else is at the deployment; the row of the hold is the caller's to drop."""
    number = hold.job
    deploy = deploy_of(hold.subject)
    if not executions.begin(write, number, hold.key, deploy.type, deploy.signature):
        return False
    if not jobs.let_go(write.connection, number, write.version, Reason.HELD):
        return True  # it has been cancelled meanwhile
    write.record("deploy-let-go", hold.key, {"number": number, "digest": hold.digest})
    apply.advance(write, number)
    write.wake(f"job/{number}")
    write.wake("dispatch")
    write.wake(hold.key)
    return True


def request_for(
    deploy: Deploy,
    job: Job,
    asked: Asked,
    bindings: tuple[Copied, ...],
    authors: tuple[str, ...],
    before: Request | None,
) -> NewRequest:
    """What is asked for in one application's name. `before`: what was asked for the same place."""
    subject = deploy.subject
    metadata: dict[str, Any] = {
        "deployment": deploy.key,
        "release": deploy.release,
        "version": subject.version,
        "digest": deploy.digest,
        "package": subject.package,
        "execution": job.number,
    }
    if before is not None and before.subject is not None and before.digest != deploy.digest:
        metadata |= {"replaces": before.id, "changed": list(subject.changed(before.subject))}
    return NewRequest(
        application=asked.application,
        bindings=bindings,
        actor=job.actor,
        authors=authors,
        metadata=metadata,
        digest=deploy.digest,
        subject=subject,
    )


def ask(
    write: Write,
    some: Sequence[tuple[Job, Deploy, Asked, tuple[str, ...]]],
    before: Mapping[tuple[str, str], Request],
    zone: str,
) -> None:
    """Ask for approval of many deploys: (job, what it deploys, in whose name, who brought it about).

    What is permissive and takes people or another server is asked for beside it, so that it holds nothing.
    """
    known(write, [asked for _, _, asked, _ in some])
    judges = {asked.judges: asked for _, _, asked, _ in some}
    bindings = {each: bindings_of(write, asked) for each, asked in judges.items()}
    news = []
    for job, deploy, asked, authors in some:
        last = before.get((asked.application.lower(), deploy.key))
        whole = request_for(deploy, job, asked, bindings[asked.judges], authors, last)
        beside = {**whole.metadata, RECORDED: True}
        if not asked.gates:
            news.append(replace(whole, metadata=beside))
            continue
        recorded = tuple(each for each in whole.bindings if _only_records(each))
        news.append(replace(whole, bindings=tuple(each for each in whole.bindings if each not in recorded)))
        if recorded:
            news.append(replace(whole, bindings=recorded, metadata=beside, digest=None, subject=None))
    request_apply.register(write, news, zone)


def _only_records(binding: Copied) -> bool:
    return binding.mode is Mode.PERMISSIVE and any(rule["type"] != "schedule" for rule in binding.rules)


def known(write: Write, asked: Collection[Asked]) -> None:
    """The served API shows every application that something was asked for, also one that nobody declares."""
    for name in {each.application for each in asked if each.implicit}:
        reviews.implicit(write, name)


def bindings_of(write: Write, asked: Asked) -> tuple[Copied, ...]:
    """The rules that judge, as they are now."""
    if asked.owners:
        return (_owners(write),)
    copies = [reviews.copy_of(write.connection, name, mode) for name, mode in asked.rulesets]
    return tuple(copy for copy in copies if copy is not None)


def _owners(write: Write) -> Copied:
    """The rule of a protected environment that binds none: one owner, who did not start it (own-kinds, Environment)."""
    now = write.now.isoformat()
    rule = {
        "id": jobs.next_number(write.connection, "rule"),
        "type": "manual",
        "enabled": True,
        "created_at": now,
        "approval_policy": "any",
        "minimum": None,
        "approvers": None,
        "allow_self_approval": False,
    }
    version = {
        "id": 0,
        "version_number": 0,
        "created_at": now,
        "updated_at": now,
        "approved_at": now,
        "display_name": "Protected environment",
        "description": "One owner approves what is deployed here.",
        "enabled": True,
        "rules": [rule],
    }
    return Copied(OWNERS, Mode.ENFORCING, now, now, None, version)


def supersede(write: Write, key: str) -> None:
    """A newer trigger takes the place of what is held."""
    for found in holds.of_key(write.connection, key):
        if found.type in ("deploy", "destroy"):
            withdraw(write, found.job)


def withdraw(write: Write, number: int) -> None:
    """It is not wanted any more."""
    job = jobs.load(write.connection, number)
    if job is not None and job.state is State.PENDING and apply.cancel(write, job, Reason.SUPERSEDED):
        apply.advance(write, number)
        write.wake(f"job/{number}")
    holds.drop(write, [number])
