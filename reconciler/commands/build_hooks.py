"""Builds started from outside, by whoever knows a Build's code (escape-state, BD9 and 6.13; 8.1).

The code is the credential, and has been looked at; a signature beside it must be good where there is a secret to check
it with. Of a body only a push event is understood: which branch, which commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from reconciler.apply import jobs as apply
from reconciler.errors import BadSignature, Conflict, Refused, Stalled
from reconciler.installation import Installation
from reconciler.json_text import Unreadable, decode
from reconciler.model.event import Actor
from reconciler.model.job import Reason, State
from reconciler.model.resource import Resource
from reconciler.passes.builds import Repository, branch_of, mirror_of, repository_of, webhook_secret
from reconciler.passes.executions import Made, Prepared, make, prepare_build
from reconciler.source.names import is_object_id
from reconciler.source.webhook import SIGNED_BY, verify
from reconciler.store import jobs as rows
from reconciler.store.database import Write
from specs.globs import branch_matches

ACTOR = "System/webhook"
_AUTOMATIC = frozenset({"webhook", "poll", "schedule", "change", "build"})
_PUSHES = frozenset({"push", "push hook", "tag push hook"})
_EVENTS = ("x-github-event", "x-gitlab-event", "x-gitea-event", "x-forgejo-event", "x-gogs-event")
_HEADS = "refs/heads/"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call: the execution, or why there is none (`other-branch`, `branch-deleted`, `ping`)."""

    id: str | None = None
    skipped: str | None = None


async def receive(
    installation: Installation,
    resource: Resource,
    headers: Mapping[str, str],
    body: bytes,
    address: str | None,
) -> Answer:
    """Build what was pushed, or the head of the Build's branch. BadSignature, Conflict, Refused."""
    lower = {name.lower(): value for name, value in headers.items()}
    repository = repository_of(installation, resource)
    if any(name in lower for name in SIGNED_BY):
        _check(installation, repository, lower, body)
    payload = _payload(body)
    if resource.invalid or resource.spec is None:
        raise Conflict("SpecInvalid", f"{resource.key} is not valid at {resource.location}")
    if resource.spec.get("disabled"):
        raise Conflict("Disabled", f"{resource.key} says `disabled: true` at {resource.location}")
    event = next((lower[name].lower() for name in _EVENTS if lower.get(name)), "")
    if event == "ping":
        return Answer(skipped="ping")
    branch = commit = None
    if event in _PUSHES:
        branch, commit = _text(payload, "ref").removeprefix(_HEADS), _text(payload, "after")
        if not await _follows(installation, resource, repository, _text(payload, "ref")):
            return Answer(skipped="other-branch")
        if payload.get("deleted") is True or (commit and not commit.strip("0")):
            return Answer(skipped="branch-deleted")
    prepared = await _prepared(installation, resource, repository, branch or None, commit or None)
    trigger = {"type": "webhook", "user": "", "payload_digest": hashlib.sha256(body).hexdigest()}
    made: Made = await installation.database.write(
        lambda w: _made(w, prepared, trigger), Actor(ACTOR, None, address)
    )
    installation.wake("dispatch")
    installation.wake(resource.key)
    return Answer(made.id)


def _check(
    installation: Installation, repository: Repository | None, headers: Mapping[str, str], body: bytes
) -> None:
    """Where there is a secret, the signature must be made with it."""
    secrets: dict[str | None, bytes] = {}
    key = repository.webhook_secret if repository is not None else None
    own = installation.settings.webhook_secret
    if key is not None:
        try:
            secrets[key] = webhook_secret(installation, key)
        except Stalled as error:
            raise BadSignature("BadSignature", error.message) from error
    elif own is not None:
        secrets[None] = own.get_secret_value().encode()
    if secrets:
        verify(headers, body, lambda _: secrets)


def _payload(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        payload = decode(body)
    except Unreadable as error:
        raise Refused("InvalidJson", f"The body {error}.") from error
    return payload if isinstance(payload, dict) else {}


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    return value if isinstance(value, str) and len(value) <= 1000 else ""


async def _follows(
    installation: Installation, resource: Resource, repository: Repository | None, ref: str
) -> bool:
    """Is it the branch of this Build, or one of its branches?"""
    spec = resource.spec or {}
    if not ref.startswith(_HEADS):
        return False
    name = ref.removeprefix(_HEADS)
    if spec.get("branches"):
        return branch_matches(spec["branches"], name)
    known = branch_of(spec, repository) if repository is not None else None
    if known is None and repository is not None:
        mirror = await mirror_of(installation, repository.url, 60, repository.secret)
        known = await mirror.default_branch()
    return name == known


async def _prepared(
    installation: Installation,
    resource: Resource,
    repository: Repository | None,
    branch: str | None,
    commit: str | None,
) -> Prepared:
    """Of the pushed commit, if it is there; else of the head."""
    if repository is not None and commit is not None and is_object_id(commit):
        installation.mirrors.poke(repository.url, repository.secret)
        with suppress(Refused):
            return await prepare_build(installation, resource, branch=branch, commit=commit)
    return await prepare_build(installation, resource, branch=branch)


def _made(write: Write, prepared: Prepared, trigger: Mapping[str, Any]) -> Made:
    """One execution that waits is enough for a branch: of the same commit it is that one, an older one gives way."""
    checkout, key = prepared.checkout, prepared.resource.key
    for number in rows.replaceable(write.connection, key, checkout, running=False):
        job = rows.load(write.connection, number)
        if job is None or job.state is not State.PENDING or job.trigger.get("type") not in _AUTOMATIC:
            continue
        if job.checkout.commit == checkout.commit:
            return Made(job.number, job.id)
        if apply.cancel(write, job, Reason.SUPERSEDED):
            apply.advance(write, number)
            write.wake(f"job/{number}")
    return make(write, prepared, trigger, ACTOR)
